"""A task that crashes on some items, importable by spawned processes."""

import os
import signal
import time
from pathlib import Path

from internvideo_hf.data.verification import verify_video
from internvideo_hf.video.backends import PyAVDecoder


def double(item: int) -> int:
    """Twice the item; 3 kills the process, 5 is refused."""
    if item == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    if item == 5:
        raise ValueError("five is refused")
    return 2 * item


def double_or_hang(item: int) -> int:
    """Twice the item; 3 never ends."""
    while item == 3:
        time.sleep(0.1)
    return 2 * item


def double_or_die(item: int) -> int:
    """Twice the item; 3 kills the process, 4 never ends."""
    if item == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    while item == 4:
        time.sleep(0.1)
    return 2 * item


def die_once(item: tuple[int, Path]) -> int:
    """Twice the number; the first call for 3 kills the process, and leaves a mark."""
    number, mark = item
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


class EndsAtItsStart:
    """An actor of a machine that lacks what it needs."""

    def __init__(self, environment: object):
        raise ImportError("there is no such package")

    def ready(self) -> None:
        """Return when the actor has started."""


def blocked_signals(item: object) -> set[int]:
    """Return the signals that this process does not see."""
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def has_shared_lock(item: object) -> bool:
    """Return whether progress bars of this process hold a lock of the system."""
    from tqdm import tqdm

    return hasattr(tqdm.get_lock(), "mp_lock")


def slow_first(item: int) -> int:
    """Twice the item; 0 takes longest."""
    time.sleep(0.0 if item else 0.5)
    return 2 * item


def verify(video: str) -> int:
    """Frames of a video; decoding one whose name says so kills the process, or never ends."""
    plain = PyAVDecoder.read

    def poisoned(*arguments, **options):
        frames = plain(*arguments, **options)
        if "kills" in video:
            os.kill(os.getpid(), signal.SIGSEGV)
        while "hangs" in video:
            pass
        return frames

    PyAVDecoder.read = poisoned
    try:
        return verify_video(video)
    finally:
        PyAVDecoder.read = plain


def process_of(item: object) -> int:
    """Return the number of the process."""
    return os.getpid()
