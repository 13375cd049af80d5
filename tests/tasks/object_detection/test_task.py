"""State-change object detection end to end: any detector, or the boxes of another program, scored as COCO does."""

import json
import os
from functools import partial

import numpy as np
import pytest
from data.executors.here import Here
from tasks.action_detection.small import write_detector, write_rt_detr
from tasks.object_detection.state_changes import HEIGHT, WIDTH, clip, moment, write_drawn, write_scod
from tasks.workers import assert_equal_results

from internvideo_hf.data.failures import TooManyFailuresError
from internvideo_hf.data.records import ManifestError
from internvideo_hf.evaluation.protocols import load_protocol
from internvideo_hf.evaluation.report import table
from internvideo_hf.evaluation.run import evaluate
from internvideo_hf.inference import rows
from internvideo_hf.tasks.object_detection.annotations import read_frames
from internvideo_hf.tasks.object_detection.task import read_predictions
from internvideo_hf.tasks.protocol import FrameData

NAME = "ego4d/state_change_detection"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "it holds a dict"),
        ([3], "box 1: it is 3"),
        ([{"image_id": 1, "bbox": [1, 2, 3], "score": 1}], "box 1"),
        ([{"image_id": 1, "bbox": [1, 2, 3, "4"], "score": 1}], "box 1"),
        ([{"image_id": 99, "bbox": [1, 2, 3, 4], "score": 1}], "its image_id 99 is none of the 1 frames"),
    ],
)
def test_wrong_predictions_are_refused(tmp_path, content, message):
    path = write_scod(tmp_path / "a.json", [clip("c", "v", {"pre_frame": moment(1, [])})])
    (tmp_path / "p.json").write_text(json.dumps(content))
    with pytest.raises(ManifestError, match=message):
        read_predictions(tmp_path / "p.json", read_frames(path, FrameData()))


def test_predictions_are_the_best_first(tmp_path):
    path = write_scod(tmp_path / "a.json", [clip("c", "v", {"pre_frame": moment(1, [])})])
    rows = [{"image_id": 1, "category_id": 1, "bbox": [n, 0, 1, 1], "score": n / 200} for n in range(150)]
    (tmp_path / "p.json").write_text(json.dumps(rows))
    found = read_predictions(tmp_path / "p.json", read_frames(path, FrameData()))
    assert found[1].shape == (100, 5) and found[1][0].tolist() == [149, 0, 1, 1, 149 / 200]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    pytest.importorskip("pycocotools", reason="the extra [detection] is not installed")
    root = tmp_path_factory.mktemp("scod")
    clips = write_drawn(root, 4)
    write_scod(root / "annotations/fho_scod_val.json", clips)
    unknown = [
        {**entry, **{name: {k: v for k, v in entry[name].items() if k != "bbox"} for name in FrameData().moments}}
        for entry in clips
    ]  # noqa: E501
    write_scod(root / "annotations/fho_scod_test_unannotated.json", unknown, "test")
    write_detector(root / "yolos")
    write_rt_detr(root / "rt_detr")
    return root


def _score(data, model, *changes, **options):
    protocol = load_protocol(NAME, ["data.frames.folder=frames", *changes])
    return evaluate(protocol, model, data, device="cpu", workers=0, quiet=True, **options)


@pytest.mark.parametrize("name", ["yolos", "rt_detr"])
def test_any_detector_is_scored(data, name, tmp_path):
    result = _score(data, data / name, report=tmp_path / "report", out=tmp_path / "result.json", batch_size=5)
    assert 0 <= result["scores"]["AP"] <= 100 and result["data"]["videos"] == 12 and not result["damaged"]
    printed = table(result)
    assert "12 objects in 12 annotated frames" in printed and "none of which is object_of_change" in printed
    assert "36.40" in printed
    boxes = json.loads((tmp_path / "report/detections.json").read_text())
    assert all(0 <= row["bbox"][0] and row["bbox"][0] + row["bbox"][2] <= WIDTH + 1e-3 for row in boxes)
    assert all(row["bbox"][1] + row["bbox"][3] <= HEIGHT + 1e-3 for row in boxes) and len(boxes) > 12
    # The report's boxes are a file of predictions, and score the same.
    (data / "own.json").write_text(json.dumps(boxes))
    again = _score(data, None, "data.frames.predictions=own.json")
    assert again["scores"] == pytest.approx(result["scores"], abs=1e-3)
    assert "boxes   of own.json" in table(again)


