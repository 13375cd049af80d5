"""`calibrate`: the scorer by hand, an interrupted run, and lists and folders that are refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from program import assert_refused, run
from tasks.open_set.drawn import HERE, write_classifier
from transformers import AutoModelForVideoClassification, AutoVideoProcessor, pipeline

from internvideo_hf.checkpoints.model_names import demo_path
from internvideo_hf.inference.open_set.observer import Observer
from internvideo_hf.inference.open_set.scorer import OpenSetScorer
from internvideo_hf.tasks.open_set.calibration import calibrate


@torch.no_grad()
def energies(model, data, numbers, crops=1):
    processor = AutoVideoProcessor.from_pretrained(model)
    loaded = AutoModelForVideoClassification.from_pretrained(model).eval()
    videos = [str(data / f"clip{number:02d}.mp4") for number in numbers]
    pixels = [processor([video], num_crops=crops, return_tensors="pt")["pixel_values_videos"] for video in videos]
    logits = [loaded(clips.flatten(0, -5)).logits.double() for clips in pixels]
    return np.array([-one.logsumexp(dim=-1).mean().item() for one in logits])


def test_the_threshold_is_that_of_the_scores_by_hand(known_model, known_data, tmp_path):
    found = calibrate(
        known_model, known_data / "val.csv", tmp_path / "scorer", method="energy", accepted=0.5, views=(1, 3), **HERE
    )
    expected = energies(known_model, known_data, range(6), crops=3)
    assert found["threshold"] == pytest.approx(np.sort(expected)[3], rel=1e-6)
    assert found["videos"] == 6 and found["views"] == [1, 3] and found["accepted"] == pytest.approx(4 / 6)
    scorer = OpenSetScorer.load(found["scorer"])
    np.testing.assert_allclose(scorer.known_scores, np.sort(expected), rtol=1e-6)
    assert scorer.subject.views == (1, 3) and list(scorer.subject.classes) == ["runs", "jumps", "sits"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scorer"]


def test_a_stopped_run_goes_on(known_model, known_data, tmp_path, monkeypatch):
    monkeypatch.setattr("internvideo_hf.utils.journal.CHECKPOINT_EVERY_SECONDS", 0.0)
    answers, calls = Observer.answers, []

    def stop_at_the_fourth(self, *arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return answers(self, *arguments)

    monkeypatch.setattr(Observer, "answers", stop_at_the_fourth)
    options = {"method": "rpl", "steps": 5, "batch_size": 1, **HERE}
    with pytest.raises(KeyboardInterrupt):
        calibrate(known_model, known_data / "val.csv", tmp_path / "scorer", **options)
    assert not (tmp_path / "scorer").exists()
    found = calibrate(known_model, known_data / "val.csv", tmp_path / "scorer", **options)
    assert len(calls) == 7, "the first three of six videos had been kept"
    whole = calibrate(known_model, known_data / "val.csv", tmp_path / "other", **options)
    assert found["threshold"] == whole["threshold"] and not list(tmp_path.glob(".*"))


def test_the_scorer_is_kept_beside_the_model(known_data, tmp_path):
    model = write_classifier(tmp_path / "model")
    done = run("calibrate", model, known_data / "val.csv", "temperature=2", "--method", "energy", "--workers", 0, "-q")
    assert done.returncode == 0, done.stderr
    assert f"--model {model} --open-set {model}" in done.stdout and "6 known videos" in done.stdout
    assert OpenSetScorer.load(model).method.temperature == 2
    answers = json.loads(
        run("classify", known_data / "clip09.mp4", "--model", model, "--open-set", model, "--json", "-q").stdout
    )
    assert {"runs", "jumps", "sits", "unknown"} == {answer["label"] for answer in answers[0]["results"]}
    again = run("calibrate", model, known_data / "val.csv", "--method", "energy", "--workers", 0, "-q", "--json")
    assert json.loads(again.stdout)["method"] == "energy" and OpenSetScorer.load(model).method.temperature == 1


def test_the_pipeline_asks_the_members_of_an_ensemble(
    known_model, evidential_model, known_data, tmp_path, monkeypatch
):
    monkeypatch.chdir(evidential_model.parent)
    options = {"method": "ensemble", "members": [evidential_model.name], **HERE}
    calibrate(known_model, known_data / "val.csv", tmp_path / "scorer", **options)
    monkeypatch.chdir(tmp_path)
    place = {"model": known_model, "open_set": tmp_path / "scorer", "device": "cpu"}
    classify = pipeline("multi-view-video-classification", **place)
    found = classify([str(known_data / f"clip{number:02d}.mp4") for number in range(6)], batch_size=4)
    uncertainty = [entry["uncertainty"] for entries in found for entry in entries if entry["label"] == "unknown"]
    np.testing.assert_allclose(np.sort(uncertainty), OpenSetScorer.load(tmp_path / "scorer").known_scores, atol=1e-6)


def test_damaged_videos_are_named(known_model, known_data, tmp_path):
    data = shutil.copytree(known_data, tmp_path / "data")
    (data / "clip01.mp4").write_bytes(b"noise")
    options = ("--out", tmp_path / "scorer", "--workers", 0, "-q")
    done = run("calibrate", known_model, data / "val.csv", *options)
    assert_refused(done, "1 of the first", "videos are unreadable")
    done = run("calibrate", known_model, data / "val.csv", *options, "--max-damaged", 0.5)
    assert done.returncode == 1 and "clip01.mp4" in done.stderr and "5 known videos" in done.stdout


def test_lists_and_folders_that_do_not_suit_are_refused(known_model, known_data, tmp_path):
    (tmp_path / "empty.csv").write_text("video,label\n")
    (tmp_path / "one.csv").write_text(f"{known_data}/clip00.mp4,runs\n{known_data}/clip03.mp4,runs\n")
    (tmp_path / "short.csv").write_text(f"{known_data}/clip00.mp4,runs\n")
    (tmp_path / "none.csv").write_text("a.mp4,runs\nb.mp4,jumps\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").touch()
    val, quiet = known_data / "val.csv", ("--workers", 0, "-q")
    for arguments, words in (
        ((tmp_path / "empty.csv",), "no row"),
        ((tmp_path / "one.csv",), "All 2 videos of the validation list are of class 0"),
        ((known_data / "unknown.csv",), "'swims' is none of the 3 class names"),
        ((tmp_path / "short.csv",), "has 1 readable videos, expected two or more"),
        ((tmp_path / "none.csv",), "None of the 2 videos exists, such as"),
        ((tmp_path / "gone.csv",), "gone.csv"),
        ((val, "--out", tmp_path / "full"), "holds other files than a scorer"),
        ((val, "--out", tmp_path / "one.csv"), "one.csv is a file"),
        ((val, "--method", "openmax"), "OpenMax needs 3 videos of each class"),
        ((val, "--method", "enrgy"), "Did you mean energy"),
        ((val, "temprature=1", "--method", "energy"), "Did you mean temperature"),
        ((val, "temperature", "--method", "energy"), "Expected NAME=VALUE"),
        ((val, "accepted=0.9"), "accepted is an option of the command: --accepted"),
        ((val, "--accepted", 1.5), "accepted=1.5 must be above 0"),
        ((val, "--rule", "inverted"), "Did you mean published_inverted"),
        ((val, "--method", "mc_dropout"), "Set rate=0.5"),
    ):
        out = () if "--out" in arguments else ("--out", tmp_path / "scorer")
        assert_refused(run("calibrate", known_model, *arguments, *out, *quiet), words)
    assert not (tmp_path / "scorer").exists() and not list(tmp_path.glob(".*")), "nothing is left"
    assert_refused(run("calibrate", "demo-mm", val), "demo-mm is not a classifier")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_the_scorer_of_a_bundled_model_is_not_replaced(known_data, tmp_path):
    shipped = demo_path("demo-classifier") / "open_set/open_set.safetensors"
    before = shipped.read_bytes()
    (tmp_path / "val.csv").write_text(f"{known_data}/clip00.mp4,grows\n{known_data}/clip03.mp4,shrinks\n")
    words = "demo-classifier is a model of the package, which keeps the scorer that came with it"
    for name in ("demo-classifier", demo_path("demo-classifier")):
        assert_refused(run("calibrate", name, tmp_path / "val.csv", "--workers", 0, "-q"), words, "--out")
    assert shipped.read_bytes() == before
