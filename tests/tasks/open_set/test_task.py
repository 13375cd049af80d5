"""Training of open-set classifiers: the evidential loss is annealed by epoch, also after a resume."""

import csv
import json
import shutil
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training.recipes import CLASSIFICATION, write_data, write_recipe
from transformers import EvalPrediction

from internvideo_hf import InternVideoMAEForOpenSetClassification
from internvideo_hf.auto import auto_class
from internvideo_hf.models.common.open_set import OpenSetHead
from internvideo_hf.tasks.open_set.task import TASK, scores
from internvideo_hf.training.recipes import RecipeError, load_recipe
from internvideo_hf.training.run import train

EPOCHS = 3  # of 2 steps


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("open_set") / "data")


def recipe(folder: Path, **evidential):
    content = deepcopy(CLASSIFICATION)
    content["model"]["task"] = "open_set"
    content["model"]["config"]["evidential"] = {"kl": True, "avu": True} | evidential
    content["data"] |= {"mixup": None}
    content["training"] |= {"num_train_epochs": EPOCHS, "save_strategy": "steps", "save_steps": 1}
    content["training"] |= {"eval_strategy": "epoch", "save_total_limit": 9}
    return load_recipe(write_recipe(folder, content))


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "final/model.safetensors")


@pytest.fixture(scope="module")
def ended(data, tmp_path_factory):
    """Return the folder of a run, and the epochs that its model was told."""
    folder, told, plain = tmp_path_factory.mktemp("run"), [], OpenSetHead.set_epoch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OpenSetHead, "set_epoch", lambda model, *epochs: (told.append(epochs), plain(model, *epochs)))
        train(recipe(folder), data, folder / "run", quiet=True)
    return folder / "run", told


def test_a_run_tells_the_model_its_epoch_and_logs_each_term(ended):
    folder, told = ended
    assert told == [(epoch, EPOCHS) for epoch in range(EPOCHS) for _ in range(2)]
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    losses = [line for line in lines if "loss" in line]
    assert len(losses) == 2 * EPOCHS
    for line in losses:
        parts = [line[f"{name}_loss"] for name in ("cls", "kl", "avu")]
        assert sum(parts) == pytest.approx(line["loss"], abs=1e-4)
    evaluated = [line for line in lines if "eval_loss" in line]
    assert len(evaluated) == EPOCHS and all("eval_top-1" in line and "eval_kl_loss" in line for line in evaluated)
    assert any("eval_uncertainty-wrong" in line for line in evaluated)
    with (folder / "answers/answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    wrong = [float(row["uncertainty"]) for row in rows if row["correct"] == "0"]
    assert len(rows) == 8 and np.mean(wrong) == pytest.approx(evaluated[-1]["eval_uncertainty-wrong"], abs=1e-4)
    model = auto_class("AutoModelForOpenSetClassification").from_pretrained(folder / "final")
    assert type(model) is InternVideoMAEForOpenSetClassification and model.config.evidential["kl"]


@pytest.mark.parametrize("step", [3, pytest.param(4, marks=pytest.mark.slow)])  # within the second epoch; behind it
def test_a_resumed_run_ends_with_the_same_weights(ended, data, tmp_path, step):
    shutil.copytree(ended[0], tmp_path / "run")
    shutil.rmtree(tmp_path / "run/final")
    for later in range(step + 1, 2 * EPOCHS + 1):
        shutil.rmtree(tmp_path / f"run/checkpoint-{later}")
    train(recipe(tmp_path), data, tmp_path / "run", quiet=True)
    ours, expected = weights_of(tmp_path / "run"), weights_of(ended[0])
    assert all(torch.equal(ours[name], expected[name]) for name in expected)


@pytest.mark.slow  # the weight of each epoch, and of the terms, have tests of their own
def test_the_annealing_changes_what_is_learned(ended, data, tmp_path):
    train(recipe(tmp_path, annealing="step"), data, tmp_path / "run", quiet=True)
    ours, expected = weights_of(tmp_path / "run"), weights_of(ended[0])
    assert not torch.equal(ours["classifier.weight"], expected["classifier.weight"])


def test_unknown_evidence_is_refused_before_training(data, tmp_path):
    with pytest.raises((ValueError, RecipeError), match="evidence: got 'tanh'"):
        train(recipe(tmp_path, evidence="tanh"), data, tmp_path / "run", quiet=True)


def test_scores_are_accuracy_and_the_uncertainty_of_right_and_wrong_answers():
    logits, doubts = np.eye(6)[[0, 1, 2, 3]], np.array([0.1, 0.3, 0.6, 0.9])
    found = scores(EvalPrediction(predictions=(logits, doubts), label_ids=np.array([0, 1, 5, -100])))
    assert found == pytest.approx(
        {"top-1": 200 / 3, "top-5": 200 / 3, "uncertainty-right": 0.2, "uncertainty-wrong": 0.6}
    )
    found = scores(EvalPrediction(predictions=(logits[:2], doubts[:2]), label_ids=np.array([0, 1])))
    assert "uncertainty-wrong" not in found
    assert TASK.training.column == "label"
