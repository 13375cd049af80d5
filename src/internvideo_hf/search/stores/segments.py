"""Rows of an index in memory or mapped from disk: segments, and operations on lists of them."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from internvideo_hf.search.stores.quantized import Codes

Clip = tuple[str, float | None, float | None]
"""The path of a clip's video, and its begin and end in seconds; None without times."""

SEGMENT_ROWS = 65536  # segments are merged up to this size, so that a change rewrites little of a large index


NO_METADATA: Mapping[str, Any] = {}  # one for all videos: an index may hold millions


@dataclass(frozen=True, slots=True)
class Video:
    """A video of an index.

    Attributes:
        path: absolute path, or address.
        size: bytes of the file.
        mtime: modification time in nanoseconds.
        content: hash of the whole file.
        clips: number of clips.
        metadata: what the list of videos says of it: texts, numbers, true and false, by names in small letters.
    """

    path: str
    size: int
    mtime: int
    content: str
    clips: int
    metadata: Mapping[str, Any] = field(default_factory=lambda: NO_METADATA, hash=False)


@dataclass
class Segment:
    """Rows of an index, one per clip.

    Attributes:
        videos: the videos of the rows.
        embeddings: unit vectors, float32 or float16, `(rows, dim)`.
        spans: begin and end of each clip in seconds, float64 `(rows, 2)`; NaN without times.
        video: index of each row's video in `videos`, int64 `(rows,)`.
        number: number of each row's clip within its video, int64 `(rows,)`.
        file: name of the file that the local store mapped or wrote; None if it is in memory only.
        codes: an 8-bit copy of the embeddings; None if there is none.
    """

    videos: list[Video]
    embeddings: torch.Tensor
    spans: torch.Tensor
    video: torch.Tensor
    number: torch.Tensor
    file: str | None = None
    codes: Codes | None = None

    def __len__(self) -> int:
        return len(self.video)

    def clips(self, rows: np.ndarray | slice = slice(None)) -> list[Clip]:
        """Return the clips of some rows, or all, their times rounded to milliseconds."""
        spans, owners = self.spans[rows].tolist(), self.video[rows].tolist()
        times = [[None if second != second else round(second, 3) for second in span] for span in spans]
        return [(self.videos[owner].path, *span) for owner, span in zip(owners, times, strict=True)]

    def keys(self) -> list[tuple[str, int]]:
        """Return the video's path and the number of each row's clip."""
        owners, numbers = self.video.tolist(), self.number.tolist()
        return [(self.videos[owner].path, number) for owner, number in zip(owners, numbers, strict=True)]

    def select(self, rows: torch.Tensor) -> "Segment":
        """Return some rows, without codes, and only the videos that they are of.

        Args:
            rows: bool `(len(self),)`.
        """
        used, owners = torch.unique(self.video[rows], return_inverse=True)
        videos = [self.videos[place] for place in used.tolist()]
        return Segment(videos, self.embeddings[rows], self.spans[rows], owners, self.number[rows])

    def without(self, paths: Collection[str]) -> "Segment":
        """Return the segment without some videos; itself if it has none of them."""
        if not any(video.path in paths for video in self.videos):
            return self
        return self.select(torch.tensor([video.path not in paths for video in self.videos])[self.video])

    def renamed(self, new: Mapping[str, Video]) -> "Segment":
        """Return the segment with some videos replaced, by their present path; itself if it has none of them."""
        if not any(video.path in new for video in self.videos):
            return self
        videos = [new.get(video.path, video) for video in self.videos]
        return Segment(videos, self.embeddings, self.spans, self.video, self.number, codes=self.codes)


def merge(segments: Sequence[Segment]) -> Segment:
    """Concatenate segments into one."""
    videos = {video.path: video for segment in segments for video in segment.videos}
    place = {path: i for i, path in enumerate(videos)}
    owners = [torch.tensor([place[video.path] for video in segment.videos])[segment.video] for segment in segments]
    return Segment(
        list(videos.values()),
        torch.cat([segment.embeddings for segment in segments]),
        torch.cat([segment.spans for segment in segments]),
        torch.cat(owners),
        torch.cat([segment.number for segment in segments]),
    )


def compact(segments: Iterable[Segment]) -> list[Segment]:
    """Merge neighbors up to `SEGMENT_ROWS`, and drop segments without rows."""
    groups: list[list[Segment]] = []
    rows = 0
    for segment in filter(len, segments):
        if groups and rows + len(segment) <= SEGMENT_ROWS:
            groups[-1].append(segment)
            rows += len(segment)
        else:
            groups.append([segment])
            rows = len(segment)
    return [group[0] if len(group) == 1 else merge(group) for group in groups]


def in_chunks(segments: Sequence[Segment], size: int) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield all embeddings in chunks: the number of a chunk's first row, and float32 `(up to size, dim)`."""
    first = 0
    for segment in segments:
        for start in range(0, len(segment), size):
            yield first + start, segment.embeddings[start : start + size].float()
        first += len(segment)


def locate(
    segments: Sequence[Segment], rows: Sequence[int] | np.ndarray | torch.Tensor
) -> Iterator[tuple[Segment, np.ndarray, np.ndarray]]:
    """Find the segments of some rows.

    Args:
        segments: in the order that numbers their rows.
        rows: numbers of rows.

    Yields:
        A segment, the positions in `rows` of those that it holds, and their numbers within it.
    """
    wanted = np.asarray(rows, dtype=np.int64)
    firsts = np.cumsum([0, *map(len, segments)])[:-1]
    owners = np.searchsorted(firsts, wanted, side="right") - 1
    for owner in np.unique(owners):
        places = np.flatnonzero(owners == owner)
        yield segments[owner], places, wanted[places] - firsts[owner]


def gather(segments: Sequence[Segment], rows: Sequence[int] | np.ndarray | torch.Tensor) -> torch.Tensor:
    """Return the embeddings of some rows in the order given, float32 `(rows, dim)`."""
    found = torch.empty(len(rows), segments[0].embeddings.shape[1])
    for segment, places, inner in locate(segments, rows):
        found[places] = segment.embeddings[inner].float()
    return found
