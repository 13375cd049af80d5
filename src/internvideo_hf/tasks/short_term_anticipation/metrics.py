"""Ego4D's metric of short-term anticipation: average precision of boxes with the right noun, verb and time to contact.

Detections of a frame, by falling score, look at the true boxes that they could be: with an overlap (IoU) above the
threshold and, by what is asked, the same noun, the same verb, and a time to contact that is close. Each takes the one
of these with which it overlaps most, unless a detection before it took that. Since a frame has objects that could be
touched next and are not annotated, the best `top_k - 1` wrong detections for each true box are not counted.

A box includes its last column and row: it is `right - left + 1` pixels wide.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from internvideo_hf.tasks.detections import check_columns, interpolated_precision

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

# What must be right beside the box, in the released order.
_ASKED = (
    ("box", ()),
    ("box_noun", ("noun",)),
    ("box_verb", ("verb",)),
    ("box_ttc", ("ttc",)),
    ("box_noun_verb", ("noun", "verb")),
    ("box_noun_ttc", ("noun", "ttc")),
    ("box_verb_ttc", ("verb", "ttc")),
    ("box_noun_verb_ttc", ("noun", "verb", "ttc")),
)
_BY_NOUN = tuple(name for name, asked in _ASKED if "noun" in asked)
SCORES = (*(f"ap_{name}" for name, _ in _ASKED), *(f"map_{name}" for name in _BY_NOUN))
"""Names of the twelve numbers: average precision over all detections, and its mean over nouns."""
_TINY = 1e-11  # of the released evaluator


@dataclass(frozen=True)
class InteractionTable:
    """Interactions with objects of frames, a row each.

    Args:
        frames: `(n,)`, names of the frames.
        boxes: `(n, 4)`: left, top, right, bottom in pixels.
        nouns: `(n,)`, classes of the objects.
        verbs: `(n,)`, classes of the actions.
        times: `(n,)`, to contact in seconds.
        scores: `(n,)`, of detections; None for ground truth.

    Raises:
        ValueError: if the lengths differ, or a number is not finite.
    """

    frames: Sequence[str] | NDArray[np.object_]
    boxes: Floats
    nouns: Ints
    verbs: Ints
    times: Floats
    scores: Floats | None = None

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "frames", np.asarray(self.frames, dtype=object))
        set_field(self, "boxes", np.asarray(self.boxes, dtype=np.float64).reshape(-1, 4))
        for name, kind in (("nouns", np.int64), ("verbs", np.int64), ("times", np.float64), ("scores", np.float64)):
            if getattr(self, name) is not None:
                set_field(self, name, np.asarray(getattr(self, name), dtype=kind))
        columns = {name: getattr(self, name) for name in ("boxes", "nouns", "verbs", "times")}
        columns |= {} if self.scores is None else {"scores": self.scores}
        check_columns("frames", len(self.frames), columns)

    def __len__(self) -> int:
        return len(self.frames)

    def of_frames(self, names: Collection[str]) -> "InteractionTable":
        """Return the rows of some frames.

        Args:
            names: of the frames.
        """
        rows = np.array([name in names for name in self.frames], dtype=bool)
        scores = None if self.scores is None else self.scores[rows]
        frames = np.asarray(self.frames)[rows]
        return InteractionTable(frames, self.boxes[rows], self.nouns[rows], self.verbs[rows], self.times[rows], scores)


@dataclass(frozen=True)
class Scoring:
    """How detections are scored; by default as in the challenge.

    Args:
        min_overlap: a right box overlaps more than this (IoU), 0-1.
        time_tolerance: a right time is off by this many seconds at most.
        top_k: answers for a true box; the others of `top_k - 1` may be wrong. None or 1 counts all detections.
        all_nouns: take the mean over the nouns of detections, too, not only over those of the ground truth.
    """

    min_overlap: float = 0.5
    time_tolerance: float = 0.25
    top_k: int | None = 5
    all_nouns: bool = False


@dataclass(frozen=True)
class Scores:
    """The metric's numbers, in percent.

    Args:
        values: by the names of `SCORES`.
        nouns: that the mean is over, rising, `(n,)`.
        by_noun: average precision of each, `(n, 4)`, for noun; noun and verb; noun and time; all three.
    """

    values: dict[str, float]
    nouns: Ints
    by_noun: Floats


def score(found: InteractionTable, truth: InteractionTable, scoring: Scoring | None = None) -> Scores:
    """Score detections against the ground truth.

    Args:
        found: with scores.
        truth: ground truth, at least a row.
        scoring: how; as in the challenge if None.

    Raises:
        ValueError: if detections lack scores, or there is no ground truth.
    """
    scoring = scoring or Scoring()
    if found.scores is None:
        raise ValueError("The detections have no scores.")
    if not len(truth):
        raise ValueError("The ground truth holds no interaction. Check the annotations.")
    hits, lined_up = np.zeros((len(found), len(_ASKED))), np.arange(len(found))
    for rows, true_rows in _by_frame(found, truth):
        hits[rows] = _hits_of_frame(found, truth, rows, true_rows, scoring)
        # As in the released evaluator, which sorts twice: equal scores are back in the order of the detections.
        if len(true_rows) and (scoring.top_k or 1) > 1:
            lined_up[rows] = rows[_falling(found.scores[rows])]
    order = lined_up[_falling(found.scores[lined_up])]
    hits, nouns, true_nouns = hits[order], found.nouns[order], truth.nouns
    names = [name for name, _ in _ASKED]
    values = {f"ap_{name}": _precision(hits[:, place], len(true_nouns)) for place, name in enumerate(names)}
    asked = np.unique(np.concatenate([true_nouns, nouns]) if scoring.all_nouns else true_nouns)
    places = [names.index(name) for name in _BY_NOUN]
    by_noun = np.array(
        [[_precision(hits[nouns == noun, place], (true_nouns == noun).sum()) for place in places] for noun in asked]
    ).reshape(-1, len(places))
    for place, name in enumerate(_BY_NOUN):
        values[f"map_{name}"] = _mean(by_noun[:, place])
    return Scores(values, asked, by_noun)


def overlap(first: Floats, second: Floats) -> Floats:
    """Return the intersection over union of boxes `(..., 4)` in whole pixels.

    Args:
        first: left, top, right, bottom; the right column and the bottom row belong to the box.
        second: the same.
    """
    shared = _area(
        np.concatenate([np.maximum(first[..., :2], second[..., :2]), np.minimum(first[..., 2:], second[..., 2:])], -1)
    )
    found: Floats = shared / (_area(first) + _area(second) - shared + _TINY)
    return found


def _area(boxes: Floats) -> Floats:
    sides = (boxes[..., 2:] - boxes[..., :2] + 1).clip(min=0)
    area: Floats = sides[..., 0] * sides[..., 1]
    return area


def _falling(scores: Floats) -> Ints:
    """Return the order of falling scores; of equal ones the later comes first, as in the released evaluator."""
    order: Ints = scores.argsort(kind="stable")[::-1]
    return order


def _by_frame(found: InteractionTable, truth: InteractionTable) -> Iterator[tuple[Ints, Ints]]:
    """Yield the rows of detections and of ground truth of each frame."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys([*truth.frames, *found.frames]))}
    rows, true_rows = (np.array([numbers[name] for name in table.frames], dtype=np.int64) for table in (found, truth))
    order, true_order = rows.argsort(kind="stable"), true_rows.argsort(kind="stable")
    edges, true_edges = (
        np.searchsorted(column, np.arange(len(numbers) + 1)) for column in (rows[order], true_rows[true_order])
    )
    for number in range(len(numbers)):
        yield (
            order[edges[number] : edges[number + 1]],
            true_order[true_edges[number] : true_edges[number + 1]],
        )


