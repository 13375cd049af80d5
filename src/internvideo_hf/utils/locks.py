"""Locks of outputs: one process writes, and the error of the next one names it.

On a disk the system frees the lock of a process that ends. In an object store a lock is an object that only one
process can create, and that it writes again as long as it lives.
"""

import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from internvideo_hf.utils.files import TEMPORARY_PREFIX, atomic_write_text, check_output, short_name
from internvideo_hf.utils.passwords import without_passwords
from internvideo_hf.utils.processes import is_running
from internvideo_hf.utils.storage import AnyPath, StoragePath

LOCK = ".internvideo.lock"
_PATIENCE = 15.0  # seconds; the workers of a killed process hold its lock until they notice its death
_BEAT = 15.0  # seconds after which the holder of a lock in a store writes it again
_STALE = 4 * _BEAT  # seconds after which its holder counts as dead
_SETTLED = 2.0  # seconds in which another process that takes over the same lock has done so


class LockedError(OSError):
    """Another process writes into the same place."""


def is_lock(file: AnyPath) -> bool:
    """Return whether a file belongs to a lock.

    Args:
        file: any path.
    """
    return file.name.startswith(LOCK)


def is_own_file(file: AnyPath) -> bool:
    """Return whether a file is a lock or a temporary file of this package, which counts as nothing.

    Args:
        file: any path.
    """
    return is_lock(file) or file.name.startswith(TEMPORARY_PREFIX)


@contextmanager
def lock_folder(folder: str | AnyPath) -> Iterator[None]:
    """Hold the right to write into a folder for the time of a block.

    The system frees the lock of a process that ends, also of a killed one; in a store it counts for another minute,
    unless that process was of this machine. The folder is created, and deleted again if the block leaves it empty.

    Args:
        folder: the folder.

    Raises:
        LockedError: if another process holds it; the message names process, machine and command.
        OSError: if the folder cannot be written; a DiskFullError if there is no room.
    """
    if isinstance(folder, StoragePath):
        if folder.is_file():
            raise FileExistsError(f"{folder} is an object. Give the name of a folder.")
        check_output(folder)
        with _lock_stored(folder / LOCK, folder):
            yield
        return
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
def lock_file(path: str | AnyPath, *, wait: bool = False) -> Iterator[None]:
    """Hold the right to write a file for the time of a block; see `lock_folder`.

    Args:
        path: the file, or a folder that appears only when complete; the folder around it must exist. Or an object of a
            store.
        wait: wait until the process that holds it has finished, which makes the same.

    Raises:
        LockedError: if another process holds it, unless `wait`.
    """
    if isinstance(path, StoragePath):
        with _lock_stored(path.with_name(f"{LOCK}-{short_name(path.name)}"), path, wait):
            yield
        return
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
        # Not in the file of the lock, which some versions of filelock empty at each attempt.
        atomic_write_text(holder, json.dumps(_about_this_process()))
        yield
    finally:
        # While the lock is held: who waits with the file open finds it deleted, and opens a new one.
        for file in (holder, place):
            with suppress(OSError):
                file.unlink(missing_ok=True)
        lock.release()


def _about_this_process() -> dict[str, Any]:
    command = without_passwords(" ".join([Path(sys.argv[0]).name, *sys.argv[1:]]))[:200]
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time(), "command": command}


def _read(holder: AnyPath) -> dict[str, Any]:
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
        raise _locked(target, known) from None


def _locked(target: AnyPath, known: dict[str, Any], advice: str = "") -> LockedError:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(known.get("since", 0)))
    who = f"process {known['pid']} on {known['host']} since {since} ({known['command']})" if known else "another"
    return LockedError(
        f"{target} is being written by {who}. Wait until it has finished, or stop it, and run the same command again."
        f"{advice}"
    )


@contextmanager
def _lock_stored(place: StoragePath, target: StoragePath, wait: bool = False) -> Iterator[None]:
    about = {**_about_this_process(), "token": uuid.uuid4().hex}
    content = json.dumps(about).encode()
    while not _create(place, content):
        try:
            is_dead = _is_dead(place, known := _read(place))
        except FileNotFoundError:  # it was freed meanwhile
            continue
        if not is_dead:
            if not wait:
                raise _locked(target, known, f" The lock of a process that died counts for {_STALE:g} seconds.")
            time.sleep(_BEAT / 5)
            continue
        place.unlink(missing_ok=True)
        if _create(place, content):
            # Of two that find the same dead holder, the second one may have deleted the lock of the first.
            time.sleep(_SETTLED)
            if _read(place).get("token") == about["token"]:
                break
    ended, lost = threading.Event(), threading.Event()
    beating = threading.Thread(target=_beat, args=(place, content, ended, lost), daemon=True)
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join()
        with suppress(OSError):
            if _read(place).get("token") == about["token"]:
                place.unlink(missing_ok=True)
    if lost.is_set():
        raise _locked(target, _read(place), f" It took over from this process, which gave no sign for {_STALE:g} s.")


def _create(place: StoragePath, content: bytes) -> bool:
    with suppress(FileNotFoundError):
        place.read_bytes()  # some stand-ins for a store replace it, whatever the condition
        return False
    with suppress(FileExistsError):
        place.write_bytes(content, is_new=True)
        return True
    return False


def _beat(place: StoragePath, content: bytes, ended: threading.Event, lost: threading.Event) -> None:
    """Write a lock again from time to time, until it ends, or another process has taken it over."""
    while not ended.wait(_BEAT):
        with suppress(OSError):  # the store may be out of reach for a moment
            try:
                if place.read_bytes() != content:
                    lost.set()
                    return
            except FileNotFoundError:  # somebody deleted it, or is taking it over
                place.write_bytes(content, is_new=True)
            else:
                place.write_bytes(content)


def _is_dead(place: StoragePath, known: dict[str, Any]) -> bool:
    """Return whether the holder of a lock in a store died; wait for that if it gives no sign.

    Raises:
        FileNotFoundError: if the lock is gone.
    """
    if known.get("host") == socket.gethostname() and not is_running(known["pid"]):
        return True
    while (age := _age(place)) < _STALE:
        if age < 2 * _BEAT:
            return False
        time.sleep(_BEAT / 5)
    return True


def _age(place: StoragePath) -> float:
    """Return the seconds since a lock was written, by the clock of the store."""
    probe = place.with_name(f"{place.name}.{uuid.uuid4().hex}")
    probe.write_bytes(b"")
    try:
        return (probe.modified() - place.modified()).total_seconds()
    finally:
        probe.unlink(missing_ok=True)
