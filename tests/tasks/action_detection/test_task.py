"""Detectors learn from drawn videos, and are evaluated as by hand: on true boxes, a detector's, and from a file."""

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from demo.ports import free_port
from safetensors.torch import load_file
from tasks.action_detection.drawn import CLASSES, HEIGHT, TINY, WIDTH, write_detector, write_videos
from tasks.workers import assert_equal_results

from internvideo_hf.data.failures import TooManyFailuresError
from internvideo_hf.data.records import ManifestError
from internvideo_hf.evaluation.protocols import load_protocol
from internvideo_hf.evaluation.report import table
from internvideo_hf.evaluation.run import evaluate
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.action_detection import task
from internvideo_hf.tasks.action_detection.annotations import read_predictions
from internvideo_hf.training.recipes import load_recipe
from internvideo_hf.training.run import train

CUSTOM = "action_detection/custom"
SHORT = [
    *TINY,
    *("batch_size=4", "training.per_device_train_batch_size=4", "training.layer_decay=1", "data.boxes.color=[0,0,0]"),
    *("training.learning_rate=0.3", "training.warmup_epochs=0"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_videos(root)
    return root


@pytest.fixture(scope="module")
def run(data) -> Path:
    recipe = load_recipe(CUSTOM, [*SHORT, "training.num_train_epochs=15", "training.save_strategy=no"])
    return train(recipe, data, data / "run", quiet=True).parent


@pytest.fixture
def model(tmp_path) -> Path:
    return write_detector(tmp_path / "model")


def score(root: Path, model: Path | None, *changes: str, **options) -> dict:
    options = {"device": "cpu", "workers": 0, "quiet": True, "batch_size": 4, **options}
    return evaluate(load_protocol(CUSTOM, changes), model, root, **options)


def test_a_detector_learns_and_is_saved_with_its_processor(run, data):
    assert "Training: 12 key frames of the list `train.csv`" in (run / "final/README.md").read_text()
    config = json.loads((run / "final/config.json").read_text())
    assert list(config["id2label"].values()) == CLASSES
    assert config["architectures"] == ["InternVideoMAEForVideoActionDetection"]
    processor = json.loads((run / "final/video_preprocessor_config.json").read_text())
    assert processor["size"] == {"shortest_edge": 32} and not processor["do_center_crop"]
    logged = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["eval_mAP"] for line in logged if "eval_mAP" in line][-1] > 90
    rows = read_predictions(run / "answers/detections.csv")
    assert len(rows) == 2 * 3 * 2 * 2  # videos, seconds, squares, classes


def test_the_evaluation_scores_as_the_training_does(run, data):
    logged = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    last = [line["eval_mAP"] for line in logged if "eval_mAP" in line][-1]
    result = score(data, run / "final", report=data / "report")
    assert result["scores"]["mAP"] == pytest.approx(last, abs=0.1)
    ours, theirs = (read_predictions(file / "detections.csv") for file in (data / "report", run / "answers"))
    assert ours.scores == pytest.approx(theirs.scores, abs=2e-5) and (ours.boxes == theirs.boxes).all()
    printed = table(result)
    assert "boxes   12 in 6 key frames, true ones" in printed and "short side 32 by cv2_linear, no crop" in printed


def test_a_file_of_predictions_is_scored_without_a_model(run, data):
    result = score(data, run / "final", report=data / "report")
    file = score(data, None, "data.boxes.predictions=report/detections.csv")
    assert file["scores"] == pytest.approx(result["scores"]) and file["model"]["name"] == "no model"
    assert "boxes   of report/detections.csv" in table(file)
    with pytest.raises(RecipeError, match="Give no model"):
        score(data, run / "final", "data.boxes.predictions=report/detections.csv")
    with pytest.raises(RecipeError, match="Give the model"):
        score(data, None)


@pytest.mark.parametrize("content", ["", "other,1,0,0,1,1,1,0.9\n"])
def test_predictions_of_other_key_frames_are_refused(data, content):
    (data / "other.csv").write_text(content)
    with pytest.raises(
        ManifestError, match="other.csv: none of its key frames is annotated. Give predictions for val"
    ):
        score(data, None, "data.boxes.predictions=other.csv")


def test_boxes_of_a_detector_are_scored_by_their_overlap(run, data):
    lines = [line.split(",") for line in (data / "val.csv").read_text().splitlines()]
    people = [[*line[:6], "", "0.9"] for line in lines]
    far = [[*line[:2], "0", "0", "1", "1", "", "1"] for line in lines[:1]]  # outscores the true ones, and is wrong
    low = [[*line[:6], "", "0.7"] for line in lines]
    (data / "found.csv").write_text("".join(",".join(line) + "\n" for line in (*people[2:], *far, *low[:2])))
    result = score(data, run / "final", "data.boxes.detections=found.csv", report=data / "detected")
    rows = read_predictions(data / "detected/detections.csv")
    assert len(rows) == 2 * (len(lines) - 2 + 1) and rows.scores.max() <= 1
    assert 0 < result["scores"]["mAP"] < 100
    printed = table(result)
    assert f"boxes   {len(lines) - 1} in 6 key frames, of found.csv with scores from 0.8" in printed
    more = score(data, run / "final", "data.boxes.detections=found.csv", "data.boxes.min_score=0.5")
    assert more["model"]["boxes"]["boxes"] == len(lines) + 1


def test_batches_and_workers_change_no_score(model, data):
    found = [score(data, model, report=data / f"of{size}", batch_size=size, workers=size % 2) for size in (1, 4)]
    one, four = (read_predictions(data / f"of{size}/detections.csv") for size in (1, 4))
    assert found[0]["scores"] == pytest.approx(found[1]["scores"])

    def by_key(rows):
        keys = zip(rows.key_frames, map(tuple, rows.boxes.tolist()), rows.labels.tolist(), strict=True)
        return dict(zip(keys, rows.scores.tolist(), strict=True))

    assert by_key(one) == pytest.approx(by_key(four), abs=2e-5) and len(by_key(one)) == 24


def test_an_evaluation_goes_on_where_it_was_stopped(model, data, tmp_path, monkeypatch):
    whole = score(data, model, out=tmp_path / "whole.json", report=tmp_path / "whole", batch_size=1)
    monkeypatch.setattr("internvideo_hf.utils.journal.CHECKPOINT_EVERY_SECONDS", 0)
    real, calls = task._of_batch, []

    def stops(model, batch):
        calls.append(len(batch))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(model, batch)

    monkeypatch.setattr(task, "_of_batch", stops)
    with pytest.raises(KeyboardInterrupt):
        score(data, model, out=tmp_path / "result.json", report=tmp_path / "report", batch_size=1)
    assert not (tmp_path / "result.json").exists() and not (tmp_path / "report").exists()
    result = score(data, model, out=tmp_path / "result.json", report=tmp_path / "report", batch_size=1)
    assert len(calls) == 4 + 3  # of six key frames three were kept
    assert result["scores"] == whole["scores"]
    lines = [sorted((tmp_path / f"{name}/detections.csv").read_text().splitlines()) for name in ("whole", "report")]
    assert lines[0] == lines[1]
    assert sorted(file.name for file in tmp_path.iterdir() if "parts" in file.name) == []


def test_an_unreadable_video_is_listed_and_its_people_count_as_missed(run, data, tmp_path):
    shutil.copytree(data / "videos", tmp_path / "videos")
    shutil.copy(data / "val.csv", tmp_path)
    (tmp_path / "videos/video5.mp4").write_bytes(b"nothing")
    with pytest.raises(TooManyFailuresError, match="--max-damaged"):
        score(tmp_path, run / "final")
    result = score(tmp_path, run / "final", max_damaged=0.5)
    assert [entry["video"] for entry in result["damaged"]] == ["video5"]
    assert result["damaged"][0]["cause"].startswith("3 key frames; ")
    assert 40 < result["scores"]["mAP"] <= 50
    (tmp_path / "videos/video5.mp4").unlink()
    assert "no file of its name" in score(tmp_path, run / "final", max_damaged=0.5)["damaged"][0]["cause"]


def test_models_and_settings_that_do_not_fit_are_refused(model, data, tmp_path):
    with pytest.raises(RecipeError, match="has 2 classes, the first of which is green; data.labels=ava has 80"):
        score(data, model, "data.labels=ava")
    with pytest.raises(RecipeError, match="min_overlap is 0.0"):
        load_protocol(CUSTOM, ["data.boxes.min_overlap=0.0"])
    with pytest.raises(RecipeError, match="data.layout"):
        load_protocol(CUSTOM, ["data.layout=kinetics"])
    with pytest.raises(RecipeError, match="data.boxes changes nothing in retrieval"):
        load_protocol("retrieval/msrvtt", ["data.boxes.folder=x"])
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(
        json.dumps(config | {"architectures": ["InternVideoMAEForVideoClassification"]})
    )
    with pytest.raises(RecipeError, match="detects no actions"):
        score(data, model)


def test_a_stopped_training_ends_with_the_same_weights(data, tmp_path):
    recipe = load_recipe(CUSTOM, [*SHORT, "training.num_train_epochs=2", "training.save_total_limit=9"])
    train(recipe, data, tmp_path / "whole", quiet=True)
    shutil.copytree(tmp_path / "whole", tmp_path / "stopped")
    shutil.rmtree(tmp_path / "stopped/final")
    shutil.rmtree(max((tmp_path / "stopped").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1])))
    train(recipe, data, tmp_path / "stopped", quiet=True)
    whole, stopped = (load_file(tmp_path / f"{name}/final/model.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(stopped[name], tensor) for name, tensor in whole.items())


@pytest.mark.slow
def test_two_processes_score_as_one_does(data, tmp_path):
    logs = []
    for processes in (1, 2):
        out = tmp_path / f"of{processes}"
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
        command += ["--master-port", str(free_port()), "-m", "internvideo_hf.cli", "train", CUSTOM, *SHORT]
        command += ["training.num_train_epochs=3", "training.per_device_eval_batch_size=2"]
        command += ["--data-root", str(data), "--output-dir", str(out), "--quiet"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        logs.append([json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()])
        assert len(read_predictions(out / "answers/detections.csv")) == 24
    one, two = ([line["eval_mAP"] for line in lines if "eval_mAP" in line] for lines in logs)
    assert two == pytest.approx(one, abs=5) and len(one) == 3


def test_a_bad_video_does_not_end_a_training(data, tmp_path):
    shutil.copytree(data / "videos", tmp_path / "videos")
    for name in ("train.csv", "val.csv"):
        shutil.copy(data / name, tmp_path)
    for number in (0, 5):
        (tmp_path / f"videos/video{number}.mp4").write_bytes(b"nothing")
    recipe = load_recipe(CUSTOM, [*SHORT, "training.num_train_epochs=1", "batch_size=12"])
    train(recipe, tmp_path, tmp_path / "run", quiet=True)
    failures = [json.loads(line) for line in (tmp_path / "run/failures.jsonl").read_text().splitlines()]
    assert {entry["index"] for entry in failures} == {"video0", "video5"}
    rows = read_predictions(tmp_path / "run/answers/detections.csv")
    assert {name.partition(",")[0] for name in rows.key_frames} == {"video4"}


def test_missing_videos_are_refused_or_left_out(data, tmp_path):
    (tmp_path / "videos").mkdir()
    shutil.copy(data / "videos/video1.mp4", tmp_path / "videos")
    for name in ("train.csv", "val.csv"):
        shutil.copy(data / name, tmp_path)
    options = [*SHORT, "data.validation=null", "training.max_steps=1"]
    with pytest.raises(ValueError, match="9 of 12 key frames have no video, the first is video0,0000"):
        train(load_recipe(CUSTOM, options), tmp_path, tmp_path / "run", quiet=True)
    train(load_recipe(CUSTOM, [*options, "data.missing=skip"]), tmp_path, tmp_path / "run", quiet=True)


def test_recipes_of_other_inputs_are_refused():
    with pytest.raises(RecipeError, match="data.features changes nothing in action_detection"):
        load_recipe(CUSTOM, ["data.features.folder=x"])
    with pytest.raises(RecipeError, match="data.boxes changes nothing in temporal_localization"):
        load_recipe("temporal_localization/custom", ["data.boxes.folder=x"])
    with pytest.raises(RecipeError, match="data.boxes must be given"):
        load_recipe(CUSTOM, ["data.boxes=null"])


def test_drawn_squares_lie_within_their_frames(data):
    for line in (data / "train.csv").read_text().splitlines():
        left, top, right, bottom = map(float, line.split(",")[2:6])
        assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1
        assert ((right - left) * WIDTH, (bottom - top) * HEIGHT) == pytest.approx((12, 12))


def test_workers_make_the_same_result(model, data, tmp_path, engine):
    result = assert_equal_results(partial(score, data, model), tmp_path, engine)
    assert result["model"]["boxes"]["key_frames"] == 6
