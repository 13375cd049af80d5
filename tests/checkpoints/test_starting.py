"""Training starts from trained weights: which of them are loaded, above all those of the head."""

from pathlib import Path

import pytest
import torch
from models.internvideo_mm import test_modeling_internvideo_mm as mm
from models.model_checks import move_from_start
from models.uniformerv2.test_modeling_uniformerv2 import tiny_config
from models.viclip import test_modeling_viclip as viclip
from transformers.utils import logging

from internvideo_hf import (
    CheckpointError,
    InternVideoMMModel,
    UniFormerV2ForVideoClassification,
    ViCLIPModel,
)
from internvideo_hf.checkpoints.starting import start_from
from internvideo_hf.recipes.labels import load_labels, rows_in_k710


def classifier(labels: list[str] | int, seed: int = 0) -> UniFormerV2ForVideoClassification:
    classes = {"num_labels": labels} if isinstance(labels, int) else {"id2label": dict(enumerate(labels))}
    return move_from_start(UniFormerV2ForVideoClassification(tiny_config(**classes)), seed)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "trained"


def body(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("classifier.")}


def assert_body_is_loaded(model: torch.nn.Module, trained: torch.nn.Module) -> None:
    assert all(torch.equal(tensor, body(trained)[name]) for name, tensor in body(model).items())


@pytest.mark.parametrize("numbered", [False, True])
@pytest.mark.parametrize("name", ["k400", "k700"])
def test_rows_of_a_k710_head_are_loaded(name, numbered, folder):
    trained = classifier(710 if numbered else load_labels("k710"))
    trained.save_pretrained(folder)
    model = start_from(classifier(load_labels(name), seed=1), folder)
    assert_body_is_loaded(model, trained)
    rows = rows_in_k710(name)
    assert torch.equal(model.classifier.weight, trained.classifier.weight[rows])
    assert torch.equal(model.classifier.bias, trained.classifier.bias[rows])


def test_a_head_of_the_same_classes_is_loaded(folder):
    trained = classifier(["cat", "dog"])
    trained.save_pretrained(folder)
    model = start_from(classifier(["cat", "dog"], seed=1), folder)
    assert_body_is_loaded(model, trained)
    assert torch.equal(model.classifier.weight, trained.classifier.weight)


@pytest.mark.parametrize("labels", [["dog", "cat"], ["cat", "dog", "owl"]])
def test_a_head_of_other_classes_stays_random_and_the_log_says_so(labels, folder, caplog, monkeypatch):
    monkeypatch.setattr(logging.get_logger("transformers"), "propagate", True)
    monkeypatch.setattr(logging.get_logger("internvideo_hf"), "propagate", True)
    trained = classifier(["cat", "dog"])
    trained.save_pretrained(folder)
    fresh = classifier(labels, seed=1)
    weight = fresh.classifier.weight.clone()
    model = start_from(fresh, folder)
    assert_body_is_loaded(model, trained)
    assert torch.equal(model.classifier.weight, weight)
    assert "the head of UniFormerV2ForVideoClassification is initialized randomly" in caplog.text


@pytest.mark.parametrize("reverse", [False, True])
def test_a_dual_encoder_and_a_classifier_of_its_tower_start_from_each_other(reverse, folder):
    config = mm.tiny_config()
    models = [InternVideoMMModel(config), UniFormerV2ForVideoClassification(config.vision_config)]
    trained, fresh = models[::-1] if reverse else models
    move_from_start(trained).save_pretrained(folder)
    model = start_from(move_from_start(fresh, 1), folder)
    tower = trained.vision_model.state_dict()
    assert all(torch.equal(tensor, tower[name]) for name, tensor in model.vision_model.state_dict().items())


def test_what_is_no_start_is_refused(folder):
    with pytest.raises(CheckpointError, match="neither a model's folder"):
        start_from(classifier(3), folder)
    move_from_start(ViCLIPModel(viclip.tiny_config())).save_pretrained(folder)
    with pytest.raises(CheckpointError, match="'viclip' model, expected 'uniformerv2'"):
        start_from(classifier(3), folder)
