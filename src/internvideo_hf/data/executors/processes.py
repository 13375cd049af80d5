"""A process pool that survives crashing decoders."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from internvideo_hf.data.executors.base import Item, Result
from internvideo_hf.data.failures import one_video
from internvideo_hf.video.errors import VideoDecodeError

KILLED = "the decoder killed its process, or memory ran out"
_START = "spawn"  # a decoder's threads do not survive a fork
_AHEAD = 4  # items for each process that are submitted ahead


def map_unordered(
    task: Callable[[Item], Result], items: Sequence[Item], workers: int, name_of: Callable[[Item], str] = str
) -> Iterator[tuple[Item, Result | VideoDecodeError]]:
    """Run a task for every item in spawned processes, or in this one with one worker; see `base.Executor`.

    Items that were in progress when a process died are run once more, one after the other. The result of one that
    kills its process again is a `VideoDecodeError`.
    """
    if workers < 1:
        raise ValueError(f"got {workers} workers, expected at least 1; this machine has {os.cpu_count()} cores")
    if workers == 1:
        yield from ((item, _outcome(task, item, name_of(item))) for item in items)
        return
    remaining = list(items)
    while remaining:
        suspects, remaining = yield from _in_pool(task, remaining, workers, _AHEAD * workers, name_of)
        while suspects:
            # One at a time: if the process dies again, the item is known.
            killers, suspects = yield from _in_pool(task, suspects, 1, 1, name_of)
            for item in killers:
                yield item, VideoDecodeError(name_of(item), KILLED, "Leave the video out, or encode it again.")


class _Stopped(BaseException):
    """The process that started this one needs no more results."""


class _Worker:
    """What a worker process does, for its signal handler."""

    busy = False


def _outcome(task: Callable[[Item], Result], item: Item, name: str) -> Result | VideoDecodeError:
    _Worker.busy = True
    try:
        with one_video(name):
            return task(item)
    except VideoDecodeError as error:
        return error
    except _Stopped:
        os._exit(1)  # unfinished files are deleted by now
    finally:
        _Worker.busy = False


def _stop_worker(number: int, frame: object) -> None:
    if _Worker.busy:
        raise _Stopped
    os._exit(1)


def _prepare_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where masks do not exist
    signal.signal(signal.SIGTERM, _stop_worker)


def start_workers(loader: Iterable[Item]) -> Iterator[Item]:
    """Return the iterator of torch's data loader, which loses a Ctrl-C that comes while it starts its workers."""
    with without_interrupts():
        return iter(loader)


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Hold back Ctrl-C for a block; processes that it starts never see one, and print no tracebacks."""
    came: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    # The mask is for the processes. In this one the system hands the signal to any other thread, so Python's handler
    # is needed, too, which only the main thread may set; None is one that was not set by Python.
    is_handled = threading.current_thread() is threading.main_thread() and handler is not None
    if is_handled and handler is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    has_masks = hasattr(signal, "pthread_sigmask")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if has_masks else set()
    try:
        yield
    finally:
        if has_masks:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if is_handled:
            signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)


def _in_pool(
    task: Callable[[Item], Result], items: Sequence[Item], workers: int, ahead: int, name_of: Callable[[Item], str]
) -> Generator[tuple[Item, Result | VideoDecodeError], None, tuple[list[Item], list[Item]]]:
    """Yield as `map_unordered` until a process dies; return the items that were submitted then, and the rest.

    At most `ahead` items are submitted at a time.
    """
    remaining = list(reversed(items))
    submitted: dict[Future[Result | VideoDecodeError], Item] = {}
    context = multiprocessing.get_context(_START)
    pool = ProcessPoolExecutor(min(workers, len(items)), mp_context=context, initializer=_prepare_worker)
    try:
        while remaining or submitted:
            while remaining and len(submitted) < ahead:
                item = remaining[-1]
                with without_interrupts():
                    submitted[pool.submit(_outcome, task, item, name_of(item))] = item
                remaining.pop()
            for future in wait(submitted, return_when=FIRST_COMPLETED).done:
                result = future.result()
                yield submitted.pop(future), result
    except BrokenProcessPool:
        pass
    except BaseException:
        # Ctrl-C, a full disk, or a closed generator: an item may take minutes, and its result is not needed.
        processes: dict[int, Any] = dict(getattr(pool, "_processes", None) or {})
        for process in processes.values():
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return list(submitted.values()), list(reversed(remaining))
