"""Tar shards: every sample once for any number of workers; errors name damage."""

import tarfile
from itertools import islice

import pytest
import torch
from data.sets import write_tar
from data.settings import settings, write_videos
from servers import serve_folder
from torch.utils.data import DataLoader

from internvideo_hf.data.collation import VideoCollator
from internvideo_hf.data.failures import FailureLog, TooManyFailuresError
from internvideo_hf.data.samples import make_sample, sample_seed
from internvideo_hf.data.shards import ShardDataset, _number, read_shard, write_shards
from internvideo_hf.video import VideoDecodeError


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return write_videos(tmp_path_factory.mktemp("videos"), 7)


@pytest.fixture(scope="module")
def folder(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    assert write_shards(rows, folder, samples_per_shard=2) == []
    return folder


def labels(dataset, workers: int = 0) -> list[int]:
    loader = DataLoader(dataset, 1, collate_fn=VideoCollator(), num_workers=workers)
    return [int(batch["labels"]) for batch in loader]


def test_a_sample_is_that_of_its_file(rows, folder):
    samples = list(ShardDataset(folder, settings(), seed=3))
    assert [int(sample["labels"]) for sample in samples] == list(range(7))
    expected = make_sample(rows[4], settings(), sample_seed(3, 0, _number("000000004")))
    assert torch.equal(samples[4]["pixel_values_videos"], expected["pixel_values_videos"])


def test_workers_and_processes_share_the_samples(folder):
    assert sorted(labels(ShardDataset(folder, settings()), 2)) == list(range(7))
    parts = [labels(ShardDataset(folder, settings(), rank=rank, world_size=3)) for rank in range(3)]
    assert sorted(sum(parts, [])) == list(range(7)) and all(parts)
    with pytest.raises(ValueError, match="4 shards for process 0 of 5"):
        ShardDataset(folder, settings(), world_size=5)


def test_repeated_shards_go_on_with_the_next_epoch(folder):
    dataset = ShardDataset(folder, settings(), shuffle=4, seed=1)
    epochs = []
    for epoch in (0, 1):
        dataset.set_epoch(epoch)
        epochs += labels(dataset)
    endless = ShardDataset(folder, settings(), shuffle=4, seed=1, repeat=True)
    assert [int(sample["labels"]) for sample in islice(endless, 14)] == epochs
    worker_without_shards = ShardDataset(folder, settings(), repeat=True)
    worker_without_shards.shards = []
    assert list(worker_without_shards) == []


def test_shuffling_repeats_for_an_epoch_and_differs_between_epochs(folder):
    dataset = ShardDataset(folder, settings(), shuffle=4, seed=1)
    orders = []
    for epoch in (0, 1, 0):
        dataset.set_epoch(epoch)
        orders.append(labels(dataset))
    assert orders[0] == orders[2] != orders[1]
    assert all(sorted(order) == list(range(7)) for order in orders)


def test_addresses_are_read_while_they_come(folder):
    with serve_folder(folder) as server:
        address = f"{server}/000001.tar"
        assert [row["label"] for row, _, _ in read_shard(address)] == [2, 3]
        with pytest.raises(VideoDecodeError, match="404"):
            list(read_shard(address + "x"))


def test_writing_goes_on_after_a_kill_and_refuses_other_rows(rows, folder, tmp_path):
    write_shards(rows, tmp_path, samples_per_shard=2)
    kept = (tmp_path / "000000.tar").stat().st_mtime_ns
    (tmp_path / "000003.tar").unlink()
    (tmp_path / ".unfinished-000003.tar").touch()
    write_shards(rows, tmp_path, samples_per_shard=2)
    assert (tmp_path / "000000.tar").stat().st_mtime_ns == kept
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(file.name for file in folder.iterdir())
    assert (tmp_path / "000003.tar").read_bytes() == (folder / "000003.tar").read_bytes()
    with pytest.raises(FileExistsError, match="other rows"):
        write_shards(rows[:3], tmp_path, samples_per_shard=2)
    with pytest.raises(ValueError, match="0 rows"):
        write_shards([], tmp_path)


def test_missing_videos_are_told_and_left_out(rows, tmp_path):
    failures = write_shards([*rows[:2], {"video": str(tmp_path / "none.mp4")}], tmp_path / "out")
    assert [error.source for error in failures] == [str(tmp_path / "none.mp4")]
    assert len(list(read_shard(str(tmp_path / "out/000000.tar")))) == 2


def test_files_of_other_tools_have_captions_and_classes(rows, tmp_path):
    video = open(rows[0]["video"], "rb").read()
    path = write_tar(tmp_path / "x.tar", {"a/1.mp4": video, "a/1.txt": b"a wave", "a/1.cls": b"3"})
    (sample,) = ShardDataset([path], settings())
    assert (sample["captions"], int(sample["labels"])) == ("a wave", 3)


def test_samples_are_named_up_to_the_first_dot_of_a_file(rows, tmp_path):
    video = open(rows[0]["video"], "rb").read()
    members = {
        "v1.0/x.front.mp4": video,
        "v1.0/x.json": b'{"label": 3}',
        "v1.0/x.front.txt": b"a wave",
        "._x.mp4": b"x",
    }
    ((row, content, name),) = read_shard(str(write_tar(tmp_path / "x.tar", members)))
    assert (row["label"], row["caption"], content, name) == (3, "a wave", video, "v1.0/x")
    path = write_tar(tmp_path / "y.tar", {"x.a.mp4": video, "x.b.mp4": video})
    with pytest.raises(VideoDecodeError, match=r"y.tar/x: \.a\.mp4, \.b\.mp4 are several videos"):
        list(read_shard(str(path)))


def test_bad_videos_and_shards_are_named(rows, folder, tmp_path):
    video = open(rows[0]["video"], "rb").read()
    path = write_tar(tmp_path / "x.tar", {"1.mp4": b"no video", "2.mp4": video, "2.cls": b"2"})
    with pytest.raises(VideoDecodeError, match="x.tar/1"):
        list(ShardDataset(path, settings()))
    log = FailureLog(tmp_path / "failed.jsonl")
    assert labels(ShardDataset(path, settings(), on_error="skip", failures=log)) == [2]
    assert list(log.read()) == ["1"]
    strict = FailureLog(tmp_path / "failed.jsonl", min_failures=0)
    with pytest.raises(TooManyFailuresError, match="1 of 1"):
        list(ShardDataset(path, settings(), on_error="skip", failures=strict))
    with pytest.raises(VideoDecodeError, match="none.tar: the shard cannot be read"):
        list(read_shard(str(tmp_path / "none.tar")))
    with pytest.raises(VideoDecodeError, match="no video beside .txt"):
        list(read_shard(str(write_tar(tmp_path / "y.tar", {"1.txt": b"x"}))))
    with pytest.raises(VideoDecodeError, match="its row cannot be read"):
        list(read_shard(str(write_tar(tmp_path / "z.tar", {"1.mp4": video, "1.cls": b"x"}))))


@pytest.mark.parametrize("place", ["header", "padding", "row", "video", "end mark"])
def test_a_shard_that_was_cut_off_is_not_taken_for_a_short_one(folder, tmp_path, place):
    with tarfile.open(folder / "000000.tar") as tar:
        row, video = tar.getmembers()[2:]
    whole = (folder / "000000.tar").read_bytes()
    ends = {
        "header": row.offset,
        "padding": row.offset_data + row.size,
        "row": row.offset_data + 10,
        "video": video.offset_data + video.size // 2,
        "end mark": -(-(video.offset_data + video.size) // 512) * 512,
    }
    (tmp_path / "cut.tar").write_bytes(whole[: ends[place]])
    with pytest.raises(VideoDecodeError, match="cut.tar: the shard cannot be read"):
        list(read_shard(str(tmp_path / "cut.tar")))


def test_a_folder_of_something_else_keeps_its_files(rows, tmp_path):
    for name in (".unfinished-mine.txt", "mine.tar"):
        (tmp_path / name).touch()
    with pytest.raises(FileExistsError, match="something else"):
        write_shards(rows, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {".unfinished-mine.txt", "mine.tar"}


BAD_ROWS = {
    "list": b'[{"video": "a"}]',
    "null": b"null",
    "number": b"3",
    "nested": b"[" * 100_000,
    "label": b'{"label": "three"}',
    "caption": b'{"caption": 3}',
    "start": b'{"start": "0:01", "end": 2}',
    "bytes": b"\xff\xfe",
}


@pytest.mark.parametrize("row", BAD_ROWS)
def test_a_row_that_is_none_is_the_failure_of_its_sample(rows, tmp_path, row):
    video = open(rows[0]["video"], "rb").read()
    members = {"1.json": BAD_ROWS[row], "1.mp4": video, "2.mp4": video, "2.cls": b"2"}
    path = write_tar(tmp_path / "x.tar", members)
    with pytest.raises(VideoDecodeError, match="x.tar/1: its row cannot be read"):
        list(ShardDataset(path, settings()))
    log = FailureLog(tmp_path / "failed.jsonl")
    assert labels(ShardDataset(path, settings(), on_error="skip", failures=log)) == [2]
    assert list(log.read()) == ["1"]
