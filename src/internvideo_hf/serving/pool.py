"""Processes that decode the videos of requests; a video that kills or hangs one costs its own request only."""

import asyncio
import logging
import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from internvideo_hf.data.executors.processes import Child, NoProcessError
from internvideo_hf.serving.errors import RequestError
from internvideo_hf.video.errors import VideoDecodeError

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

# Each process imports the main module of this one again, which is the command line's.
PRELOAD = ["torch", "torchvision", "internvideo_hf.cli", "internvideo_hf.serving.models"]
_PAUSE = 1.0  # seconds between attempts at starting a process again
_log = logging.getLogger(__name__)


class Pool:
    """Processes that run tasks for requests, each with a thread of this process that waits for it.

    A process that was lost is started again before it gets another task. One that cannot be started leaves its task to
    another, and tries again after a pause.

    Args:
        size: number of processes.
        prepare: what each process runs first; its failure is one of `start`.
    """

    def __init__(self, size: int, prepare: Callable[[None], Any]):
        # A copy of a process that has imported everything: a new interpreter would take seconds of a core, and as
        # many more where other work has the cores; whatever ends processes then could end each before it is ready.
        method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        if method == "forkserver":
            multiprocessing.get_context(method).set_forkserver_preload(PRELOAD)
        self._children = [Child(place=place, method=method) for place in range(size)]
        self._prepare, self._alone = prepare, threading.Lock()
        self._threads = ThreadPoolExecutor(size, "decoder")
        self._idle = list(self._children)
        self._lock, self._is_ending = threading.Lock(), threading.Event()

    async def start(self) -> None:
        """Start the processes.

        Raises:
            ValueError: if one cannot be prepared.
        """
        await asyncio.gather(*(asyncio.wrap_future(self._threads.submit(self._ready, c)) for c in self._children))

    async def run(self, task: Callable[[Any], Any], item: Any, name: str, timeout: float) -> Any:
        """Run a task for an item in a process.

        Args:
            task: a function of an importable module, or a `partial` of one.
            item: its argument.
            name: of the item's video, for messages.
            timeout: seconds after which the process counts as hung.

        Raises:
            VideoDecodeError: if the item fails, or kills or hangs the process.
            RequestError: if no process can be started.
        """
        future: Future[Any] = Future()
        # A task that kills its process runs once more in a new one, which is to be prepared, too.
        prepared = partial(_prepared, prepare=self._prepare, task=task)
        self._threads.submit(self._work, future, prepared, item, name, timeout)
        result = await asyncio.wrap_future(future)  # a caller that gives up takes out what has not begun
        if isinstance(result, VideoDecodeError):
            raise result
        return result

    def stop(self) -> None:
        """End the processes, whatever they do."""
        self._is_ending.set()
        for child in self._children:
            child.stop()
        self._threads.shutdown(cancel_futures=True)
        for child in self._children:
            child.close()

    def _work(
        self,
        future: "Future[Any]",
        task: Callable[[Any], Any],
        item: Any,
        name: str,
        timeout: float,
        is_second: bool = False,
    ) -> None:
        if not is_second and not future.set_running_or_notify_cancel():
            return
        with self._lock:
            child = self._idle.pop()  # there are as many as threads
        try:
            future.set_result(child.run(task, item, name, timeout, self._alone))
        except NoProcessError as error:
            _log.error("%s", error)
            with suppress(RuntimeError):  # no thread takes it if the service stops
                if not is_second:
                    self._threads.submit(self._work, future, task, item, name, timeout, True)
                    return
            future.set_exception(RequestError("No decoder could be started. Try again later.", 503, "no_decoder"))
        except Exception as error:  # noqa: BLE001  # the caller's
            future.set_exception(error)
        except BaseException:  # noqa: BLE001  # it was stopped
            future.set_exception(RequestError("The service stops.", 503, "stopping"))
        finally:
            # After the answer: it takes time, and is none of this request's.
            if not child.is_running and not child.is_stopped:
                try:
                    self._ready(child)
                except Exception:  # noqa: BLE001  # said when a task meets it
                    self._is_ending.wait(_PAUSE)
            with self._lock:
                self._idle.append(child)

    def _ready(self, child: Child) -> None:
        result = child.run(partial(_prepared, prepare=self._prepare, task=_nothing), None, "")
        if isinstance(result, VideoDecodeError):
            raise ValueError(f"{result.cause}. {result.advice}")


class _Process:
    """What a process knows of itself."""

    is_prepared = False


def _prepared(item: Any, prepare: Callable[[None], Any], task: Callable[[Any], Any]) -> Any:
    """Run a task in a process that has been prepared."""
    if not _Process.is_prepared:
        prepare(None)
        _Process.is_prepared = True
    return task(item)


def _nothing(_: None) -> None:
    """Do nothing."""


def prepare_decoder(_: None, max_memory: int) -> None:
    """Let the system end this process, and no other, for the memory that a video takes.

    Args:
        max_memory: bytes beyond what it has now.
    """
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    with suppress(OSError, ValueError):
        limit_memory(max_memory)


def limit_memory(more: int) -> None:
    """Limit the memory of this process, where the system can.

    Args:
        more: bytes beyond what it has now.

    Raises:
        OSError: if the system does not say what it has.
        ValueError: if the limit cannot be set.
    """
    if resource is None:
        return
    lines = Path("/proc/self/status").read_text().splitlines()
    has = next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmData"))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = has + more
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
