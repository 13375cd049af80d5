"""From the scores of several views to one row for each video, and accuracy.

An unreadable video counts as wrong: the original's `ensemble.py` counted it as correct. Source: VideoMAE test
(`merge`, `ensemble`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Merged(NamedTuple):
    """One row for each video, in the order in which the videos came.

    Args:
        videos: Names.
        labels: True classes, int64, shape (videos,).
        scores: float64, shape (videos, classes); NaN where the video failed.
        failed: Videos without a view, or with one that has no scores or NaN among them; bool, shape (videos,).
    """

    videos: list[str]
    labels: Array
    scores: Array
    failed: Array


def _softmax(logits: Array) -> Array:
    # An infinite logit gives NaN: the video has failed.
    with np.errstate(invalid="ignore"):
        powers = np.exp(logits - logits.max())
        return powers / powers.sum()


METHODS: dict[str, Callable[[Array], Array]] = {
    "prob": _softmax,
    "score": lambda logits: logits,
}
"""Name -> what is averaged over the views. prob: probabilities (the published scores). score: raw logits."""


def top_k_accuracy(merged: Merged, k: int = 1) -> float:
    """Computes the share of videos whose true class is among the k best; a failed video is wrong.

    Of equal scores the lower class comes first. With fewer than k classes every video that has not failed is right.

    Args:
        merged: Scores and labels.
        k: 1 for top-1, 5 for top-5.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: If k is not positive.
    """
    if k < 1:
        raise ValueError(f"k: got {k}, expected at least 1; 1 is the usual accuracy")
    best = np.argsort(-merged.scores, axis=1, kind="stable")[:, :k]
    correct = (best == merged.labels[:, None]).any(axis=1) & ~merged.failed
    return float(correct.mean())
