"""Shards and their parts."""

import random
from functools import partial
from pathlib import Path

import pytest
import torch
from data.shard_work import double_all, kill_on_thirteen
from object_stores import new_memory

from internvideo_hf.data.executors import processes
from internvideo_hf.data.executors.local import LocalEngine
from internvideo_hf.data.executors.parts import Part, PartFolder, Shard, cut, run_shards, shard_key
from internvideo_hf.utils.storage import StoragePath
from internvideo_hf.video.errors import VideoDecodeError


class Here:
    """An engine in this process."""

    workers = decoders = 1

    def __init__(self):
        self.items = []

    def map_ordered(self, task, items, workers, name_of=str, *, timeout=None):
        self.items += items
        return processes.map_ordered(task, items, workers, name_of, timeout=timeout)


def shards_of(numbers, settings="s"):
    return [Shard(shard_key(items, settings), items) for items in cut(numbers, str, 4)]


def test_shards_hold_the_list_in_order_and_end_by_name():
    names = [f"{number}.mp4" for number in range(2000)]
    shards = list(cut(names, str, 16))
    assert [name for shard in shards for name in shard] == names
    assert 60 < len(shards) < 250 and max(map(len, shards)) <= 8 * 16
    # One name less changes its own shard, and the next one if it ended that; those that were done change no other.
    missing = random.Random(0).choice(names)
    others = set(cut([name for name in names if name != missing], str, 16))
    assert len(set(shards) - others) <= 2
    assert list(cut(names[len(shards[0]) :], str, 16)) == shards[1:]
    assert list(cut([], str)) == []


def test_keys_tell_items_order_and_settings_apart():
    keys = {shard_key(facts, settings) for facts in (["a", "b"], ["b", "a"], ["ab"], []) for settings in (1, {"x": 1})}
    assert len(keys) == 8 and all(len(key) == 32 for key in keys)


@pytest.mark.parametrize("is_stored", [False, True])
def test_a_part_comes_back_as_it_was(tmp_path, is_stored):
    folder = StoragePath(new_memory()) if is_stored else tmp_path / "parts"
    parts = PartFolder(folder)
    assert parts.keys() == set()
    parts.write("k", Part({"x": torch.arange(6).reshape(2, 3).T}, {"names": ["ä", None]}))
    parts.write("empty", Part({}, []))
    assert parts.keys() == {"k", "empty"} and parts.read("empty") == ({}, [])
    tensors, notes = parts.read("k")
    assert tensors["x"].tolist() == [[0, 3], [1, 4], [2, 5]] and notes == {"names": ["ä", None]}
    parts.delete(["k"])
    assert parts.keys() == {"empty"}
    parts.clear()
    assert parts.keys() == set() and not folder.exists()


@pytest.mark.parametrize("is_stored", [False, True])
def test_parts_that_are_there_are_not_computed_again(tmp_path, is_stored):
    parts = PartFolder(StoragePath(new_memory()) if is_stored else tmp_path)
    engine, shards = Here(), shards_of(range(40))
    for _, part in zip(shards[:2], run_shards(double_all, shards, engine, parts), strict=False):
        assert isinstance(part[1], Part)
    done = parts.keys()
    assert 2 <= len(done) < len(shards)
    again = Here()
    found = list(run_shards(double_all, shards, again, parts))
    assert [shard for shard, _ in found] == shards and len(again.items) == len(shards) - len(done)
    numbers = torch.cat([part.tensors["numbers"] for _, part in found])
    assert numbers.tolist() == [2 * number for number in range(40)]
    assert len(list(run_shards(double_all, shards_of(range(40), "others"), again, parts))) == len(shards)


def test_an_error_of_the_work_ends_the_run(tmp_path):
    with pytest.raises(ZeroDivisionError):
        list(run_shards(lambda items: 1 / 0, shards_of(range(9)), Here(), PartFolder(tmp_path)))


def test_a_disk_that_is_not_shared_is_named(tmp_path):
    def forget(items):
        return double_all(items)

    class Elsewhere(Here):
        def map_ordered(self, task, items, workers, name_of=str, *, timeout=None):
            yield from ((item, None) for item in items)

    with pytest.raises(FileNotFoundError, match="must be on a disk that all machines share"):
        list(run_shards(forget, shards_of(range(9)), Elsewhere(), PartFolder(tmp_path)))


@pytest.mark.slow
def test_a_worker_that_dies_costs_its_shard_alone(tmp_path):
    shards = shards_of(range(30))
    work = partial(kill_on_thirteen, mark=None)
    found = dict(run_shards(work, shards, LocalEngine(["cpu", "cpu"]), PartFolder(tmp_path)))
    for shard in shards:
        if 13 in shard.items:
            assert isinstance(found[shard], VideoDecodeError)
        else:
            assert found[shard].tensors["numbers"].tolist() == [2 * number for number in shard.items]


@pytest.mark.slow
def test_a_shard_whose_worker_died_once_is_computed_again(tmp_path):
    shards = shards_of(range(30))
    work = partial(kill_on_thirteen, mark=Path(tmp_path, "mark"))
    found = list(run_shards(work, shards, LocalEngine(["cpu", "cpu"]), PartFolder(tmp_path / "parts")))
    assert torch.cat([part.tensors["numbers"] for _, part in found]).tolist() == [2 * n for n in range(30)]
