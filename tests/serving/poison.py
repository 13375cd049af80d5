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
            os.kill(os.getpid(), signal.SIGSEGV)
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
