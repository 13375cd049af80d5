"""The common part of stores in databases: opening, agreement with what is there, cached tensors."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Self

import torch
from safetensors.torch import load, save

from internvideo_hf.search.stores.base import check_agreement
from internvideo_hf.search.stores.segments import Video
from internvideo_hf.search.where import Where


class DatabaseStore(ABC):
    """A `VectorStore` in a database, which the first rows create.

    Attributes:
        settings: of the index, see `base.SETTINGS`.
        place: the address, without a password.
    """

    settings: dict[str, Any]
    place: str
    _cached: dict[str, torch.Tensor]

    @classmethod
    def load(cls, address: str) -> Self:
        """Open an index.

        Raises:
            ImportError: as the class.
            ConnectionError: as the class.
            ValueError: if there is no index, or one of another format.
        """
        store = cls._at(address)
        if not store._has_index():
            raise ValueError(f"{store.place} holds no index. `internvideo index` makes one from a folder of videos.")
        store.settings = store._read_settings()
        return store

    @classmethod
    def exists(cls, address: str) -> bool:
        """Return whether there is an index at an address."""
        return cls._at(address)._has_index()

    def refresh(self) -> None:  # noqa: B027  # a store may have nothing to do
        """Do nothing: each call asks the database."""

    @classmethod
    def _at(cls, address: str) -> Self:
        store = cls.__new__(cls)
        store._open(address)
        return store

    @abstractmethod
    def _open(self, address: str) -> None:
        """Set all attributes but the settings."""

    @abstractmethod
    def _has_index(self) -> bool:
        """Return whether there is an index now: another process may have made it."""

    @abstractmethod
    def _read_settings(self) -> dict[str, Any]:
        """Return the settings of the index; a ValueError if it has another format."""

    @abstractmethod
    def _get(self, key: str) -> bytes | None:
        """Return a value of the table of states; None if it has none."""

    @abstractmethod
    def _put(self, key: str, value: bytes) -> None:
        """Set a value of the table of states."""

    @abstractmethod
    def _refusals(self) -> tuple[type[Exception], ...]:
        """Return the errors by which the database refuses a reader without the right to write."""

    def _agree(self) -> None:
        """Refuse to change an index of other settings, and take over those that are not known yet."""
        if self._has_index():
            there = self._read_settings()
            check_agreement(self.place, there, self.settings)
            if self.settings["fingerprint"] is None:
                self.settings |= there

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of rows."""

    def delete(self, videos: Collection[str]) -> None:
        """Remove videos."""
        self.rewrite(removed=videos)

    @abstractmethod
    def rewrite(
        self,
        *,
        removed: Collection[str] = (),
        renamed: Mapping[str, Video] | None = None,
        copied: Sequence[tuple[str, Video]] = (),
    ) -> None:
        """Remove, rename and copy videos."""

    def count(self, where: Where | None = None) -> int:
        """Return the number of rows that satisfy a condition."""
        return len(self) if where is None or not self._has_index() else self._count(where)

    @abstractmethod
    def _count(self, where: Where) -> int:
        """Return the number of rows of an index that satisfy a condition."""

    def nearest(
        self, queries: torch.Tensor, count: int, *, approximate: bool = False, where: Where | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rows that are most similar to some embeddings, by a scan of all rows or by the database's index.

        Raises:
            ValueError: if there are no rows, or `approximate` was not built.
        """
        if not len(self):
            raise ValueError("The index is empty. Add videos to it first.")
        if approximate and not self._has_approximate():
            raise ValueError(
                "There is no approximate index of these clips. Build it (`build_approximate`, or `internvideo index "
                "... --approximate`), or search exactly."
            )
        return self._nearest(queries, count, approximate, where)

    @abstractmethod
    def _has_approximate(self) -> bool:
        """Return whether an index has an approximate one."""

    @abstractmethod
    def _nearest(
        self, queries: torch.Tensor, count: int, approximate: bool, where: Where | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the most similar rows; see `nearest`."""

    def cached(self, name: str, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Return a tensor that is kept in the database, computing it the first time."""
        if name not in self._cached:
            stored = self._get(name) if self._has_index() else None
            self._cached[name] = compute() if stored is None else load(stored)["tensor"]
            if stored is None and self._has_index():
                with contextlib.suppress(*self._refusals()):
                    self._put(name, save({"tensor": self._cached[name]}))
        return self._cached[name]
