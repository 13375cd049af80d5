"""Many machines, by Ray: models in actors, decoders in tasks, and nothing is tried without end."""

import contextlib
import importlib
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from types import ModuleType
from typing import Any, TypeAlias

from internvideo_hf.data.executors.base import Executor, Item, Result
from internvideo_hf.data.executors.processes import Child, outcome_of
from internvideo_hf.data.failures import HUNG, KILLED, LOST
from internvideo_hf.video.errors import VideoDecodeError

_ATTEMPTS = 3  # at a shard whose worker was lost, at a decoder whose machine was, or at starting a worker
_AHEAD = 2  # items for each decoder that are in progress, or wait to be taken; shards for each worker
_ANSWER = 5.0  # seconds in which a cluster answers; Ray itself tries for minutes
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # of HTTP/2, with no settings
_SETTINGS = 4  # the type of the frame with which a server of HTTP/2 answers, in its fourth byte
# How names of environment variables begin that hold settings of a command; keys and passwords are not among them.
_VARIABLES = ("INTERNVIDEO_DOWNLOAD_", "INTERNVIDEO_READ_", "INTERNVIDEO_RUN_", "INTERNVIDEO_STORES")
_Environment: TypeAlias = tuple[tuple[str, str], ...]


def require_ray() -> ModuleType:
    """Import Ray.

    Raises:
        ImportError: with the command that installs it.
    """
    try:
        importlib.import_module("ray.exceptions")
        return importlib.import_module("ray")
    except ImportError as error:
        raise ImportError('--engine ray needs Ray: pip install "internvideo-hf[ray]"') from error


class RayEngine:
    """An `Engine` on a Ray cluster, whose machines share the disk of the output, the model and the videos.

    Models are in actors, one an accelerator; decoders are tasks, one a CPU. They ask for different resources, so
    that they are never on the same worker. A video that kills or hangs its decoder does so in a child process of the
    task, as on one machine. A lost actor or machine costs the shard that it had, which is tried three times.

    Args:
        address: of the cluster: "auto" for the one that this machine belongs to; None for a new one of this machine.
        gpus: models at once; by default one for each accelerator of the cluster, or, without any, for each machine.

    Raises:
        ImportError: if Ray is not installed.
        ConnectionError: if there is no cluster at the address.
        ValueError: if the cluster has fewer accelerators.
    """

    def __init__(self, address: str | None = None, gpus: int | None = None):
        ray = require_ray()
        if not ray.is_initialized():
            if address is not None:
                check_address(address)
            ray.init(
                address=address or "local",  # by default Ray takes any cluster that it finds
                log_to_driver=False,
                logging_level="warning",
                include_dashboard=False if address is None else None,
            )
        there = int(ray.cluster_resources().get("GPU", 0))
        if gpus is not None and there and gpus > there:
            raise ValueError(f"--gpus {gpus}: the cluster has {there} accelerators. Leave the option out to use all.")
        self._has_gpus = there > 0
        self._limit = gpus
        self.workers = gpus or self._places()
        self.decoders = max(1, int(ray.cluster_resources().get("CPU", 1)) // self.workers)

    def _places(self) -> int:
        """Return how many models the cluster has room for now."""
        ray = require_ray()
        if self._has_gpus:
            return max(1, int(ray.cluster_resources().get("GPU", 0)))
        return max(1, sum(bool(node["Alive"]) for node in ray.nodes()))

    def map_ordered(
        self,
        task: Callable[[Item], Result],
        items: Sequence[Item],
        workers: int,
        name_of: Callable[[Item], str] = str,
        *,
        timeout: float | None = None,
    ) -> Iterator[tuple[Item, Result | VideoDecodeError]]:
        """Run a task for every item in actors; see `base.Executor`."""
        pool = _Actors(task, items, workers, name_of, self._has_gpus, timeout)
        waiting: dict[int, Any] = {}
        try:
            for turn in range(len(items)):
                while turn not in waiting:
                    number, result = pool.next_result(turn)
                    waiting[number] = result
                yield items[turn], waiting.pop(turn)
        finally:
            pool.close()

    def device(self) -> str | None:
        """Return the device of this worker: the one that Ray shows to it."""
        return None if self._has_gpus else "cpu"

    def executor(self) -> Executor:
        """Return tasks that decode anywhere on the cluster."""
        return _Tasks()


def check_address(address: str) -> None:
    """Check that a cluster answers, which takes seconds, before Ray tries to reach it.

    Args:
        address: `HOST:PORT`, `ray://HOST:PORT`, or "auto".

    Raises:
        ValueError: if it is none of these.
        ConnectionError: if no cluster answers.
    """
    place = _find_cluster() if address == "auto" else address
    host, _, port = place.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f'--address {address}: expected "auto" or HOST:PORT, such as 10.0.0.1:6379.')
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _ANSWER) as connection:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return
            connection.settimeout(_ANSWER)
            connection.sendall(_PREFACE)
            answer = connection.recv(9)
    except (OSError, OverflowError) as error:
        cause = str(getattr(error, "strerror", None) or error) or type(error).__name__
        raise ConnectionError(
            f"--address {address}: no Ray cluster answers at {place} ({cause}). Is it running, `ray status` on its "
            "head, and does the firewall let this machine through?"
        ) from error
    if answer[3:4] != bytes([_SETTINGS]):
        raise ConnectionError(
            f"--address {address}: what answers at {place} is no Ray cluster. Its port is 6379 unless `ray start "
            "--head --port` named another; 8265 is that of the dashboard."
        )


