"""Processes for decoding that survive videos which kill or hang their decoder."""

import math
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from internvideo_hf.data.executors.base import Item, Result
from internvideo_hf.data.failures import HUNG, KILLED, one_video
from internvideo_hf.video.errors import VideoDecodeError

TIMEOUT = 600.0  # seconds for a few frames of a video; it may lie on a slow disk
WHOLE_TIMEOUT = 3600.0  # seconds for all frames of a video; it may be a film
_START = "spawn"  # a decoder's threads do not survive a fork
_AHEAD = 4  # items for each process that are in progress, or wait to be taken
_ATTEMPTS = 2  # at an item whose process ends itself, as a decoder does that crashes
_ATTEMPTS_KILLED = 3  # at one whose process is killed, as for memory: another's may have run it out
_KILL = -getattr(signal, "SIGKILL", 0)  # exit code; Windows has none of it
_STARTS = 3  # attempts at starting a process
_GRACE = 3.0  # seconds in which a process may delete its unfinished files


def map_unordered(
    task: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    name_of: Callable[[Item], str] = str,
    *,
    timeout: float | None = None,
) -> Iterator[tuple[Item, Result | VideoDecodeError]]:
    """Run a task for every item, and yield items with results as they complete; see `map_ordered`."""
    return _map(task, items, workers, name_of, timeout, is_ordered=False)


def map_ordered(
    task: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    name_of: Callable[[Item], str] = str,
    *,
    timeout: float | None = None,
) -> Iterator[tuple[Item, Result | VideoDecodeError]]:
    """Run a task for every item in spawned processes, or in this one; see `base.Executor`.

    One worker without a timeout is this process, which a video can kill or hang. In a process of its own, an item that
    kills it is run again, and no other such item beside it. The result of one that kills its process again, or
    does not finish in time, is a `VideoDecodeError`.
    """
    return _map(task, items, workers, name_of, timeout, is_ordered=True)


def time_limit(timeout: float | None, default: float, *, apart: bool = True) -> float | None:
    """Return the seconds that an item may take: those asked for, or the default; None for no limit.

    Args:
        timeout: as asked for; None for the default, `math.inf` for no limit.
        default: `TIMEOUT` or `WHOLE_TIMEOUT`.
        apart: processes decode; this one has no limit by default, since nothing could end it.
    """
    if timeout is None:
        return default if apart else None
    return None if timeout == math.inf else timeout


class NoProcessError(RuntimeError):
    """No process can be started, which is no item's fault."""


