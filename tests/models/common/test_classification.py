"""The forward that all classifiers of one encoder share."""

import copy
import math

import pytest
import torch
from models.internvideo_mae import test_modeling_internvideo_mae as internvideo_mae
from models.model_checks import draw
from models.uniformer import test_modeling_uniformer as uniformer
from models.uniformerv2 import test_modeling_uniformerv2 as uniformerv2
from models.viclip import test_modeling_viclip as viclip
from transformers import PreTrainedConfig
from transformers.loss.loss_utils import ForSequenceClassificationLoss

from internvideo_hf import (
    InternVideoMAEForVideoClassification,
    UniFormerForVideoClassification,
    UniFormerV2ForVideoClassification,
    ViCLIPForVideoClassification,
)
from internvideo_hf.models.common.classification import VideoClassifier, classification_loss

CLASSIFIERS = {
    InternVideoMAEForVideoClassification: internvideo_mae,
    UniFormerForVideoClassification: uniformer,
    UniFormerV2ForVideoClassification: uniformerv2,
    ViCLIPForVideoClassification: viclip,
}


@torch.no_grad()
@pytest.mark.parametrize("kind", CLASSIFIERS, ids=lambda kind: kind.__name__)
def test_logits_and_loss_come_of_the_encoder(kind):
    model = kind(CLASSIFIERS[kind].tiny_config(num_labels=5)).eval()
    assert isinstance(model, VideoClassifier) and model.accepts_loss_kwargs is False
    assert model.get_input_embeddings() is model.encoder.get_input_embeddings()
    clips, labels = draw(2, 4, 3, 32, 32), torch.tensor([1, 4])
    outputs = model(clips, labels=labels, output_hidden_states=True)
    assert torch.equal(outputs.logits, model.classify(model.encoder(clips)))
    assert torch.equal(outputs.loss, torch.nn.functional.cross_entropy(outputs.logits, labels))
    assert len(outputs.hidden_states) == model.encoder.config.num_hidden_layers + 1
    assert model(clips).loss is None


def loss_of(logits, labels, **options):
    return classification_loss(logits, labels, PreTrainedConfig(num_labels=logits.shape[1], **options))


def test_loss_is_in_float32_and_takes_soft_targets():
    logits, labels = draw(3, 5).half(), torch.tensor([0, 4, 2])
    loss = loss_of(logits, labels)
    assert loss.dtype == torch.float32
    soft = torch.nn.functional.one_hot(labels, 5).float()
    torch.testing.assert_close(loss_of(logits, soft), loss)
    torch.testing.assert_close(loss_of(logits, soft, problem_type="single_label_classification"), loss)
    assert loss_of(logits, None) is None


@pytest.mark.parametrize(
    ("problem_type", "labels"),
    [
        ("single_label_classification", torch.tensor([1, 4])),
        ("multi_label_classification", torch.tensor([[1.0, 0, 1, 0, 0], [0, 0, 0, 0, 0]])),
        ("multi_label_classification", torch.tensor([[1, 0, 1, 0, 0], [0, 0, 0, 0, 0]])),
        ("regression", torch.tensor([[0.5, 2.0, -1.0, 0.0, 3.0]] * 2)),
        ("regression", torch.tensor([1.5, 0.2])),
        (None, torch.tensor([1.5, 0.2])),
    ],
)
def test_problem_types_have_transformers_losses(problem_type, labels):
    num_labels = 1 if labels.is_floating_point() and labels.ndim == 1 else 5
    logits, config = draw(2, num_labels), PreTrainedConfig(num_labels=num_labels, problem_type=problem_type)
    expected = ForSequenceClassificationLoss(
        labels.float() if problem_type == "multi_label_classification" else labels, logits, copy.deepcopy(config)
    )
    torch.testing.assert_close(classification_loss(logits, labels, config), expected)
    assert config.problem_type == problem_type


