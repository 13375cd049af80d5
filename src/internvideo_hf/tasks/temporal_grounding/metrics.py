"""Recall of temporal grounding, as Ego4D's evaluation of natural-language queries counts it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from internvideo_hf.tasks.detections import overlap_in_time

Floats = NDArray[np.floating[Any]]

THRESHOLDS = (0.3, 0.5)
RANKS = (1, 5)
_PARTS = 20  # of a duration, among whose bounds the best constant stretch is sought


def recalls(
    answers: Sequence[Floats],
    truth: Floats,
    thresholds: Sequence[float] = THRESHOLDS,
    ranks: Sequence[int] = RANKS,
) -> dict[str, float]:
    """Return how many of the queries are answered.

    A query is answered at rank k if one of its k best answers overlaps the true stretch by MORE than the threshold.

    Args:
        answers: of each query, `(n, 2)`, start and end in seconds, the best first; none for a query without an answer.
        truth: `(queries, 2)`. What has no length is never found.
        thresholds: overlaps (IoU), 0-1.
        ranks: numbers of answers, 1 or more.

    Returns:
        In percent `{"R1@0.3": ..., "R1@0.5": ..., "R5@0.3": ..., "mIoU": ...}`; the last is the mean overlap of the
        best answers, which Ego4D's evaluation prints, too.

    Raises:
        ValueError: if there are no queries.
    """
    if not len(truth):
        raise ValueError("There are no queries with a true stretch. Check the list.")
    found, truth = np.zeros((len(truth), max(ranks))), np.asarray(truth, dtype=np.float64)
    for row, own, true in zip(found, answers, truth, strict=True):
        best = np.asarray(own, dtype=np.float64).reshape(-1, 2)[: len(row)]
        row[: len(best)] = overlap_in_time(best, true)
    scores = {
        f"R{rank}@{threshold:g}": 100 * float((found[:, :rank] > threshold).any(axis=1).mean())
        for rank in ranks
        for threshold in thresholds
    }
    return {**scores, "mIoU": 100 * float(found[:, 0].mean())}


def constant_stretch(truth: Floats, durations: Floats, threshold: float = 0.5) -> tuple[float, float]:
    """Return the stretch that answers most queries if it is the answer to all of them, as fractions of the duration.

    Args:
        truth: `(queries, 2)`, in seconds.
        durations: of each query's video in seconds, `(queries,)`.
        threshold: overlap (IoU) to exceed, 0-1.

    Returns:
        Start and end, 0-1; of equal ones that with the larger mean overlap.
    """
    bounds = np.arange(_PARTS + 1) / _PARTS
    candidates = [(start, end) for start in bounds for end in bounds if start < end]
    relative = np.asarray(truth) / np.asarray(durations)[:, None]
    found = [overlap_in_time(np.array(candidate), relative) for candidate in candidates]
    best = max(range(len(found)), key=lambda number: (float((found[number] > threshold).mean()), found[number].mean()))
    return float(candidates[best][0]), float(candidates[best][1])
