"""Classification: which class of a fixed set a video shows."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction

from internvideo_hf.data.collation import VideoCollator
from internvideo_hf.tasks.base import Task, Training


def accuracies(prediction: EvalPrediction) -> dict[str, float]:
    """Return top-1 and top-5 in percent, of one view a video."""
    labels = np.asarray(prediction.label_ids)
    logits, labels = prediction.predictions[labels != -100], labels[labels != -100]
    order = np.argsort(-logits, axis=1, kind="stable")
    return {f"top-{k}": float(100 * (order[:, :k] == labels[:, None]).any(axis=1).mean()) for k in (1, 5)}


def _logits(outputs: torch.Tensor | tuple[torch.Tensor, ...], labels: torch.Tensor) -> torch.Tensor:
    return outputs[0] if isinstance(outputs, tuple) else outputs


def _make_collator(
    *, training: bool, num_labels: int | None, mixup: Mapping[str, Any] | None = None, **_: Any
) -> VideoCollator:
    options = {**mixup, "num_labels": num_labels} if training and mixup else None
    return VideoCollator(targets=("labels",), mixup=options, keep_names=True, fill_gaps=not training)


TASK = Task(
    "classification",
    training=Training(
        auto_class="AutoModelForVideoClassification",
        make_collator=_make_collator,
        label_names=("labels",),
        column="label",
        compute_metrics=accuracies,
        preprocess_logits=_logits,
    ),
)
