"""A process pool that survives crashing decoders."""

import multiprocessing
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from internvideo_hf.data.executors.base import Item, Result
from internvideo_hf.video.errors import VideoDecodeError

KILLED = "the decoder killed its process, or memory ran out"
_AHEAD = 4  # items for each process that are submitted ahead


def map_unordered(
    task: Callable[[Item], Result], items: Sequence[Item], workers: int, name_of: Callable[[Item], str] = str
) -> Iterator[tuple[Item, Result | OSError | ValueError]]:
    """Run a task for every item in spawned processes, or in this one with one worker; see `base.Executor`.

    Items that were in progress when a process died are run once more, one after the other. The result of one that
    kills its process again is a `VideoDecodeError`.
    """
    if workers < 1:
        raise ValueError(f"got {workers} workers, expected at least 1; this machine has {os.cpu_count()} cores")
    if workers == 1:
        yield from ((item, _outcome(task, item)) for item in items)
        return
    remaining = list(items)
    while remaining:
        suspects, remaining = yield from _in_pool(task, remaining, workers, _AHEAD * workers)
        while suspects:
            # One at a time: if the process dies again, the item is known.
            killers, suspects = yield from _in_pool(task, suspects, 1, 1)
            for item in killers:
                yield item, VideoDecodeError(name_of(item), KILLED, "Leave the video out, or encode it again.")


def _outcome(task: Callable[[Item], Result], item: Item) -> Result | OSError | ValueError:
    try:
        return task(item)
    except (OSError, ValueError) as error:  # VideoDecodeError is a ValueError
        return error


def _in_pool(
    task: Callable[[Item], Result], items: Sequence[Item], workers: int, ahead: int
) -> Generator[tuple[Item, Result | OSError | ValueError], None, tuple[list[Item], list[Item]]]:
    """Yield as `map_unordered` until a process dies; return the items that were submitted then, and the rest.

    At most `ahead` items are submitted at a time.
    """
    remaining = list(reversed(items))
    submitted: dict[Future[Result | OSError | ValueError], Item] = {}
    context = multiprocessing.get_context("spawn")  # a decoder's threads do not survive a fork
    pool = ProcessPoolExecutor(min(workers, len(items)), mp_context=context)
    try:
        while remaining or submitted:
            while remaining and len(submitted) < ahead:
                submitted[pool.submit(_outcome, task, remaining[-1])] = remaining[-1]
                remaining.pop()
            for future in wait(submitted, return_when=FIRST_COMPLETED).done:
                result = future.result()
                yield submitted.pop(future), result
    except BrokenProcessPool:
        pass
    finally:
        # Also on Ctrl-C and when the generator is closed: no other item starts.
        pool.shutdown(wait=True, cancel_futures=True)
    return list(submitted.values()), list(reversed(remaining))
