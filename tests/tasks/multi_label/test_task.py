"""Several labels of a video, from the list to the saved model, its pipeline and its evaluation."""

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
from sklearn.metrics import average_precision_score
from tasks.small_classifiers import logits_of, write_classifier
from tasks.workers import assert_equal_results
from training.recipes import CLASSIFICATION, write_recipe
from transformers import AutoModelForVideoClassification, pipeline

from internvideo_hf.evaluation.protocols import load_protocol
from internvideo_hf.evaluation.run import evaluate
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.multi_label.task import TASK
from internvideo_hf.training.recipes import load_recipe
from internvideo_hf.training.run import train

VERBS, NOUNS = ["cut", "wash", "peel"], ["onion", "knife"]
CLASSES = ["jump", "run", "sit"]
LABELS = ["run|jump", "jump", "sit", "sit|run"]
OF_HEADS = ["cut|knife", "wash|onion", "peel|", "cut|onion"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("multi_label")
    names = [Path(row["video"]).name for row in write_videos(folder, 4)]
    for file, labels in (("train.csv", LABELS), ("heads.csv", OF_HEADS)):
        lines = [f"{name},{label}\n" for name, label in zip(names, labels, strict=True)]
        (folder / file).write_text("video,labels\n" + "".join(lines))
    (folder / "verbs.txt").write_text("\n".join(VERBS))
    (folder / "nouns.txt").write_text("\n".join(NOUNS))
    return folder


def recipe(folder: Path, *overrides: str, **data):
    content = deepcopy(CLASSIFICATION)
    content["model"]["task"] = "multi_label"
    content["data"] = content["data"] | {"labels": None, "mixup": None} | data
    content["data"]["validation"] = content["data"].get("train", "train.csv")
    content["training"] |= {"num_train_epochs": 1, "eval_strategy": "epoch", "save_strategy": "no"}
    return load_recipe(write_recipe(folder, content), overrides)


def final_scores(folder: Path) -> dict[str, float]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return next(line for line in lines if "eval_loss" in line)


def answers(folder: Path) -> list[dict[str, str]]:
    with (folder / "answers.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_model_of_several_classes_is_trained_and_judged(data, tmp_path):
    final = train(recipe(tmp_path), data, tmp_path / "run", quiet=True)
    assert 0 <= final_scores(tmp_path / "run")["eval_mAP"] <= 100
    rows = answers(tmp_path / "run/answers")
    assert [row["labels"] for row in rows] == ["jump|run", "jump", "sit", "run|sit"]
    model = AutoModelForVideoClassification.from_pretrained(final)
    assert model.config.problem_type == "multi_label_classification"
    assert list(model.config.id2label.values()) == CLASSES
    video = str(data / "0.mp4")
    for name in ("multi-view-video-classification", "video-classification"):
        classify = pipeline(name, model=str(final), device="cpu")
        scores = {entry["label"]: entry["score"] for entry in classify(video, top_k=3)}
        raw = {entry["label"]: entry["score"] for entry in classify(video, top_k=3, function_to_apply="none")}
        for label, score in scores.items():
            assert score == pytest.approx(torch.tensor(raw[label]).sigmoid().item(), abs=1e-6)


def test_a_model_of_several_heads_is_trained_and_judged(data, tmp_path):
    heads = "data.heads={verb: verbs.txt, noun: nouns.txt}"
    final = train(recipe(tmp_path, heads, train="heads.csv"), data, tmp_path / "run", quiet=True)
    scores = final_scores(tmp_path / "run")
    assert {name for name in scores if "top" in name} == {
        f"eval_{name}" for name in ("verb-top-1", "verb-top-5", "noun-top-1", "noun-top-5", "all-top-1")
    }
    rows = answers(tmp_path / "run/answers")
    assert [(row["verb"], row["noun"]) for row in rows] == [tuple(label.split("|")) for label in OF_HEADS]
    right = [row["verb"] == row["verb predicted"] for row in rows]
    assert 100 * np.mean(right) == pytest.approx(scores["eval_verb-top-1"])
    model = AutoModelForVideoClassification.from_pretrained(final)
    assert model.config.label_heads == {"verb": VERBS, "noun": NOUNS} and model.config.problem_type is None
    video = str(data / "0.mp4")
    for name in ("multi-view-video-classification", "video-classification"):
        found = pipeline(name, model=str(final), device="cpu")(video, top_k=3)
        assert [entry["label"].partition(": ")[0] for entry in found] == ["verb"] * 3 + ["noun"] * 2
        assert sum(entry["score"] for entry in found[:3]) == pytest.approx(1)
        assert found[0]["score"] >= found[1]["score"] >= found[2]["score"]


def evaluated(model: Path, data: Path, *options: object):
    arguments = ("--model", model, "--data-root", data, "--workers", 0, "--quiet", "--device", "cpu")
    done = run("evaluate", "multi_label/custom", *arguments, *options)
    assert done.returncode in (0, 1), done.stderr
    return done


def test_several_classes_are_evaluated_as_by_hand(data, tmp_path):
    model = write_classifier(
        tmp_path / "model",
        id2label=dict(enumerate(CLASSES)),
        problem_type="multi_label_classification",
        views=(1, 3),
    )
    out, report = tmp_path / "result.json", tmp_path / "report"
    done = evaluated(model, data, "data.list=train.csv", "--out", out, "--report", report)
    scores = [logits_of(model, data / f"{number}.mp4").sigmoid().mean(dim=0).numpy() for number in range(4)]
    targets = np.array([[name in labels.split("|") for name in CLASSES] for labels in LABELS])
    expected = 100 * average_precision_score(targets, np.array(scores), average="macro")
    assert json.loads(out.read_text())["scores"] == {"mAP": pytest.approx(expected)}
    lines = done.stdout.splitlines()
    assert [line.split() for line in lines if line.startswith("this model")] == [["this", "model", f"{expected:.2f}"]]
    assert "1 clips x 3 crops, mean of their scores" in done.stdout
    assert (report / "summary.txt").read_text() in done.stdout
    own = [[float(score) for score in row["scores of labels"].split("|")] for row in answers(report)]
    for row, target, found in zip(scores, targets, own, strict=True):
        assert found == pytest.approx(row[target], abs=1e-5)


def test_several_heads_are_evaluated_each_and_together(data, tmp_path):
    model = write_classifier(tmp_path / "model", label_heads={"verb": VERBS, "noun": NOUNS})
    (data / "val.csv").write_text(
        "video,verb,noun\n0.mp4,cut,knife\n1.mp4,wash,onion\n2.mp4,peel,\n3.mp4,cut,onion\ngone.mp4,cut,onion\n"
    )
    out = tmp_path / "result.json"
    done = evaluated(model, data, "--out", out, "--max-damaged", 0.5)
    assert done.returncode == 1  # a video is gone, and counts as wrong
    logits = [logits_of(model, data / f"{number}.mp4").mean(dim=0) for number in range(4)]
    verbs = np.array([row[:3].argmax().item() for row in logits] + [-1]) == [0, 1, 2, 0, 0]
    nouns = np.array([row[3:].argmax().item() for row in logits] + [-1]) == [1, 0, -100, 0, 0]
    known = [0, 1, 3, 4]
    assert json.loads(out.read_text())["scores"] == {
        "verb-top-1": pytest.approx(100 * verbs.mean()),
        "verb-top-5": 80,
        "noun-top-1": pytest.approx(100 * nouns[known].mean()),
        "noun-top-5": 75,
        "all-top-1": pytest.approx(100 * (verbs & nouns)[known].mean()),
    }
    table = {
        line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line[:4] in ("verb", "noun", "all ")
    }
    assert table["verb"][1] == "80.00" and table["noun"][1] == "75.00" and table["all"][1] == "-"
    assert table["all"][0] == f"{100 * (verbs & nouns)[known].mean():.2f}"


def test_published_scores_of_heads_stand_below_each():
    entry = {"where": "paper", "scores": {"verb-top-1": 70.0, "all-top-1": 40.0}}
    result = {"model": {"heads": ["verb", "noun"]}, "scores": {"verb-top-1": 50.0}, "published": [entry]}
    lines = TASK.evaluation.lines(result)
    assert [(name, scores, rows[0]["scores"]) for name, scores, rows in lines] == [
        ("verb", {"top-1": 50.0}, {"top-1": 70.0}),
        ("noun", {}, {}),
        ("all", {}, {"top-1": 40.0}),
    ]


def test_batches_have_the_targets_of_each_video():
    make = TASK.training.make_collator
    samples = [
        {"pixel_values_videos": torch.zeros(2, 3, 4, 4), "labels": torch.tensor(labels), "seed": 0, "video": "a.mp4"}
        for labels in ([0, 2], [])
    ]
    batch = make(training=True, num_labels=3)(samples)
    assert batch["labels"].tolist() == [[1, 0, 1], [0, 0, 0]] and batch["labels"].is_floating_point()
    unreadable = {"failure": "it is damaged", "video": "b.mp4"}
    batch = make(training=False, num_labels=3)([*samples, unreadable])
    assert batch["labels"][2].tolist() == [-100] * 3
    with pytest.raises(RecipeError, match="data.mixup is for one label"):
        make(training=True, num_labels=3, mixup={"mixup_alpha": 0.8})


def test_heads_are_for_this_task_alone(tmp_path):
    with pytest.raises(RecipeError, match="data.heads is for the task multi_label alone"):
        recipe(tmp_path, "model.task=classification", heads={"verb": "verbs.txt"})
    with pytest.raises(RecipeError, match="data.heads has verb:verbs.txt: None, expected a head and the file"):
        recipe(tmp_path, "model.task=multi_label", heads={"verb:verbs.txt": None})


def test_workers_make_the_same_result(data, tmp_path, engine):
    model = write_classifier(tmp_path / "model", label_heads={"verb": VERBS, "noun": NOUNS}, views=(1, 3))
    protocol = load_protocol("multi_label/custom", ["data.list=heads.csv"])
    options = {"device": "cpu", "workers": 0, "quiet": True}
    assert_equal_results(partial(evaluate, protocol, model, data, **options), tmp_path, engine)
