"""Which classes belong to which family, and their registration with transformers."""

import difflib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForPreTraining,
    AutoModelForVideoClassification,
    AutoProcessor,
    AutoVideoProcessor,
)
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.models.auto.auto_factory import _BaseAutoModelClass
from transformers.models.auto.modeling_auto import MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES
from transformers.video_processing_utils import BaseVideoProcessor

from internvideo_hf.models.internvideo.configuration_internvideo import InternVideoConfig
from internvideo_hf.models.internvideo.modeling_internvideo import (
    InternVideoForVideoClassification,
    InternVideoModel,
)
from internvideo_hf.models.internvideo_mae.configuration_internvideo_mae import InternVideoMAEConfig
from internvideo_hf.models.internvideo_mae.modeling_internvideo_mae import (
    InternVideoMAEForPreTraining,
    InternVideoMAEForVideoClassification,
    InternVideoMAEModel,
)
from internvideo_hf.models.internvideo_mm.configuration_internvideo_mm import InternVideoMMConfig
from internvideo_hf.models.internvideo_mm.modeling_internvideo_mm import InternVideoMMModel
from internvideo_hf.models.uniformerv2.configuration_uniformerv2 import UniFormerV2Config
from internvideo_hf.models.uniformerv2.modeling_uniformerv2 import (
    UniFormerV2ForVideoClassification,
    UniFormerV2Model,
)
from internvideo_hf.models.viclip.configuration_viclip import ViCLIPConfig, ViCLIPVisionConfig
from internvideo_hf.models.viclip.modeling_viclip import ViCLIPForVideoClassification, ViCLIPModel, ViCLIPVisionModel
from internvideo_hf.processing.fused_video_processing import InternVideoFusedVideoProcessor
from internvideo_hf.processing.processing import InternVideoProcessor
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor


@dataclass(frozen=True)
class Family:
    """The classes of one model family.

    Attributes:
        config: the configuration class; its `model_type` names the family.
        models: Auto class -> model class.
        processor: the processor of video and text, where the family reads text.
        video_processor: the processor of videos.
    """

    config: type[PreTrainedConfig]
    models: dict[type[_BaseAutoModelClass], type[PreTrainedModel]] = field(default_factory=dict)
    processor: type[InternVideoProcessor] | None = None
    video_processor: type[BaseVideoProcessor] = InternVideoVideoProcessor


FAMILIES = {
    "uniformerv2": Family(
        UniFormerV2Config,
        {AutoModel: UniFormerV2Model, AutoModelForVideoClassification: UniFormerV2ForVideoClassification},
    ),
    "internvideo_mae": Family(
        InternVideoMAEConfig,
        {
            AutoModel: InternVideoMAEModel,
            AutoModelForPreTraining: InternVideoMAEForPreTraining,
            AutoModelForVideoClassification: InternVideoMAEForVideoClassification,
        },
    ),
    "internvideo_mm": Family(InternVideoMMConfig, {AutoModel: InternVideoMMModel}, InternVideoProcessor),
    "viclip": Family(
        ViCLIPConfig,
        {AutoModel: ViCLIPModel, AutoModelForVideoClassification: ViCLIPForVideoClassification},
        InternVideoProcessor,
    ),
    "internvideo": Family(
        InternVideoConfig,
        {AutoModel: InternVideoModel, AutoModelForVideoClassification: InternVideoForVideoClassification},
        video_processor=InternVideoFusedVideoProcessor,
    ),
    "viclip_vision_model": Family(ViCLIPVisionConfig, {AutoModel: ViCLIPVisionModel}),
}


def why_it_cannot_compare(model: PreTrainedModel, tokenizer: Any) -> str | None:
    """Say why a model compares no videos with texts; None where it does.

    Args:
        model: any model.
        tokenizer: its tokenizer; None where its folder has none.
    """
    for method in ("get_video_features", "get_text_features"):
        if not hasattr(model, method):
            return (
                f"{type(model).__name__} has no {method}: what is needed is a model of video and text, such as "
                "InternVideoMMModel."
            )
    if getattr(model.config, "projection_dim", 1) is None:
        return (
            "This model has no shared space for video and text (projection_dim=None, as question-answering "
            "checkpoints), so it cannot compare them. Use a checkpoint with projections."
        )
    known = model.config.text_config.vocab_size
    if tokenizer is not None and len(tokenizer) != known:
        return (
            f"The folder's tokenizer has {len(tokenizer)} tokens and its model {known}: a file is missing. "
            "Convert again."
        )
    return None


# Configuration values that whoever makes a model writes itself.
NOT_FOR_OVERRIDES = {"dtype", "architectures", "transformers_version"}


def check_overrides(overrides: Mapping[str, Any], config_class: type[PreTrainedConfig], where: str = "") -> None:
    """Refuse settings that a configuration does not have, naming the nearest that it has."""
    known = {entry.name for entry in fields(config_class)} - NOT_FOR_OVERRIDES | {"num_labels"}
    for key, value in overrides.items():
        if key not in known:
            nearest = difflib.get_close_matches(key, known, n=1)
            hint = f" Did you mean {where}{nearest[0]}?" if nearest else ""
            raise ValueError(f"{where}{key} is no setting of {config_class.__name__}.{hint}")
        if key in config_class.sub_configs_defaults:
            if not isinstance(value, Mapping):
                raise ValueError(f"{where}{key} must hold settings by name, got {value!r}.")
            check_overrides(value, config_class.sub_configs_defaults[key].config_class, f"{where}{key}.")


@contextmanager
def plain_errors_of_settings() -> Iterator[None]:
    """Raise a ValueError that says what is wrong with the settings of a model, whatever noticed it."""
    try:
        yield
    except StrictDataclassError as error:
        # The error itself speaks of validators; what the user can mend stands in its cause.
        raise ValueError(f"These settings make no model: {error.__cause__ or error}") from error
    except (ArithmeticError, RuntimeError, KeyError) as error:
        raise ValueError(f"These settings make no model: {type(error).__name__}: {error}.") from error


def register() -> None:
    """Make transformers' Auto classes know all families; calling it again changes nothing."""
    for model_type, family in FAMILIES.items():
        AutoConfig.register(model_type, family.config, exist_ok=True)
        AutoVideoProcessor.register(family.config, family.video_processor, exist_ok=True)
        for auto_class, model_class in family.models.items():
            auto_class.register(family.config, model_class, exist_ok=True)
        if AutoModelForVideoClassification in family.models:
            # transformers' own pipeline calls a class an error that is not in this list, and then works with it.
            name = family.models[AutoModelForVideoClassification].__name__
            MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES[model_type] = name
        if family.processor is not None:
            AutoProcessor.register(family.config, family.processor, exist_ok=True)


register()
