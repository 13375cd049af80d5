"""A task that some items do not survive; here, where a spawned process finds it by import."""

import os
import signal


def double(item: int) -> int:
    """Twice the item; 3 kills the process, 5 is refused."""
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if item == 5:
        raise ValueError("five is refused")
    return 2 * item
