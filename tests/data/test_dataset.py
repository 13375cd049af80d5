"""Samples and batches: content, bit-exact repetition, unreadable videos."""

import json
import pickle
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from data.settings import IMAGENET, PIXELS, settings, write_videos
from PIL import Image
from torch.utils.data import DataLoader
from video.clips import decode_in_order, write_video

from internvideo_hf.data.collation import VideoCollator
from internvideo_hf.data.dataset import VideoDataset
from internvideo_hf.data.failures import FailureLog, TooManyFailuresError
from internvideo_hf.data.manifests import load_manifest
from internvideo_hf.data.samples import SampleSettings, make_sample
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor
from internvideo_hf.video import VideoDecodeError
from internvideo_hf.video.augment import normalize

WHOLE = {"sampler": "internvideo_mm", "sampler_options": {}}


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> list[dict]:
    return write_videos(tmp_path_factory.mktemp("videos"))


def batches(dataset, workers: int = 0, **options) -> list[dict]:
    collate = VideoCollator(mixup={"num_labels": 6}) if options.pop("mix", False) else VideoCollator()
    return list(DataLoader(dataset, 3, collate_fn=collate, num_workers=workers, **options))


def assert_equal(left: list[dict], right: list[dict]) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)


# ---- samples --------------------------------------------------------------------------------------------------------


def test_a_sample_has_frames_first_and_its_label(rows):
    sample = VideoDataset(rows, settings())[2]
    assert sample["pixel_values_videos"].shape == (4, 3, 16, 16)
    assert sample["pixel_values_videos"].dtype == torch.float32
    assert sample["labels"].dtype == torch.int64 and int(sample["labels"]) == 2
    assert "captions" not in sample and "bool_masked_pos" not in sample


def test_views_share_their_frames_and_draw_their_own_crops_and_masks(rows):
    mask = {"mask": "tube", "mask_ratio": 0.5, "patch_size": 4, "tubelet_size": 2}
    sample = make_sample(rows[0], settings(view="pretraining", num_views=3, mask=mask), 5)
    assert sample["pixel_values_videos"].shape == (3, 4, 3, 16, 16)
    assert sample["bool_masked_pos"].shape == (3, 2 * 4 * 4)
    assert sample["bool_masked_pos"].sum(1).tolist() == [16] * 3
    assert not torch.equal(*sample["pixel_values_videos"][:2])
    batch = VideoCollator()([sample, make_sample(rows[1], settings(view="pretraining", num_views=3, mask=mask), 6)])
    assert batch["labels"].tolist() == [0, 0, 0, 1, 1, 1]
    assert torch.equal(batch["bool_masked_pos"][:3], sample["bool_masked_pos"])


def test_evaluation_has_the_processors_pixels(rows):
    processor = InternVideoVideoProcessor(
        num_frames=4, size={"shortest_edge": 20}, crop_size={"height": 16, "width": 16}
    )
    row = rows[3]
    sample = make_sample(row, settings(**WHOLE, view="processor", view_options={"processor": processor}), 0)
    expected = processor(row["video"], return_tensors="pt")["pixel_values_videos"][0]
    assert torch.equal(sample["pixel_values_videos"], expected)


def test_a_span_of_seconds_keeps_to_its_frames(tmp_path):
    path = write_video(tmp_path / "v.mp4", 60, size=(16, 16))
    frames = torch.from_numpy(decode_in_order(path)).permute(0, 3, 1, 2)
    whole = settings(
        num_frames=15, **WHOLE, view="contrastive", view_options=PIXELS | {"area": (1.0, 1.0), "flip_probability": 0}
    )
    row = {"video": str(path), "start": 0.5, "end": 1.0, "caption": "a wave"}
    sample = make_sample(row, whole, 0)
    assert torch.equal(sample["pixel_values_videos"], normalize(frames[15:30], **IMAGENET))
    assert sample["captions"] == "a wave"
    late = make_sample(row | {"start": 1.9, "end": 99.0}, settings(num_frames=3, **WHOLE, view="contrastive"), 0)
    assert len(late["pixel_values_videos"]) == 3
    with pytest.raises(VideoDecodeError, match="starts at 2 s, the last frame is at 1.96667 s"):
        make_sample(row | {"start": 2.0, "end": 3.0}, whole, 0)


