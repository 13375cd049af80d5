"""Frame mAP of AVA: average precision of labeled boxes in key frames at an overlap (IoU) of 0.5.

Detections of a class, over all key frames, are taken by falling score; of equal scores the earlier row comes first,
where the order of the official evaluator depends on the processor. Each looks at the true box of its key frame and
class with which it overlaps most, the first of several: it is correct if the overlap is at least the threshold and no
detection before it took that box. It never turns to a second true box. Average precision is the area under the
interpolated precision (PASCAL VOC, all points).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from internvideo_hf.tasks.detections import check_columns, interpolated_precision, overlap_of_boxes

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

MIN_OVERLAP = 0.5
_MIN_SCORE = -10.0  # detections at or below are dropped; scores that are probabilities never are


@dataclass(frozen=True)
class BoxTable:
    """Labeled boxes of key frames, a row each; a person with several actions has several rows.

    Args:
        key_frames: `(n,)`, names of the key frames, such as "VIDEO,0902".
        boxes: `(n, 4)`: left, top, right, bottom; fractions of the frame, or pixels throughout.
        labels: `(n,)`, classes.
        scores: `(n,)`, of detections; None for ground truth.

    Raises:
        ValueError: if the lengths differ, or a number is not finite.
    """

    key_frames: Sequence[str] | NDArray[np.object_]
    boxes: Floats
    labels: Ints
    scores: Floats | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "key_frames", np.asarray(self.key_frames, dtype=object))
        object.__setattr__(self, "boxes", np.asarray(self.boxes, dtype=np.float64).reshape(-1, 4))
        object.__setattr__(self, "labels", np.asarray(self.labels, dtype=np.int64))
        columns = {"boxes": self.boxes, "labels": self.labels}
        if self.scores is not None:
            columns["scores"] = np.asarray(self.scores, dtype=np.float64)
            object.__setattr__(self, "scores", columns["scores"])
        check_columns("key_frames", len(self.key_frames), columns)

    def __len__(self) -> int:
        return len(self.key_frames)

    def select(self, rows: NDArray[Any]) -> "BoxTable":
        """Return some of the rows.

        Args:
            rows: numbers of the rows, or a mask.
        """
        scores = None if self.scores is None else self.scores[rows]
        return BoxTable(np.asarray(self.key_frames)[rows], self.boxes[rows], self.labels[rows], scores)

    def without(self, key_frames: Collection[str]) -> "BoxTable":
        """Return the rows of other key frames.

        Args:
            key_frames: those to leave out.
        """
        return self.select(np.array([name not in key_frames for name in self.key_frames], dtype=bool))


def average_precisions(
    detections: BoxTable, truth: BoxTable, labels: Sequence[int], *, min_overlap: float = MIN_OVERLAP
) -> Floats:
    """Return the average precision of each class.

    Args:
        detections: with scores. Those of no width or height are ignored.
        truth: ground truth.
        labels: the classes to score; rows of others are ignored.
        min_overlap: of a correct detection, 0-1.

    Returns:
        `(classes,)`, 0-1; NaN for a class without ground truth, 0 for one without detections.

    Raises:
        ValueError: if detections lack scores, or there is no ground truth of these classes.
    """
    if detections.scores is None:
        raise ValueError("The detections have no scores.")
    if not np.isin(truth.labels, labels).any():
        raise ValueError("The ground truth holds no box of these classes. Check the annotations and the label map.")
    left, top, right, bottom = detections.boxes.T
    usable = (left < right) & (top < bottom) & (detections.scores > _MIN_SCORE)
    number_of = {name: number for number, name in enumerate(dict.fromkeys(truth.key_frames))}
    frames, true_frames = (
        np.array([number_of.get(name, -1) for name in table.key_frames], dtype=np.int64)
        for table in (detections, truth)
    )
    found = np.full(len(labels), np.nan)
    for place, label in enumerate(labels):
        own = np.flatnonzero(truth.labels == label)
        if not len(own):
            continue
        chosen = np.flatnonzero(usable & (detections.labels == label))
        order = chosen[(-detections.scores[chosen]).argsort(kind="stable")]
        hits = _match((frames[order], detections.boxes[order]), (true_frames[own], truth.boxes[own]), min_overlap)
        found[place] = interpolated_precision(hits, len(own))
    return found


def _match(detected: tuple[Ints, Floats], truth: tuple[Ints, Floats], min_overlap: float) -> NDArray[np.bool_]:
    """Return which detections, by falling score, take a true box, `(detections,)`."""
    (frames, boxes), (true_frames, true_boxes) = detected, truth
    by_frame = true_frames.argsort(kind="stable")
    begin, end = (np.searchsorted(true_frames[by_frame], frames, side=side) for side in ("left", "right"))
    hits = np.zeros(len(frames), dtype=bool)
    rows = np.flatnonzero(end > begin)  # whose key frame has a true box
    if not len(rows):
        return hits
    counts = (end - begin)[rows]
    starts = counts.cumsum() - counts
    # All pairs of a detection and a true box of its key frame, those of a detection together.
    pairs = by_frame[np.arange(counts.sum()) - np.repeat(starts - begin[rows], counts)]
    overlaps = overlap_of_boxes(np.repeat(boxes[rows], counts, axis=0), true_boxes[pairs])
    best = np.maximum.reduceat(overlaps, starts)
    places = np.where(overlaps == np.repeat(best, counts), np.arange(len(pairs)), len(pairs))
    target = pairs[np.minimum.reduceat(places, starts)]
    close = best >= min_overlap
    _, first = np.unique(target[close], return_index=True)
    hits[rows[close][first]] = True
    return hits
