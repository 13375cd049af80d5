"""The tasks, one folder each: data, training, evaluation, metrics and pipeline.

Each folder has a `task.py` with a value `TASK`. Importing this module imports neither torch nor transformers.
"""

import importlib
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from internvideo_hf.utils.names import lookup

if TYPE_CHECKING:
    from internvideo_hf.tasks.base import Task, Training
    from internvideo_hf.tasks.protocol import Evaluation


class Pipeline(NamedTuple):
    """A pipeline beyond those of transformers.

    Args:
        name: for `transformers.pipeline`.
        class_name: its public class, in the task's `pipeline.py`.
        auto_class: name of the Auto class that loads its model.
    """

    name: str
    class_name: str
    auto_class: str


# Folder -> its pipeline. Not in `task.py`: registration would then import torch at the start.
TASKS: dict[str, Pipeline | None] = {
    "pretraining": None,
    "classification": Pipeline(
        "multi-view-video-classification",
        "MultiViewVideoClassificationPipeline",
        "AutoModelForVideoClassification",
    ),
    "contrastive": None,
    "zero_shot": Pipeline("zero-shot-video-classification", "ZeroShotVideoClassificationPipeline", "AutoModel"),
    "retrieval": Pipeline("video-text-retrieval", "VideoTextRetrievalPipeline", "AutoModel"),
    "multiple_choice": None,
    "captioning": Pipeline("video-to-text", "VideoToTextPipeline", "AutoModelForMultimodalLM"),
    "question_answering": Pipeline(
        "video-question-answering", "VideoQuestionAnsweringPipeline", "AutoModelForVisualQuestionAnswering"
    ),
    "temporal_grounding": Pipeline(
        "video-temporal-grounding", "VideoTemporalGroundingPipeline", "AutoModelForTemporalGrounding"
    ),
    "temporal_localization": Pipeline(
        "temporal-action-localization", "TemporalActionLocalizationPipeline", "AutoModelForTemporalLocalization"
    ),
    "action_detection": Pipeline(
        "video-action-detection", "VideoActionDetectionPipeline", "AutoModelForVideoActionDetection"
    ),
    "short_term_anticipation": Pipeline(
        "video-short-term-anticipation", "VideoShortTermAnticipationPipeline", "AutoModelForShortTermAnticipation"
    ),
    "hand_prediction": Pipeline("video-hand-prediction", "VideoHandPredictionPipeline", "AutoModelForHandPrediction"),
    "open_set": None,
    "multi_label": None,
    "regression": None,
    "navigation": None,
    "object_detection": None,
}


def get_task(name: str) -> "Task":
    """Return a task.

    Args:
        name: of its folder.

    Raises:
        ValueError: if the task is unknown.
    """
    lookup(TASKS, name, "task")
    task: Task = importlib.import_module(f"{__name__}.{name}.task").TASK
    return task


@cache
def training_tasks() -> "dict[str, Training]":
    """Return the training of each task that has one, by name."""
    found = {name: get_task(name).training for name in TASKS}
    return {name: training for name, training in found.items() if training is not None}


@cache
def evaluation_tasks() -> "dict[str, Evaluation]":
    """Return the evaluation of each task that has one, by name."""
    found = {name: get_task(name).evaluation for name in TASKS}
    return {name: evaluation for name, evaluation in found.items() if evaluation is not None}


def exports() -> Iterator[tuple[str, str]]:
    """Yield the pipelines' public names, each with the module that defines it."""
    for task, pipeline in TASKS.items():
        if pipeline is not None:
            yield pipeline.class_name, f"{__name__}.{task}.pipeline"


def register() -> None:
    """Register the pipelines with `transformers.pipeline`; repeated calls change nothing."""
    from transformers.pipelines import PIPELINE_REGISTRY

    from internvideo_hf.auto import auto_class

    modules = dict(exports())
    for pipeline in filter(None, TASKS.values()):
        if pipeline.name not in PIPELINE_REGISTRY.get_supported_tasks():
            PIPELINE_REGISTRY.register_pipeline(
                pipeline.name,
                pipeline_class=getattr(importlib.import_module(modules[pipeline.class_name]), pipeline.class_name),
                pt_model=auto_class(pipeline.auto_class),
                type="multimodal",
            )
    stock = importlib.import_module(f"{__name__}.classification.pipeline").BatchedVideoClassificationPipeline
    PIPELINE_REGISTRY.supported_tasks["video-classification"]["impl"] = stock