def test_frame_folders_are_counted_against_the_list(tmp_path):
    for number in range(1, 9):
        Image.fromarray(np.full((20, 24, 3), number, np.uint8)).save(tmp_path / f"img_{number:05}.jpg")
    row = {"video": str(tmp_path), "num_frames": 8, "label": 1}
    assert make_sample(row, settings(sampler="videomae_ssv2_train", sampler_options={}), 0)["labels"] == 1
    with pytest.raises(VideoDecodeError, match="the list says 9 frames, 8 can be read"):
        make_sample(row | {"num_frames": 9}, settings(), 0)
    for wrong in ({"start": 0.0, "end": 1.0}, {}):
        with pytest.raises(VideoDecodeError, match="no frame rate"):
            make_sample(row | wrong, settings(sampler="retrieval_fps", sampler_options={}), 0)


def test_blank_frames_are_zero_and_bgr_is_the_other_way_round(rows):
    one = {"view_options": PIXELS | {"flip_probability": 0, "area": (1.0, 1.0), "mean": (0.5,) * 3, "std": (0.5,) * 3}}
    blank = make_sample(rows[0], settings(sampler="retrieval_fps", sampler_options={}, view="contrastive", **one), 0)
    assert [bool(frame.any()) for frame in blank["pixel_values_videos"]] == [True, False, False, False]
    rgb, bgr = (make_sample(rows[0], settings(view="contrastive", channel_order=o, **one), 0) for o in ("rgb", "bgr"))
    assert torch.equal(rgb["pixel_values_videos"].flip(1), bgr["pixel_values_videos"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sampler": "uniform"}, "sampler: got 'uniform'"),
        ({"view": "random"}, "view: got 'random'"),
        ({"sampler_options": {"rate": 2}}, r"unknown are \['rate'\]"),
        ({"view_options": {"size": 16}}, r"missing are \['mean', 'std'\]"),
        ({"num_views": 0}, "num_views: got 0"),
        ({"mask": {"mask": "tube"}}, "mask_ratio"),
        ({"channel_order": "grb"}, "channel_order"),
    ],
)
def test_settings_refuse_what_they_do_not_know(changes, words):
    with pytest.raises(ValueError, match=words):
        settings(**changes)


def test_settings_are_plain_data():
    assert pickle.loads(pickle.dumps(settings())) == settings()
    with pytest.raises(TypeError):
        SampleSettings(sampler="internvideo_mm", view="finetuning")


# ---- repetition -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", ["fork", "spawn"])
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


# ---- bad videos -----------------------------------------------------------------------------------------------------


@pytest.fixture
def with_a_bad_one(rows, tmp_path) -> list[dict]:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    return [*rows[:2], {"video": str(tmp_path / "bad.mp4"), "label": 2}, *rows[3:]]


def test_a_bad_video_raises_by_default_from_a_worker_too(with_a_bad_one):
    for workers in (0, 1):
        with pytest.raises(VideoDecodeError, match="bad.mp4"):
            batches(VideoDataset(with_a_bad_one, settings()), workers)


