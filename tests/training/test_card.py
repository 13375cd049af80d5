"""The card of a trained model tells the truth about it."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from training.recipes import CLASSIFICATION, write_data

from internvideo_hf import InternVideoMAEConfig, ViCLIPConfig
from internvideo_hf.training.card import Origin, Progress, write_card
from internvideo_hf.training.inputs import TrainingData
from internvideo_hf.training.recipes import load_recipe, parse_recipe

HISTORY = [
    {"step": 2, "eval_loss": 0.9, "eval_top-1": 50.0, "eval_runtime": 3.0},
    {"step": 4, "eval_loss": 0.7123456, "eval_top-1": 75.0, "eval_samples_per_second": 8.1},
]
PROGRESS = Progress(4, 16, 2.0, HISTORY)
NAMES = {0: "run", 1: "walk`s"}


@pytest.fixture(scope="module")
def origin(tmp_path_factory) -> Origin:
    """Return a run of a list with names and a folder of clips by class."""
    root = write_data(tmp_path_factory.mktemp("card"), count=3)
    (root / "train.csv").write_text("0.mp4,walk`s\n1.mp4,run\n2.mp4,walk`s\n")
    (root / "val/run").mkdir(parents=True)
    (root / "val/run/0.mp4").symlink_to(root / "0.mp4")
    recipe = parse_recipe(CLASSIFICATION)
    recipe = replace(recipe, data=replace(recipe.data, labels=None, validation="val.csv"))
    data = TrainingData.read(recipe.data, "classification", root)
    return Origin(recipe, "videomae/finetune_base data.mixup=null model.config={a: 1}", "/home/me/vit-b-k710", data)


def card_of(folder: Path, config: object, origin: Origin, progress: Progress = PROGRESS) -> ModelCard:
    write_card(folder, config, origin, progress)
    return ModelCard.load(folder / "README.md")


def classifier(names: dict[int, str] = NAMES) -> InternVideoMAEConfig:
    return InternVideoMAEConfig(id2label=names, architectures=["InternVideoMAEForVideoClassification"])


def test_a_classifier_names_its_classes_data_recipe_scores_and_use(origin, tmp_path):
    card = card_of(tmp_path, classifier(), origin)
    assert card.data.pipeline_tag == "video-classification"
    names = hashlib.sha256(b"run/0.mp4\n").hexdigest()
    listed = hashlib.sha256(b"0.mp4,walk`s\n1.mp4,run\n2.mp4,walk`s\n").hexdigest()
    for line in (
        "# InternVideoMAEForVideoClassification of 2 classes",
        "4 steps of 16 videos (2 epochs), started from vit-b-k710.",
        "2: `run`, `walk's`.",
        f"- Training: 3 clips of the list `train.csv`, 1 to 2 of a class (SHA-256 `{listed}`)",
        f"- Validation: 1 clips of the folder `val`, 1 to 1 of a class (SHA-256 of the names of its files `{names}`)",
        "- loss: 0.7123\n- top-1: 75\n",
        'import internvideo_hf\nfrom transformers import pipeline\n\npipe = pipeline("video-classification", ',
        "`internvideo classify video.mp4 --model path/to/this/folder`",
        "- `videomae/finetune_base`: A small classifier\n- Changed: `data.mixup=null model.config={a: 1}`\n",
    ):
        assert line in card.text, line
    assert "/home/me" not in card.text and "0.9" not in card.text and "Published" not in card.text


def test_what_is_not_known_is_said(origin, tmp_path):
    bare = replace(origin, name="/home/me/own recipe.yaml".replace(" ", "_"), start="random")
    card = card_of(tmp_path, InternVideoMAEConfig(num_labels=3, architectures=classifier().architectures), bare)
    assert "3, whose names the training list does not say." in card.text
    assert "- `own_recipe.yaml`: A small classifier\n- Unchanged\n" in card.text and "from random weights" in card.text
    assert "Not measured." in card_of(tmp_path, classifier(), bare, replace(PROGRESS, history=[])).text
    late = card_of(tmp_path, classifier(), bare, replace(PROGRESS, steps=6))
    assert "- These are of step 4; the model is of step 6." in late.text
    many = card_of(tmp_path, classifier({n: f"class {n}" for n in range(103)}), bare)
    assert "`class 99`, and 3 more in `config.json`." in many.text


def test_numbers_of_a_paper_are_not_those_of_the_model(origin, tmp_path):
    recipe = load_recipe("videomae/finetune_base_k400")
    value = f"{recipe.expected.metric} {recipe.expected.value}"
    card = card_of(tmp_path, classifier(), replace(origin, recipe=recipe))
    assert f"Published for its own data, not measured for this model: {value}" in card.text


def test_other_models_have_no_classes(origin, tmp_path):
    data = replace(origin.data, classes=None)
    dual = ViCLIPConfig(architectures=["ViCLIPModel"])
    card = card_of(tmp_path, dual, replace(origin, data=data, name="viclip/finetune_base"))
    assert card.data.pipeline_tag == "zero-shot-video-classification"
    assert "# ViCLIPModel by `viclip/finetune_base`" in card.text and "## Classes" not in card.text
    assert "`internvideo index videos --model" in card.text
    masked = InternVideoMAEConfig(architectures=["InternVideoMAEForPreTraining"])
    card = card_of(tmp_path, masked, replace(origin, data=data, name="videomae/pretrain_base"))
    assert card.data.pipeline_tag is None and "## Use" not in card.text
