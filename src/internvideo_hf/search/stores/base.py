"""The interface of stores: where an index keeps its rows, and finds the nearest of them."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch

from internvideo_hf.search.stores.segments import Clip, Segment, Video
from internvideo_hf.search.where import Where
from internvideo_hf.utils.settings import changed_settings

SETTINGS = ("model", "fingerprint", "window", "stride", "dtype")
OPTIONAL = ("model_dtype",)  # settings that a store may lack


class Known(NamedTuple):
    """The videos of a store.

    Attributes:
        videos: by path.
        missing: numbers of the clips that have no row, for videos that lack some: a run was interrupted, or a part
            of the video could not be read.
    """

    videos: Mapping[str, Video]
    missing: Mapping[str, tuple[int, ...]]


class Info(NamedTuple):
    """What a store holds.

    Attributes:
        videos: their number.
        clips: number of rows.
    """

    videos: int
    clips: int


class VectorStore(Protocol):
    """Rows, one per clip. A row has a number, int64, which it keeps until the next change.

    Changes are durable when the call returns; an interrupted one leaves nothing that the next update would not put
    right.

    Attributes:
        settings: of the index: model, fingerprint, window, stride, dtype. Written with the next change.
    """

    settings: dict[str, Any]

    @property
    def place(self) -> str | None:
        """Folder or address, without a password; None in memory."""

    def info(self) -> Info:
        """Return what the store holds, without reading embeddings."""

    def __len__(self) -> int:
        """Return the number of rows."""

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the right to change the store for a block, and see what other processes changed before.

        Raises:
            LockedError: if another process holds it.
        """

    def refresh(self) -> None:
        """See what other processes have changed, where a store holds what it once read.

        Raises:
            ValueError: if there is no index now that it can read; its rows stay those that it has.
        """

    def known(self) -> Known:
        """Return the videos, without reading embeddings."""

    def rows(self, videos: Collection[str] | None = None) -> Iterator[Segment]:
        """Yield the rows of some videos, or all, in an order that only changes reorder.

        Args:
            videos: paths.
        """

    def upsert(self, segment: Segment) -> None:
        """Add rows, in place of those of the same video and number if there are such.

        Args:
            segment: its embeddings are converted to the store's number type.
        """

    def delete(self, videos: Collection[str]) -> None:
        """Remove all rows of some videos.

        Args:
            videos: paths.
        """

    def rewrite(
        self,
        *,
        removed: Collection[str] = (),
        renamed: Mapping[str, Video] | None = None,
        copied: Sequence[tuple[str, Video]] = (),
    ) -> None:
        """Remove, rename and copy videos in one change.

        Args:
            removed: paths.
            renamed: the new entry of a video, by its present path.
            copied: the present path of a video, and the entry of its copy. The rows copied are those before the
                change.
        """

    def compact(self) -> None:
        """Reorganize the rows after many appends; their order stays."""

    def gather(self, rows: Sequence[int] | torch.Tensor) -> torch.Tensor:
        """Return the embeddings of some rows in the order given, float32 `(rows, dim)`."""

    def clips(self, rows: Sequence[int] | torch.Tensor) -> list[Clip]:
        """Return the clips of some rows in the order given."""

    def columns(self) -> dict[str, str]:
        """Return the names of the videos' metadata, and their kinds: "text", "number" or "bool"."""

    def count(self, where: Where | None = None) -> int:
        """Return the number of rows that satisfy a condition."""

    def nearest(
        self, queries: torch.Tensor, count: int, *, approximate: bool = False, where: Where | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rows that are most similar to some embeddings.

        Args:
            queries: unit vectors, float32 `(queries, dim)`.
            count: rows to return, or fewer if the store holds fewer.
            approximate: compare a part of the rows only.
            where: rows to compare; None for all.

        Returns:
            Cosines, float32, and numbers of rows, int64, both `(queries, rows)`, the best first; among equals, the
            earlier row first.

        Raises:
            ValueError: if the store is empty, or `approximate` was not built since the last change.
        """

    def build_approximate(self) -> None:
        """Prepare approximate search; to be repeated after changes."""

    def cached(self, name: str, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Return a tensor that is kept beside the rows, computing it the first time.

        Args:
            name: of the tensor, one per content: what is kept is never replaced.
            compute: returns the tensor.
        """


def check_agreement(place: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Refuse to change an index that another process has made meanwhile, with other settings.

    Args:
        place: of the index.
        there: its settings.
        here: those of the process that would change it.

    Raises:
        ValueError: if one differs; the name of the model may, and a fingerprint that is not known yet.
    """
    names = [name for name in (*SETTINGS[1:], *OPTIONAL) if name != "fingerprint" or here[name] is not None]
    before, now = ({name: settings.get(name) for name in names} for settings in (there, here))
    if changes := changed_settings(before, now):
        raise ValueError(
            f"Another process has written an index with other settings into {place} ({changes}). Name a new one."
        )


_ESCAPED = "\x01"  # no absolute path or address starts with it


def to_text(path: str) -> str:
    """Return a path as text that any database holds; bytes of file names that are no UTF-8 are escaped."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return _ESCAPED + json.dumps(path)
    return path


def from_text(text: str) -> str:
    """Return the path that `to_text` was given."""
    return json.loads(text[len(_ESCAPED) :]) if text.startswith(_ESCAPED) else text
