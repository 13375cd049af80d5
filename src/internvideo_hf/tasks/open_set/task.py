"""Open-set recognition: classifiers that know when a video is of none of their classes."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import EvalPrediction
from transformers.configuration_utils import PreTrainedConfig

from internvideo_hf.data.samples import Row
from internvideo_hf.models.common.losses import IGNORED
from internvideo_hf.tasks.base import Task, Training
from internvideo_hf.tasks.classifier_answers import Answers
from internvideo_hf.tasks.classifier_training import accuracies, answers_of, make_collator
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
    found = {"right": right, "wrong": ~right & (labels != IGNORED)}
    return accuracies(EvalPrediction(predictions=logits, label_ids=labels)) | {
        f"uncertainty-{name}": float(doubts[rows].mean()) for name, rows in found.items() if rows.any()
    }


def _details(prediction: EvalPrediction, rows: Sequence[Row], config: PreTrainedConfig) -> Answers:
    doubts = list(prediction.predictions)[1]
    return answers_of(prediction, rows, config, uncertainty=np.asarray(doubts, np.float64))


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
        details=_details,
    ),
    evaluation=EVALUATION,
)
