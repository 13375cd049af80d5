"""Evidential losses: values worked out by hand for two classes; `os_edl_losses` has the original's."""

from math import log

import pytest
import torch

from internvideo_hf.models.common.evidential import (
    EvidentialSettings,
    concentrations,
    divergence_from_uniform,
    evidential_losses,
    expected_probabilities,
    mean_of_known,
    uncertainty,
)

NOTHING, SURE = [0.0, 0.0], [2.0, 0.0]  # by "relu": alpha (1, 1) and (3, 1)


def losses_of(logits, label, weight=1.0, **settings):
    terms = evidential_losses(
        torch.tensor([logits]), torch.tensor([label]), EvidentialSettings(evidence="relu", **settings), weight
    )
    return {name: term.item() for name, term in terms.items()}


def test_no_evidence_is_full_uncertainty():
    alpha = concentrations(torch.tensor([NOTHING, SURE]).half(), "relu")
    assert alpha.dtype == torch.float32
    assert alpha.tolist() == [[1, 1], [3, 1]]
    assert uncertainty(alpha).tolist() == [1, 0.5]
    assert expected_probabilities(alpha).tolist() == [[0.5, 0.5], [0.75, 0.25]]


def test_exp_stops_at_ten_with_its_gradient():
    logits = torch.tensor([11.0, 10.0, -11.0, 0.0], requires_grad=True)
    alpha = concentrations(logits, "exp")
    torch.testing.assert_close(alpha, torch.tensor([22027.4658, 22027.4658, 1.0000454, 2.0]))
    alpha.sum().backward()
    assert logits.grad[[0, 2]].tolist() == [0, 0] and logits.grad[3] == 1
    torch.testing.assert_close(concentrations(torch.zeros(1), "softplus"), torch.tensor([1 + log(2)]))


@pytest.mark.parametrize(
    ("logits", "label", "settings", "expected"),
    [
        (NOTHING, 0, {}, {"cls": log(2)}),
        (SURE, 0, {}, {"cls": log(4 / 3)}),
        (SURE, 1, {}, {"cls": log(4)}),
        (NOTHING, 0, {"loss": "digamma"}, {"cls": 1.0}),  # psi(2) - psi(1)
        (SURE, 0, {"loss": "digamma"}, {"cls": 1 / 3}),  # psi(4) - psi(3)
        (NOTHING, 1, {"loss": "mse"}, {"cls": 0.5, "variance": 1 / 6}),
        (SURE, 0, {"loss": "mse"}, {"cls": 0.125, "variance": 0.075}),
        (SURE, 0, {"loss": "cross_entropy"}, {"cls": log(4 / 3), "variance": 0.075, "kl": 0}),
        (SURE, 1, {"loss": "cross_entropy"}, {"cls": log(4), "variance": 0.075, "kl": log(3) - 2 / 3}),
        (SURE, 1, {"kl": True}, {"cls": log(4), "kl": log(3) - 2 / 3}),
        (SURE, 0, {"avu": True}, {"cls": log(4 / 3), "avu": 0.75 * log(2)}),
        (SURE, 1, {"avu": True}, {"cls": log(4), "avu": 0}),  # all weight on right answers at the end
        (SURE, 0, {"avu": True, "disentangle": True}, {"cls": log(4 / 3), "avu": log(8 / 3)}),
        (SURE, 0, {"loss": "mse", "avu": True}, {"cls": 0.125, "variance": 0.075}),  # as in the original
    ],
)
def test_losses_of_two_classes(logits, label, settings, expected):
    assert losses_of(logits, label, **settings) == pytest.approx(expected, abs=1e-6)


def test_annealed_terms_have_their_weight():
    found = losses_of(SURE, 1, 0.25, kl=True, avu=True)
    assert found == pytest.approx({"cls": log(4), "kl": 0.25 * (log(3) - 2 / 3), "avu": 0.75 * 0.25 * log(2)})
    found = losses_of(SURE, 1, 0.25, avu=True, disentangle=True)
    assert found["avu"] == pytest.approx(0.75 * log(8))


def test_divergence_of_a_beta_distribution():
    # The density of Beta(3, 1) is 3 x^2, whose KL divergence from 1 is ln 3 + 2 E[ln x], E[ln x] = -1/3.
    found = divergence_from_uniform(torch.tensor([[3.0, 1.0], [1.0, 1.0]]))
    torch.testing.assert_close(found, torch.tensor([log(3) - 2 / 3, 0.0]))


@pytest.mark.parametrize(
    ("settings", "epoch", "expected"),
    [
        ({}, 0, 0.01),
        ({}, 25, 0.1),
        ({}, 50, 1.0),
        ({"annealing_start": 0.0625}, 25, 0.25),
        ({"annealing": "step"}, 0, 0.0),
        ({"annealing": "step"}, 5, 0.5),
        ({"annealing": "step"}, 40, 1.0),
        ({"annealing": "step", "annealing_epochs": 20}, 5, 0.25),
    ],
)
def test_annealing_rises_by_epoch(settings, epoch, expected):
    assert EvidentialSettings(**settings).annealing_weight(epoch, 50) == pytest.approx(expected)


@pytest.mark.parametrize("loss", ["log", "digamma", "mse", "cross_entropy"])
def test_class_numbers_are_soft_targets_of_one_class(loss):
    settings, logits = EvidentialSettings(loss=loss, kl=True, avu=True), torch.tensor([SURE, [0.5, 3.0]])
    hard = evidential_losses(logits, torch.tensor([1, 0]), settings)
    soft = evidential_losses(logits, torch.tensor([[0.0, 1.0], [1.0, 0.0]]), settings)
    assert hard.keys() == soft.keys() and all(torch.equal(hard[name], soft[name]) for name in hard)


def test_mixed_targets_weigh_their_classes():
    terms = evidential_losses(torch.tensor([SURE]), torch.tensor([[0.75, 0.25]]), EvidentialSettings(evidence="relu"))
    assert terms["cls"].item() == pytest.approx(0.75 * log(4 / 3) + 0.25 * log(4))


def test_rows_without_a_label_change_nothing():
    settings = EvidentialSettings(loss="cross_entropy", avu=True, evidence="relu")
    logits, labels = torch.tensor([SURE, SURE, NOTHING], requires_grad=True), torch.tensor([1, -100, 0])
    terms = evidential_losses(logits, labels, settings)
    assert all(term[1] == 0 for term in terms.values())
    loss = mean_of_known(terms["cls"], labels)
    assert loss.item() == pytest.approx((log(4) + log(2)) / 2)
    loss.backward()
    assert logits.grad[1].tolist() == [0, 0]
    assert mean_of_known(terms["cls"][1:2], labels[1:2]) == 0
    assert mean_of_known(terms["cls"], torch.tensor([[1.0, 0.0]] * 3)).item() == pytest.approx((log(4) + log(2)) / 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"evidence": "exq"}, "evidential.evidence"),
        ({"loss": "brier"}, "evidential.loss"),
        ({"annealing": "cosine"}, "evidential.annealing"),
        ({"annealing_start": 0}, "annealing_start=0 must be above 0"),
        ({"annealing_epochs": 0}, "evidential.annealing_epochs=0 above 0"),
    ],
)
def test_unknown_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        EvidentialSettings(**settings)


@pytest.mark.parametrize("label", [-1, 2])
def test_labels_of_no_class_are_refused(label):
    with pytest.raises(RuntimeError, match="Class values must be"):
        evidential_losses(torch.tensor([SURE]), torch.tensor([label]), EvidentialSettings())