def test_workers_make_the_same_result_and_see_an_image_that_changed(data, tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "SHARD_ROWS", 4)
    one = _score(data, data / "yolos", out=tmp_path / "one.json", batch_size=2)
    out = tmp_path / "many.json"
    with pytest.raises(KeyboardInterrupt):
        _score(data, data / "yolos", out=out, batch_size=2, engine=Here(stop_at=2))
    frames = read_frames(data / "annotations/fho_scod_val.json", FrameData())
    os.utime(data / "frames" / frames[4].video / str(frames[4].clip_id) / f"{frames[4].number}.png", ns=(1, 1))
    again = Here()
    many = _score(data, data / "yolos", out=out, batch_size=2, engine=again)
    assert len(again.shards) == 1 and [row["frame"].image for row in again.shards[0].items][0] == frames[4].image
    assert {**one, "seconds": 0} == {**many, "seconds": 0}


def test_perfect_boxes_of_another_program_score_100(data):
    frames = read_frames(data / "annotations/fho_scod_val.json", FrameData())
    rows = [{"image_id": frame.image, "bbox": list(frame.boxes[0]), "score": 0.5} for frame in frames]
    (data / "perfect.json").write_text(json.dumps(rows))
    assert _score(data, None, "data.frames.predictions=perfect.json")["scores"]["AP"] == pytest.approx(100)


def test_test_frames_are_answered_without_scores(data, tmp_path):
    changes = ["data.list=annotations/fho_scod_test_unannotated.json"]
    result = _score(data, data / "yolos", *changes, report=tmp_path / "report")
    assert result["scores"] == {} and "0 annotated frames" in table(result)
    assert len(json.loads((tmp_path / "report/detections.json").read_text())) > 12


def test_a_frame_that_is_missing_counts_as_one_without_boxes(data, tmp_path):
    frames = read_frames(data / "annotations/fho_scod_val.json", FrameData())
    missing = data / "frames" / frames[4].video / str(frames[4].clip_id) / f"{frames[4].number}.png"
    missing.rename(tmp_path / "aside.png")
    try:
        result = _score(data, data / "yolos", report=tmp_path / "report", max_damaged=0.2)
        with pytest.raises(TooManyFailuresError):
            _score(data, data / "yolos")
    finally:
        (tmp_path / "aside.png").rename(missing)
    assert [entry["video"] for entry in result["damaged"]] == [frames[4].name]
    found = {row["image_id"] for row in json.loads((tmp_path / "report/detections.json").read_text())}
    assert found == {frame.image for frame in frames} - {frames[4].image}


def test_other_models_are_refused(data, tmp_path):
    from tasks.temporal_localization.heads import write_encoder

    with pytest.raises(ValueError, match=r"is not a detector of objects.*\(--model\)"):
        _score(data, write_encoder(tmp_path / "encoder"))


def test_a_detector_that_knows_the_object_counts_with_it_alone(data, tmp_path):
    result = _score(data, write_detector(tmp_path / "own", {0: "hand", 1: "Object_of_change", 2: "tool"}))
    assert "the class Object_of_change" in table(result)
    assert np.isfinite(result["scores"]["AP"])


@pytest.mark.slow
def test_two_workers_make_the_same_result(data, tmp_path, engine):
    assert_equal_results(partial(_score, data, data / "yolos"), tmp_path, engine)