def _hits_of_frame(
    found: InteractionTable, truth: InteractionTable, rows: Ints, true_rows: Ints, scoring: Scoring
) -> Floats:
    """Return 1 for right detections of a frame, 0 for wrong ones, NaN for those that do not count, `(rows, asked)`."""
    assert found.scores is not None
    hits = np.zeros((len(rows), len(_ASKED)))
    if not len(rows) or not len(true_rows):
        return hits
    order = _falling(found.scores[rows])
    own, true = rows[order], true_rows
    overlaps = overlap(found.boxes[own][:, None], truth.boxes[true][None])
    same = {
        "noun": found.nouns[own][:, None] == truth.nouns[true],
        "verb": found.verbs[own][:, None] == truth.verbs[true],
        "ttc": np.abs(found.times[own][:, None] - truth.times[true]) <= scoring.time_tolerance,
    }
    close = overlaps > scoring.min_overlap
    possible = np.stack([np.logical_and.reduce([close, *(same[part] for part in asked)]) for _, asked in _ASKED], -1)
    taken, columns = np.zeros(possible.shape[1:], dtype=bool), np.arange(len(_ASKED))
    for place in np.flatnonzero(close.any(axis=1)):
        open_ones = possible[place] & ~taken
        best = np.where(open_ones, overlaps[place][:, None], -1).argmax(axis=0)
        is_hit = open_ones[best, columns]
        taken[best, columns] |= is_hit
        hits[place] = is_hit
    if scoring.top_k is not None:
        wrong = 1 - hits
        hits[(wrong.cumsum(axis=0) <= (scoring.top_k - 1) * len(true)) & (wrong == 1)] = np.nan
    unsorted = np.empty_like(hits)
    unsorted[order] = hits
    return unsorted


def _mean(precisions: Floats) -> float:
    """Return the mean over the nouns that have one; those of the ground truth do."""
    return float(precisions[~np.isnan(precisions)].mean())


def _precision(hits: Floats, positives: int) -> float:
    """Return average precision in percent; NaN where nothing is true and nothing counts as found."""
    counting = hits[~np.isnan(hits)]
    if not positives:
        return 0.0 if len(counting) else np.nan
    return 100 * interpolated_precision(counting == 1, int(positives)) if len(counting) else 0.0
