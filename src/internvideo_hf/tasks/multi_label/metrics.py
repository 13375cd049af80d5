"""Scores of several labels of a video: mean average precision, and accuracy of each head."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from internvideo_hf.inference.merging import top_k_accuracies
from internvideo_hf.models.common.losses import IGNORED


def average_precisions(scores: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Return the average precision of each class, 0-1, `(classes,)`; NaN for a class without a video.

    It is the sum, over the scores from the highest down, of the precision times the gain of recall; videos of equal
    scores count together. As scikit-learn's `average_precision_score`.

    Args:
        scores: `(videos, classes)`; NaN for an unreadable video, which no class finds.
        labels: 1 for the classes of a video, 0 for the others, -100 where it is unknown, `(videos, classes)`.
    """
    return np.array([_average_precision(*column) for column in zip(scores.T, labels.T, strict=True)])


def _average_precision(scores: NDArray[Any], labels: NDArray[Any]) -> float:
    videos = (labels > 0).sum()
    if not videos:
        return np.nan
    known = (labels != IGNORED) & ~np.isnan(scores)
    scores, labels = scores[known], labels[known] > 0
    if not labels.any():
        return 0.0
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)  # of each group of equal scores
    found = np.cumsum(labels[order])[last]
    precision, recall = found / (last + 1), found / videos
    return float(np.sum(precision * np.diff(recall, prepend=0)))


def mean_average_precision(scores: NDArray[Any], labels: NDArray[Any]) -> dict[str, float]:
    """Return the mean over classes with a video, in percent: `{"mAP": ...}`; 0 without any.

    Args:
        scores: as of `average_precisions`.
        labels: as of `average_precisions`.
    """
    precisions = average_precisions(scores, labels)
    known = precisions[~np.isnan(precisions)]
    return {"mAP": float(100 * known.mean()) if len(known) else 0.0}


def accuracies_of_heads(scores: NDArray[Any], labels: NDArray[Any], heads: Mapping[str, slice]) -> dict[str, float]:
    """Return top-1 and top-5 accuracy of each head, and how often all heads are right, in percent.

    Args:
        scores: `(videos, classes of all heads)`; a row with NaN, such as that of an unreadable video, counts as wrong.
        labels: class number within each head, -100 where it is unknown, `(videos, heads)`.
        heads: name -> its classes.

    Returns:
        Such as "verb-top-1", and "all-top-1" over the videos whose labels are all known.
    """
    found: dict[str, float] = {}
    right = ~np.isnan(scores).any(axis=1)
    for column, (name, place) in zip(labels.T, heads.items(), strict=True):
        known = column != IGNORED
        right &= scores[:, place].argmax(axis=1) == column
        if known.any():
            accuracies = top_k_accuracies(scores[known][:, place], column[known])
            found |= {f"{name}-{key}": value for key, value in accuracies.items()}
    known = (labels != IGNORED).all(axis=1)
    return found | ({"all-top-1": float(100 * right[known].mean())} if known.any() else {})
