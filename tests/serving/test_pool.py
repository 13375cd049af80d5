"""Processes that decode for requests; tests/data/executors/test_processes.py has what one process does."""

import asyncio
import threading

import pytest
from serving.tasks import allocate, hang, refuse, remember, was_prepared

from internvideo_hf.data.executors.processes import NoProcessError, outcome_of
from internvideo_hf.serving import pool as module
from internvideo_hf.serving.errors import RequestError
from internvideo_hf.serving.pool import Pool
from internvideo_hf.video import VideoDecodeError


def run(pool: Pool, task, *items, timeout: float = 60) -> list:
    """Run a task for several items at once, and return results and errors."""

    async def go():
        calls = [pool.run(task, item, str(item), timeout) for item in items]
        return await asyncio.gather(*calls, return_exceptions=True)

    return asyncio.run(go())


@pytest.fixture(scope="module")
def pool():
    pool = Pool(1, remember)
    asyncio.run(pool.start())
    yield pool
    pool.stop()


def test_what_kills_or_hangs_a_process_costs_nobody_else_and_it_comes_back_prepared(pool, tmp_path):
    assert run(pool, was_prepared, tmp_path / "mark", None) == ["1", "1"] and (tmp_path / "mark").exists()
    hung, *_ = run(pool, hang, 1, timeout=0.3)
    assert isinstance(hung, VideoDecodeError) and "did not finish within 0.3 seconds" in str(hung)
    assert run(pool, was_prepared, None) == ["1"]


def test_memory_is_limited_beyond_what_the_process_has(pool):
    small, large = run(pool, allocate, 100 << 20, 700 << 20)
    assert small == 100 << 20
    assert isinstance(large, VideoDecodeError) and ("memory" in str(large) or "allocate" in str(large))


class Fake:
    """A process that runs tasks in a thread of this one, but the first times cannot be started."""

    is_stopped = is_running = False

    def __init__(self, failures: int = 0):
        self.failures = failures

    def run(self, task, item, name, timeout=None, alone=None):
        """Run a task."""
        if self.failures:
            self.failures -= 1
            raise NoProcessError("They end.")
        self.is_running = True
        return outcome_of(task, item, name)

    def stop(self):
        """Do nothing."""

    close = stop


def double(item: int) -> int:
    """Twice the item."""
    return 2 * item


def of_fakes(*fakes: Fake, prepare=lambda _: None) -> Pool:
    pool = Pool(len(fakes), prepare)
    pool._children, pool._idle = list(fakes), list(fakes)
    return pool


def test_what_no_process_can_be_started_for_is_told_to_come_again(monkeypatch, caplog):
    monkeypatch.setattr(module, "_PAUSE", 0.01)
    pool = of_fakes(Fake(4))  # two at the task and one after each
    (refused,) = run(pool, double, 4)
    assert isinstance(refused, RequestError) and (refused.status, refused.code) == (503, "no_decoder")
    assert refused.headers == {"retry-after": "5"} and "They end." in caplog.text
    assert run(pool, double, 4) == [8]
    assert run(of_fakes(Fake(2)), double, 4) == [8]
    assert run(of_fakes(Fake(99), Fake(0)), double, 4, 5) == [8, 10], "another process takes it"


def test_a_process_that_cannot_be_prepared_is_said_at_the_start(monkeypatch):
    monkeypatch.setattr(module._Process, "is_prepared", False)
    with pytest.raises(ValueError, match="there is no model. Name one."):
        asyncio.run(of_fakes(Fake(), prepare=refuse).start())


def test_who_gives_up_takes_out_what_waits():
    begun, may_end, calls = threading.Event(), threading.Event(), []

    def work(item: int) -> int:
        begun.set()
        assert may_end.wait(10)
        calls.append(item)
        return item

    async def go():
        pool = of_fakes(Fake())
        first, second, third = (asyncio.ensure_future(pool.run(work, item, "", 30)) for item in range(3))
        assert await asyncio.to_thread(begun.wait, 10)
        second.cancel()
        await asyncio.sleep(0)
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await second
        return await first, await third

    assert asyncio.run(go()) == (0, 2) and calls == [0, 2]
