"""Rows and samples of hand prediction: footage, targets, draws, and what cannot be read."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tasks.hand_prediction.drawn import HEIGHT, PROCESSOR, WIDTH, way, write_square, write_videos
from tasks.hand_prediction.lists import clip, document, moments

from internvideo_hf import InternVideoVideoProcessor
from internvideo_hf.data.failures import FailureLog, TooManyFailuresError
from internvideo_hf.data.records import ManifestError
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.hand_prediction.annotations import read_hands
from internvideo_hf.tasks.hand_prediction.data import HandDataset, collate, read_training_rows, rows_of
from internvideo_hf.tasks.hand_prediction.prediction import ClipReader, labels_of_hands
from internvideo_hf.tasks.hand_prediction.views import TrainingView
from internvideo_hf.tasks.protocol import HandData

LEFT_COLUMNS = [column for column in range(20) if column % 4 < 2]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("hands")
    write_videos(root)
    return root


def dataset(
    root: Path, *, training: bool, points_of_video: bool = False, columns=LEFT_COLUMNS, flip: float = 0, **options
):
    rows, _ = read_training_rows(root / "hands_train.json", root, hands=HandData())
    processor = InternVideoVideoProcessor(**PROCESSOR | options.pop("processor", {}))
    view = TrainingView.of(processor, HandData(rand_augment=False, flip=flip, erasing=0)) if training else None
    return HandDataset(rows, ClipReader(processor, 1, points_of_video), columns, view, **options)


def test_rows_name_footage_moment_and_points(data):
    rows, names = read_training_rows(data / "hands_train.json", data, hands=HandData())
    assert names == labels_of_hands(["left"])  # no list of this data set has a right hand
    row = rows[0]
    assert row["name"] == "0_1007" and row["frame"] == 8 and row["file"] == str(data / "clips/clip-0.mp4")
    assert np.reshape(row["points"], (5, 2, 2))[:, 0].tolist() == way(0)[[8, 10, 12, 14, 16]].tolist()
    assert row["known"] == [True, True, False, False] * 5
    assert read_training_rows(data / "hands_val.json", data, hands=HandData(), classes=["x"])[1] == ["x"]
    for setting in ({"labels": 3}, {"layout": "csv"}):
        with pytest.raises(RecipeError, match="changes nothing in hand_prediction"):
            read_training_rows(data / "hands_train.json", data, hands=HandData(), **setting)


def test_footage_is_the_exported_clip_or_the_video_or_a_clip_that_was_cut(tmp_path):
    both = {"pre_45": {"left": [1, 2], "right": [3, 4]}}
    (tmp_path / "list.json").write_text(json.dumps(document(clip(3, [moments(36278, 519, both)]))))
    with pytest.raises(ManifestError, match=r"1 of 1 clips have no footage, the first is 3_36277: .*clips/clip-3.mp4"):
        read_training_rows(tmp_path / "list.json", tmp_path, hands=HandData())
    (tmp_path / "full_scale").mkdir()
    (tmp_path / "full_scale/video-3.mp4").touch()
    rows, names = read_training_rows(tmp_path / "list.json", tmp_path, hands=HandData())
    assert (rows[0]["frame"], len(names)) == (36278, 20)
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/clip-3.mp4").touch()
    assert rows_of(read_hands(tmp_path / "list.json"), tmp_path, tmp_path)[0]["frame"] == 519
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut/3_36277.mp4").touch()
    (row,) = rows_of(read_hands(tmp_path / "list.json"), tmp_path, tmp_path / "cut")
    assert row["frame"] is None and row["file"].endswith("cut/3_36277.mp4")
    elsewhere = json.dumps(document({**clip(3, [moments(36278, 519, both)]), "clip_id": "../cut/3"}))
    (tmp_path / "list.json").write_text(elsewhere)
    with pytest.raises(ManifestError, match="'../cut/3_36277' is not an id of Ego4D"):
        rows_of(read_hands(tmp_path / "list.json"), tmp_path, tmp_path / "cut")


def test_missing_footage_is_skipped_when_asked_and_clips_without_hands_are_left_out(data, tmp_path, caplog):
    known, shown = {"pre_45": {"left": [1, 2]}}, {}
    content = document(clip(0, [moments(1008, 8, known), moments(1010, 10, shown)]), clip(77, [moments(8, 8, known)]))
    (tmp_path / "list.json").write_text(json.dumps(content))
    rows, _ = read_training_rows(tmp_path / "list.json", data, hands=HandData(), skip_missing=True)
    assert [row["name"] for row in rows] == ["0_1007"]
    (tmp_path / "list.json").write_text(json.dumps(document(clip(0, [moments(8, 8, {})]))))
    with pytest.raises(ManifestError, match="no clip has an annotated hand"):
        read_training_rows(tmp_path / "list.json", data, hands=HandData())


def test_targets_of_training_lie_on_the_square(data):
    whole = {"size": {"height": 24, "width": 32}, "do_center_crop": False, "num_frames": 8}
    samples = dataset(data, training=True, processor=whole)
    for index in range(len(samples)):
        sample = samples[index]
        assert sample["pixel_values_videos"].shape == (8, 3, 24, 32)
        bright = sample["pixel_values_videos"][7, 0] > 0  # the frame before the first moment
        seen = bright.nonzero().double().mean(0).flip(0) + 0.5
        moved = way(index)[8] - way(index)[7]
        # In pixels of the crop, which is scaled by a half or a bit more.
        assert sample["labels"][:2].numpy() == pytest.approx(seen.numpy() + moved / 2, abs=0.8)
        assert sample["label_mask"].all() and len(sample["labels"]) == 10
    first = samples[0]["labels"]
    assert torch.equal(first, samples[0]["labels"])
    samples.set_epoch(1)
    assert not torch.equal(first, samples[0]["labels"])


def test_published_targets_stay_where_they_were_annotated(data):
    samples = dataset(data, training=True, points_of_video=True, columns=range(20))
    sample, wanted = samples[0], way(0)[[8, 10, 12, 14, 16]]
    assert sample["labels"].reshape(5, 2, 2)[:, 0].tolist() == wanted.tolist()
    assert sample["label_mask"].reshape(5, 2, 2)[:, 1].sum() == 0 and not sample["labels"].reshape(5, 2, 2)[:, 1].any()


def test_targets_of_validation_follow_the_resize_and_the_crop(data):
    sample = dataset(data, training=False)[1]
    wanted = way(1)[[8, 10, 12, 14, 16]] * [42 / 64, 32 / 48] - [5, 0]
    assert sample["labels"].reshape(5, 2).numpy() == pytest.approx(wanted, abs=1e-4)
    assert sample["placements"].tolist() == pytest.approx([42 / 64, 32 / 48, 5, 0])


def test_another_sampler_is_refused_for_training(data):
    with pytest.raises(RecipeError, match="Set model.processor.sampler=ego4d_hands"):
        dataset(data, training=True, processor={"sampler": "videomae_sparse", "sampler_kwargs": {}})


def test_an_unreadable_clip_is_logged_and_leaves_a_blank(data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data/clips/clip-1.mp4").write_bytes(b"no video")
    log = FailureLog(tmp_path / "failures.jsonl")
    samples = dataset(tmp_path / "data", training=False, failures=log)
    read = [samples[0], samples[1]]
    assert list(read[1]) == ["failure"] and "clip-1.mp4" in read[1]["failure"] and len(log) == 1
    assert collate(read)["videos"] == [read[0]["video"]]
    batch = collate(read, fill_gaps=True)
    assert batch["pixel_values_videos"].shape[0] == 2 and not batch["pixel_values_videos"][1].any()
    assert not batch["label_mask"][1].any() and batch["placements"][1].isnan().all()
    with pytest.raises(TooManyFailuresError, match="None of the 1 clips"):
        collate(read[1:])


def test_footage_of_a_smaller_copy_is_refused(data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    content = json.loads((tmp_path / "data/hands_train.json").read_text())
    content["clips"][0]["frames"][0]["pre_45"]["boxes"] = [{"left_hand": [300, 20]}]
    (tmp_path / "data/hands_train.json").write_text(json.dumps(content))
    for training in (False, True):
        with pytest.raises(ValueError, match=f"{WIDTH} x {HEIGHT} pixels, and hands are annotated up to 300"):
            dataset(tmp_path / "data", training=training)[0]
    assert dataset(tmp_path / "data", training=True, points_of_video=True)[0]["labels"][0] == 300


def test_a_clip_that_was_cut_is_taken_whole(tmp_path):
    (tmp_path / "list.json").write_text(
        json.dumps(document(clip(3, [moments(5001, 1, {"pre_45": {"left": [9, 9]}})])))
    )
    write_square(tmp_path / "3_5000.mp4", way(0)[:8])
    (row,) = rows_of(read_hands(tmp_path / "list.json"), tmp_path, tmp_path)
    views = ClipReader(InternVideoVideoProcessor(**PROCESSOR), 1, True)(row)
    assert views["about"].tolist() == [WIDTH, HEIGHT, 1.0]


def test_clips_of_both_hands_are_not_mirrored(data):
    assert dataset(data, training=True, flip=0.5)[0]["labels"].shape == (10,)
    with pytest.raises(RecipeError, match="change sides in a mirror"):
        dataset(data, training=True, flip=0.5, columns=range(20))
