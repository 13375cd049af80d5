"""Training of classifiers on labelled clips, which several tasks share: batches and metrics."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction

from internvideo_hf.data.collation import VideoCollator
from internvideo_hf.inference.merging import top_k_accuracies


def accuracies(prediction: EvalPrediction) -> dict[str, float]:
    """Return top-1 and top-5 accuracy in percent, from one view per video.

    Args:
        prediction: logits `(videos, classes)` and class numbers, -100 for a video that could not be read.
    """
    labels = np.asarray(prediction.label_ids)
    known = labels != -100
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
