"""Scores of estimated numbers: mean errors and correlations."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from internvideo_hf.models.common.losses import IGNORED


def regression_scores(estimates: NDArray[Any], labels: NDArray[Any]) -> dict[str, float]:
    """Return the scores of estimates, each the mean over the numbers that a video has.

    Args:
        estimates: `(videos, numbers)`; NaN for an unreadable video, which is left out.
        labels: the true numbers, -100 where one is unknown, `(videos, numbers)`.

    Returns:
        "MAE", the mean absolute error; "MSE", the mean squared error; "Pearson" and "Spearman", the correlations of
        values and of ranks, -1 to 1, not of constant numbers. Empty without a known number.
    """
    scores = scores_of_numbers(estimates, labels)
    names = ("MAE", "MSE", "Pearson", "Spearman")
    values = {name: [entry[name] for entry in scores if name in entry] for name in names}
    return {name: float(np.mean(found)) for name, found in values.items() if found}


def scores_of_numbers(estimates: NDArray[Any], labels: NDArray[Any]) -> list[dict[str, float]]:
    """Return the scores of each number, as of `regression_scores`.

    Args:
        estimates: as there.
        labels: as there.
    """
    found = []
    for estimate, label in zip(estimates.T, labels.T, strict=True):
        known = (label != IGNORED) & ~np.isnan(estimate)
        found.append(_scores(estimate[known].astype(np.float64), label[known].astype(np.float64)))
    return found


def _scores(estimates: NDArray[np.float64], labels: NDArray[np.float64]) -> dict[str, float]:
    if not len(labels):
        return {}
    errors = estimates - labels
    scores = {"MAE": float(np.abs(errors).mean()), "MSE": float(np.square(errors).mean())}
    if len(np.unique(estimates)) < 2 or len(np.unique(labels)) < 2:
        return scores
    pairs: Sequence[tuple[str, Any, Any]] = (
        ("Pearson", estimates, labels),
        ("Spearman", _ranks(estimates), _ranks(labels)),
    )
    return scores | {name: float(np.corrcoef(first, second)[0, 1]) for name, first, second in pairs}


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks from the lowest value up; equal values have the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[places])
