"""An engine without workers, for tests of what runs on engines."""

from internvideo_hf.data.executors import processes


class Here:
    """An engine in this process, which notes shards and their limit of time, and can be interrupted.

    Args:
        stop_at: shards after which it raises KeyboardInterrupt; None for none.
    """

    workers = decoders = 1

    def __init__(self, stop_at: int | None = None):
        self.shards, self.timeout, self._stop_at = [], None, stop_at

    def map_ordered(self, task, items, workers, name_of=str, *, timeout=None):
        self.timeout = timeout
        for item, result in processes.map_ordered(task, items, workers, name_of):
            if len(self.shards) == self._stop_at:
                raise KeyboardInterrupt
            self.shards.append(item)
            yield item, result

    def device(self):
        return "cpu"

    def executor(self):
        class InProcess:
            def map_ordered(self, task, items, workers, name_of=str, *, timeout=None):
                return processes.map_ordered(task, items, workers, name_of)

        return InProcess()
