"""The interface of stores: where an index keeps its rows, and finds the nearest of them."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch

from internvideo_hf.search.stores.segments import Segment, Video

Clip = tuple[str, float | None, float | None]
"""The path of a clip's video, and its begin and end in seconds; None without times."""


class Known(NamedTuple):
    """The videos of a store.

    Attributes:
        videos: by path.
        missing: numbers of the clips that have no row, for videos that lack some: a run was interrupted, or a part
            of the video could not be read.
    """

    videos: Mapping[str, Video]
    missing: Mapping[str, tuple[int, ...]]


class VectorStore(Protocol):
    """Rows, one per clip, numbered from 0 in an order that only changes reorder.

    Each change is atomic, and durable when the call returns.

    Attributes:
        settings: of the index: model, fingerprint, window, stride, dtype. Written with the next change.
    """

    settings: dict[str, Any]

    def __len__(self) -> int:
        """Return the number of rows."""

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the right to change the store for a block, and see what other processes changed before.

        Raises:
            LockedError: if another process holds it.
        """

    def known(self) -> Known:
        """Return the videos, without reading embeddings."""

    def append(self, segment: Segment) -> None:
        """Add rows, with embeddings in the store's number type."""

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

    def embeddings(self) -> torch.Tensor:
        """Return all embeddings in the store's number type, `(rows, dim)`."""

    def gather(self, rows: Sequence[int] | torch.Tensor) -> torch.Tensor:
        """Return the embeddings of some rows in the order given, float32 `(rows, dim)`."""

    def clips(self, rows: Sequence[int] | torch.Tensor) -> list[Clip]:
        """Return the clips of some rows in the order given."""

    def nearest(
        self, queries: torch.Tensor, count: int, *, approximate: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rows that are most similar to some embeddings.

        Args:
            queries: unit vectors, float32 `(queries, dim)`.
            count: rows to return, or fewer if the store holds fewer.
            approximate: compare a part of the rows only.

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