@pytest.mark.parametrize("kind", CLASSIFIERS, ids=lambda kind: kind.__name__)
def test_classifiers_ask_their_configuration(kind):
    config = CLASSIFIERS[kind].tiny_config(num_labels=5)
    config.problem_type = "multi_label_classification"
    model, labels = kind(config).eval(), torch.tensor([[1.0, 0, 1, 0, 0], [0, 0, 0, 0, 0]])
    outputs = model(draw(2, 4, 3, 32, 32), labels=labels)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(outputs.logits, labels)
    torch.testing.assert_close(outputs.loss, expected)


@pytest.mark.parametrize(
    ("num_labels", "labels", "problem_type", "message"),
    [
        (1, torch.tensor([0, 0]), None, "one class, so class numbers teach it nothing"),
        (5, torch.tensor([0, 3]), "multi_label_classification", r"shape \(2,\), expected \(2, 5\)"),
        (5, torch.tensor([0.5, 0.3]), "regression", r"shape \(2,\), expected \(2, 5\)"),
    ],
)
def test_labels_that_do_not_fit_are_refused(num_labels, labels, problem_type, message):
    with pytest.raises(ValueError, match=message):
        loss_of(draw(2, num_labels), labels, problem_type=problem_type)


def test_unknown_labels_are_left_out_of_every_mean():
    logits = torch.tensor([[0.0, 0.0], [3.0, -1.0]])
    of_several = loss_of(
        logits, torch.tensor([[1.0, -100.0], [-100.0, -100.0]]), problem_type="multi_label_classification"
    )
    assert of_several.item() == pytest.approx(math.log(2))
    numbers = loss_of(logits, torch.tensor([[-100.0, 2.0], [1.0, -100.0]]), problem_type="regression")
    assert numbers.item() == pytest.approx((2**2 + 2**2) / 2)
    assert loss_of(logits, torch.full((2, 2), -100.0), problem_type="multi_label_classification") == 0


HEADS = {"verb": ["cut", "wash", "peel"], "noun": ["onion", "knife"]}


@pytest.mark.parametrize("kind", CLASSIFIERS, ids=lambda kind: kind.__name__)
def test_several_heads_are_trained_together_and_saved(kind, tmp_path):
    config = CLASSIFIERS[kind].tiny_config()
    content = {name: value for name, value in config.to_dict().items() if name not in ("id2label", "label2id")}
    model = kind(type(config).from_dict(content | {"label_heads": HEADS})).eval()
    assert model.num_labels == model.classifier.out_features == 5
    assert model.config.id2label[3] == "noun: onion" and model.config.label2id["verb: peel"] == 2
    clips, labels = draw(2, 4, 3, 32, 32), torch.tensor([[2, 1], [0, -100]])
    outputs = model(clips, labels=labels)
    verbs = torch.nn.functional.cross_entropy(outputs.logits[:, :3], torch.tensor([2, 0]))
    nouns = torch.nn.functional.cross_entropy(outputs.logits[:1, 3:], torch.tensor([1]))
    torch.testing.assert_close(outputs.loss, verbs + nouns)
    model.save_pretrained(tmp_path)
    loaded = kind.from_pretrained(tmp_path)
    assert loaded.config.label_heads == HEADS
    assert torch.equal(loaded(clips, labels=labels).loss, outputs.loss)
    for wrong in (torch.tensor([2, 0]), torch.tensor([[2, 1, 0]] * 2), torch.ones(2, 5)):
        with pytest.raises(ValueError, match=r"expected class numbers \(2, 2\), one for each of verb, noun"):
            model(clips, labels=wrong)


@pytest.mark.parametrize("kind", CLASSIFIERS, ids=lambda kind: kind.__name__)
def test_raw_frames_are_refused(kind):
    model = kind(CLASSIFIERS[kind].tiny_config(num_labels=5))
    with pytest.raises(ValueError, match=r"torch.uint8 numbers, expected normalized floats.*processor"):
        model(torch.zeros(1, 4, 3, 32, 32, dtype=torch.uint8))
