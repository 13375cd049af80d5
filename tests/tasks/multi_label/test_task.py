"""Training on several labels of a video, from the list to the saved model and its pipeline."""

import json
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from data.settings import write_videos
from training.recipes import CLASSIFICATION, write_recipe
from transformers import AutoModelForVideoClassification, pipeline

from internvideo_hf import ManifestError
from internvideo_hf.data.manifests import load_manifest
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.multi_label.task import TASK, read
from internvideo_hf.training.recipes import load_recipe
from internvideo_hf.training.run import train

VERBS, NOUNS = ["cut", "wash", "peel"], ["onion", "knife"]
LABELS = ["run|jump", "jump", "", "sit|run"]
OF_HEADS = ["cut|knife", "wash|onion", "peel|", "cut|onion"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("multi_label")
    names = [Path(row["video"]).name for row in write_videos(folder, 4)]
    for file, labels in (("train.csv", LABELS), ("heads.csv", OF_HEADS)):
        lines = [f"{name},{label}\n" for name, label in zip(names, labels, strict=True)]
        (folder / file).write_text("video,labels\n" + "".join(lines))
    listed = [
        {"video": name, "labels": [label for label in labels.split("|") if label]}
        for name, labels in zip(names, LABELS, strict=True)
    ]
    (folder / "train.json").write_text(json.dumps(listed))
    (folder / "verbs.txt").write_text("\n".join(VERBS))
    (folder / "nouns.txt").write_text("\n".join(NOUNS))
    return folder


def recipe(folder: Path, *overrides: str, **data):
    content = deepcopy(CLASSIFICATION)
    content["model"]["task"] = "multi_label"
    content["data"] = content["data"] | {"labels": None, "mixup": None, "train": "train.json"} | data
    content["data"]["validation"] = content["data"]["train"]
    content["training"] |= {"num_train_epochs": 1, "eval_strategy": "epoch"}
    return load_recipe(write_recipe(folder, content), overrides)


def final_scores(folder: Path) -> dict[str, float]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return next(line for line in lines if "eval_loss" in line)


def test_labels_are_lists_or_text_with_bars(data):
    rows, classes = read(data / "train.json", data, layout=None, labels=None)
    assert classes == ["jump", "run", "sit"]
    assert rows["label"][:] == [[0, 1], [0], [], [1, 2]]
    with pytest.raises(ManifestError, match="has no labels"):  # an empty field is unknown, not "of no class"
        read(data / "train.csv", data, layout=None, labels=None)
    heads = {"verb": "verbs.txt", "noun": "nouns.txt"}
    rows, classes = read(data / "heads.csv", data, layout=None, labels=None, heads=heads)
    assert classes == {"verb": VERBS, "noun": NOUNS}
    assert rows["label"][:] == [[0, 1], [1, 0], [2, -100], [0, 0]]


def test_bad_lists_are_refused(data, tmp_path):
    heads = {"verb": "verbs.txt", "noun": "nouns.txt"}
    for line, message in (("cut", "it has 1 labels, expected 2: verb, noun"), ("cut|fork", "'fork' is none of the 2")):
        (data / "bad.csv").write_text(f"video,labels\n{next(data.glob('*.mp4')).name},{line}\n")
        with pytest.raises(ManifestError, match=message):
            read(data / "bad.csv", data, layout=None, labels=None, heads=heads)
    (data / "bad.csv").write_text(f"video,labels\n{next(data.glob('*.mp4')).name},3|1\n")
    with pytest.raises(RecipeError, match="name their classes by data.labels"):
        read(data / "bad.csv", data, layout=None, labels=None)
    with pytest.raises(RecipeError, match="several labels need names"):
        read(data / "bad.csv", data, layout=None, labels=7)
    with pytest.raises(ManifestError, match="expected one name or number. Several labels"):
        load_manifest(data / "train.json", data, labels=["jump", "run", "sit"])


def test_a_model_of_several_classes_is_trained_and_judged(data, tmp_path):
    final = train(recipe(tmp_path), data, tmp_path / "run", quiet=True)
    assert 0 <= final_scores(tmp_path / "run")["eval_mAP"] <= 100
    model = AutoModelForVideoClassification.from_pretrained(final)
    assert model.config.problem_type == "multi_label_classification"
    assert list(model.config.id2label.values()) == ["jump", "run", "sit"]
    video = str(next(data.glob("*.mp4")))
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
    model = AutoModelForVideoClassification.from_pretrained(final)
    assert model.config.label_heads == {"verb": VERBS, "noun": NOUNS} and model.config.problem_type is None
    video = str(next(data.glob("*.mp4")))
    for name in ("multi-view-video-classification", "video-classification"):
        found = pipeline(name, model=str(final), device="cpu")(video, top_k=3)
        assert [entry["label"].partition(": ")[0] for entry in found] == ["verb"] * 3 + ["noun"] * 2
        assert sum(entry["score"] for entry in found[:3]) == pytest.approx(1)
        assert found[0]["score"] >= found[1]["score"] >= found[2]["score"]


def test_targets_are_one_for_each_class_of_a_video():
    make = TASK.training.make_collator
    samples = [
        {"pixel_values_videos": torch.zeros(2, 3, 4, 4), "labels": torch.tensor(labels), "seed": 0, "video": "a.mp4"}
        for labels in ([0, 2], [])
    ]
    batch = make(training=True, num_labels=3)(samples)
    assert batch["labels"].tolist() == [[1, 0, 1], [0, 0, 0]]
    unreadable = {"failure": "it is damaged", "video": "b.mp4"}
    batch = make(training=False, num_labels=3)([*samples, unreadable])
    assert batch["labels"][2].tolist() == [-100] * 3
    with pytest.raises(RecipeError, match="data.mixup is for one label"):
        make(training=True, num_labels=3, mixup={"mixup_alpha": 0.8})


def test_heads_are_for_this_task_alone(tmp_path):
    with pytest.raises(RecipeError, match="data.heads is for the task multi_label alone"):
        recipe(tmp_path, "model.task=classification", heads={"verb": "verbs.txt"})
