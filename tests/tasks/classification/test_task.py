"""`internvideo evaluate classification/...`: the released views, scores as by hand, published rows beside."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from program import run
from tasks.small_classifiers import write_classifier
from transformers import EvalPrediction
from video.clips import write_video

from internvideo_hf import (
    InternVideoMAEConfig,
    InternVideoVideoProcessor,
    UniFormerV2ForVideoClassification,
)
from internvideo_hf.evaluation.protocols import load_protocol
from internvideo_hf.evaluation.run import evaluate
from internvideo_hf.inference.classifier import Classifier
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.classification.data import find_tests
from internvideo_hf.tasks.classification.task import TASK, accuracies
from internvideo_hf.utils.journal import Journal

HERE = {"workers": 0, "device": "cpu", "quiet": True}
CHANGES = ["data.labels=null"]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    return write_classifier(folder, views=(2, 3), id2label={0: "runs", 1: "jumps", 2: "sits"})


@pytest.fixture
def data(tmp_path) -> Path:
    root = tmp_path / "data"
    root.mkdir()
    for number in range(3):
        write_video(root / f"clip{number}.mp4", num_frames=20 + 10 * number)
    (root / "val.csv").write_text("clip0.mp4,runs\nclip1.mp4,jumps\nclip2.mp4,sits\n")
    return root


def test_validation_accuracy_leaves_blank_videos_out():
    logits = np.array([[1.0, 2], [3, 1], [0, 5]])
    assert accuracies(EvalPrediction(logits, np.array([1, 1, -100])))["top-1"] == 50


def by_hand(folder: Path, video: Path, clips: int, crops: int) -> np.ndarray:
    pixels = InternVideoVideoProcessor.from_pretrained(folder)(
        [str(video)], num_clips=clips, num_crops=crops, return_tensors="pt"
    )
    model = UniFormerV2ForVideoClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(pixels["pixel_values_videos"]).logits.double().softmax(dim=-1).mean(dim=0).numpy()


@pytest.mark.parametrize(
    ("changes", "views"),
    [
        ([], (2, 3)),
        (["num_clips=1", "num_crops=1"], (1, 1)),
        (["processor.num_clips=4", "processor.num_crops=1"], (4, 1)),
    ],
)
def test_scores_are_those_of_the_model_asked_by_hand(classifier, data, changes, views):
    protocol = load_protocol("classification/k400", [*CHANGES, *changes])
    for batch_size in (1, 8):
        result = evaluate(protocol, classifier, data, batch_size=batch_size, **HERE)
        best = [by_hand(classifier, data / f"clip{number}.mp4", *views).argmax() for number in range(3)]
        assert result["scores"]["top-1"] == 100 * np.mean(np.array(best) == [0, 1, 2])
        assert result["model"]["views"] == list(views) and result["data"]["videos"] == 3
        assert result["model"]["test_of"] == []


def test_the_command_prints_views_and_published_rows(classifier, data):
    options = ("--model", classifier, "--data-root", data, "--workers", 0, "--quiet")
    done = run("evaluate", "classification/k400", *CHANGES, *options)
    assert done.returncode == 0, done.stderr
    for words in ("2 clips x 3 crops", "as its processor is configured", "3 by uniformerv2", "short side 32"):
        assert words in done.stdout
    lines = [line.split() for line in done.stdout.splitlines() if "VideoMAE-B K400" in line]
    assert [line[-2:] for line in lines] == [["81.52", "94.88"]]


def test_a_report_holds_the_answers_behind_the_score(classifier, data):
    report, options = data / "report", ("--model", classifier, "--data-root", data, "--workers", 0, "--quiet")
    (data / "val.csv").write_text("clip0.mp4,runs\nclip1.mp4,jumps\nclip2.mp4,sits\ngone.mp4,sits\n")
    done = run("evaluate", "classification/custom", *options, "--report", report, "--max-damaged", 0.5)
    assert done.returncode == 1 and f"The report is in {report}" in done.stdout, done.stderr
    assert (report / "summary.txt").read_text() in done.stdout
    with (report / "answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    best = [by_hand(classifier, data / f"clip{number}.mp4", 2, 3).argmax() for number in range(3)]
    assert [row["predicted"] for row in rows] == [["runs", "jumps", "sits"][number] for number in best] + [""]
    assert [Path(row["video"]).name for row in rows] == ["clip0.mp4", "clip1.mp4", "clip2.mp4", "gone.mp4"]


def test_a_report_takes_the_place_of_nothing_else(classifier, data, mm_folder):
    options = ("--model", classifier, "--data-root", data)
    for words, changes in (
        ("holds other files than a report", ("--report", data)),
        ("is a file", ("--report", data / "val.csv")),
    ):
        done = run("evaluate", "classification/custom", *options, *changes)
        assert done.returncode == 2 and words in done.stderr
    done = run("evaluate", "retrieval/msrvtt", "--model", mm_folder, "--report", data / "new")
    assert done.returncode == 2 and "A report is of classification" in done.stderr
    done = run("evaluate", "--ensemble", classifier, "--report", data / "new")
    assert done.returncode == 2 and "--report is for a single model" in done.stderr


def test_the_number_type_is_the_protocols(classifier, data):
    options = ("--model", classifier, "--data-root", data, "--workers", 0, "--quiet", "--device", "cpu")
    done = run("evaluate", "classification/k400", *CHANGES, *options, "--dtype", "bfloat16", "--out", data / "r.json")
    assert done.returncode == 0, done.stderr
    assert "numbers bfloat16; the published scores were computed in float16" in done.stdout
    result = json.loads((data / "r.json").read_text())
    assert result["settings"]["dtype"] == result["model"]["dtype"] == "bfloat16"
    # The model's weights, and the pixels, in that type: asked by hand.
    model = UniFormerV2ForVideoClassification.from_pretrained(classifier, dtype=torch.bfloat16).eval()
    processor = InternVideoVideoProcessor.from_pretrained(classifier)
    pixels = processor([str(data / "clip0.mp4")], return_tensors="pt")["pixel_values_videos"]
    loaded = Classifier.load(classifier, device="cpu", dtype="bfloat16")
    with torch.no_grad():
        expected = model(pixels.bfloat16()).logits.double().softmax(dim=-1).mean(dim=0)
    found = loaded.probabilities({"pixel_values_videos": pixels[None]})[0]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-2)
    assert (
        evaluate(load_protocol("classification/k400", CHANGES), classifier, data, **HERE)["model"]["dtype"]
        == "float32"
    )
    with pytest.raises(RecipeError, match="dtype: got 'half', expected one of float32, float16, bfloat16"):
        load_protocol("classification/k400", ["dtype=half"])


def test_views_that_no_test_states_are_of_no_model(classifier):
    protocol = load_protocol("classification/hmdb51")
    tests = find_tests(protocol, InternVideoMAEConfig.from_size("huge", num_labels=51))
    assert [test.model for test in tests] == [f"VideoMAE-H HMDB51 split {split}" for split in (1, 2, 3)]
    facts = TASK.evaluation.facts({"model": {"views": [1, 1], "test_of": []}})
    assert facts["views"].endswith("as its processor is configured")


def test_models_of_other_zoos_are_found_by_name_only():
    huge = InternVideoMAEConfig.from_size("huge")
    assert find_tests(load_protocol("classification/k400"), huge) == []
    (found,) = find_tests(load_protocol("classification/k400", ["model=VideoMAE v1-H K400 1600e"]), huge)
    assert (found.test["num_clips"], found.scores["top-1"]) == (5, 86.6)


def test_parts_of_videos_are_classified_by_themselves(classifier, data):
    (data / "parts.csv").write_text("video,label,start,end\nclip2.mp4,runs,0,0.6\nclip2.mp4,jumps,0.6,1.2\n")
    result = evaluate(
        load_protocol("classification/k400", [*CHANGES, "data.list=parts.csv"]), classifier, data, **HERE
    )
    assert result["data"]["videos"] == 2


def test_an_unreadable_video_is_wrong_and_listed(classifier, data):
    (data / "clip1.mp4").write_bytes(b"no video")
    protocol = load_protocol("classification/k400", CHANGES)
    result = evaluate(protocol, classifier, data, max_damaged=0.5, **HERE)
    assert [Path(entry["video"]).name for entry in result["damaged"]] == ["clip1.mp4"]
    assert result["scores"]["top-1"] <= 67


def test_a_stopped_run_continues(classifier, data, monkeypatch):
    monkeypatch.setattr("internvideo_hf.utils.journal.CHECKPOINT_EVERY_SECONDS", 0.0)
    protocol, out = load_protocol("classification/k400", CHANGES), data / "result.json"
    append, calls = Journal.append, []

    def stopping(self, rows, notes=None):
        append(self, rows, notes)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "append", stopping)
    with pytest.raises(KeyboardInterrupt):
        evaluate(protocol, classifier, data, out, batch_size=1, **HERE)
    assert not out.exists()
    result = evaluate(protocol, classifier, data, out, batch_size=1, **HERE)
    assert len(calls) == 3, "two of three videos had been kept"
    assert json.loads(out.read_text())["scores"] == result["scores"]
    assert not list(data.glob(".result*"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([], "does not know the classes of data.labels=k400.*--head k400"),
        (["data.labels=null", "num_clips=0"], "num_clips is 0, expected 1 or more"),
        (["data.labels=null", "family=viclip"], "for viclip"),
        (["data.labels=k401"], "data.labels: got 'k401'"),
    ],
)
def test_mistakes_are_refused(classifier, data, changes, words):
    with pytest.raises(RecipeError, match=words):
        evaluate(load_protocol("classification/k400", changes), classifier, data, **HERE)
