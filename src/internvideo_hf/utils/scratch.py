"""Temporary files that the next process deletes where a killed one could not."""

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from internvideo_hf.utils.locks import LOCK, lock_folder
from internvideo_hf.utils.processes import is_running, own_entries

_OLD = 86400.0  # seconds; a process of another container has numbers that mean nothing here


@contextmanager
def scratch_directory(kind: str) -> Iterator[Path]:
    """Yield a temporary directory that only this user can read; delete it, and those of killed processes.

    Args:
        kind: what it is for, a part of its name.
    """
    for folder in own_entries(tempfile.gettempdir(), f"internvideo-{kind}-*", stat.S_ISDIR):
        # Its owner holds the lock for as long as it runs.
        with suppress(OSError):
            if (folder / LOCK).exists():
                with lock_folder(folder):
                    shutil.rmtree(folder, ignore_errors=True)
    with (
        tempfile.TemporaryDirectory(prefix=f"internvideo-{kind}-", ignore_cleanup_errors=True) as name,
        lock_folder(name),
    ):
        yield Path(name)


def scratch_file(kind: str, suffix: str, folder: Path | None = None) -> tuple[int, str]:
    """Create a temporary file that the caller deletes, and delete old ones of processes that no longer run.

    Args:
        kind: what it is for, a part of its name.
        suffix: the end of its name.
        folder: where it is made; that of temporary files if None.

    Returns:
        Its open handle and its path.
    """
    for file in own_entries(tempfile.gettempdir(), f"internvideo-{kind}-*", stat.S_ISREG):
        process = file.name.split("-")[2]
        with suppress(OSError):
            is_old = time.time() - file.stat().st_mtime > _OLD
            if is_old and process.isdecimal() and not is_running(int(process)):
                file.unlink()
    return tempfile.mkstemp(prefix=f"internvideo-{kind}-{os.getpid()}-", suffix=suffix, dir=folder)
