"""Training of classifiers on labelled clips, which several tasks share: batches and metrics."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import EvalPrediction
from transformers.configuration_utils import PreTrainedConfig

from internvideo_hf.data.collation import VideoCollator
from internvideo_hf.data.samples import Row
from internvideo_hf.inference.merging import class_scores, top_k_accuracies
from internvideo_hf.models.common.configuration import head_slices
from internvideo_hf.models.common.loading import classes_of
from internvideo_hf.models.common.losses import IGNORED
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.classifier_answers import Answers


def accuracies(prediction: EvalPrediction) -> dict[str, float]:
    """Return top-1 and top-5 accuracy in percent, from one view per video.

    Args:
        prediction: logits `(videos, classes)` and class numbers, -100 for a video that could not be read.
    """
    labels = np.asarray(prediction.label_ids)
    known = labels != IGNORED
    return top_k_accuracies(np.asarray(prediction.predictions)[known], labels[known])


def logits_of(outputs: torch.Tensor | tuple[torch.Tensor, ...], labels: torch.Tensor) -> torch.Tensor:
    """Return the logits, for the Trainer's `preprocess_logits_for_metrics`.

    Args:
        outputs: of a classifier, without its loss.
        labels: not used.
    """
    return outputs[0] if isinstance(outputs, tuple) else outputs


def make_collator(
    *, training: bool, num_labels: int | None, mixup: Mapping[str, Any] | None = None, **_: Any
) -> VideoCollator:
    """Make the collator of labelled clips; see `internvideo_hf.training.inputs.make_collator`.

    Args:
        training: apply mixup, and drop unreadable videos.
        num_labels: classes of the model.
        mixup: options of `internvideo_hf.video.mixup.mix_batch`.
    """
    options = {**mixup, "num_labels": num_labels} if training and mixup else None
    return VideoCollator(targets=("labels",), mixup=options, keep_names=True, fill_gaps=not training)


def make_collator_without_mixup(
    *, training: bool, num_labels: int | None = None, mixup: Mapping[str, Any] | None = None, **_: Any
) -> VideoCollator:
    """Make the collator of clips whose labels are no probabilities of one class; see `make_collator`.

    Args:
        training: drop unreadable videos.
        num_labels: not used.
        mixup: refused.

    Raises:
        RecipeError: if there are options of mixup.
    """
    if mixup:
        raise RecipeError("data.mixup is for one label of a video. Set it to null.")
    return make_collator(training=training, num_labels=num_labels)


def scores_of(prediction: EvalPrediction, config: PreTrainedConfig) -> NDArray[np.float64]:
    """Return the scores of each video, `(videos, classes)`, see `class_scores`; NaN for one that could not be read.

    Args:
        prediction: logits, or several outputs with logits first; labels, -100 for a video that could not be read.
        config: of the classifier.
    """
    outputs, labels = prediction.predictions, np.asarray(prediction.label_ids)
    logits = np.asarray(outputs[0] if isinstance(outputs, tuple) else outputs, np.float64)
    heads = head_slices(config)
    scores = np.stack([class_scores(row, config.problem_type, heads) for row in logits])
    scores[(labels == IGNORED).reshape(len(labels), -1).all(axis=1)] = np.nan
    return scores


def answers_of(
    prediction: EvalPrediction, rows: Sequence[Row], config: PreTrainedConfig, **columns: NDArray[np.float64]
) -> Answers:
    """Return the answers of a model that gives each video one class.

    Args:
        prediction: as of `scores_of`.
        rows: the validation list.
        config: of the model.
        columns: further numbers of each video, `(videos,)` by name.
    """
    labels = np.array([row["label"] for row in rows])
    return Answers(rows, labels, scores_of(prediction, config), classes_of(config), columns)
