"""Batches of clips through a frozen backbone, by one process and by several workers."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
from data.executors.here import Here
from safetensors.torch import load_file
from training import cache_work
from training.cache_work import HANGS, KILLS, Means

from internvideo_hf.data.dataset import VideoDataset
from internvideo_hf.data.executors.local import LocalEngine
from internvideo_hf.data.executors.processes import KILLED
from internvideo_hf.data.failures import FailureLog, FailureTable
from internvideo_hf.training import cache_filling
from internvideo_hf.training.cache_filling import STAGE
from internvideo_hf.training.feature_cache import FeatureCache, fill_on_engine
from internvideo_hf.video.errors import VideoDecodeError


def contents(cache: FeatureCache) -> dict[str, bytes]:
    """Return the files of a cache by name."""
    return {file.name: file.read_bytes() for file in cache.folder.rglob("*.safetensors")}


@pytest.fixture(autouse=True)
def new_workers():
    cache_filling._backbone.cache_clear()


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(cache_filling, "SHARD_CLIPS", 4)


@pytest.fixture
def clips(tmp_path) -> list[dict]:
    (tmp_path / "clips").mkdir()
    return cache_work.rows(tmp_path / "clips", [24, 32, 24, 24, 28, 24, 32, 24, 24])


def means(rows, folder, views=1, **options) -> FeatureCache:
    return FeatureCache(VideoDataset(rows, cache_work.settings(), **options), Means(), folder, views)


def fill(*caches, engine=None, load=cache_work.load, table=None, **options):
    with FailureTable(None, STAGE) if table is None else table as rows:
        return fill_on_engine(caches, load, engine or Here(), 3, table=rows, quiet=True, **options)


def test_batches_are_those_of_the_list_in_however_many_runs_and_processes(clips, tmp_path, small_shards):
    one = means(clips, tmp_path / "one", views=2)
    assert one.fill(2, 3, quiet=True) == 18
    assert {load_file(file)["at_once"].item() for file in one.folder.rglob("*.safetensors")} == {3}
    other = means(clips, tmp_path / "other", views=2)
    with pytest.raises(KeyboardInterrupt):
        fill(other, engine=Here(stop_at=2))
    before = {file: file.stat().st_mtime_ns for file in other.folder.rglob("*.safetensors")}
    lost = [other.path(1), other.path(5)]  # as of a run that was killed in the middle of a batch
    for path in lost:
        before.pop(path.absolute(), None) or before.pop(path)
        path.unlink()
    second = Here()
    done = fill(other, engine=second)
    assert contents(other) == contents(one) and 0 < done.computed < 18 and second.shards
    assert before and {file: file.stat().st_mtime_ns for file in before} == before, "written again"
    third = Here()
    assert fill(other, engine=third).computed == 0 and not third.shards

    ranks = means(clips, tmp_path / "ranks", views=2)
    for rank in (1, 0):
        ranks.fill(2, 3, rank=rank, world_size=2, quiet=True)
    assert contents(ranks) == contents(one)


def test_lists_are_filled_together(clips, tmp_path, small_shards):
    (tmp_path / "other").mkdir()
    other = means(cache_work.rows(tmp_path / "other", [24, 24]), tmp_path / "kept")
    first, engine = means(clips, tmp_path / "kept", views=2), Here()
    done = fill(first, other, engine=engine)
    assert (done.computed, done.total, done.videos) == (20, 20, 11) and len(engine.shards) > 3
    assert first.fill(2, 3, quiet=True) == other.fill(1, 3, quiet=True) == 0


def test_failures_are_rows_and_what_has_killed_a_decoder_is_not_tried_again(clips, tmp_path):
    Path(clips[4]["video"]).write_bytes(b"no video")
    log = FailureLog(tmp_path / "failed.jsonl")
    cache, path = means(clips, tmp_path / "kept", on_error="skip", failures=log), tmp_path / "kept/failures.jsonl"
    done = fill(cache, table=FailureTable(path, STAGE))
    assert done.computed == 8 and list(done.failures) == [clips[4]["video"]]
    assert load_file(cache.path(3))["at_once"].item() == 2
    (row,) = [json.loads(line) for line in path.read_text().splitlines()]
    assert (row["video"], row["stage"], row["attempts"]) == (clips[4]["video"], "cache", 1)
    assert not log.read()

    fill(cache, table=FailureTable(path, STAGE))
    assert json.loads(path.read_text())["attempts"] == 2, "it is cheap, and tried again"
    assert cache.fill(1, 3, quiet=True) == 0 and len(log) == 1
    path.write_text(json.dumps({**json.loads(path.read_text()), "cause": KILLED}) + "\n")
    held = fill(cache, engine=(engine := Here()), table=FailureTable(path, STAGE))
    assert not engine.shards and KILLED in str(held.failures[clips[4]["video"]])
    again = fill(cache, engine=engine, table=FailureTable(path, STAGE, retry=True))
    assert again.failures and len(engine.shards) == 1

    write = cache_work.rows(tmp_path / "clips", [24] * 5)
    assert write[4] == clips[4]
    assert fill(cache, table=FailureTable(path, STAGE)).failures == {} and not path.exists()


def test_training_does_not_decode_what_has_killed_a_decoder(clips, tmp_path, monkeypatch):
    log = FailureLog(tmp_path / "failed.jsonl")
    cache = means(clips, tmp_path / "kept", on_error="skip", failures=log)
    path = tmp_path / "kept/failures.jsonl"
    table = FailureTable(path, STAGE)
    table.add(VideoDecodeError(clips[2]["video"], KILLED, "Leave it out."))
    assert cache.fill(1, 3, quiet=True, table=FailureTable(path, STAGE)) == 8 and len(log) == 1
    monkeypatch.setattr(VideoDataset, "make", lambda self, row, seed: pytest.fail("decoded"))
    assert KILLED in cache[2]["failure"] and "means" in cache[3]
    strict = means(clips, tmp_path / "kept")
    with pytest.raises(VideoDecodeError, match="not tried again"):
        strict.fill(1, 3, quiet=True, table=FailureTable(path, STAGE))


def test_other_frozen_weights_in_a_worker_are_refused(clips, tmp_path):
    with pytest.raises(ValueError, match=r"other frozen weights: .* Put the same model there on all machines\.$"):
        fill(means(clips, tmp_path / "kept"), load=partial(cache_work.load, weight=2.0))
    assert not list((tmp_path / "kept").rglob("*.safetensors"))


def test_a_worker_says_that_the_disk_is_full(clips, tmp_path, monkeypatch):
    free = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr("internvideo_hf.training.cache_filling.shutil.disk_usage", lambda path: free)
    with pytest.raises(OSError, match="data.trunk_cache.folder"):
        fill(means(clips, tmp_path / "kept"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_workers_survive_what_kills_or_hangs_decoders_and_workers(tmp_path, small_shards):
    (tmp_path / "clips").mkdir()
    rows = cache_work.rows(tmp_path / "clips", [24, KILLS, 24, 24, 0, HANGS, 24, 24, 24])
    good = [index for index in range(9) if index not in (1, 4, 5)]
    one = means(rows, tmp_path / "one", on_error="skip", failures=FailureLog(tmp_path / "failed.jsonl"))
    held = FailureTable(tmp_path / "held.jsonl", STAGE)
    for index in (1, 5):  # or they would kill this process
        held.add(VideoDecodeError(rows[index]["video"], KILLED, "Leave it out."))
    one.fill(1, 3, quiet=True, table=FailureTable(tmp_path / "held.jsonl", STAGE))

    cache, mark = means(rows, tmp_path / "kept"), tmp_path / "mark"
    path, load = tmp_path / "kept/failures.jsonl", partial(cache_work.load, mark=mark)
    engine = LocalEngine(("cpu", "cpu"), jobs=2)
    done = fill(cache, engine=engine, load=load, table=FailureTable(path, STAGE), timeout=8.0)
    assert mark.exists() and contents(cache) == contents(one) and len(contents(one)) == len(good)
    assert {index for index in range(9) if rows[index]["video"] in done.failures} == {1, 4, 5}
    causes = {row["video"]: row["cause"] for row in map(json.loads, path.read_text().splitlines())}
    assert causes[rows[1]["video"]] == KILLED and "did not finish within 8 seconds" in causes[rows[5]["video"]]
    again = fill(cache, engine=(here := Here()), table=FailureTable(path, STAGE))
    assert again.failures.keys() == done.failures.keys() and len(here.shards) == 1, "what kills was tried again"


@pytest.mark.slow
def test_decoders_of_one_process_survive_too(tmp_path):
    (tmp_path / "clips").mkdir()
    rows = cache_work.rows(tmp_path / "clips", [24, KILLS, 24, 24])
    log = FailureLog(tmp_path / "failed.jsonl")
    cache, path = means(rows, tmp_path / "kept", on_error="skip", failures=log), tmp_path / "kept/failures.jsonl"
    assert cache.fill(1, 3, workers=1, quiet=True, table=FailureTable(path, STAGE)) == 3
    cache.hold_back(FailureTable(path, STAGE))
    assert KILLED in cache[1]["failure"] and len(log) == 1
    strict = means(rows, tmp_path / "strict")
    with pytest.raises(VideoDecodeError, match=KILLED):
        strict.fill(1, 3, workers=1, quiet=True)
