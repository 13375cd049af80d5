"""Methods: each by hand or by SciPy, over views in both orders, and each tells unknown from known."""

import numpy as np
import pytest
import torch
from inference.open_set.drawn import QUICK, observations
from scipy.special import logsumexp, softmax
from scipy.stats import entropy
from sklearn.metrics import roc_auc_score

from internvideo_hf.inference.open_set.methods import METHODS, make_method
from internvideo_hf.inference.open_set.observations import Observations

SEEN = observations(12, views=3, seed=1)
LOGITS = SEEN.logits.double().numpy()
MEAN = LOGITS.mean(axis=1)


def by_evidence(logits):
    return 4 / (np.exp(np.clip(logits, -10, 10)) + 1).sum(axis=-1)


def disagreement(samples):
    probabilities = softmax(samples, axis=-1)
    return entropy(probabilities.mean(axis=-2), axis=-1) - entropy(probabilities, axis=-1).mean(axis=-1)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("max_softmax", {}, 1 - softmax(LOGITS, axis=-1).mean(axis=1).max(axis=-1)),
        ("max_softmax", {"merge": "score"}, 1 - softmax(MEAN, axis=-1).max(axis=-1)),
        ("entropy", {}, entropy(softmax(LOGITS, axis=-1).mean(axis=1), axis=-1)),
        ("max_logit", {}, -LOGITS.max(axis=-1).mean(axis=1)),
        ("max_logit", {"merge": "score"}, -MEAN.max(axis=-1)),
        ("energy", {"temperature": 2.0}, -2 * logsumexp(LOGITS / 2, axis=-1).mean(axis=1)),
        ("evidential", {}, by_evidence(MEAN)),
        ("evidential", {"merge": "prob"}, by_evidence(LOGITS).mean(axis=1)),
        ("evidential", {"evidence": "relu"}, 4 / (np.maximum(MEAN, 0) + 1).sum(axis=-1)),
        ("evidential", {"evidence": "softplus"}, 4 / (np.log1p(np.exp(MEAN)) + 1).sum(axis=-1)),
    ],
)
def test_scores_of_logits_are_those_by_hand(name, options, expected):
    np.testing.assert_allclose(make_method(name, **options).score(SEEN), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["mc_dropout", "ensemble"])
def test_passes_that_disagree_are_unknown(name):
    samples = SEEN.samples.double().numpy()
    expected = disagreement(samples.mean(axis=1))
    np.testing.assert_allclose(make_method(name, merge="score").score(SEEN), expected, rtol=1e-6)
    same = Observations(samples=SEEN.samples[:, :, :1].expand(-1, -1, 5, -1))
    assert make_method(name).score(same).abs().max() < 1e-12


def test_the_temperature_is_the_most_likely_one():
    labels = SEEN.labels.numpy().copy()
    labels[5] = 2  # one mistake in twelve
    seen = Observations(logits=3 * SEEN.logits, labels=torch.from_numpy(labels))
    method = make_method("temperature", merge="score")
    method.fit(seen)
    found = method.tensors["temperature"].item()

    def likelihood(temperature):
        return np.log(softmax(3 * MEAN / temperature, axis=-1)[np.arange(12), labels]).sum()

    assert 0.05 < found <= 20 and likelihood(found) >= max(likelihood(found * 1.05), likelihood(found / 1.05))
    np.testing.assert_allclose(method.score(seen), 1 - softmax(3 * MEAN / found, axis=-1).max(axis=-1), rtol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_ranks_unknown_videos_higher(name):
    method = make_method(name, **QUICK.get(name, {}))
    method.fit(observations(80))
    known, unknown = (method.score(observations(40, known=known, seed=5)) for known in (True, False))
    scores = torch.cat([known, unknown])
    assert scores.dtype == torch.float64 and scores.isfinite().all()
    assert roc_auc_score([0] * 40 + [1] * 40, scores) > 0.8


@pytest.mark.parametrize("name", ["bayesian", "rpl", "gcp"])
def test_a_last_layer_is_the_same_each_time_and_leaves_the_draws_of_others(name):
    first, second = make_method(name, steps=5), make_method(name, steps=5)
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first.fit(SEEN)
    scores = first.score(SEEN)
    assert torch.random.get_rng_state().equal(before)
    second.fit(SEEN)
    assert second.score(SEEN).equal(scores)
    one = Observations(features=SEEN.features[3:4])
    torch.testing.assert_close(first.score(one), scores[3:4], atol=1e-6, rtol=1e-5)


def test_openmax_wants_right_videos_of_each_class():
    seen = Observations(SEEN.logits, SEEN.features, labels=(SEEN.labels + 1) % 4)
    with pytest.raises(ValueError, match="4 of 4 classes have fewer, such as class 0 with 0"):
        make_method("openmax").fit(seen)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("max_sofmax", {}, "Did you mean max_softmax"),
        ("energy", {"temprature": 2}, "Unknown option temprature for the method energy. Did you mean temperature"),
        ("energy", {"temperature": 0}, "temperature=0 must be above 0"),
        ("max_logit", {"merge": "logits"}, "merge: got 'logits'"),
        ("evidential", {"evidence": "tanh"}, "evidence: got 'tanh'"),
        ("mc_dropout", {"passes": 1}, "passes=1 must be 2 or more"),
        ("mc_dropout", {"rate": 1.0}, "rate=1.0 above 0 and below 1"),
        ("openmax", {"distance": "l2"}, "distance: got 'l2'"),
        ("rpl", {"steps": 0}, "steps=0 must be above 0"),
        ("gcp", {"temperature": -1.0}, "temperature=-1.0"),
        ("energy", {"temperature": "2"}, "temperature is '2', expected float"),
        ("mc_dropout", {"passes": 2.5}, "passes is 2.5, expected int"),
        ("rpl", {"steps": True}, "steps is True, expected int"),
        ("ensemble", {"members": "run/final"}, "members is 'run/final', expected list"),
        ("ensemble", {"members": [1]}, "members holds 1, expected folders"),
    ],
)
def test_unknown_names_and_values_out_of_range_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        make_method(name, **options)
