"""The evidential head that open-set classifiers of all families share."""

from math import exp, log

import pytest
import torch
from models.common.test_classification import CLASSIFIERS
from models.model_checks import draw
from torch.nn.functional import one_hot
from transformers import AutoModelForVideoClassification

from internvideo_hf import (
    InternVideoMAEForOpenSetClassification,
    InternVideoMAEForVideoClassification,
    UniFormerForOpenSetClassification,
    UniFormerV2ForOpenSetClassification,
    ViCLIPForOpenSetClassification,
)
from internvideo_hf.auto import FAMILIES, auto_class
from internvideo_hf.models.common.open_set import OpenSetHead

KINDS = (
    InternVideoMAEForOpenSetClassification,
    UniFormerForOpenSetClassification,
    UniFormerV2ForOpenSetClassification,
    ViCLIPForOpenSetClassification,
)


def tiny(kind=InternVideoMAEForOpenSetClassification, **changes):
    config = CLASSIFIERS[kind.__mro__[2]].tiny_config(num_labels=3)
    for name, value in changes.items():
        setattr(config, name, value)
    return kind(config).eval()


def with_logits(model, logits):
    """Let the model give these logits."""
    model.classify = lambda outputs: torch.tensor(logits)
    return model


CLIPS = draw(2, 4, 3, 32, 32)


def test_every_family_with_a_classifier_has_an_open_set_one():
    for family in FAMILIES.values():
        assert ("AutoModelForVideoClassification" in family.model_names) == (
            "AutoModelForOpenSetClassification" in family.model_names
        )
        for auto, name in family.model_names.items():
            if auto == "AutoModelForOpenSetClassification":
                assert issubclass(family.models[auto_class(auto)], OpenSetHead), name


def test_output_has_logits_uncertainty_and_loss():
    # Evidence of exp: 1, e, 1 and 1, 1, 1.
    model = with_logits(tiny(), [[0.0, 1, 0], [0, 0, 0]])
    outputs = model(CLIPS, labels=torch.tensor([1, 2]))
    total = 5 + exp(1)
    torch.testing.assert_close(outputs.uncertainty, torch.tensor([3 / total, 0.5]))
    losses = [log(total) - log(1 + exp(1)), log(6) - log(2)]
    assert outputs.loss.item() == pytest.approx(sum(losses) / 2)
    assert torch.equal(outputs.cls_loss, outputs.loss)
    assert set(outputs) == {"loss", "logits", "uncertainty", "cls_loss"}
    assert set(model(CLIPS)) == {"logits", "uncertainty"}
    loss, logits, doubt, _ = model(CLIPS, labels=torch.tensor([1, 2]), return_dict=False)
    assert torch.equal(logits, outputs.logits) and torch.equal(doubt, outputs.uncertainty) and loss == outputs.loss


def test_loss_is_the_sum_of_its_parts_and_skips_unknown_labels():
    model = with_logits(tiny(evidential={"loss": "cross_entropy", "evidence": "relu"}), [[0.0, 2, 0], [5.0, 0, 0]])
    outputs = model(CLIPS, labels=torch.tensor([1, -100]))
    # alpha (1, 3, 1): p 3/5; the variance is (4 + 6 + 4) / (25 * 6); no evidence is left for wrong classes.
    assert outputs.cls_loss.item() == pytest.approx(log(5 / 3))
    assert outputs.variance_loss.item() == pytest.approx(14 / 150)
    assert outputs.kl_loss.item() == pytest.approx(0, abs=1e-6)
    assert outputs.loss.item() == pytest.approx(log(5 / 3) + 14 / 150)
    mixed = model(CLIPS, labels=one_hot(torch.tensor([1, 0]), 3).float())
    assert mixed.cls_loss.item() == pytest.approx((log(5 / 3) + log(8 / 6)) / 2)


def test_epoch_sets_the_weight_of_the_annealed_terms():
    model = with_logits(tiny(evidential={"kl": True, "evidence": "relu"}), [[0.0, 2, 0], [0, 0, 0]])
    labels = torch.tensor([0, 0])
    assert model.annealing_weight == 1
    full = model(CLIPS, labels=labels).kl_loss
    model.set_epoch(25, 50)
    torch.testing.assert_close(model(CLIPS, labels=labels).kl_loss, 0.1 * full)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_classifier_and_open_set_classifier_load_each_other(kind, tmp_path):
    model = tiny(kind)
    model.save_pretrained(tmp_path)
    plain = AutoModelForVideoClassification.from_pretrained(tmp_path)
    assert type(plain) is kind.__mro__[2]
    assert torch.equal(plain(CLIPS).logits, model(CLIPS).logits)
    plain.save_pretrained(tmp_path)
    again = kind.from_pretrained(tmp_path)
    assert torch.equal(again(CLIPS).uncertainty, model(CLIPS).uncertainty)


@pytest.mark.parametrize("changes", [{"problem_type": "multi_label_classification"}, {"num_labels": 1}])
def test_what_has_no_single_class_is_refused(changes):
    with pytest.raises(ValueError, match="one of several classes"):
        tiny(**changes)


def test_position_table_of_32_frames_is_computed_and_not_resampled():
    config = CLASSIFIERS[InternVideoMAEForVideoClassification].tiny_config
    released = InternVideoMAEForOpenSetClassification(config(num_frames=32, position_num_frames=32))
    grid = (16, 4, 4)
    table = released.internvideo_mae.positions(grid)
    angle = torch.tensor(255.0)  # the last row, channels 0 and 1
    torch.testing.assert_close(table[-1, :2], torch.stack([angle.sin(), angle.cos()]), atol=1e-5, rtol=0)
