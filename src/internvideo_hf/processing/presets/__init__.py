"""The processors of the released models, built from a configuration. One module per family, named by `model_type`."""

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from transformers.configuration_utils import PreTrainedConfig
from transformers.processing_utils import ProcessorMixin
from transformers.video_processing_utils import BaseVideoProcessor

from internvideo_hf.processing.video_processing import InternVideoVideoProcessor
from internvideo_hf.utils.names import lookup


def build_processor(
    config: PreTrainedConfig, name: str | None = None, settings: Mapping[str, Any] | None = None
) -> ProcessorMixin | BaseVideoProcessor:
    """Build the processor of a model's released evaluation, at the frames and sizes of its configuration.

    Args:
        config: of a family of this package.
        name: of the processor, for families with several, such as "demo" for ViCLIP.
        settings: of the video processor, in place of the family's, such as those of a data set's released test.

    Raises:
        ValueError: if the family is unknown, or has no processor of that name.
    """
    check_processor_name(config.model_type, name)
    build = _preset(config.model_type).build_processor
    processor: ProcessorMixin | BaseVideoProcessor = build(config) if name is None else build(config, name)
    if settings:
        videos: InternVideoVideoProcessor = getattr(processor, "video_processor", processor)  # type: ignore[arg-type]
        videos.configure(settings)
    return processor


def check_processor_name(model_type: str, name: str | None) -> None:
    """Refuse an unknown name of a processor.

    Args:
        model_type: of the family.
        name: see `build_processor`.

    Raises:
        ValueError: if the family has no processor of that name, only one processor, or none.
    """
    if name is None:
        return
    if model_type not in _presets():
        raise ValueError(f"processor: got {name!r}, but {model_type} reads features, not pixels; leave it out.")
    processors = getattr(_preset(model_type), "PROCESSORS", None)
    if processors is None:
        raise ValueError(f"processor: got {name!r}, but {model_type} has only one; leave it out.")
    lookup(processors, name, "processor")


def _presets() -> dict[str, None]:
    return dict.fromkeys(module.name for module in pkgutil.iter_modules(__path__))


def _preset(model_type: str) -> Any:
    lookup(_presets(), model_type, "model_type")
    return importlib.import_module(f"{__name__}.{model_type}")
