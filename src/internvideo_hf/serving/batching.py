"""One thread that runs the model, and takes what waits of several requests together."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from internvideo_hf.serving.errors import RequestError

Work = Callable[[Sequence[Any]], Sequence[Any]]
"""Items -> a result of each."""


class _Entry(NamedTuple):
    key: Hashable
    work: Work
    item: Any
    size: int
    future: "Future[Any]"


class Batcher:
    """A thread that runs work for callers, who have one item each.

    What waits with the same key when the thread is free goes into one call. Nobody waits for others to come: an item
    that is alone is run alone.

    Args:
        size: the most that the items of a call have together; one item may have more.
        on_batch: called with the number of items of each call.
    """

    def __init__(self, size: int, on_batch: Callable[[int], object] = lambda items: None):
        self._size, self._on_batch = size, on_batch
        self._waiting: deque[_Entry] = deque()
        self._change = threading.Condition()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._loop, name="model", daemon=True)
        self._thread.start()

    async def run(self, key: Hashable, work: Work, item: Any, size: int = 1) -> Any:
        """Return the result for an item.

        Args:
            key: items with the same key may go into one call.
            work: what is called; the same for all items with this key.
            item: one of its arguments.
            size: of the item.

        Raises:
            RequestError: if the thread has ended.
        """
        future: Future[Any] = Future()
        with self._change:
            if self._is_stopped:
                raise RequestError("The service stops.", 503, "stopping")
            self._waiting.append(_Entry(key, work, item, size, future))
            self._change.notify()
        return await asyncio.wrap_future(future)  # a caller that gives up takes the item out

    def stop(self) -> None:
        """End the thread when it has done what waits."""
        with self._change:
            self._is_stopped = True
            self._change.notify()
        self._thread.join()

    def _loop(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting or self._is_stopped)
                if not self._waiting:
                    return
                batch = self._take()
            entries = [entry for entry in batch if entry.future.set_running_or_notify_cancel()]
            if entries:
                self._answer(entries)

    def _take(self) -> list[_Entry]:
        """Take the entry that waits longest, and others with its key."""
        batch = [self._waiting.popleft()]
        room = self._size - batch[0].size
        for entry in [entry for entry in self._waiting if entry.key == batch[0].key]:
            if entry.size > room:
                break
            self._waiting.remove(entry)
            batch.append(entry)
            room -= entry.size
        return batch

    def _answer(self, entries: Sequence[_Entry]) -> None:
        try:
            results = entries[0].work([entry.item for entry in entries])
            if len(results) != len(entries):
                raise ValueError(f"{len(results)} results for {len(entries)} items.")
        except Exception as error:  # noqa: BLE001  # the caller's
            if len(entries) == 1:
                entries[0].future.set_exception(error)
                return
            for entry in entries:  # one item must not cost the others their answers
                self._answer([entry])
            return
        self._on_batch(len(entries))
        for entry, result in zip(entries, results, strict=True):
            entry.future.set_result(result)
