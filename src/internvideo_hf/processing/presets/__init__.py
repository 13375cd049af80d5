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
        name: whose pixels it makes, of families with several; see `processor_names`.

    Raises:
        ValueError: if the configuration is of another family, or the family has no processor of that name.
    """
    preset = _preset(config.model_type)
    if name is None:
        return preset.build_processor(config)
    lookup(dict.fromkeys(processor_names(config.model_type)), name, "processor")
    return preset.build_processor(config, name)


def processor_names(model_type: str) -> tuple[str, ...]:
    """Return the names of a family's processors; empty where it has one only."""
    return tuple(getattr(_preset(model_type), "PROCESSORS", ()))


def _preset(model_type: str) -> Any:
    known = dict.fromkeys(module.name for module in pkgutil.iter_modules(__path__))
    lookup(known, model_type, "model_type")
    return importlib.import_module(f"{__name__}.{model_type}")
