"""Near-copies in a gallery: clips of different videos that are more alike than unrelated ones come to be by chance."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from internvideo_hf.search.stores.base import VectorStore
from internvideo_hf.search.stores.segments import Clip

CHANCE = 0.05
"""Pairs of unrelated clips expected above the calibrated threshold, in the whole gallery."""
SAMPLE = 1024  # clips whose cosines with each other give the threshold
_LEAST_SAMPLE = 16
_MOST = 0.999  # float16 and other decoders change copies by less
_QUERIES = 256
_FIRST_NEIGHBORS, _MOST_NEIGHBORS = 16, 4096


@dataclass(frozen=True)
class Copy:
    """A clip of a group of near-copies.

    Attributes:
        video: path or address of its video.
        start: where it begins, in seconds; None without times.
        end: where it ends.
        similarity: its largest cosine with another clip of the group.
    """

    video: str
    start: float | None
    end: float | None
    similarity: float


@dataclass(frozen=True)
class Copies:
    """The near-copies of a gallery.

    Attributes:
        threshold: least cosine of near-copies.
        groups: clips that are linked by pairs at or above the threshold, in the order of the gallery.
        clips: clips of the gallery.
    """

    threshold: float
    groups: tuple[tuple[Copy, ...], ...]
    clips: int


def find_copies(
    store: VectorStore,
    *,
    threshold: float | None = None,
    approximate: bool = False,
    on_done: Callable[[int, int], object] = lambda done, total: None,
) -> Copies:
    """Find the near-copies among the clips of different videos. The time grows with the square of their number.

    Args:
        store: the gallery.
        threshold: least cosine of a near-copy, 0 to 1; None for that of `calibrated_threshold`.
        approximate: compare each clip with a part of the others only.
        on_done: progress callback `(done, total)`, in clips.

    Raises:
        ValueError: if the gallery is empty, too small for a calibration, or the threshold out of range.
    """
    total = len(store)
    if threshold is None:
        threshold = calibrated_threshold(_sample(store, total), total)
    elif not 0 < threshold <= 1:
        raise ValueError(f"threshold={threshold} must be above 0 and at most 1.")
    groups, done = _Groups(), 0
    for segment in store.rows():
        clips = segment.clips()
        for first in range(0, len(clips), _QUERIES):
            queries = segment.embeddings[first : first + _QUERIES].float()
            for clip, neighbors in zip(
                clips[first : first + _QUERIES], _neighbors(store, queries, threshold, approximate), strict=True
            ):
                for other, similarity in neighbors:
                    if other[0] != clip[0]:
                        groups.link(clip, other, similarity)
            done += len(queries)
            on_done(done, total)
    return Copies(threshold, groups.listed(), total)


def calibrated_threshold(sample: tuple[torch.Tensor, Sequence[str]], clips: int) -> float:
    """Return the cosine above which `CHANCE` pairs of unrelated clips are expected among all pairs of a gallery.

    Nearly all pairs of different videos are unrelated. Their cosines count as normally distributed; median and median
    deviation describe them, which the copies among them hardly change.

    Args:
        sample: embeddings, unit vectors `(clips, dim)`, and the video of each.
        clips: clips of the gallery.

    Raises:
        ValueError: if the sample has too few videos.
    """
    embeddings, videos = sample
    places = {video: place for place, video in enumerate(dict.fromkeys(videos))}
    if len(places) < _LEAST_SAMPLE:
        raise ValueError(
            f"The gallery has {len(places)} videos, too few to tell from their cosines what a near-copy is: "
            f"{_LEAST_SAMPLE} are needed. Give the least cosine of a near-copy (--threshold 0.95)."
        )
    owner = torch.tensor([places[video] for video in videos])
    cosines = (embeddings @ embeddings.T)[owner[:, None] < owner[None]].double()
    median = cosines.median()
    spread = 1.4826 * (cosines - median).abs().median()  # of normally distributed values, the standard deviation
    tail = CHANCE / (clips * (clips - 1) / 2)
    z = -torch.special.ndtri(torch.tensor(tail, dtype=torch.float64))
    return min(_MOST, float(median + z * spread))


def _sample(store: VectorStore, total: int) -> tuple[torch.Tensor, list[str]]:
    """Return up to `SAMPLE` embeddings at equal distances, and the video of each."""
    stride, first = max(1, math.ceil(total / SAMPLE)), 0
    embeddings, videos = [torch.empty(0, 0)], list[str]()
    for segment in store.rows():
        rows = slice(-first % stride, None, stride)
        embeddings = [e for e in embeddings if len(e)] + [segment.embeddings[rows].float()]
        videos += [path for path, *_ in segment.clips(rows)]
        first += len(segment)
    return torch.cat(embeddings), videos


def _neighbors(
    store: VectorStore, queries: torch.Tensor, threshold: float, approximate: bool
) -> list[list[tuple[Clip, float]]]:
    """Return the clips at or above a cosine with each query, itself among them."""
    count = _FIRST_NEIGHBORS
    while True:
        similar, rows = store.nearest(queries, count, approximate=approximate)
        if similar.shape[1] < count or count >= _MOST_NEIGHBORS or (similar[:, -1] < threshold).all():
            break
        count *= 4
    found = similar >= threshold
    clips = iter(store.clips(rows[found]))
    return [[(next(clips), cosine) for cosine in row[of].tolist()] for row, of in zip(similar, found, strict=True)]


class _Groups:
    """Clips joined by links: a forest of parents."""

    def __init__(self) -> None:
        self._parents: dict[Clip, Clip] = {}
        self._similarity: dict[Clip, float] = {}

    def link(self, one: Clip, other: Clip, similarity: float) -> None:
        """Join the groups of two clips."""
        for clip in (one, other):
            self._parents.setdefault(clip, clip)
            self._similarity[clip] = max(similarity, self._similarity.get(clip, -1.0))
        self._parents[self._root(other)] = self._root(one)

    def listed(self) -> tuple[tuple[Copy, ...], ...]:
        """Return the groups, the largest cosines first."""
        groups: dict[Clip, list[Copy]] = {}
        for clip in self._parents:
            groups.setdefault(self._root(clip), []).append(Copy(*clip, similarity=self._similarity[clip]))
        return tuple(sorted(map(tuple, groups.values()), key=_closeness))

    def _root(self, clip: Clip) -> Clip:
        while (parent := self._parents[clip]) != clip:
            self._parents[clip] = self._parents[parent]
            clip = parent
        return clip


def _closeness(group: tuple[Copy, ...]) -> Any:
    return -max(copy.similarity for copy in group)
