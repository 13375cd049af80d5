"""The model families: which classes each has, and their registration with transformers.

The table names classes as text, so that reading it imports neither torch nor transformers. A family's modules are
`models/FOLDER/configuration_FOLDER.py` and `models/FOLDER/modeling_FOLDER.py`.
"""

import importlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

_PROCESSORS = {
    "InternVideoProcessor": "internvideo_hf.processing.processing",
    "InternVideoVideoProcessor": "internvideo_hf.processing.video_processing",
    "InternVideoFusedVideoProcessor": "internvideo_hf.processing.fused_video_processing",
}


@dataclass(frozen=True)
class Family:
    """The classes of one model family.

    Args:
        folder: of its modules, below `models/`.
        config_name: the configuration class; its `model_type` is the family's name.
        model_names: name of an Auto class -> name of the model class, with its module in the family's folder where it
            does not stand in `modeling_FAMILY`, such as "modeling_scoring.ToyForScoring".
        processor_name: the processor of video and text; None for families without text.
        video_processor_name: the processor of videos; None for heads on features, which see no pixels.
    """

    folder: str
    config_name: str
    model_names: Mapping[str, str] = field(default_factory=dict)
    processor_name: str | None = None
    video_processor_name: str | None = "InternVideoVideoProcessor"

    @cached_property
    def config(self) -> Any:
        """The configuration class."""
        return _attribute(self._module("configuration"), self.config_name)

    @cached_property
    def models(self) -> dict[Any, Any]:
        """Auto class -> model class."""
        return {auto_class(auto): _attribute(*self._locate(name)) for auto, name in self.model_names.items()}

    @cached_property
    def processor(self) -> Any:
        """The class of the processor of video and text, or None."""
        name = self.processor_name
        return None if name is None else _attribute(_PROCESSORS[name], name)

    @cached_property
    def video_processor(self) -> Any:
        """The class of the processor of videos, or None."""
        name = self.video_processor_name
        return None if name is None else _attribute(_PROCESSORS[name], name)

    def exports(self) -> Iterator[tuple[str, str]]:
        """Yield the public names, each with the module that defines it."""
        yield self.config_name, self._module("configuration")
        for name in self.model_names.values():
            module, class_name = self._locate(name)
            yield class_name, module

    def _locate(self, name: str) -> tuple[str, str]:
        module, _, class_name = name.rpartition(".")
        return (f"internvideo_hf.models.{self.folder}.{module}" if module else self._module("modeling")), class_name

    def _module(self, kind: str) -> str:
        return f"internvideo_hf.models.{self.folder}.{kind}_{self.folder}"


