"""The thread of the model."""

import asyncio
import threading

import pytest

from internvideo_hf.serving.batching import Batcher
from internvideo_hf.serving.errors import RequestError


class Doubling:
    """Work that waits for a sign, and remembers its calls."""

    def __init__(self):
        self.calls, self.may_go, self.begun = [], threading.Event(), threading.Event()

    async def has_begun(self):
        assert await asyncio.to_thread(self.begun.wait, 10)

    def __call__(self, items):
        self.begun.set()
        assert self.may_go.wait(10)
        self.calls.append(list(items))
        if "bad" in items:
            raise ValueError("bad")
        return [2 * item for item in items]


@pytest.fixture
def work():
    return Doubling()


@pytest.fixture
def sizes():
    return []


@pytest.fixture
def batcher(sizes):
    batcher = Batcher(3, sizes.append)
    yield batcher
    batcher.stop()


def gather(batcher, work, *items):
    """Run items, `(key, item)` or `(key, item, size)`, that all wait when the first has begun."""

    async def go():
        tasks = []
        for key, item, *size in items:
            tasks.append(asyncio.ensure_future(batcher.run(key, work, item, *size)))
            if len(tasks) == 1:
                await work.has_begun()
        await asyncio.sleep(0)
        work.may_go.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    return asyncio.run(go())


def test_what_waits_goes_together_up_to_the_size(batcher, work, sizes):
    assert gather(batcher, work, *(("a", number) for number in range(6))) == [0, 2, 4, 6, 8, 10]
    assert work.calls == [[0], [1, 2, 3], [4, 5]] and sizes == [1, 3, 2]


def test_items_count_by_their_sizes(batcher, work):
    items = [("a", 0), ("a", 1, 2), ("a", 2, 2), ("a", 3), ("a", 4, 5), ("a", 5)]
    assert gather(batcher, work, *items) == [0, 2, 4, 6, 8, 10]
    assert work.calls == [[0], [1], [2, 3], [4], [5]]


def test_too_few_results_end_no_thread(batcher):
    found = asyncio.run(batcher.run("a", lambda items: items, 1))
    with pytest.raises(ValueError, match="0 results for 1 items"):
        asyncio.run(batcher.run("a", lambda items: [], 1))
    assert found == asyncio.run(batcher.run("a", lambda items: items, 1)) == 1


def test_only_equal_keys_go_together_and_the_longest_wait_comes_first(batcher, work):
    items = [("a", 0), ("b", 1), ("a", 2), ("b", 3), ("a", 4)]
    assert gather(batcher, work, *items) == [0, 2, 4, 6, 8]
    assert work.calls == [[0], [1, 3], [2, 4]]


def test_one_bad_item_costs_no_other_its_answer(batcher, work):
    first, *found, error = gather(batcher, work, ("a", 0), ("a", 1), ("a", 2), ("a", "bad"))
    assert (first, found) == (0, [2, 4]) and isinstance(error, ValueError)
    assert work.calls == [[0], [1, 2, "bad"], [1], [2], ["bad"]]


def test_who_gives_up_takes_out_the_item(batcher, work):
    async def go():
        tasks = [asyncio.ensure_future(batcher.run("a", work, 0))]
        await work.has_begun()
        tasks += [asyncio.ensure_future(batcher.run("a", work, number)) for number in (1, 2)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.sleep(0)
        work.may_go.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, gone, last = asyncio.run(go())
    assert (first, last) == (0, 4) and isinstance(gone, asyncio.CancelledError)
    assert work.calls == [[0], [2]]


def test_after_the_stop_nothing_is_taken(work):
    batcher = Batcher(3)
    batcher.stop()
    with pytest.raises(RequestError, match="stops") as refused:
        asyncio.run(batcher.run("a", work, 1))
    assert refused.value.status == 503
