"""Several devices of this machine, each with a model in a process of its own."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache

from internvideo_hf.data.executors import processes
from internvideo_hf.data.executors.base import Executor, Item, Result
from internvideo_hf.video.errors import VideoDecodeError


class LocalEngine:
    """An `Engine` on this machine; a worker that dies is replaced, and its shard is run once more.

    Args:
        devices: one a worker, such as `("cuda:0", "cuda:1")`.
        jobs: decoding processes of all workers together.
    """

    def __init__(self, devices: Sequence[str], jobs: int = 1):
        if not devices or jobs < 1:
            raise ValueError(f"got the devices {list(devices)} and {jobs} jobs, expected at least one of each")
        self.devices = tuple(devices)
        self.workers = len(self.devices)
        self.decoders = max(1, jobs // self.workers)

    def map_ordered(
        self,
        task: Callable[[Item], Result],
        items: Sequence[Item],
        workers: int,
        name_of: Callable[[Item], str] = str,
        *,
        timeout: float | None = None,
    ) -> Iterator[tuple[Item, Result | VideoDecodeError]]:
        """Run a task for every item in processes that start others; see `base.Executor`."""
        pool = processes.Processes(is_leaf=False)
        try:
            yield from pool.map_ordered(task, items, workers, name_of, timeout=timeout)
        finally:
            pool.close()

    def device(self) -> str:
        """Return the device of this worker."""
        return self.devices[processes.place()]

    def executor(self) -> Executor:
        """Return decoding processes, which stay for the next shard."""
        return _decoders()


@cache
def _decoders() -> processes.Processes:
    return processes.Processes()
