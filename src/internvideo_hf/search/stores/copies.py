"""Local copies of the files of an index in an object store, from which its rows are mapped."""

import os
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from internvideo_hf.checkpoints.model_names import cache_folder
from internvideo_hf.utils.files import atomic_path
from internvideo_hf.utils.fingerprints import text_sha256
from internvideo_hf.utils.storage import AnyPath, StoragePath, download, state_of, upload


class Copies:
    """The files of a folder on this machine: themselves, or copies of objects in the cache of models.

    A copy is made once of each version of an object, as its entity tag tells.

    Args:
        folder: of the index.
    """

    def __init__(self, folder: AnyPath):
        self._folder = folder
        self._cache = cache_folder() / "indexes" / text_sha256(str(folder))[:16]

    def get(self, name: str) -> Path:
        """Return the path of a file, or of a copy of an object.

        Args:
            name: of the file.

        Raises:
            OSError: if the object cannot be read.
        """
        if isinstance(self._folder, Path):
            return self._folder / name
        copy = self._copy_of(self._folder / name)
        if not copy.exists():
            self._cache.mkdir(parents=True, exist_ok=True)
            with atomic_path(copy) as temporary:
                download(str(self._folder / name), temporary)
        return copy

    def put(self, name: str, write: Callable[[Path], object]) -> Path:
        """Write a file atomically, and return its path, or that of a copy of the object.

        Args:
            name: of the file.
            write: writes it at the path that it is called with.

        Raises:
            DiskFullError: if there is no room for it.
            OSError: if it cannot be written.
        """
        if isinstance(self._folder, Path):
            with atomic_path(path := self._folder / name) as temporary:
                write(temporary)
            return path
        self._cache.mkdir(parents=True, exist_ok=True)
        with atomic_path(new := self._cache / name) as temporary:
            write(temporary)
        upload(new, str(self._folder / name))
        copy = self._copy_of(self._folder / name)
        os.replace(new, copy)
        return copy

    def keep(self, names: Collection[str]) -> None:
        """Delete copies of other files of rows; processes that have them mapped keep them as long as they run.

        Args:
            names: of the files that the index has.
        """
        for copy in self._cache.glob("rows-*") if isinstance(self._folder, StoragePath) else ():
            if f"{copy.name.partition('.')[0]}{copy.suffix}" not in names:
                with suppress(OSError):
                    copy.unlink()

    def _copy_of(self, path: StoragePath) -> Path:
        return self._cache / f"{path.stem}.{state_of(str(path)).version:x}{path.suffix}"
