"""Open-set recognition: classifiers that know when a video is of none of their classes."""

import numpy as np
import torch
from transformers import EvalPrediction

from internvideo_hf.tasks.base import Task, Training
from internvideo_hf.tasks.classifier_training import accuracies, make_collator
from internvideo_hf.tasks.open_set.evaluation import EVALUATION


def scores(prediction: EvalPrediction) -> dict[str, float]:
    """Return top-1 and top-5 accuracy in percent, and the mean uncertainty of right and of wrong answers.

    Args:
        prediction: logits `(videos, classes)` and uncertainties `(videos,)`; class numbers, -100 for a video that
            could not be read.
    """
    logits, doubts = (np.asarray(part) for part in prediction.predictions)
    labels = np.asarray(prediction.label_ids)
    right = logits.argmax(axis=1) == labels
    found = {"right": right, "wrong": ~right & (labels != -100)}
    return accuracies(EvalPrediction(predictions=logits, label_ids=labels)) | {
        f"uncertainty-{name}": float(doubts[rows].mean()) for name, rows in found.items() if rows.any()
    }


def _logits_and_uncertainty(
    outputs: tuple[torch.Tensor, ...], labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    return outputs[0], outputs[1]


TASK = Task(
    "open_set",
    training=Training(
        auto_class="AutoModelForOpenSetClassification",
        make_collator=make_collator,
        label_names=("labels",),
        column="label",
        compute_metrics=scores,
        preprocess_logits=_logits_and_uncertainty,
    ),
    evaluation=EVALUATION,
)
