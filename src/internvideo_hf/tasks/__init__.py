"""The tasks: what is asked of a model, on which data, and how the answer is judged. One folder each.

Reading this module imports neither torch nor transformers. Each folder has a `task.py` with a value `TASK`.
"""

import importlib
from functools import cache
from typing import TYPE_CHECKING

from internvideo_hf.utils.names import lookup

if TYPE_CHECKING:
    from internvideo_hf.tasks.base import Task

# Folder -> its pipeline's public class; None for tasks without a pipeline.
TASKS: dict[str, str | None] = {
    "pretraining": None,
    "classification": "MultiViewVideoClassificationPipeline",
    "contrastive": None,
    "zero_shot": "ZeroShotVideoClassificationPipeline",
    "retrieval": "VideoTextRetrievalPipeline",
    "multiple_choice": None,
}


def get_task(name: str) -> "Task":
    """Return a task.

    Args:
        name: of its folder.

    Raises:
        ValueError: if there is no such task.
    """
    lookup(TASKS, name, "task")
    task: Task = importlib.import_module(f"{__name__}.{name}.task").TASK
    return task


@cache
def training_tasks() -> tuple[str, ...]:
    """Return the names of the tasks that recipes train for."""
    return tuple(name for name in TASKS if get_task(name).training is not None)


def pipeline_module(task: str) -> str:
    """Return the module of a task's pipeline."""
    return f"{__name__}.{task}.pipeline"


def register() -> None:
    """Register the pipelines with `transformers.pipeline`; repeated calls change nothing."""
    from transformers.pipelines import PIPELINE_REGISTRY

    from internvideo_hf.auto import auto_class

    for task, class_name in TASKS.items():
        if class_name is None:
            continue
        pipeline_class = getattr(importlib.import_module(pipeline_module(task)), class_name)
        for name, auto in get_task(task).pipelines.items():
            if name not in PIPELINE_REGISTRY.get_supported_tasks():
                PIPELINE_REGISTRY.register_pipeline(
                    name, pipeline_class=pipeline_class, pt_model=auto_class(auto), type="multimodal"
                )
