"""The index by several workers."""

import json
import shutil
from pathlib import Path

import pytest
from data.executors.here import Here
from search.gallery import gallery, write

from internvideo_hf.data.executors import parts, processes
from internvideo_hf.data.executors.local import LocalEngine
from internvideo_hf.data.executors.processes import KILLED
from internvideo_hf.search import embedding, sharding
from internvideo_hf.search.index import VideoIndex
from internvideo_hf.video.errors import VideoDecodeError


@pytest.fixture
def small_shards(monkeypatch):
    def cut(items, name_of):
        return parts.cut(items, name_of, 2)

    for module in (sharding, embedding):
        monkeypatch.setattr(module, "cut", cut)


@pytest.fixture
def videos(tmp_path):
    folder = gallery(tmp_path / "videos")
    for number in range(8):
        write(folder / f"{number}.mp4", ("red", 8 + number), ("blue", 3))
    write(folder / "long.mp4", ("grey", 250), ("red", 250))
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


def contents(folder):
    """Return the files of an index by name; equal dictionaries are equal folders."""
    return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


def build(model, folder, videos, **options):
    index = VideoIndex(model, window=1.0, folder=folder, device="cpu")
    return index.update([videos], batch_size=3, **options)


def test_the_folder_is_equal_byte_for_byte(tmp_path, small_folder, videos, small_shards):
    local = build(small_folder, tmp_path / "local", videos)
    engine = Here()
    change = build(small_folder, tmp_path / "engine", videos, engine=engine)
    assert len(engine.shards) > 3 and contents(tmp_path / "engine") == contents(tmp_path / "local")
    assert [str(error) for error in change.failures] == [str(error) for error in local.failures]
    assert len(change.failures) == 1 and change.new == local.new
    assert not list(tmp_path.glob(".*.parts"))


def test_an_interrupted_run_continues_with_the_parts_that_are_there(tmp_path, small_folder, videos, small_shards):
    build(small_folder, tmp_path / "whole", videos, engine=Here())
    first = Here(stop_at=3)
    with pytest.raises(KeyboardInterrupt):
        build(small_folder, tmp_path / "index", videos, engine=first)
    index, second = VideoIndex.load(tmp_path / "index", device="cpu"), Here()
    index.update([videos], batch_size=3, engine=second)
    assert not {shard.key for shard in first.shards} & {shard.key for shard in second.shards}
    whole = VideoIndex.load(tmp_path / "whole", device="cpu")
    assert index.clips == whole.clips and (index.embeddings == whole.embeddings).all()


def test_a_changed_video_and_other_settings_are_computed_again(tmp_path, small_folder, videos):
    engine = Here(stop_at=99)
    index = VideoIndex(small_folder, folder=tmp_path / "index", device="cpu")
    index.update([videos], engine=engine)
    shutil.copy(videos / "0.mp4", videos / "7.mp4")
    change = index.update([videos], engine=engine)
    assert [Path(path).name for path in change.changed] == ["7.mp4"]


def test_another_model_in_a_worker_is_refused(tmp_path, small_folder, videos, monkeypatch):
    settings = sharding.ShardSettings(str(small_folder), "sha256:another", embedding.Windowing())
    with pytest.raises(ValueError, match="Put the same model there on all machines"):
        sharding.embed_shard([], settings, Here())


def test_an_index_in_memory_is_refused(small_folder, videos):
    with pytest.raises(ValueError, match="Give it a folder"):
        VideoIndex(small_folder).update([videos], engine=Here())


@pytest.mark.slow
def test_two_workers_on_this_machine_make_the_same_folder(tmp_path, small_folder, videos, small_shards):
    build(small_folder, tmp_path / "local", videos)
    build(small_folder, tmp_path / "engine", videos, engine=LocalEngine(["cpu", "cpu"], jobs=2))
    assert contents(tmp_path / "engine") == contents(tmp_path / "local")


def test_columns_of_a_list_travel_with_its_videos(tmp_path, small_folder, videos):
    listed = tmp_path / "list.csv"
    listed.write_text(f"video,camera\n{videos / 'red.mp4'},door\n{videos / 'green.mp4'},yard\n")
    index = VideoIndex(small_folder, folder=tmp_path / "index", device="cpu")
    index.update([listed], engine=Here())
    found = {Path(path).name: dict(video.metadata) for path, video in index.store.known().videos.items()}
    assert found == {"red.mp4": {"camera": "door"}, "green.mp4": {"camera": "yard"}}


def test_workers_in_another_directory_find_the_parts(tmp_path, small_folder, monkeypatch):
    index = VideoIndex(small_folder, folder="index", device="cpu")
    monkeypatch.chdir(tmp_path)
    assert index._beside(".parts", is_hidden=True) == tmp_path / ".index.parts"


class Killing(Here):
    """An engine in this process, one of whose decoders is killed by a video."""

    def __init__(self):
        super().__init__()
        self.tried = []

    def executor(self):
        tried = self.tried

        class InProcess:
            def map_ordered(self, task, items, workers, name_of=str, *, timeout=None):
                for item, result in processes.map_ordered(task, items, workers, name_of):
                    tried.append(Path(item[0]).name)
                    yield item, VideoDecodeError(item[0], KILLED, "") if tried[-1] == "red.mp4" else result

        return InProcess()


def test_a_video_that_kills_its_decoder_is_not_tried_again_by_the_next_run(small_folder, tmp_path):
    videos, engine, table = gallery(tmp_path / "videos"), Killing(), tmp_path / "index.failures.jsonl"
    index = VideoIndex(small_folder, folder=tmp_path / "index", device="cpu")
    for retry, count in ((False, 1), (False, 1), (True, 2)):
        change = index.update([videos], engine=engine, retry=retry)
        (row,) = map(json.loads, table.read_text().splitlines())
        assert (row["cause"], row["stage"], row["attempts"]) == (KILLED, "index", count)
        assert engine.tried.count("red.mp4") == count and not any(Path(p).name == "red.mp4" for p in change.new)
        assert [Path(error.source).name for error in change.failures] == ["red.mp4"]
    index.update([videos], retry=True)
    assert not table.exists() and len(index.videos) == len(set(engine.tried)) > 1
