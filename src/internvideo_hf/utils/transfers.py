"""Files and folders of object stores by way of temporary files on a disk of this machine."""

import re
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from internvideo_hf.utils.processes import may_run, own_entries, process_mark
from internvideo_hf.utils.storage import AnyPath, StoragePath, download, upload

_PREFIX = "internvideo-transfer-"
_READ_ONLY = ("hf",)


@contextmanager
def fetched(path: AnyPath) -> Iterator[Path]:
    """Yield a file of the disk: the path itself, or a copy of an object, which is deleted at the end of the block.

    Args:
        path: a file, or an object of a store.

    Raises:
        OSError: if the object cannot be read.
    """
    if isinstance(path, Path):
        yield path
        return
    with _temporary_folder() as folder:
        download(str(path), file := folder / f"copy{path.suffix}")
        yield file


@contextmanager
def uploaded_file(path: StoragePath) -> Iterator[Path]:
    """Yield a temporary path; what is there at the end of the block becomes the object.

    Args:
        path: of the object.

    Raises:
        OSError: if it cannot be written.
    """
    with _temporary_folder() as folder:
        yield folder / f"new{path.suffix}"
        upload(folder / f"new{path.suffix}", str(path))


@contextmanager
def uploaded_folder(path: StoragePath) -> Iterator[Path]:
    """Yield an empty temporary folder; its files take the place of all objects below a folder of a store.

    A store cannot exchange folders: each file appears whole, one after the other, before old ones go.

    Args:
        path: of the folder in the store.

    Raises:
        OSError: if a file cannot be written.
    """
    with _temporary_folder() as folder:
        yield folder
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        names = [file.relative_to(folder).as_posix() for file in files]
        for file, name in zip(files, names, strict=True):
            upload(file, str(path / name))
        for name in set(path.files()) - set(names):
            (path / name).unlink(missing_ok=True)


def check_writable(folder: StoragePath) -> None:
    """Refuse a folder of a store that cannot be written: an object is written there, and deleted.

    Args:
        folder: the folder; it is tried once in each process.

    Raises:
        OSError: if it cannot be written, or the store is only read.
        ImportError: if the package of the store is missing.
    """
    check_scheme(folder)
    _try_writing(str(folder))


def check_scheme(place: AnyPath) -> None:
    """Refuse an output in a store that is only read, before the store is asked for anything.

    Args:
        place: of the output.

    Raises:
        OSError: if it is in such a store.
    """
    scheme = str(place).partition("://")[0]
    if isinstance(place, StoragePath) and scheme in _READ_ONLY:
        raise OSError(f"{place} cannot be written: {scheme}:// is only read. Write to a disk, and upload that.")


@lru_cache
def _try_writing(folder: str) -> None:
    probe = StoragePath(folder) / f".internvideo-probe-{uuid.uuid4().hex}"
    probe.write_bytes(b"")
    probe.unlink()


def remove_folder(folder: AnyPath) -> None:
    """Delete a folder with all it holds, if there is one; files that cannot be deleted stay.

    Args:
        folder: of the disk, or of a store.
    """
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)
        return
    with suppress(OSError):
        folder.delete_all()


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    _remove_leftovers(tempfile.gettempdir())
    prefix = f"{_PREFIX}{process_mark()}-"
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as name:  # a file may be mapped
        yield Path(name)


@lru_cache
def _remove_leftovers(directory: str) -> None:
    """Delete what killed processes of this user left, once in each process."""
    for folder in own_entries(directory, f"{_PREFIX}*", stat.S_ISDIR):
        match = re.fullmatch(r"(\d+@[0-9a-f]{6})-\w+", folder.name.removeprefix(_PREFIX))
        with suppress(OSError):
            if match and not may_run(match[1], folder):
                shutil.rmtree(folder, ignore_errors=True)
