"""From a detector's numbers to detections: candidates of levels, suppression, voting, scores of video classifiers.

Soft suppression visits candidates as the released C++ code does, so that equal scores give the same order: the next
one is the first of the highest scores, it changes places with the first open candidate, and a candidate whose score
falls too low is overwritten by the last one. Scores and lengths are float32. A visit compares with all others at once,
and all classes make their visits side by side; they end when enough segments are found, since scores only fall.

A case that the released code leaves undefined: a voted segment that no candidate overlaps enough keeps its boundaries.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.configuration_utils import PreTrainedConfig

from internvideo_hf.utils.names import check_name, lookup

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

_LENGTH_EPSILON = 1e-6  # which the released suppression adds to lengths, and its voting does not
_SCORE = 3  # row of soft suppression's table, behind starts, ends and lengths
# A candidate that is none, which overlaps nothing and comes last; the bits of its index are a negative number.
_PADDING = np.array([0, 0, 1, np.finfo(np.float32).min, -1], np.float32)


class Detections(NamedTuple):
    """Segments of one video, in any unit of time.

    Args:
        segments: `(n, 2)`, start and end.
        scores: `(n,)`.
        labels: `(n,)`, class indices.
    """

    segments: torch.Tensor
    scores: torch.Tensor
    labels: torch.Tensor


def _gaussian(overlap: Floats, settings: "Suppression") -> Floats:
    power = overlap * overlap if settings.exponent == 2 else overlap**settings.exponent
    # A float64 exponential, rounded, is what C's float32 one gives; numpy's own float32 one is not.
    factor: Floats = np.exp(power / -settings.sigma, out=power, dtype=np.float64, casting="same_kind")
    return factor


def _linear(overlap: Floats, settings: "Suppression") -> Floats:
    return np.where(overlap >= settings.iou_threshold, 1 - overlap, 1).astype(np.float32)


def _removal(overlap: Floats, settings: "Suppression") -> Floats:
    return (overlap < settings.iou_threshold).astype(np.float32)


DECAYS: dict[str, Callable[[Floats, "Suppression"], Floats]] = {
    "gaussian": _gaussian,
    "linear": _linear,
    "removal": _removal,
}
"""Name -> factor on the score of a candidate by its overlap with a chosen one. gaussian: exp(-overlap**exponent /
sigma). linear: 1 - overlap from `iou_threshold` on. removal: 0 from `iou_threshold` on."""
METHODS = (*DECAYS, "hard", "none")


@dataclass(frozen=True)
class Suppression:
    """How overlapping candidates give way to better ones. The defaults are those of the released THUMOS-14 detector.

    Args:
        method: a name in `DECAYS`; "hard" removes what overlaps by `iou_threshold` or more and filters by score first;
            "none" only sorts.
        class_wise: let only candidates of the same class compete.
        sigma: width of the Gaussian decay, above 0.
        exponent: of the overlap in the Gaussian decay; 2 for ActionFormer, 2.5 for TCANet.
        iou_threshold: overlap, 0-1, from which on "linear", "removal" and "hard" act; "gaussian" ignores it.
        min_score: score below which a decayed candidate is dropped; for "hard", candidates must exceed it.
        max_segments: segments to keep at most; None for all.
        voting_threshold: overlap, 0-1, from which on all candidates vote on the boundaries of a kept segment; 0 for no
            vote. There is none where `class_wise` is True.
    """

    method: str = "gaussian"
    class_wise: bool = True
    sigma: float = 0.5
    exponent: float = 2.0
    iou_threshold: float = 0.1
    min_score: float = 0.001
    max_segments: int | None = 200
    voting_threshold: float = 0.0

    def __post_init__(self) -> None:
        check_name(self.method, METHODS, "method")
        for name in ("sigma", "exponent"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)}, expected a number above 0.")
        _check_score("min_score", self.min_score)
        _check_limit("max_segments", self.max_segments)
        for name in ("iou_threshold", "voting_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}, expected an overlap between 0 and 1.")


def _check_score(name: str, score: float) -> None:
    if not 0 <= score <= 1:
        raise ValueError(f"{name}={score}, expected a score between 0 and 1.")


def _check_limit(name: str, limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise ValueError(f"{name}={limit}, expected a number above 0, or None for all.")


def suppress(candidates: Detections, settings: Suppression) -> Detections:
    """Keep the best of overlapping candidates.

    Args:
        candidates: of one video; the order decides between equal scores.
        settings: the rule.

    Returns:
        On the CPU, best score first. Scores are the decayed ones; segments are voted ones if the settings ask so.

    Raises:
        ValueError: if the shapes do not fit each other, or a number is not finite.
    """
    segments, scores, labels = _checked(candidates)
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)] if settings.class_wise else []
    indices, decayed = _picks(segments, scores, groups or [np.arange(len(scores))], settings)
    # Of equal scores in several classes, the lower class comes first.
    order = np.lexsort((labels[indices] * settings.class_wise, -decayed))[: settings.max_segments]
    kept = indices[order]
    found, raw = torch.from_numpy(segments[kept]), torch.from_numpy(segments)
    if settings.voting_threshold > 0 and not settings.class_wise:
        found = vote(found, raw, torch.from_numpy(scores), settings.voting_threshold)
    return Detections(found, torch.from_numpy(decayed[order]), torch.from_numpy(labels[kept]))


def vote(segments: torch.Tensor, candidates: torch.Tensor, scores: torch.Tensor, threshold: float) -> torch.Tensor:
    """Average the boundaries of all candidates that overlap each segment, weighted by their scores.

    Args:
        segments: `(n, 2)`, the kept ones.
        candidates: `(m, 2)`, all of them.
        scores: `(m,)`, of the candidates before suppression.
        threshold: overlap, 0-1, from which on a candidate counts.

    Returns:
        `(n, 2)`; a segment that no candidate overlaps enough stays as it is.
    """
    starts = torch.maximum(segments[:, None, 0], candidates[None, :, 0])
    ends = torch.minimum(segments[:, None, 1], candidates[None, :, 1])
    shared = (ends - starts).clamp(min=0)
    lengths = (segments[:, 1] - segments[:, 0])[:, None] + (candidates[:, 1] - candidates[:, 0])[None]
    weights = (shared / (lengths - shared) >= threshold) * scores
    total = weights.sum(dim=1, keepdim=True)
    return torch.where(total > 0, weights @ candidates / total, segments)


@dataclass(frozen=True)
class Selection:
    """Which candidates of a level of features are passed to suppression. The defaults are the released ones.

    Args:
        min_score: probability that a candidate must exceed, 0-1.
        max_candidates: candidates of a level at most; the best are taken.
        min_length: length in steps of the feature grid that a candidate must exceed.
    """

    min_score: float = 0.001
    max_candidates: int = 2000
    min_length: float = 0.05

    def __post_init__(self) -> None:
        _check_score("min_score", self.min_score)
        _check_limit("max_candidates", self.max_candidates)
        if not 0 <= self.min_length < math.inf:
            raise ValueError(f"min_length={self.min_length}, expected 0 or more.")


def select_candidates(
    logits: torch.Tensor, offsets: torch.Tensor, mask: torch.Tensor, stride: int, settings: Selection
) -> Detections:
    """Return the candidates of one level of a video, best first.

    Args:
        logits: `(points, classes)`.
        offsets: `(points, 2)`, distances to the left and right boundary in strides.
        mask: `(points,)`, False where features are padding.
        stride: steps of the feature grid between two points of the level.
        settings: the rule.

    Returns:
        Segments in steps of the feature grid.
    """
    classes = logits.shape[1]
    scores = (logits.sigmoid() * mask[:, None]).flatten()
    open_ = (scores > settings.min_score).nonzero()[:, 0]
    order = scores[open_].argsort(descending=True, stable=True)[: settings.max_candidates]
    chosen = open_[order]
    points = chosen // classes
    left, right = (offsets[points] * stride).unbind(dim=1)
    segments = torch.stack([points * stride - left, points * stride + right], dim=1)
    long = segments[:, 1] - segments[:, 0] > settings.min_length
    return Detections(segments[long], scores[chosen][long], (chosen % classes)[long])


def collect_candidates(
    logits: Sequence[torch.Tensor],
    offsets: Sequence[torch.Tensor],
    masks: Sequence[torch.Tensor],
    strides: Sequence[int],
    settings: Selection,
) -> list[Detections]:
    """Return the candidates of all levels for each video of a batch.

    Args:
        logits: of each level, `(batch, points, classes)`.
        offsets: of each level, `(batch, points, 2)`.
        masks: of each level, `(batch, points)`.
        strides: of each level.
        settings: the rule of each level, see `select_candidates`.

    Returns:
        Segments in steps of the feature grid, level by level.
    """
    found = []
    for video in range(len(masks[0])):
        levels = [
            select_candidates(scores[video], distances[video], mask[video], stride, settings)
            for scores, distances, mask, stride in zip(logits, offsets, masks, strides, strict=True)
        ]
        found.append(Detections(*(torch.cat(parts) for parts in zip(*levels, strict=True))))
    return found


def detect(
    logits: Sequence[torch.Tensor],
    offsets: Sequence[torch.Tensor],
    masks: Sequence[torch.Tensor],
    config: PreTrainedConfig,
) -> list[Detections]:
    """Decode a head's outputs, by the rule of its configuration.

    Args:
        logits: of each level, `(batch, points, classes)`.
        offsets: of each level, `(batch, points, 2)`.
        masks: of each level, `(batch, points)`.
        config: of the head.

    Returns:
        Segments of each video in grid units, best first, on the CPU.
    """
    levels = ([level.float().cpu() for level in logits], [level.float().cpu() for level in offsets])
    selection, suppression = decoding_of(config)
    candidates = collect_candidates(*levels, [mask.cpu() for mask in masks], config.strides, selection)
    return [suppress(one, suppression) for one in candidates]


def decoding_of(config: PreTrainedConfig) -> tuple[Selection, Suppression]:
    """Return the decoding that a head's configuration asks for; of a head without candidates, the default selection.

    Args:
        config: of the head.

    Raises:
        ValueError: if a setting is unknown, or has no meaning.
    """
    found: list[Any] = []
    for name, kind in (("selection", Selection), ("suppression", Suppression)):
        try:
            found.append(kind(**(getattr(config, name, None) or {})))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} in the config.json of the head: {error} Correct it there.") from error
    return found[0], found[1]


@dataclass(frozen=True)
class Fusion:
    """How the class scores of a video classifier name segments that have no class of their own.

    Args:
        classes: best classes of the video that each segment gets.
        max_segments: segments of a video to name, best first; None for all.
        combine: a name in `COMBINATIONS`.
        sharpness: factor on the class scores before their softmax; None takes probabilities as they are, and a softmax
            of anything else (the released rule of ActionFormer). TCANet: 2.
        max_detections: named segments to keep at most, best first; None keeps all of them, class by class.
    """

    classes: int = 2
    max_segments: int | None = 200
    combine: str = "geometric_mean"
    sharpness: float | None = None
    max_detections: int | None = None

    def __post_init__(self) -> None:
        check_name(self.combine, COMBINATIONS, "combine")
        for name in ("classes", "max_segments", "max_detections"):
            _check_limit(name, getattr(self, name))
        if self.sharpness is not None and not 0 < self.sharpness < math.inf:
            raise ValueError(f"sharpness={self.sharpness}, expected a number above 0, or None.")


COMBINATIONS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "geometric_mean": lambda classes, segments: (classes * segments).sqrt(),
    "product": lambda classes, segments: classes * segments,
}
"""Name -> score of a named segment from the score of the class and that of the segment."""


def fuse_class_scores(detections: Detections, class_scores: Any, settings: Fusion) -> Detections:
    """Give each segment the best classes that a classifier finds in the whole video.

    Args:
        detections: of one video; their labels are ignored.
        class_scores: `(classes,)`, probabilities or logits of the video.
        settings: the rule.

    Returns:
        All segments with the best class, best first, then all with the next class; with `max_detections`, the best of
        all. Of equal scores, of classes as of segments, the later one comes first, as in the released code.

    Raises:
        ValueError: if the class scores are not one finite row, or fewer than `settings.classes`.
    """
    scores = torch.as_tensor(np.asarray(class_scores), dtype=torch.float64)
    if scores.ndim != 1 or len(scores) < settings.classes or not scores.isfinite().all():
        raise ValueError(
            f"The class scores have the shape {tuple(scores.shape)}, expected one row of at least {settings.classes} "
            "finite numbers. Give the scores of the whole video, one for each class."
        )
    if settings.sharpness is not None:
        scores = (settings.sharpness * scores).softmax(dim=0)
    elif scores.max() > 1 or scores.min() < 0:
        scores = scores.softmax(dim=0)
    best, order = _best_first(scores)[: settings.classes], _best_first(detections.scores)[: settings.max_segments]
    segments, of_segments = detections.segments[order], detections.scores[order].double()
    combined = lookup(COMBINATIONS, settings.combine, "combine")(scores[best][:, None], of_segments[None])
    found = Detections(
        segments.repeat(len(best), 1), combined.flatten().float(), best.repeat_interleave(len(of_segments))
    )
    if settings.max_detections is None:
        return found
    kept = found.scores.argsort(descending=True, stable=True)[: settings.max_detections]
    return Detections(*(tensor[kept] for tensor in found))


def _best_first(scores: torch.Tensor) -> torch.Tensor:
    return scores.argsort(stable=True).flip(0)


def _checked(candidates: Detections) -> tuple[Floats, Floats, Ints]:
    segments, scores, labels = (tensor.detach().cpu() for tensor in candidates)
    if segments.shape != (len(scores), 2) or scores.ndim != 1 or labels.shape != scores.shape:
        raise ValueError(
            f"Segments have the shape {tuple(segments.shape)}, scores {tuple(scores.shape)} and labels "
            f"{tuple(labels.shape)}, expected (n, 2), (n,) and (n,)."
        )
    if not (segments.isfinite().all() and scores.isfinite().all()):
        raise ValueError("Segments or scores hold numbers that are not finite. Check the model's outputs.")
    return segments.float().numpy(), scores.float().numpy(), labels.long().numpy()


def _picks(segments: Floats, scores: Floats, groups: Sequence[Ints], settings: Suppression) -> tuple[Ints, Floats]:
    """Return the chosen candidates with their scores: of each group as many as may be kept, best first."""
    if settings.method not in DECAYS:
        choose = partial(_hard_picks, segments, scores) if settings.method == "hard" else partial(_sorted, scores)
        picks = [index for group in groups for index in islice(choose(group, settings), settings.max_segments)]
        chosen = np.array(picks, dtype=np.int64)
        return chosen, scores[chosen]
    similar: dict[int, list[Ints]] = {}  # in size, so that less than half of a table is padding
    for group in groups:
        similar.setdefault(len(group).bit_length(), []).append(group)
    parts = [_soft_picks(segments, scores, some, settings) for some in similar.values()]
    indices, decayed = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return indices, decayed


def _sorted(scores: Floats, group: Ints, settings: Suppression) -> Ints:
    return group[np.argsort(-scores[group], kind="stable")]


def _hard_picks(segments: Floats, scores: Floats, group: Ints, settings: Suppression) -> Iterator[int]:
    if settings.min_score > 0:
        group = group[scores[group] > settings.min_score]
    group = _sorted(scores, group, settings)
    table = np.stack([*segments[group].T, _lengths(segments[group])])
    while len(group):
        yield group[0]
        apart = _overlap(table[:, 0], table[:, 1:]) < settings.iou_threshold
        group, table = group[1:][apart], table[:, 1:][:, apart]


def _soft_picks(
    segments: Floats, scores: Floats, groups: Sequence[Ints], settings: Suppression
) -> tuple[Ints, Floats]:
    """Visit the candidates of all groups side by side: each has a row of one table, whose end is padding."""
    table = _padded_table(segments, scores, groups)
    rows, decay, most = np.arange(len(groups)), DECAYS[settings.method], settings.max_segments or len(scores)
    ends, picks = np.array([len(group) for group in groups]), np.empty((table.shape[2], 2, len(groups)), np.float32)
    first, end = 0, table.shape[2]
    while first < end:
        best = first + table[_SCORE, :, first:end].argmax(axis=1)
        chosen = table[:, rows, best]
        table[:, rows, best] = table[:, :, first]
        picks[first], first = chosen[_SCORE:], first + 1
        # Later scores of all groups are no higher than the best of these.
        if first * len(rows) >= most and np.count_nonzero(picks[:first, 0] > chosen[_SCORE].max()) >= most:
            break
        rest = table[:, :, first:end]
        rest[_SCORE] *= decay(_overlap(chosen[:, :, None], rest), settings)
        low = rest[_SCORE] < settings.min_score
        if (dropped := np.count_nonzero(low)) and dropped > (end - ends.clip(min=first)).sum():
            ends = first + _overwrite_gaps(rest, low)
            end = int(ends.max())
    found, indices = picks[:first].transpose(1, 2, 0).reshape(2, -1)
    indices = indices.view(np.int32)
    return indices[indices >= 0].astype(np.int64), found[indices >= 0]


def _padded_table(segments: Floats, scores: Floats, groups: Sequence[Ints]) -> Floats:
    """Return starts, ends, lengths, scores, and the bits of the indices of candidates, `(5, groups, candidates)`."""
    sizes, order = np.array([len(group) for group in groups]), np.concatenate(groups)
    table = np.empty((len(_PADDING), len(groups), sizes.max()), np.float32)
    table[:] = _PADDING[:, None, None]
    columns = *segments[order].T, _lengths(segments[order]), scores[order], order.astype(np.int32).view(np.float32)
    table[:, np.arange(sizes.max()) < sizes[:, None]] = columns
    return table


def _overwrite_gaps(rest: Floats, low: NDArray[np.bool_]) -> Ints:
    """Put the last candidates of each row in the places of dropped ones, as one after the other would; count them."""
    kept: Ints = np.count_nonzero(~low, axis=1)
    places = np.arange(low.shape[1])
    inside = places < kept[:, None]
    rows, gaps = (low & inside).nonzero()
    _, moved = (~low & ~inside)[:, ::-1].nonzero()
    rest[:, rows, gaps] = rest[:, rows, places[::-1][moved]]
    rest[:, ~inside] = _PADDING[:, None]
    return kept


def _lengths(segments: Floats) -> Floats:
    return segments[:, 1] - segments[:, 0] + _LENGTH_EPSILON


def _overlap(one: Floats, others: Floats) -> Floats:
    """Return the intersection over union of a segment with others; rows are starts, ends and lengths."""
    shared: Floats = np.minimum(one[1], others[1])
    shared -= np.maximum(one[0], others[0])
    np.maximum(shared, 0, out=shared)
    union = one[2] + others[2]
    union -= shared
    shared /= union
    return shared