class Child:
    """A process that runs tasks, one at a time, and is replaced when it dies or hangs.

    It ends when it is closed, or when this process ends, however that happens.

    Args:
        is_leaf: it starts no processes itself.
        place: what `place` returns in it.
        method: how it is started, of `multiprocessing`; "spawn" if None.
    """

    def __init__(self, is_leaf: bool = True, place: int = 0, method: str | None = None) -> None:
        self._is_leaf, self._place, self._method = is_leaf, place, method
        self._process: Any = None
        self._connection: Connection | None = None
        self.is_stopped = False

    def run(
        self,
        task: Callable[[Item], Result],
        item: Item,
        name: str,
        timeout: float | None = None,
        alone: AbstractContextManager[Any] | None = None,
    ) -> Result | VideoDecodeError:
        """Run a task for an item.

        Args:
            task: a function of an importable module, or a `partial` of one.
            item: its argument.
            name: of the item's video, for messages.
            timeout: seconds after which the process counts as hung; None for no limit. To import what the task needs
                does not count.
            alone: held while an item runs again that killed its process.

        Returns:
            What `task` returned, or its failure.

        Raises:
            DiskFullError, ImportError: if `task` raises one, which concerns all items.
            NoProcessError: if no process can be started.
        """
        lost = 0
        while True:
            with (alone if lost else None) or nullcontext():
                connection = self._begin(task, item, name)
                try:
                    if not connection.poll(timeout):
                        self._end()
                        return VideoDecodeError(
                            name, HUNG.format(timeout), "Leave the video out, encode it again, or allow more time."
                        )
                    kind, result = connection.recv()
                except (EOFError, OSError):
                    code = self._end()
                    if self.is_stopped:
                        raise _Stopped from None
                    lost += 1
                    if lost < (_ATTEMPTS_KILLED if code == _KILL else _ATTEMPTS):
                        continue
                    return VideoDecodeError(name, KILLED, "Leave the video out, or encode it again.")
            if kind == "error":
                raise result
            return result  # type: ignore[no-any-return]

    @property
    def is_running(self) -> bool:
        """Whether the process is there; it is not before its first task, and after one that killed or hung it."""
        return self._process is not None and self._process.is_alive()

    def close(self) -> None:
        """End the process, which is idle."""
        self._end()

    def stop(self) -> None:
        """End the process now, from any thread; an item may take minutes, and its result is not needed."""
        self.is_stopped = True
        if (process := self._process) is not None:
            process.terminate()

    def _begin(self, task: Callable[[Item], Result], item: Item, name: str) -> Connection:
        """Hand an item to the process, and return the connection to it when it begins; a process lost before is not
        the item's doing."""
        for _ in range(_STARTS):
            with suppress(EOFError, OSError):
                connection = self._start()
                connection.send((task, item, name))
                connection.recv()  # it begins
                return connection
            self._end()
            if self.is_stopped:
                raise _Stopped
        raise NoProcessError(
            "The processes that decode end as soon as they start; their messages stand above. A script that starts "
            'them needs `if __name__ == "__main__":` around its own work; with one job (--jobs 1) none is started.'
        )

    def _start(self) -> Connection:
        """Return the connection to the process, which is started unless it runs."""
        if self._connection is not None and self._process.is_alive():
            return self._connection
        self._end()
        context = multiprocessing.get_context(self._method or _START)
        ours, theirs = context.Pipe()
        process = context.Process(  # type: ignore[attr-defined]
            target=_serve, args=(theirs, self._place), daemon=self._is_leaf
        )
        try:
            with without_interrupts():
                process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._process, self._connection = process, ours
        if self.is_stopped:
            process.terminate()
        ours.recv()
        return ours

    def _end(self) -> int | None:
        """Make sure that the process is gone, and return its exit code; None if there was none."""
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if connection is not None:
            connection.close()
        if process is None:
            return None
        if process.is_alive():
            process.terminate()
            process.join(_GRACE)
        if process.is_alive():
            process.kill()
        process.join()
        return process.exitcode  # type: ignore[no-any-return]


class Processes:
    """An `Executor` whose processes stay for the next list of items.

    Args:
        is_leaf: see `Child`.
    """

    def __init__(self, is_leaf: bool = True) -> None:
        self._is_leaf = is_leaf
        self._children: list[Child] = []

    def map_ordered(
        self,
        task: Callable[[Item], Result],
        items: Sequence[Item],
        workers: int,
        name_of: Callable[[Item], str] = str,
        *,
        timeout: float | None = None,
    ) -> Iterator[tuple[Item, Result | VideoDecodeError]]:
        """Run a task for every item in processes, also with one worker; see `map_ordered`."""
        _check_workers(workers)
        if any(child.is_stopped for child in self._children):
            self.close()
        new = range(len(self._children), min(workers, len(items)))
        self._children += [Child(self._is_leaf, place) for place in new]
        pool = _Pool(task, items, self._children[:workers], name_of, timeout)
        return pool.collect(items, is_ordered=True)

    def close(self) -> None:
        """End the processes."""
        for child in self._children:
            child.close()
        self._children = []


class _Stopped(BaseException):
    """The process that started this one needs no more results."""


class _Worker:
    """What a worker process does, for its signal handler."""

    busy = False
    place = 0


def place() -> int:
    """Return the place of this process among those that work on a list, from 0."""
    return _Worker.place


def outcome_of(task: Callable[[Item], Result], item: Item, name: str) -> Result | VideoDecodeError:
    """Run a task in this process, and return its result, or the failure of the item.

    Raises:
        DiskFullError, ImportError: if `task` raises one, which concerns all items.
    """
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


def _serve(connection: Connection, place: int) -> None:
    """Run what comes over a connection, until it closes; the main function of a process."""
    _prepare_worker()
    if not multiprocessing.current_process().daemon:
        _keep_bars_apart()
    _Worker.place = place
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        connection.send("ready")
        while True:
            try:
                task, item, name = connection.recv()
            except (EOFError, ConnectionResetError):
                return
            except Exception as error:  # the task cannot be imported
                task, item, name = _fail, error, ""
            connection.send("begins")
            try:
                answer = ("result", outcome_of(task, item, name))
            except Exception as error:
                answer = ("error", error)
            try:
                connection.send(answer)
            except (TypeError, AttributeError, ValueError) as error:  # of pickle; nothing has been sent
                connection.send(("error", RuntimeError(f"{type(answer[1]).__name__} cannot be sent: {error}")))


