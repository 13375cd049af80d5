"""A decoder that some files kill or hang, importable by other processes."""

import os
import signal
import time
from pathlib import Path

from internvideo_hf.serving.models import Reading


class PoisonReading(Reading):
    """A file that begins with KILL kills the process, one that begins with HANG never ends; "once" kills it once."""

    def __call__(self, source, limits):
        head = Path(source.address).read_bytes()[:4]
        if head == b"KILL":
            os.kill(os.getpid(), signal.SIGKILL)
        while head == b"HANG":
            time.sleep(0.1)
        found = super().__call__(source, limits)
        if "once" in source.name and not (mark := Path(source.folder, "mark")).exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return found


def poisoned(reading):
    """Return a reading that some files kill."""
    return PoisonReading(reading.processor, reading.options)


def remember(_: None) -> None:
    """Prepare a process."""
    os.environ["PREPARED"] = "1"


def was_prepared(_: object) -> str | None:
    """Return what `remember` has left."""
    return os.environ.get("PREPARED")


def die_once(mark: Path) -> str | None:
    """Return what `remember` has left; the first call kills the process, and leaves a mark."""
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.environ.get("PREPARED")


def refuse(_: None) -> None:
    """Fail to prepare."""
    raise ValueError("there is no model. Name one.")


def allocate(size: int) -> int:
    """Take memory."""
    import numpy as np

    return len(np.ones(size, np.uint8))
