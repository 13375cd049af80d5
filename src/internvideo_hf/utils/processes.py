"""Processes by marks in names of files: who wrote a temporary file, and whether it still runs."""

import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

_FOREIGN_AGE = 86400.0  # seconds after which a temporary file of another machine counts as left over


def machine_mark() -> str:
    """Return six hexadecimal digits that tell this machine from others."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]


def process_mark() -> str:
    """Return this process and a mark of its machine, such as `4711@0a1b2c`."""
    return f"{os.getpid()}@{machine_mark()}"


def may_run(process: str, file: Path) -> bool:
    """Return whether the process that wrote a temporary file may be running.

    Args:
        process: from `process_mark`; without a machine in names that version 0.1 wrote.
        file: what it wrote.
    """
    number, _, machine = process.partition("@")
    if not number.isdecimal():
        return False
    if machine and machine != machine_mark():
        return time.time() - file.stat().st_mtime < _FOREIGN_AGE
    return is_running(int(number))


def own_entries(folder: str, pattern: str, is_kind: Callable[[int], bool]) -> Iterator[Path]:
    """Yield what this user made in a folder that others write to, too; never a link.

    Args:
        folder: such as that of temporary files.
        pattern: of names.
        is_kind: of the mode of an entry, such as `stat.S_ISDIR`.
    """
    for path in Path(folder).glob(pattern):
        with suppress(OSError):
            status = path.lstat()
            if is_kind(status.st_mode) and (not hasattr(os, "getuid") or status.st_uid == os.getuid()):
                yield path


def is_running(process: int) -> bool:
    """Return whether a process of this machine is running.

    Args:
        process: its number.
    """
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it runs, as another user
    return True
