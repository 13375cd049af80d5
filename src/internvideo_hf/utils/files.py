"""Atomic writes of files and directories, and checks of the disk before and after."""

import csv
import errno
import glob
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from internvideo_hf.utils.processes import may_run, process_mark
from internvideo_hf.utils.storage import AnyPath, StoragePath, as_path
from internvideo_hf.utils.transfers import check_writable, uploaded_file, uploaded_folder

MODE = 0o644  # of every written file; some writers, such as safetensors', would leave 0600
TEMPORARY_PREFIX = ".unfinished-"
MIN_ROOM = 1 << 20  # bytes that the smallest output needs, with its folder
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NUMPY_FAILED = re.compile(r"\d+ requested and \d+ written")  # what is left of the system's error
_FULL = 1 << 16  # bytes; a disk with less is full, whatever a library says
_NAME_KEPT = 40  # characters of a file's name in its temporary name, which must not exceed the system's 255 bytes


class DiskFullError(OSError):
    """A file cannot be written, since the disk has no room.

    It ends a batch: it is not the fault of the item at hand, and the next ones would fail, too.
    """

    def __init__(self, message: str):
        super().__init__(message)
        self.errno = errno.ENOSPC

    @classmethod
    def of(cls, path: Path, needed: int = 0) -> "DiskFullError":
        """Return the error for a file; it names the disk.

        Args:
            path: the file or folder to write.
            needed: bytes that it needs; 0 where unknown.
        """
        folder = _existing(path)
        free = f"{shutil.disk_usage(folder).free / 1e6:,.1f} MB free"
        room = f"has {free}, and {needed / 1e6:,.1f} MB are needed" if needed else f"is full ({free})"
        return cls(
            f"{path} cannot be written: the disk of {folder} {room}. Free space, or name a folder on another disk, "
            "and run the same command again."
        )


def is_disk_full(error: BaseException, folder: Path) -> bool:
    """Return whether a write into a folder failed for lack of room.

    Args:
        error: the exception; libraries hide the system's error number in a message or in a cause, or lose it.
        folder: where the file was to be written.
    """
    chain: BaseException | None = error
    while chain is not None:
        numbers = [getattr(chain, "errno", None), *map(int, re.findall(r"os error (\d+)", str(chain)))]
        if any(number in _NO_ROOM for number in numbers) or _NUMPY_FAILED.search(str(chain)):
            return True
        chain = chain.__cause__ or chain.__context__
    return shutil.disk_usage(folder).free < _FULL


def check_output(path: str | AnyPath, needed: int = MIN_ROOM) -> None:
    """Refuse an output that cannot be written, before the work for it begins.

    Args:
        path: the file or folder; it and its parents may be missing, and nothing is created. Of a store, the folder:
            an object is written there and deleted, and the disk of temporary files must have the room.
        needed: bytes that it will have, as far as known.

    Raises:
        DiskFullError: if there is less room.
        OSError: if its folder, or the nearest one above that exists, is not writable, or the name is too long; or if
            it is the address of a store, and not a `StoragePath`, which is for writers that can do this.
    """
    if isinstance(path, StoragePath):
        check_writable(path)
        path = tempfile.gettempdir()
    elif isinstance(place := as_path(path), StoragePath):
        raise OSError(f"{place} is in an object store, and this is written to a disk. Write there, and copy it.")
    path = Path(path)
    try:
        path.exists()  # refuses a name that is too long
        folder = path if path.is_dir() else _existing(path.parent)
        with tempfile.TemporaryFile(dir=folder):
            pass
        free = shutil.disk_usage(folder).free
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise DiskFullError.of(path, needed) from error
        raise OSError(f"{path} cannot be written ({error.strerror}). Name a place that you may write to.") from error
    if free < needed:
        raise DiskFullError.of(path, needed)


def check_output_file(path: str | AnyPath) -> None:
    """Refuse a file that cannot be written, before the work for it begins.

    Args:
        path: the file; its parents may be missing.

    Raises:
        FileExistsError: if it is a folder.
        OSError: see `check_output`.
    """
    path = path if isinstance(path, StoragePath) else Path(path)
    if isinstance(path, StoragePath):
        check_output(path.parent)
    if path.is_dir():
        raise FileExistsError(f"{path} is a folder. Give the name of a file, such as {path / 'result'}{path.suffix}.")
    if isinstance(path, Path):
        check_output(path)


def _existing(path: Path) -> Path:
    """Return the folder at a path, or the nearest one above that exists."""
    return next((parent for parent in (path, *path.absolute().parents) if parent.exists()), Path("/"))


