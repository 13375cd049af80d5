"""Processes that are killed at a chosen moment, or meet a full disk: forks, which need not import torch again."""

import gc
import os
import resource
import signal
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch

KILLED = -signal.SIGKILL
FULL = 3
"""Exit code of a process that a `DiskFullError` has ended."""


def run(work: Callable[[], object], *, kill_before: str | None = None, file_size: int | None = None) -> int:
    """Run some work in a fork of this process, and return its exit code.

    Args:
        work: what to do; it must not use several threads.
        kill_before: pattern of a file; the process is killed before it gives a file this name.
        file_size: bytes that a file may have; the system refuses more, as on a full disk.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that this process has threads
        process = os.fork()
    if process == 0:
        try:
            os._exit(_work(work, kill_before, file_size))
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _work(work: Callable[[], object], kill_before: str | None, file_size: int | None) -> int:
    from internvideo_hf.utils.files import DiskFullError

    torch.set_num_threads(1)  # the threads of the parent are not in its fork
    gc.disable()  # an object of LanceDB waits for these threads when it is freed
    replace, rename = Path.replace, Path.rename

    def or_die(move: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
        def move_or_die(self: Path, target: Path) -> Path:
            if kill_before is not None and Path(target).match(kill_before):
                os.kill(os.getpid(), signal.SIGKILL)
            return move(self, target)

        return move_or_die

    if file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    try:
        with mock.patch.object(Path, "replace", or_die(replace)), mock.patch.object(Path, "rename", or_die(rename)):
            work()
    except DiskFullError as error:
        return FULL if "MB free" in str(error) else 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