def _fail(error: Exception) -> None:
    raise ImportError(f"A process that decodes cannot load its task ({error}).") from error


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)  # so that it deletes its unfinished files
        time.sleep(_GRACE)
        os._exit(1)


def _stop_worker(number: int, frame: object) -> None:
    if _Worker.busy:
        raise _Stopped
    os._exit(1)


def _prepare_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where masks do not exist
    signal.signal(signal.SIGTERM, _stop_worker)


def _keep_bars_apart() -> None:
    """Give progress bars a lock of this process: tqdm's is a semaphore, which a process leaves behind when ended."""
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())


def start_workers(loader: Iterable[Item]) -> Iterator[Item]:
    """Return the iterator of torch's data loader, which loses a Ctrl-C that comes while it starts its workers."""
    with without_interrupts():
        return iter(loader)


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Hold back Ctrl-C for a block; processes that it starts never see one, and print no tracebacks."""
    has_masks = hasattr(signal, "pthread_sigmask")
    if has_masks:
        # Python starts it with the first process, and then lets Ctrl-C through to that one, whatever the mask was.
        resource_tracker.ensure_running()
    came: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    # The mask is for the processes. In this one the system hands the signal to any other thread, so Python's handler
    # is needed, too, which only the main thread may set; None is one that was not set by Python.
    is_handled = threading.current_thread() is threading.main_thread() and handler is not None
    if is_handled and handler is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
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


class _Pool:
    """Processes, each with a thread that hands it items; results wait until they are taken.

    Args:
        task: what to run.
        items: its arguments.
        children: the processes.
        name_of: returns the name of an item's video.
        timeout: seconds for an item.
    """

    def __init__(
        self,
        task: Callable[[Item], Result],
        items: Sequence[Item],
        children: Sequence[Child],
        name_of: Callable[[Item], str],
        timeout: float | None,
    ):
        self._task, self._name_of, self._timeout, self._children = task, name_of, timeout, children
        self._remaining, self._lock, self._alone = iter(enumerate(items)), threading.Lock(), threading.Lock()
        self._permits = threading.Semaphore(_AHEAD * len(children))
        self._results: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._is_stopped = False
        self._threads = [threading.Thread(target=self._work, args=(child,), daemon=True) for child in children]

    def _work(self, child: Child) -> None:
        try:
            while True:
                self._permits.acquire()
                with self._lock:
                    following = None if self._is_stopped else next(self._remaining, None)
                if following is None:
                    return
                number, item = following
                result = child.run(self._task, item, self._name_of(item), self._timeout, self._alone)
                self._results.put((number, result))
        except BaseException as error:
            self._results.put((-1, error))

    def collect(self, items: Sequence[Item], is_ordered: bool) -> Iterator[tuple[Item, Any]]:
        """Yield items with results, in order or as they complete; if this is left early, the processes end."""
        waiting: dict[int, Any] = {}
        for thread in self._threads:
            thread.start()
        try:
            for turn in range(len(items)):
                while not (turn in waiting if is_ordered else waiting):
                    number, result = self._results.get()
                    if number < 0:
                        raise result
                    waiting[number] = result
                number = turn if is_ordered else next(iter(waiting))
                self._permits.release()
                yield items[number], waiting.pop(number)
        except BaseException:
            self._is_stopped = True
            for child in self._children:
                child.stop()
            raise
        finally:
            self._permits.release(len(self._threads) + 1)
            for thread in self._threads:
                thread.join()


def _map(
    task: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    name_of: Callable[[Item], str],
    timeout: float | None,
    is_ordered: bool,
) -> Iterator[tuple[Item, Result | VideoDecodeError]]:
    _check_workers(workers)
    if workers == 1 and timeout is None:
        yield from ((item, outcome_of(task, item, name_of(item))) for item in items)
        return
    children = [Child() for _ in range(min(workers, len(items)))]
    try:
        yield from _Pool(task, items, children, name_of, timeout).collect(items, is_ordered)
    finally:
        for child in children:
            child.close()


def _check_workers(workers: int) -> None:
    if workers < 1:
        raise ValueError(f"got {workers} workers, expected at least 1; this machine has {os.cpu_count()} cores")
