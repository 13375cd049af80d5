"""Mean average precision of temporal localization, over thresholds of overlap in time (tIoU).

Predictions of a class, over all videos, are matched greedily by falling score: each takes the free segment of its
video's ground truth with the highest overlap, if that reaches the threshold. Average precision is the area under the
interpolated precision (VOC). Of equal scores, or overlaps, the later one comes first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from internvideo_hf.tasks.detections import check_columns, interpolated_precision, overlap_in_time

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

ACTIVITYNET_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())


@dataclass(frozen=True)
class SegmentTable:
    """Labeled segments of many videos, a row each.

    Args:
        videos: `(n,)`, ids.
        segments: `(n, 2)`, start and end in seconds.
        labels: `(n,)`, class indices.
        scores: `(n,)`, of predictions; None for ground truth.

    Raises:
        ValueError: if the lengths differ, or a number is not finite.
    """

    videos: Sequence[str] | NDArray[np.str_]
    segments: Floats
    labels: Ints
    scores: Floats | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "videos", np.asarray(self.videos, dtype=np.str_))
        object.__setattr__(self, "segments", np.asarray(self.segments, dtype=np.float64).reshape(-1, 2))
        object.__setattr__(self, "labels", np.asarray(self.labels, dtype=np.int64))
        columns = {"segments": self.segments, "labels": self.labels}
        if self.scores is not None:
            columns["scores"] = np.asarray(self.scores, dtype=np.float64)
            object.__setattr__(self, "scores", columns["scores"])
        check_columns("videos", len(self.videos), columns)


def average_precisions(
    predictions: SegmentTable, truth: SegmentTable, thresholds: Sequence[float], *, as_published: bool = False
) -> Floats:
    """Return the average precision of each class at each threshold.

    Args:
        predictions: with scores.
        truth: ground truth.
        thresholds: overlaps, 0-1.
        as_published: repeat two mistakes of the released evaluator: it takes a predicted class that the ground truth
            lacks for the class at that place of the ground truth's sorted classes, and the order of equal scores
            depends on the processor. By default such classes are ignored.

    Returns:
        `(thresholds, classes)`, 0-1; the classes are those of the ground truth, sorted. A class without predictions
        has 0.

    Raises:
        ValueError: if predictions lack scores, or there is no ground truth.
    """
    if predictions.scores is None:
        raise ValueError("The predictions have no scores.")
    classes = np.unique(truth.labels)
    if not len(classes):
        raise ValueError("The ground truth is empty. Check the file of annotations and the name of the subset.")
    sort: Literal["stable"] | None = None if as_published else "stable"
    labels = _place(predictions.labels, classes, as_published)
    found = np.zeros((len(thresholds), len(classes)))
    for index, label in enumerate(classes):
        chosen = np.flatnonzero(labels == index)
        order = chosen[predictions.scores[chosen].argsort(kind=sort)[::-1]]
        own = truth.labels == label
        hits = _match(
            (np.asarray(predictions.videos)[order], predictions.segments[order]),
            (np.asarray(truth.videos)[own], truth.segments[own]),
            np.asarray(thresholds),
            sort,
        )
        found[:, index] = [interpolated_precision(hit, int(own.sum())) for hit in hits]
    return found


def mean_average_precision(
    predictions: SegmentTable,
    truth: SegmentTable,
    thresholds: Sequence[float] = ACTIVITYNET_THRESHOLDS,
    *,
    as_published: bool = False,
) -> dict[str, float]:
    """Return the mean average precision over classes.

    Args:
        predictions: see `average_precisions`.
        truth: see `average_precisions`.
        thresholds: overlaps, 0-1.
        as_published: see `average_precisions`.

    Returns:
        `{"mAP@0.50": ..., ..., "mAP": ...}` in percent; the last is the mean over the thresholds.
    """
    return mean_precisions(average_precisions(predictions, truth, thresholds, as_published=as_published), thresholds)


def mean_precisions(precisions: Floats, thresholds: Sequence[float]) -> dict[str, float]:
    """Return what `mean_average_precision` does, of average precisions that are known.

    Args:
        precisions: see `average_precisions`.
        thresholds: of its rows.
    """
    means = 100 * precisions.mean(axis=1)
    by_threshold = {f"mAP@{threshold:.2f}": float(mean) for threshold, mean in zip(thresholds, means, strict=True)}
    return {**by_threshold, "mAP": float(means.mean())}


def recall_by_instances(
    predictions: SegmentTable, truth: SegmentTable, threshold: float = 0.5, multiple: int = 1
) -> float:
    """Return the recall of moment queries as Ego4D counts it, "Recall@kx".

    A query is a class in a video of which the ground truth has `n` segments; the `multiple * n` predictions of this
    class and video with the best scores answer it. A segment is found if one of them overlaps it by more than the
    threshold; one prediction may find several.

    Args:
        predictions: with scores.
        truth: ground truth.
        threshold: overlap, 0-1, to be exceeded.
        multiple: predictions for each segment of the ground truth, at least 1.

    Returns:
        Fraction of all segments of the ground truth that are found, in percent.

    Raises:
        ValueError: if predictions lack scores, or there is no ground truth.
    """
    if predictions.scores is None:
        raise ValueError("The predictions have no scores.")
    if not len(truth.labels):
        raise ValueError("The ground truth is empty. Check the file of annotations and the name of the subset.")
    answers: dict[tuple[str, int], list[int]] = {}
    for row in np.argsort(-predictions.scores, kind="stable").tolist():
        answers.setdefault((predictions.videos[row], int(predictions.labels[row])), []).append(row)
    queries: dict[tuple[str, int], list[int]] = {}
    for row, query in enumerate(zip(truth.videos, truth.labels.tolist(), strict=True)):
        queries.setdefault(query, []).append(row)
    found = 0
    for query, rows in queries.items():
        best = answers.get(query, [])[: multiple * len(rows)]
        overlaps = overlap_in_time(truth.segments[rows][:, None], predictions.segments[best])
        found += int((overlaps > threshold).any(axis=1).sum())
    return 100 * found / len(truth.labels)


def _place(labels: Ints, classes: Ints, as_published: bool) -> Ints:
    """Return the place of each label among the classes; -1, or the label itself as published, where it has none."""
    places = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
    return np.where(classes[places] == labels, places, labels if as_published else -1)


def _match(
    predicted: tuple[Any, Floats], truth: tuple[Any, Floats], thresholds: Floats, sort: Literal["stable"] | None
) -> NDArray[np.bool_]:
    """Return which predictions take a ground-truth segment, `(thresholds, predictions)`; each takes one at most."""
    videos, segments = predicted
    true_videos, true_segments = truth
    hits = np.zeros((len(thresholds), len(videos)), dtype=bool)
    for video in np.unique(true_videos):
        own = np.flatnonzero(videos == video)
        overlaps = overlap_in_time(segments[own][:, None], true_segments[true_videos == video])
        free = np.ones((len(thresholds), overlaps.shape[1]), dtype=bool)
        for row in np.flatnonzero(overlaps.max(axis=1) >= thresholds.min()):
            order = overlaps[row].argsort(kind=sort)[::-1]
            possible = free[:, order] & (overlaps[row, order] >= thresholds[:, None])
            at = np.flatnonzero(possible.any(axis=1))
            hits[at, own[row]] = True
            free[at, order[possible[at].argmax(axis=1)]] = False
    return hits
