"""Numbers of a video, from the list to the saved model, its pipeline and its evaluation."""

import csv
import json
from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from data.settings import write_videos
from program import run
from tasks.small_classifiers import logits_of, write_classifier
from tasks.workers import assert_equal_results
from training.recipes import CLASSIFICATION, write_recipe
from transformers import AutoModelForVideoClassification, pipeline

from internvideo_hf import ManifestError
from internvideo_hf.evaluation.protocols import load_protocol
from internvideo_hf.evaluation.run import evaluate
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.regression.task import TASK, read
from internvideo_hf.training.recipes import load_recipe
from internvideo_hf.training.run import train


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("regression")
    write_videos(folder, 4)
    lists = {
        "train.csv": "0.mp4,0.5\n1.mp4,-1.25\n2.mp4,3\n3.mp4,2e-1\n",
        "val.csv": "video,labels\n0.mp4,1|10\n1.mp4,2|\n2.mp4,4|-30\n3.mp4,3|5\n",
        "names.txt": "speed\nheight\n",
    }
    for name, text in lists.items():
        (folder / name).write_text(text)
    return folder


def recipe(folder: Path, *overrides: str):
    content = deepcopy(CLASSIFICATION)
    content["model"]["task"] = "regression"
    content["data"] |= {"labels": None, "mixup": None}
    content["training"] |= {"num_train_epochs": 1, "eval_strategy": "epoch", "save_strategy": "no"}
    return load_recipe(write_recipe(folder, content), overrides)


def of_list(data: Path, text: str, **options):
    (data / "list.csv").write_text(text)
    return read(data / "list.csv", data, **{"layout": None, "labels": None, **options})


def test_labels_are_numbers_or_several(data):
    rows, count = read(data / "train.csv", data, layout=None, labels=None)
    assert count == 1 and rows["label"][:] == [[0.5], [-1.25], [3.0], [0.2]]
    rows, names = read(data / "val.csv", data, layout=None, labels="names.txt")
    assert names == ["speed", "height"] and rows["label"][:] == [[1, 10], [2, -100], [4, -30], [3, 5]]
    (data / "list.json").write_text(
        json.dumps([{"video": "0.mp4", "labels": [1, 2.5]}, {"video": "1.mp4", "label": [3, None]}])
    )
    assert read(data / "list.json", data, layout=None, labels=2)[0]["label"][:] == [[1, 2.5], [3, -100]]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("0.mp4,fast\n", {}, "the label is 'fast', expected a finite number"),
        ("0.mp4,nan\n", {}, "expected a finite number"),
        ("0.mp4,-100\n", {}, "'-100', which stands for an unknown number. .*in another unit"),
        ("video,labels\n0.mp4,1|2\n1.mp4,1\n", {}, "1.mp4 has 1 numbers, expected 2"),
        ("video,labels\n0.mp4,1|2\n", {"labels": 3}, "0.mp4 has 2 numbers, expected 3"),
        ("video,labels\n0.mp4,1|2\n", {"classes": ["x"]}, "0.mp4 has 2 numbers, expected 1"),
        ("video,labels\n0.mp4,\n", {}, "0.mp4 has 0 numbers, expected one or more"),
    ],
)
def test_bad_lists_are_refused(data, text, options, message):
    with pytest.raises(ManifestError, match=message):
        of_list(data, text, **options)


def test_a_model_of_numbers_is_trained_and_judged(data, tmp_path):
    names = ("data.train=val.csv", "data.validation=val.csv", "data.labels=names.txt")
    final = train(recipe(tmp_path, *names), data, tmp_path / "run", quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    found = next(line for line in lines if "eval_loss" in line)
    # Of the numbers that are known, the loss is the mean, and MSE the mean of the means of each number.
    with (tmp_path / "run/answers/answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    errors = {name: np.array([float(row[f"{name} error"] or np.nan) for row in rows]) for name in ("speed", "height")}
    means = [np.nanmean(column**2) for column in errors.values()]
    assert np.isnan(errors["height"][1]) and found["eval_MSE"] == pytest.approx(np.mean(means), rel=1e-3)
    assert found["eval_loss"] == pytest.approx((4 * means[0] + 3 * means[1]) / 7, rel=1e-3)
    model = AutoModelForVideoClassification.from_pretrained(final)
    assert model.config.problem_type == "regression" and list(model.config.id2label.values()) == ["speed", "height"]
    video = str(data / "0.mp4")
    clip = pipeline("multi-view-video-classification", model=str(final), device="cpu")(video, top_k=2)
    assert {entry["label"] for entry in clip} == {"speed", "height"}
    card = (final / "README.md").read_text()
    assert "InternVideoMAEForVideoClassification of 2 numbers" in card and "2: `speed`, `height`." in card


def test_a_list_without_names_gives_as_many_numbers(data, tmp_path):
    short = recipe(tmp_path, "data.validation=null", "training.eval_strategy=no", "training.max_steps=1")
    final = train(short, data, tmp_path / "run", quiet=True)
    model = AutoModelForVideoClassification.from_pretrained(final)
    assert model.config.num_labels == 1 and not (tmp_path / "run/answers").exists()


def test_estimates_are_evaluated_as_by_hand(data, tmp_path):
    model = write_classifier(
        tmp_path / "model", id2label={0: "speed", 1: "height"}, problem_type="regression", views=(1, 3)
    )
    out, report = tmp_path / "result.json", tmp_path / "report"
    options = ("--model", model, "--data-root", data, "--workers", 0, "--quiet", "--device", "cpu", "--out", out)
    done = run("evaluate", "regression/custom", *options, "--report", report)
    assert done.returncode == 0, done.stderr
    estimates = torch.stack([logits_of(model, data / f"{number}.mp4").mean(dim=0) for number in range(4)]).numpy()
    labels = np.array([[1, 10], [2, np.nan], [4, -30], [3, 5]])
    errors = estimates - labels
    scores = json.loads(out.read_text())["scores"]
    assert scores["MAE"] == pytest.approx(np.nanmean(np.abs(errors), axis=0).mean())
    assert scores["MSE"] == pytest.approx(np.nanmean(errors**2, axis=0).mean())
    known = [0, 2, 3]
    pearson = [
        np.corrcoef(estimates[:, 0], labels[:, 0])[0, 1],
        np.corrcoef(estimates[known, 1], labels[known, 1])[0, 1],
    ]
    assert scores["Pearson"] == pytest.approx(np.mean(pearson))
    (line,) = (line.split() for line in done.stdout.splitlines() if line.startswith("this model"))
    assert line[2:4] == [f"{scores['MAE']:.2f}", f"{scores['MSE']:.2f}"]
    assert (report / "summary.txt").read_text() in done.stdout and (report / "estimates.png").is_file()
    (data / "empty.csv").write_text("video,labels\n0.mp4,|\n")
    done = run("evaluate", "regression/custom", "data.list=empty.csv", *options)
    assert done.returncode == 2 and "empty.csv has no known number" in done.stderr


def test_mixup_is_refused():
    with pytest.raises(RecipeError, match="data.mixup is for one label"):
        TASK.training.make_collator(training=True, num_labels=2, mixup={"mixup_alpha": 0.8})


def test_workers_make_the_same_result(data, tmp_path, engine):
    model = write_classifier(tmp_path / "model", problem_type="regression", id2label={0: "speed", 1: "height"})
    protocol = load_protocol("regression/custom")
    options = {"device": "cpu", "workers": 0, "quiet": True}
    assert_equal_results(partial(evaluate, protocol, model, data, **options), tmp_path, engine)
