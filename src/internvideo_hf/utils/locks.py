"""Locks of outputs: one process writes, and the error of the next one names it."""

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from internvideo_hf.utils.files import TEMPORARY_PREFIX, atomic_write_text, check_output, is_running, short_name
from internvideo_hf.utils.passwords import without_passwords

LOCK = ".internvideo.lock"
_PATIENCE = 15.0  # seconds; the workers of a killed process hold its lock until they notice its death


class LockedError(OSError):
    """Another process writes into the same place."""


def is_lock(file: Path) -> bool:
    """Return whether a file belongs to a lock.

    Args:
        file: any path.
    """
    return file.name.startswith(LOCK)


def is_own_file(file: Path) -> bool:
    """Return whether a file is a lock or a temporary file of this package, which counts as nothing.

    Args:
        file: any path.
    """
    return is_lock(file) or file.name.startswith(TEMPORARY_PREFIX)


@contextmanager
def lock_folder(folder: str | Path) -> Iterator[None]:
    """Hold the right to write into a folder for the time of a block.

    The system frees the lock of a process that ends, also of a killed one. The folder is created, and deleted again
    if the block leaves it empty.

    Args:
        folder: the folder.

    Raises:
        LockedError: if another process holds it; the message names process, machine and command.
        OSError: if the folder cannot be written; a DiskFullError if there is no room.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file. Give the name of a folder.")
    check_output(folder)
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _lock(folder / LOCK, folder):
            yield
    finally:
        if is_new:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


@contextmanager
def lock_file(path: str | Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the right to write a file for the time of a block; see `lock_folder`.

    Args:
        path: the file, or a folder that appears only when complete; the folder around it must exist.
        wait: wait until the process that holds it has finished, which makes the same.

    Raises:
        LockedError: if another process holds it, unless `wait`.
    """
    path = Path(path)
    with _lock(path.with_name(f"{LOCK}-{short_name(path.name)}"), path, wait):
        yield


@contextmanager
def _lock(place: Path, target: Path, wait: bool = False) -> Iterator[None]:
    lock, holder = FileLock(place), place.with_name(f"{place.name}.json")
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        _wait_for_the_dead(lock, target, _read(holder))
    try:
        command = without_passwords(" ".join([Path(sys.argv[0]).name, *sys.argv[1:]]))[:200]
        known = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time(), "command": command}
        # Not in the file of the lock, which some versions of filelock empty at each attempt.
        atomic_write_text(holder, json.dumps(known))
        yield
    finally:
        # While the lock is held: who waits with the file open finds it deleted, and opens a new one.
        for file in (holder, place):
            with suppress(OSError):
                file.unlink(missing_ok=True)
        lock.release()


def _read(holder: Path) -> dict[str, Any]:
    """Return what the holder of a lock wrote; empty if it has not yet, or no longer."""
    with suppress(OSError, ValueError):
        known: dict[str, Any] = json.loads(holder.read_text(encoding="utf-8"))
        return known
    return {}


def _wait_for_the_dead(lock: FileLock, target: Path, known: dict[str, Any]) -> None:
    here = known.get("host") == socket.gethostname()
    waits = not known or (here and not is_running(known["pid"]))
    try:
        lock.acquire(timeout=_PATIENCE if waits else 0)
    except Timeout:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(known.get("since", 0)))
        who = f"process {known['pid']} on {known['host']} since {since} ({known['command']})" if known else "another"
        raise LockedError(
            f"{target} is being written by {who}. Wait until it has finished, or stop it, and run the same command "
            "again."
        ) from None
