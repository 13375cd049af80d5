"""A task that crashes on some items, importable by spawned processes."""

import os
import signal


def double(item: int) -> int:
    """Twice the item; 3 kills the process, 5 is refused."""
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if item == 5:
        raise ValueError("five is refused")
    return 2 * item
