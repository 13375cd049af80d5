"""Training starts from trained weights: which of them are loaded, above all those of the head."""

import copy
from pathlib import Path

import pytest
import torch
from models.internvideo_mae.test_modeling_internvideo_mae import tiny_config as mae_config
from models.internvideo_mm import test_modeling_internvideo_mm as mm
from models.model_checks import move_from_start
from models.uniformerv2.test_modeling_uniformerv2 import tiny_config
from models.viclip import test_modeling_viclip as viclip
from transformers import CLIPConfig, CLIPModel
from transformers.utils import logging

from internvideo_hf import (
    CheckpointError,
    InternVideoMAEForPreTraining,
    InternVideoMAEForVideoActionDetection,
    InternVideoMAEForVideoClassification,
    InternVideoMAEModel,
    InternVideoMMConfig,
    InternVideoMMForConditionalGeneration,
    InternVideoMMForQuestionAnswering,
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


DECODER = {"intermediate_size": 8, "num_attention_heads": 2, "num_visual_queries": 3}


def captioner(seed: int = 0, layers: int = 2) -> InternVideoMMForConditionalGeneration:
    vision, text = mm.tiny_config().vision_config.hidden_size, mm.tiny_config().text_config.hidden_size
    sizes = {"hidden_size": text, "encoder_hidden_size": vision, "num_hidden_layers": layers}
    return move_from_start(InternVideoMMForConditionalGeneration(mm.tiny_config(decoder_config=DECODER | sizes)), seed)


def assert_equal(names: set[str], ours: torch.nn.Module, theirs: torch.nn.Module) -> None:
    ours, theirs = ours.state_dict(), theirs.state_dict()
    assert names and all(torch.equal(ours[name], theirs[name]) for name in names)


def test_a_captioner_has_the_towers_of_a_dual_encoder_with_their_projections_and_the_reverse(folder):
    dual = move_from_start(InternVideoMMModel(mm.tiny_config()))
    dual.save_pretrained(folder)
    fresh = captioner(seed=1)
    decoder = copy.deepcopy(fresh.caption_decoder)
    model = start_from(fresh, folder)
    assert_equal(set(dual.state_dict()), model, dual)
    assert_equal(set(decoder.state_dict()), model.caption_decoder, decoder)
    model.save_pretrained(folder)
    assert_equal(
        set(dual.state_dict()), start_from(move_from_start(InternVideoMMModel(mm.tiny_config()), 2), folder), dual
    )


def test_a_decoder_is_loaded_whole_or_not_at_all(folder):
    trained = captioner()
    trained.save_pretrained(folder)
    assert_equal(set(trained.state_dict()), start_from(captioner(seed=1), folder), trained)
    for layers, error in ((1, "has 2 decoder layers, and the model 1"), (3, "layers.2.* is missing")):
        with pytest.raises(ValueError, match=error):
            start_from(captioner(seed=1, layers=layers), folder)


def test_a_head_of_answers_has_the_towers_and_the_decoder_of_a_captioner(folder):
    trained = captioner()
    trained.save_pretrained(folder)
    config = InternVideoMMConfig.from_dict(trained.config.to_dict() | {"projection_dim": None, "num_labels": 4})
    fresh = move_from_start(InternVideoMMForQuestionAnswering(config), 1)
    head = {name: tensor.clone() for name, tensor in fresh.classifier.state_dict().items()}
    model = start_from(fresh, folder)
    assert_equal({name for name in model.state_dict() if not name.startswith("classifier.")}, model, trained)
    assert all(torch.equal(tensor, head[name]) for name, tensor in model.classifier.state_dict().items())


def test_a_captioner_starts_from_clip(folder):
    config = captioner().config
    vision, text = config.vision_config, config.text_config
    names = "hidden_size intermediate_size num_hidden_layers num_attention_heads image_size patch_size".split()
    clip = CLIPModel(
        CLIPConfig(
            vision_config={name: getattr(vision, name) for name in names},
            text_config=text.to_dict(),
            projection_dim=config.projection_dim,
        )
    )
    clip.save_pretrained(folder)
    model = start_from(captioner(seed=1), folder)
    assert isinstance(model, InternVideoMMForConditionalGeneration)
    for name in ("visual_projection.weight", "text_projection.weight", "logit_scale"):
        assert torch.equal(model.state_dict()[name], clip.state_dict()[name]), name


def test_what_is_no_start_is_refused(folder):
    with pytest.raises(CheckpointError, match="neither a model's folder"):
        start_from(classifier(3), folder)
    move_from_start(ViCLIPModel(viclip.tiny_config())).save_pretrained(folder)
    with pytest.raises(CheckpointError, match="'viclip' model, expected 'uniformerv2'"):
        start_from(classifier(3), folder)


def encoder_of(model_class: type, folder: Path, **changes) -> torch.nn.Module:
    """Save a VideoMAE that was trained for something else."""
    trained = move_from_start(model_class(mae_config(**changes)))
    trained.save_pretrained(folder)
    return trained


@pytest.mark.parametrize("model_class", [InternVideoMAEForPreTraining, InternVideoMAEModel])
def test_a_detector_starts_from_a_pretrained_encoder_with_its_norm(model_class, folder):
    trained = encoder_of(model_class, folder, use_mean_pooling=False)
    model = InternVideoMAEForVideoActionDetection(mae_config(use_mean_pooling=False))
    fresh = model.classifier.weight.clone()
    model = start_from(model, folder)
    encoder = getattr(trained, "internvideo_mae", trained)
    for name, tensor in model.internvideo_mae.state_dict().items():
        assert torch.equal(tensor, encoder.state_dict()[name]), name
    assert torch.equal(model.classifier.weight, fresh)


def test_a_detector_starts_from_a_classifier_without_the_norm_of_its_average(folder):
    trained = encoder_of(InternVideoMAEForVideoClassification, folder)
    model = start_from(InternVideoMAEForVideoActionDetection(mae_config(use_mean_pooling=False)), folder)
    theirs = trained.internvideo_mae.state_dict()
    for name, tensor in model.internvideo_mae.state_dict().items():
        if name.startswith("layernorm."):
            assert torch.equal(tensor, torch.full_like(tensor, name.endswith("weight")))
        else:
            assert torch.equal(tensor, theirs[name]), name


def test_a_detector_with_another_head_takes_over_all_but_the_head(folder, caplog, monkeypatch):
    monkeypatch.setattr(logging.get_logger("internvideo_hf"), "propagate", True)
    trained = encoder_of(InternVideoMAEForVideoActionDetection, folder, use_mean_pooling=False)
    same = InternVideoMAEForVideoActionDetection(mae_config(use_mean_pooling=False))
    assert torch.equal(start_from(same, folder).classifier.weight, trained.classifier.weight)
    assert not caplog.text
    model = InternVideoMAEForVideoActionDetection(mae_config(use_mean_pooling=False, detection_head="acar"))
    start_from(model, folder)
    assert torch.equal(model.internvideo_mae.layernorm.weight, trained.internvideo_mae.layernorm.weight)
    assert "the head of InternVideoMAEForVideoActionDetection is initialized randomly" in caplog.text
