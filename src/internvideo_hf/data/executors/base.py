"""The interface of executors: one task for many items, by several workers."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeVar

from internvideo_hf.video.errors import VideoDecodeError

Item = TypeVar("Item")
Result = TypeVar("Result")


class Refusal(NamedTuple):
    """What a task returns that can do nothing for any item: its error, if raised, would count as that of one video."""

    error: Exception


class Executor(Protocol):
    """What can run a task for many items; a module that defines `map_ordered` is one, such as `processes`."""

    def map_ordered(
        self,
        task: Callable[[Item], Result],
        items: Sequence[Item],
        workers: int,
        name_of: Callable[[Item], str] = str,
        *,
        timeout: float | None = None,
    ) -> Iterator[tuple[Item, Result | VideoDecodeError]]:
        """Run a task for every item, and yield items with results in the order of the items.

        Few results are held at a time, so that an item which takes long holds up those after it.

        Args:
            task: a function of an importable module, or a `partial` of one.
            items: arguments of `task` that can be pickled.
            workers: how many items are in progress at once, at least 1; 1 may run in the calling process.
            name_of: returns the name of an item's video, for messages.
            timeout: seconds after which an item counts as hung; None for no limit.

        Yields:
            The item, and what `task` returned, or its failure, whatever `task` raised; see `failures.one_video`.

        Raises:
            ValueError: if `workers` is below 1.
            DiskFullError, ImportError: if `task` raises one, which concerns all items.
        """
