"""Atomic writes of files and directories."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

MODE = 0o644  # of every written file; some writers, such as safetensors', would leave 0600
TEMPORARY_PREFIX = ".unfinished-"


def atomic_write(path: str | Path, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name, then rename it.

    Readers see the old content or the new one. Several processes may write the same file: the last one wins. If
    `write` fails, the temporary file is deleted and `path` is left as it was.

    Args:
        path: the file; its directory must exist.
        write: writes the file at the temporary path that it is called with, which has the suffix of `path`.
    """
    with atomic_path(path) as temporary:
        write(temporary)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the directory of `path`; rename it to `path` at the end of the block.

    The same rules as `atomic_write`, for writers that need several calls.
    """
    path = Path(path)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{path.name}")
    try:
        yield temporary
        temporary.chmod(MODE)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write_text(path: str | Path, text: str) -> None:
    """Write text in UTF-8; see `atomic_write`."""
    atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Yield an empty directory to fill; it takes the place of `path` at the end of the block.

    A directory that exists at `path` stays until then. If the block or the exchange fails, it stays for good.

    Args:
        path: the directory; its parents are created.
    """
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.{os.getpid()}.", dir=path.parent) as scratch:
        new, old = Path(scratch, "new"), Path(scratch, "old")
        new.mkdir()
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


def is_temporary_of(path: Path, file: Path) -> bool:
    """Return whether a file in the directory of `path` is a temporary one of a write of `path`."""
    return file.name.startswith(TEMPORARY_PREFIX) and file.name.endswith(path.name)


def remove_leftovers(directory: str | Path) -> None:
    """Delete temporary files that killed processes of this machine left in a directory.

    Args:
        directory: one that is known to be this package's, such as an index; not searched below. Files of running
            processes stay.
    """
    for file in Path(directory).glob(f"{TEMPORARY_PREFIX}*"):
        process = file.name.removeprefix(TEMPORARY_PREFIX).partition("-")[0]
        # Version 0.1 wrote some names without a process.
        if file.is_file() and not (process.isdecimal() and _is_running(int(process))):
            file.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it runs, as another user
    return True
