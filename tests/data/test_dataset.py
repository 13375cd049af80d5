"""Datasets repeat bit for bit, and treat unreadable videos by their policy."""

import json
import runpy
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from data.sets import make_dataset
from data.settings import batches, settings
from torch.utils.data import DataLoader

from internvideo_hf.data.collation import VideoCollator
from internvideo_hf.data.dataset import VideoDataset
from internvideo_hf.data.failures import FailureLog
from internvideo_hf.data.manifests import load_manifest
from internvideo_hf.video import VideoDecodeError


def assert_equal(left: list[dict], right: list[dict]) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("context", ["fork", "forkserver", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_change_no_bit(rows, context):
    dataset = VideoDataset(rows, settings(num_views=2), seed=7)
    alone = batches(dataset, mix=True)
    assert alone[0]["labels"].shape == (6, 6)
    assert_equal(alone, batches(dataset, 2, mix=True, multiprocessing_context=context))


def test_rows_of_a_loaded_manifest_are_as_good_as_a_list(rows, tmp_path):
    (tmp_path / "list.csv").write_text("".join(f"{row['video']},{row['label']}\n" for row in rows))
    loaded = load_manifest(tmp_path / "list.csv")
    assert_equal(batches(VideoDataset(loaded, settings()), 2), batches(VideoDataset(rows, settings())))
    assert int(VideoDataset(loaded, settings())[np.int64(3)]["labels"]) == 3


def test_a_trainer_gets_all_of_it(with_a_bad_one, tmp_path):
    failures = FailureLog(tmp_path / "failed.jsonl")
    dataset = VideoDataset(with_a_bad_one, settings(), on_error="skip", failures=failures)
    prepared = Accelerator(cpu=True).prepare(DataLoader(dataset, 3, collate_fn=VideoCollator()))
    epochs = []
    for epoch in (0, 1):
        prepared.set_epoch(epoch)
        epochs.append(list(prepared))
    assert [len(batch["labels"]) for batch in epochs[0]] == [2, 3] and len(failures) == 1
    first, second = (epoch[0]["pixel_values_videos"] for epoch in epochs)
    assert not torch.equal(first, second), "set_epoch comes through"


def test_epochs_and_seeds_draw_anew_also_in_workers_that_stay(rows):
    dataset = VideoDataset(rows, settings(), seed=7)
    loader = DataLoader(dataset, 3, collate_fn=VideoCollator(), num_workers=2, persistent_workers=True)
    epochs = []
    for epoch in (0, 1, 0):
        dataset.set_epoch(epoch)
        epochs.append(list(loader))
    assert_equal(epochs[0], epochs[2])
    assert not torch.equal(epochs[0][0]["pixel_values_videos"], epochs[1][0]["pixel_values_videos"])
    other = VideoDataset(rows, settings(), seed=8)[0]["pixel_values_videos"]
    assert not torch.equal(VideoDataset(rows, settings(), seed=7)[0]["pixel_values_videos"], other)


def test_a_bad_video_raises_by_default_from_a_worker_too(with_a_bad_one):
    for workers in (0, 1):
        with pytest.raises(VideoDecodeError, match="bad.mp4"):
            batches(VideoDataset(with_a_bad_one, settings()), workers)


def test_policies_that_lose_videos_silently_are_refused(rows, tmp_path):
    log = FailureLog(tmp_path / "failed.jsonl")
    for policy in ({"on_error": "skip"}, {"failures": log}, {"on_error": "substitute", "failures": log}):
        with pytest.raises(ValueError, match="on_error"):
            VideoDataset(rows, settings(), **policy)
    with pytest.raises(ValueError, match="rows: got none"):
        VideoDataset([], settings())
    with pytest.raises(IndexError):
        VideoDataset(rows, settings())[6]


@pytest.mark.slow
def test_the_benchmark_runs(tmp_path, monkeypatch, capsys):
    script = Path(__file__).parents[2] / "benchmarks/loader.py"
    monkeypatch.setattr(
        "sys.argv", ["loader.py", "--videos", "4", "--seconds", "1", "--workers", "0", "--rounds", "1"]
    )
    runpy.run_path(str(script), run_name="__main__")
    assert "loader" in capsys.readouterr().out


@pytest.mark.parametrize(("embed", "decode"), [(True, False), (True, True), (False, True)])
def test_a_data_set_with_a_column_of_videos_is_as_good_as_files(rows, embed, decode):
    videos = [row["video"] for row in rows]
    column = make_dataset(videos, embed=embed).cast_column("video", datasets.Video(decode=decode))
    files = [{"video": video, "label": number % 2} for number, video in enumerate(videos)]
    by_column, by_file = (VideoDataset(table, settings(), seed=7) for table in (column, files))
    assert_equal(batches(by_column, 2), batches(by_file))
    assert by_column[3]["video"] == ("3/3.mp4" if embed else videos[3])


def test_bad_rows_of_a_data_set_are_named_by_their_number(rows, tmp_path):
    good = Path(rows[0]["video"]).read_bytes()
    content = [{"bytes": good, "path": "a.mp4"}, {"bytes": b"no video", "path": "a.mp4"}, None, "none/a.mp4"]
    features = datasets.Features({"video": datasets.Video(), "label": datasets.Value("int64")})
    column = datasets.Dataset.from_dict({"video": content, "label": [0] * 4}, features)
    failures = FailureLog(tmp_path / "failed.jsonl")
    dataset = VideoDataset(column, settings(), on_error="skip", failures=failures)
    (batch,) = DataLoader(dataset, 4, collate_fn=VideoCollator())
    assert len(batch["labels"]) == 1
    found = [json.loads(line) for line in (tmp_path / "failed.jsonl").read_text().splitlines()]
    assert [failure["index"] for failure in found] == [1, 2, 3]
    assert [failure["video"] for failure in found] == ["1/a.mp4", "2", "none/a.mp4"]
    assert "the row has neither bytes nor a path" in found[1]["cause"]