def atomic_write(path: str | AnyPath, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name, then rename it.

    Readers see the old content or the new one. Several processes may write the same file: the last one wins. If
    `write` fails, the temporary file is deleted and `path` is left as it was.

    Args:
        path: the file, whose directory must exist, or an object of a store.
        write: writes the file at the temporary path that it is called with, which has the suffix of `path`.

    Raises:
        DiskFullError: if `write` fails since the disk is full.
    """
    with atomic_path(path) as temporary:
        write(temporary)


@contextmanager
def atomic_path(path: str | AnyPath) -> Iterator[Path]:
    """Yield a temporary path in the directory of `path`; rename it to `path` at the end of the block.

    The same rules as `atomic_write`, for writers that need several calls. What becomes an object of a store is written
    to a temporary file of this machine, and copied at the end.
    """
    if isinstance(path, StoragePath):
        with uploaded_file(path) as temporary, _naming_full_disks(temporary):
            yield temporary
        return
    path = Path(path)
    temporary = path.with_name(_temporary_name(path.name))
    try:
        with _naming_full_disks(path):
            yield temporary
            temporary.chmod(MODE)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _naming_full_disks(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not isinstance(error, DiskFullError) and path.parent.is_dir() and is_disk_full(error, path.parent):
            raise DiskFullError.of(path) from error
        raise


def atomic_write_text(path: str | AnyPath, text: str) -> None:
    r"""Write text in UTF-8; see `atomic_write`.

    Names of files that are not UTF-8 hold lone surrogates. They are written as `\udce9`, which JSON reads as the same.
    """
    atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="backslashreplace"))


def atomic_write_lines(path: str | AnyPath, lines: Iterable[str]) -> None:
    """Write lines of UTF-8, each with its line feed; see `atomic_write_text`.

    Args:
        path: the file.
        lines: without line feeds.
    """
    atomic_write_text(path, "".join(f"{line}\n" for line in lines))


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows as csv with a header; into an `atomic_directory`, for it is not atomic.

    Args:
        path: the file.
        rows: values by column, the same columns in each.
    """
    # A name may hold bytes that are no UTF-8.
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)


@contextmanager
def atomic_directory(path: str | AnyPath) -> Iterator[Path]:
    """Yield an empty directory to fill; it takes the place of `path` at the end of the block.

    A directory that exists at `path` stays until then. If the block or the exchange fails, it stays for good. In a
    store, which cannot exchange folders, the files appear one after the other, each whole.

    Args:
        path: the directory; its parents are created.
    """
    if isinstance(path, StoragePath):
        with uploaded_folder(path) as new, _naming_full_disks(new):
            yield new
        return
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear_scratch(path)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.{process_mark()}.", dir=path.parent) as scratch:
        new, old = Path(scratch, "new"), Path(scratch, "old")
        new.mkdir()
        with _naming_full_disks(path):
            yield new
        for file in new.rglob("*"):
            if file.is_file():
                file.chmod(MODE)
        if path.is_dir() and not any(path.iterdir()):
            # Filled rather than replaced: it may be a mount point, or the working directory of a shell.
            for file in new.iterdir():
                file.rename(path / file.name)
            return
        if path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except BaseException:
            if old.exists():
                old.rename(path)
            raise


def _clear_scratch(path: Path) -> None:
    """Delete what killed calls of `atomic_directory` left; one killed between its two renames loses nothing."""
    for scratch in path.parent.glob(f".{glob.escape(path.name)}.*"):
        match = re.fullmatch(r"(\d+(@[0-9a-f]{6})?)\.\w{8}", scratch.name.removeprefix(f".{path.name}."))
        if match is None or may_run(match[1], scratch):
            continue
        if (scratch / "old").exists() and not path.exists():
            (scratch / "old").rename(path)
        shutil.rmtree(scratch, ignore_errors=True)


def is_temporary_of(path: AnyPath, file: AnyPath) -> bool:
    """Return whether a file in the directory of `path` is a temporary one of a write of `path`."""
    return file.name.startswith(TEMPORARY_PREFIX) and file.name.endswith(path.name[-_NAME_KEPT:])


def remove_leftovers(directory: str | AnyPath) -> None:
    """Delete temporary files that killed processes left in a directory.

    Args:
        directory: one that is known to be this package's, such as an index; not searched below. Files of running
            processes stay, and for a day those of other machines, whose processes are not seen from here. A store has
            none: its objects appear whole.
    """
    if isinstance(directory, StoragePath):
        return
    for file in Path(directory).glob(f"{TEMPORARY_PREFIX}*"):
        process = file.name.removeprefix(TEMPORARY_PREFIX).partition("-")[0]
        # Version 0.1 wrote some names without a process.
        if file.is_file() and not may_run(process, file):
            file.unlink(missing_ok=True)


def remove_leftovers_of(path: AnyPath) -> None:
    """Delete temporary files of killed writes of one file, in a directory that may be anyone's; a store has none.

    Args:
        path: the file.
    """
    if isinstance(path, StoragePath):
        return
    for file in path.parent.glob(f"{TEMPORARY_PREFIX}*"):
        process, _, name = file.name.removeprefix(TEMPORARY_PREFIX).partition("-")
        if process and name == short_name(path.name) and not may_run(process, file):
            file.unlink(missing_ok=True)


def _temporary_name(name: str) -> str:
    return f"{TEMPORARY_PREFIX}{process_mark()}-{short_name(name)}"


def short_name(name: str) -> str:
    """Return a file's name, or its hash and its end if names made of it would exceed the system's limit.

    Args:
        name: of the file, without its folder.
    """
    if len(os.fsencode(name)) <= 4 * _NAME_KEPT:
        return name
    return f"{hashlib.sha256(os.fsencode(name)).hexdigest()[:12]}-{name[-_NAME_KEPT:]}"