@pytest.mark.parametrize("workers", [0, 2])
def test_skipping_leaves_out_counts_and_writes_down(with_a_bad_one, tmp_path, workers):
    failures = FailureLog(tmp_path / "logs/failed.jsonl")
    dataset = VideoDataset(with_a_bad_one, settings(), on_error="skip", failures=failures)
    whole = VideoDataset(with_a_bad_one, settings())
    for epoch in (0, 1):
        dataset.set_epoch(epoch)
        whole.set_epoch(epoch)
        assert [batch["labels"].tolist() for batch in batches(dataset, workers)] == [[0, 1], [3, 4, 5]]
    assert torch.equal(batches(dataset)[0]["pixel_values_videos"][1], whole[1]["pixel_values_videos"])
    assert len(failures) == 1, "the same sample counts once"
    assert failures.read()[2]["video"].endswith("bad.mp4") and failures.read()[2]["cause"]
    written = [json.loads(line) for line in failures.path.read_text().splitlines()]
    assert len(written) == 3 and all(line["index"] == 2 for line in written)
    assert len(FailureLog(failures.path)) == 0, "an earlier run's failures do not count"


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_bad_videos_stop_the_run(with_a_bad_one, tmp_path, workers):
    failures = FailureLog(tmp_path / "failed.jsonl", min_failures=0)
    dataset = VideoDataset(with_a_bad_one, settings(), on_error="skip", failures=failures)
    with pytest.raises(TooManyFailuresError, match="1 of 6 samples.*bad.mp4.*failed.jsonl"):
        batches(dataset, workers)


def test_the_share_is_of_all_samples(tmp_path):
    failures = FailureLog(tmp_path / "failed.jsonl", min_failures=0)
    error = VideoDecodeError("x.mp4", "it is broken", "Mend it.")
    for index in range(3):
        failures.add(index, error, 300)
    with pytest.raises(TooManyFailuresError, match="4 of 300"):
        failures.add(3, error, 300)
    with pytest.raises(ValueError, match="max_share"):
        FailureLog(tmp_path / "failed.jsonl", max_share=1.0)


def test_policies_that_lose_videos_silently_are_refused(rows, tmp_path):
    log = FailureLog(tmp_path / "failed.jsonl")
    for policy in ({"on_error": "skip"}, {"failures": log}, {"on_error": "substitute", "failures": log}):
        with pytest.raises(ValueError, match="on_error"):
            VideoDataset(rows, settings(), **policy)
    with pytest.raises(ValueError, match="rows: got none"):
        VideoDataset([], settings())
    with pytest.raises(IndexError):
        VideoDataset(rows, settings())[6]


# ---- batches --------------------------------------------------------------------------------------------------------


def test_a_batch_of_bad_videos_only_is_an_error():
    with pytest.raises(TooManyFailuresError, match="None of the 2 videos.*b.mp4: it is empty"):
        VideoCollator()([{"failure": "a.mp4: it is empty."}, {"failure": "b.mp4: it is empty."}])


def test_captions_stay_text_or_become_tokens(rows):
    samples = [
        make_sample(row | {"caption": f"video {i}"}, settings(num_views=2), i) for i, row in enumerate(rows[:2])
    ]
    assert VideoCollator()(samples)["captions"] == ["video 0", "video 0", "video 1", "video 1"]
    batch = VideoCollator(tokenize=lambda texts: {"input_ids": torch.tensor([[len(t)] for t in texts])})(samples)
    assert batch["input_ids"].shape == (4, 1) and "captions" not in batch
    with pytest.raises(ValueError, match="captions: got 2 for 4"):
        VideoCollator()([samples[0], make_sample(rows[0], settings(num_views=2), 0)])


def test_labels_must_be_there_for_all_or_none(rows):
    unlabelled = make_sample({"video": rows[0]["video"]}, settings(), 0)
    with pytest.raises(ValueError, match="fields"):
        VideoCollator()([make_sample(rows[0], settings(), 0), unlabelled])
    with pytest.raises(ValueError, match="mixup: got samples without labels"):
        VideoCollator(mixup={"num_labels": 6})([unlabelled, unlabelled])
    with pytest.raises(ValueError, match="num_labels"):
        VideoCollator(mixup={"mixup_alpha": 0.8})


@pytest.mark.slow
def test_the_benchmark_runs(tmp_path, monkeypatch, capsys):
    script = Path(__file__).parents[2] / "benchmarks/loader.py"
    monkeypatch.setattr(
        "sys.argv", ["loader.py", "--videos", "4", "--seconds", "1", "--workers", "0", "--rounds", "1"]
    )
    runpy.run_path(str(script), run_name="__main__")
    assert "loader" in capsys.readouterr().out