def _find_cluster() -> str:
    """Return the address of the cluster that this machine belongs to."""
    require_ray()
    from ray._private.services import canonicalize_bootstrap_address  # what `ray.init` does with "auto"

    try:
        found = canonicalize_bootstrap_address("auto")
    except ConnectionError:
        found = None
    if found is None:
        raise ConnectionError(
            "--address auto: this machine belongs to no Ray cluster. Start one by `ray start --head`, or leave the "
            "option out for one of this command alone."
        )
    return str(found)


class _Actors:
    """Workers that run items one at a time; a lost one is replaced.

    An actor gets an item only when it has started, so that one for which no machine has room holds nothing up.
    """

    def __init__(
        self,
        task: Callable[[Item], Result],
        items: Sequence[Item],
        workers: int,
        name_of: Callable[[Item], str],
        has_gpus: bool,
        timeout: float | None,
    ):
        self._ray = ray = require_ray()
        self._task, self._items, self._name_of = ray.put(task), items, name_of
        resources = {"num_gpus": 1, "num_cpus": 0} if has_gpus else {"num_cpus": 0, "scheduling_strategy": "SPREAD"}
        self._actor = ray.remote(max_restarts=0, max_task_retries=0, **resources)(_Runner)
        self._queue = deque(range(len(items)))
        self._attempts: Counter[int] = Counter()
        self._busy: dict[Any, tuple[int, Any]] = {}  # what is awaited: the item, -1 for the start, and the actor
        self._timeout = timeout
        self._begins: dict[Any, float] = {}  # when items began, by what is awaited
        self._idle: list[Any] = []
        self._failed_starts, self._most_failed_starts = 0, _ATTEMPTS * workers  # one after the other
        self._window = _AHEAD * workers
        for _ in range(min(workers, len(items))):
            self._start()

    def _start(self) -> None:
        actor = self._actor.remote(_environment())
        self._busy[actor.ready.remote()] = (-1, actor)

    def next_result(self, turn: int) -> tuple[int, Any]:
        """Return the number and the result of the next item that is done; none far ahead of `turn` is begun."""
        while True:
            while self._idle and self._queue and self._queue[0] < turn + self._window:
                number, actor = self._queue.popleft(), self._idle.pop()
                item = self._items[number]
                reference = actor.run.remote(self._task, item, self._name_of(item))
                self._busy[reference], self._begins[reference] = (number, actor), time.monotonic()
            done, _ = self._ray.wait(list(self._busy), num_returns=1, timeout=self._patience())
            reference = done[0] if done else next(iter(self._begins))  # the oldest
            number, actor = self._busy.pop(reference)
            self._begins.pop(reference, None)
            if not done:
                self._ray.kill(actor)
                self._start()
                cause, advice = HUNG.format(self._timeout), "Leave the video out, encode it again, or allow more time."
                return number, VideoDecodeError(self._name_of(self._items[number]), cause, advice)
            try:
                result = self._ray.get(reference)
            except self._ray.exceptions.RayActorError as error:
                result = error
            else:
                self._idle.append(actor)
            is_lost = isinstance(result, self._ray.exceptions.RayActorError)
            if number < 0:
                self._failed_starts = self._failed_starts + 1 if is_lost else 0
            if is_lost and (number >= 0 or self._failed_starts < self._most_failed_starts):
                self._start()
            if not (self._busy or self._idle):
                cause = str(result).strip().splitlines()[-1].strip()[:200]
                raise RuntimeError(
                    f"The workers end as soon as they start ({cause}). All machines of the cluster need the same "
                    "Python, Ray and version of this package."
                )
            if number < 0:
                continue
            errors = self._ray.exceptions
            # RayTaskError holds an error of the task itself, which comes again.
            if isinstance(result, errors.RayError) and not isinstance(result, errors.RayTaskError):
                self._attempts[number] += 1
                if self._attempts[number] < _ATTEMPTS:
                    self._queue.appendleft(number)
                    continue
                name = self._name_of(self._items[number])
                cause = f"{LOST.format(_ATTEMPTS)} ({type(result).__name__})"
                result = VideoDecodeError(name, cause, "Look at Ray's messages, and run again.")
            return number, result

    def _patience(self) -> float | None:
        """Return the seconds until the oldest item counts as hung; None for no limit."""
        if self._timeout is None or not self._begins:
            return None
        return max(0.0, self._timeout + next(iter(self._begins.values())) - time.monotonic())

    def close(self) -> None:
        """End the actors."""
        for actor in [*self._idle, *(actor for _, actor in self._busy.values())]:
            with contextlib.suppress(Exception):  # it is gone
                self._ray.kill(actor)


