"""Processes that decode for requests."""

import asyncio

import pytest
from data.crash import double, double_or_hang
from serving.poison import allocate, die_once, refuse, remember, was_prepared

from internvideo_hf.data.executors.processes import KILLED, NoProcessError
from internvideo_hf.serving import pool as module
from internvideo_hf.serving.errors import RequestError
from internvideo_hf.serving.pool import Pool, prepare_decoder
from internvideo_hf.video import VideoDecodeError


def outcome(found) -> object:
    return found.cause if isinstance(found, VideoDecodeError) else found


def test_what_kills_or_hangs_a_process_costs_nobody_else(tmp_path):
    async def go():
        await pool.start()
        assert await pool.run(die_once, tmp_path / "mark", "", 30) == "1"
        items = [0, 1, 3, 5, 2, 3, 4]
        found = await asyncio.gather(
            *(pool.run(double, item, str(item), 30) for item in items), return_exceptions=True
        )
        assert [outcome(one) for one in found] == [0, 2, KILLED, "five is refused", 4, KILLED, 8]
        found = await asyncio.gather(
            *(pool.run(double_or_hang, item, str(item), 0.5) for item in (3, 2)), return_exceptions=True
        )
        assert "did not finish within 0.5 seconds" in str(found[0]) and found[1] == 4
        # Lost processes come back, prepared.
        assert await asyncio.gather(*(pool.run(was_prepared, None, "", 30) for _ in range(4))) == ["1"] * 4

    pool = Pool(2, remember)
    try:
        asyncio.run(go())
    finally:
        pool.stop()


def test_a_process_that_cannot_be_prepared_is_said_at_the_start():
    pool = Pool(1, refuse)
    try:
        with pytest.raises(ValueError, match="there is no model. Name one."):
            asyncio.run(pool.start())
    finally:
        pool.stop()


class Failing:
    """A process that cannot be started the first times."""

    is_stopped = False
    is_running = False

    def __init__(self, failures: int):
        self.failures = failures

    def run(self, task, item, name, timeout=None, alone=None):
        """Fail, or return the item."""
        if self.failures:
            self.failures -= 1
            raise NoProcessError("They end.")
        self.is_running = True
        return item

    def stop(self):
        """Do nothing."""

    close = stop


def test_what_no_process_can_be_started_for_is_told_to_come_again(monkeypatch, caplog):
    def run(*failures: int) -> list:
        pool = Pool(len(failures), remember)
        pool._children, pool._idle = [], [Failing(number) for number in failures]

        async def go():
            return [await asyncio.gather(pool.run(double, 4, "4", 30), return_exceptions=True) for _ in range(2)]

        found = [one for (one,) in asyncio.run(go())]
        pool.stop()
        return found

    monkeypatch.setattr(module, "_PAUSE", 0.01)
    first, second = run(4)  # two at the task and one after each
    assert isinstance(first, RequestError) and (first.status, first.code) == (503, "no_decoder") and second == 4
    assert first.headers == {"retry-after": "5"} and "They end." in caplog.text
    assert run(2) == [4, 4] and run(99, 0) == [4, 4], "another process takes it"


def test_who_gives_up_takes_out_what_waits():
    async def go():
        await pool.start()
        first = asyncio.ensure_future(pool.run(double_or_hang, 3, "3", 1))
        second = asyncio.ensure_future(pool.run(double, 3, "3", 30))
        await asyncio.sleep(0.1)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        with pytest.raises(VideoDecodeError, match="did not finish"):
            await first
        return await pool.run(double, 4, "4", 30)

    pool = Pool(1, remember)
    try:
        assert asyncio.run(go()) == 8
    finally:
        pool.stop()


def test_memory_is_limited_beyond_what_the_process_has():
    async def go():
        await pool.start()
        assert await pool.run(allocate, 100 << 20, "small", 60) == 100 << 20
        with pytest.raises(VideoDecodeError, match="memory|allocate"):
            await pool.run(allocate, 700 << 20, "large", 60)

    pool = Pool(1, limited)
    try:
        asyncio.run(go())
    finally:
        pool.stop()


def limited(_: None) -> None:
    prepare_decoder(None, 512 << 20)
