"""The processor of each family's released models, built from a configuration. One module a family, by `model_type`."""

import importlib
import pkgutil
from typing import Any

from transformers.configuration_utils import PreTrainedConfig
from transformers.processing_utils import ProcessorMixin
from transformers.video_processing_utils import BaseVideoProcessor

from internvideo_hf.utils.names import lookup


def build_processor(config: PreTrainedConfig, name: str | None = None) -> ProcessorMixin | BaseVideoProcessor:
    """Build the processor of a model's released evaluation, at the frames and sizes of its configuration.

    Args:
        config: of a family of this package.
        name: whose pixels it makes, of families with several, such as "demo" for ViCLIP.

    Raises:
        ValueError: if the configuration is of another family, or the family has no processor of that name.
    """
    check_processor_name(config.model_type, name)
    preset = _preset(config.model_type)
    return preset.build_processor(config) if name is None else preset.build_processor(config, name)


def check_processor_name(model_type: str, name: str | None) -> None:
    """Refuse a processor's name that a family does not have.

    Args:
        model_type: of the family.
        name: see `build_processor`.

    Raises:
        ValueError: if it has no processor of that name, or one processor only.
    """
    if name is None:
        return
    processors = getattr(_preset(model_type), "PROCESSORS", None)
    if processors is None:
        raise ValueError(f"processor: got {name!r}, {model_type} has one only; leave it out.")
    lookup(processors, name, "processor")


def _preset(model_type: str) -> Any:
    known = dict.fromkeys(module.name for module in pkgutil.iter_modules(__path__))
    lookup(known, model_type, "model_type")
    return importlib.import_module(f"{__name__}.{model_type}")
