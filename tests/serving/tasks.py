"""Tasks for processes that decode, importable by them without the modules of models."""

import os
import signal
import time
from pathlib import Path

import numpy as np

from internvideo_hf.serving.pool import prepare_decoder


def remember(_: None) -> None:
    """Prepare a process, and limit its memory."""
    os.environ["PREPARED"] = "1"
    prepare_decoder(None, 512 << 20)


def refuse(_: None) -> None:
    """Fail to prepare."""
    raise ValueError("there is no model. Name one.")


def was_prepared(mark: Path | None) -> str | None:
    """Return what `remember` has left; a call with a new mark kills the process, and leaves the mark."""
    if mark is not None and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.environ.get("PREPARED")


def hang(_: object) -> None:
    """Never end."""
    while True:
        time.sleep(0.1)


def allocate(size: int) -> int:
    """Take memory."""
    return len(np.ones(size, np.uint8))
