"""The tasks: what is asked of a model, on which data, and how the answer is judged. One folder each.

Reading this module imports neither torch nor transformers.
"""

import importlib
from typing import Any

# Folder -> its pipeline's public class; None for tasks without a pipeline.
TASKS: dict[str, str | None] = {
    "classification": "MultiViewVideoClassificationPipeline",
    "pretraining": None,
    "contrastive": None,
    "zero_shot": "ZeroShotVideoClassificationPipeline",
    "retrieval": "VideoTextRetrievalPipeline",
    "multiple_choice": None,
}

# Name for `transformers.pipeline` -> task, and the Auto class that loads its model.
_PIPELINES = {
    "multi-view-video-classification": ("classification", "AutoModelForVideoClassification"),
    "video-text-retrieval": ("retrieval", "AutoModel"),
    "zero-shot-video-classification": ("zero_shot", "AutoModel"),
}


def pipeline_module(task: str) -> str:
    """Return the module of a task's pipeline."""
    return f"{__name__}.{task}.pipeline"


def register() -> None:
    """Register the pipelines with `transformers.pipeline`; repeated calls change nothing."""
    from transformers.pipelines import PIPELINE_REGISTRY

    from internvideo_hf.auto import auto_class

    for name, (task, auto) in _PIPELINES.items():
        if name not in PIPELINE_REGISTRY.get_supported_tasks():
            pipeline_class: Any = getattr(importlib.import_module(pipeline_module(task)), TASKS[task])
            PIPELINE_REGISTRY.register_pipeline(
                name, pipeline_class=pipeline_class, pt_model=auto_class(auto), type="multimodal"
            )