FAMILIES = {
    "internvideo_mm": Family(
        "internvideo_mm",
        "InternVideoMMConfig",
        {
            "AutoModel": "InternVideoMMModel",
            "AutoModelForMultimodalLM": "InternVideoMMForConditionalGeneration",
            "AutoModelForVisualQuestionAnswering": "InternVideoMMForQuestionAnswering",
        },
        "InternVideoProcessor",
    ),
    "uniformerv2": Family(
        "uniformerv2",
        "UniFormerV2Config",
        {
            "AutoModel": "UniFormerV2Model",
            "AutoModelForVideoClassification": "UniFormerV2ForVideoClassification",
            "AutoModelForOpenSetClassification": "UniFormerV2ForOpenSetClassification",
            "AutoModelForHandPrediction": "UniFormerV2ForHandPrediction",
        },
    ),
    "uniformer": Family(
        "uniformer",
        "UniFormerConfig",
        {
            "AutoModel": "UniFormerModel",
            "AutoModelForVideoClassification": "UniFormerForVideoClassification",
            "AutoModelForOpenSetClassification": "UniFormerForOpenSetClassification",
            "AutoModelForHandPrediction": "UniFormerForHandPrediction",
        },
    ),
    "internvideo_mae": Family(
        "internvideo_mae",
        "InternVideoMAEConfig",
        {
            "AutoModel": "InternVideoMAEModel",
            "AutoModelForPreTraining": "InternVideoMAEForPreTraining",
            "AutoModelForVideoClassification": "InternVideoMAEForVideoClassification",
            "AutoModelForVideoActionDetection": (
                "modeling_internvideo_mae_detection.InternVideoMAEForVideoActionDetection"
            ),
            "AutoModelForShortTermAnticipation": (
                "modeling_internvideo_mae_anticipation.InternVideoMAEForShortTermAnticipation"
            ),
            "AutoModelForOpenSetClassification": "InternVideoMAEForOpenSetClassification",
            "AutoModelForHandPrediction": "InternVideoMAEForHandPrediction",
        },
    ),
    "viclip": Family(
        "viclip",
        "ViCLIPConfig",
        {
            "AutoModel": "ViCLIPModel",
            "AutoModelForVideoClassification": "ViCLIPForVideoClassification",
            "AutoModelForOpenSetClassification": "ViCLIPForOpenSetClassification",
            "AutoModelForHandPrediction": "ViCLIPForHandPrediction",
        },
        "InternVideoProcessor",
    ),
    "internvideo": Family(
        "internvideo",
        "InternVideoConfig",
        {
            "AutoModel": "InternVideoModel",
            "AutoModelForVideoClassification": "InternVideoForVideoClassification",
            "AutoModelForOpenSetClassification": "InternVideoForOpenSetClassification",
        },
        video_processor_name="InternVideoFusedVideoProcessor",
    ),
    "tcanet": Family(
        "tcanet",
        "TCANetConfig",
        {"AutoModel": "TCANetModel", "AutoModelForTemporalLocalization": "TCANetForTemporalLocalization"},
        video_processor_name=None,
    ),
    "actionformer": Family(
        "actionformer",
        "ActionFormerConfig",
        {
            "AutoModel": "ActionFormerModel",
            "AutoModelForTemporalLocalization": "ActionFormerForTemporalLocalization",
        },
        video_processor_name=None,
    ),
    "vslnet": Family(
        "vslnet",
        "VSLNetConfig",
        {"AutoModel": "VSLNetModel", "AutoModelForTemporalGrounding": "VSLNetForTemporalGrounding"},
        video_processor_name=None,
    ),
    "vln_planner": Family(
        "vln_planner",
        "VLNPlannerConfig",
        {"AutoModelForNavigation": "VLNPlannerForNavigation"},
        video_processor_name=None,
    ),
    "vln_waypoints": Family(
        "vln_waypoints", "VLNWaypointsConfig", {"AutoModel": "VLNWaypointsModel"}, video_processor_name=None
    ),
    "viclip_vision_model": Family("viclip", "ViCLIPVisionConfig", {"AutoModel": "ViCLIPVisionModel"}),
}


OWN_CLASSES = (
    "AutoModelForHandPrediction",
    "AutoModelForNavigation",
    "AutoModelForOpenSetClassification",
    "AutoModelForShortTermAnticipation",
    "AutoModelForTemporalGrounding",
    "AutoModelForTemporalLocalization",
    "AutoModelForVideoActionDetection",
)
"""Auto classes that transformers does not have; attributes of this module."""


def __getattr__(name: str) -> Any:
    if name not in OWN_CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    register()
    return auto_class(name)


@cache
def auto_class(name: str) -> Any:
    """Return an Auto class by name: transformers' own, or one of the same kind where transformers has none.

    Args:
        name: such as "AutoModelForVideoClassification".
    """
    import transformers

    if hasattr(transformers, name):
        return getattr(transformers, name)
    from transformers.models.auto.auto_factory import _BaseAutoModelClass, _LazyAutoMapping
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return type(
        name, (_BaseAutoModelClass,), {"_model_mapping": _LazyAutoMapping(CONFIG_MAPPING_NAMES, OrderedDict())}
    )


def register() -> None:
    """Register all families with transformers' Auto classes; repeated calls change nothing."""
    from transformers import AutoConfig, AutoModelForVideoClassification, AutoProcessor, AutoVideoProcessor
    from transformers.models.auto.modeling_auto import MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES

    for model_type, family in FAMILIES.items():
        AutoConfig.register(model_type, family.config, exist_ok=True)
        if family.video_processor is not None:
            AutoVideoProcessor.register(family.config, family.video_processor, exist_ok=True)
        for auto, model_class in family.models.items():
            auto.register(family.config, model_class, exist_ok=True)
        if AutoModelForVideoClassification in family.models:
            # transformers' own pipeline calls a class an error that is not in this list, and then works with it.
            name = family.models[AutoModelForVideoClassification].__name__
            MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES[model_type] = name
        if family.processor is not None:
            AutoProcessor.register(family.config, family.processor, exist_ok=True)


def _attribute(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)