class _Runner:
    """What an actor does.

    Args:
        environment: settings of the process that started it, see `_environment`.
    """

    def __init__(self, environment: _Environment):
        _adopt(environment)

    def ready(self) -> None:
        """Return when the actor has started."""

    def run(self, task: Callable[[Item], Result], item: Item, name: str) -> Result | VideoDecodeError:
        """Run a task."""
        return outcome_of(task, item, name)


class _Tasks:
    """An `Executor` of tasks on a cluster, for use inside one of its workers."""

    def map_ordered(
        self,
        task: Callable[[Item], Result],
        items: Sequence[Item],
        workers: int,
        name_of: Callable[[Item], str] = str,
        *,
        timeout: float | None = None,
    ) -> Iterator[tuple[Item, Result | VideoDecodeError]]:
        """Run a task for every item in child processes of Ray's; see `base.Executor`."""
        ray = require_ray()
        decode = ray.remote(num_cpus=1, max_retries=_ATTEMPTS - 1)(_run_in_child)
        shared, remaining, settings = ray.put(task), iter(items), _environment()
        pending: deque[tuple[Item, Any]] = deque()
        while True:
            while len(pending) < _AHEAD * workers and (following := next(remaining, None)) is not None:
                pending.append((following, decode.remote(shared, following, name_of(following), timeout, settings)))
            if not pending:
                return
            item, reference = pending.popleft()
            try:
                result = ray.get(reference)
            except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError):
                result = VideoDecodeError(name_of(item), KILLED, "Leave the video out, or encode it again.")
            yield item, result


def _run_in_child(
    task: Callable[[Item], Result], item: Item, name: str, timeout: float | None, environment: _Environment
) -> Result | VideoDecodeError:
    _adopt(environment)  # which a child takes over when it starts
    return _child(environment).run(task, item, name, timeout)


@cache
def _child(environment: _Environment) -> Child:
    return Child()


def _environment() -> _Environment:
    """Return this package's settings in the environment: workers of a cluster have that of their machine instead."""
    return tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith(_VARIABLES)))


_OF_MACHINE = _environment()  # a worker imports this before it adopts anything


def _adopt(environment: _Environment) -> None:
    """Take the settings of a command over those of this machine; those that the process had for another one go."""
    for name, _ in _environment():
        del os.environ[name]
    os.environ.update([*_OF_MACHINE, *environment])
