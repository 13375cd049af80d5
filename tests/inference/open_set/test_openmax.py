"""OpenMax: distances and tails by SciPy, recalibration by hand."""

import numpy as np
import pytest
import torch
from scipy.spatial import distance
from scipy.stats import weibull_min

from internvideo_hf.inference.open_set.openmax import distances, fit_tail, openmax, tail_probability


def test_distances_are_scipys():
    draws = np.random.default_rng(0)
    features, means = draws.normal(size=(5, 8)), draws.normal(size=(3, 8))
    found = {kind: distances(torch.tensor(features), torch.tensor(means), kind) for kind in ("eu", "cos", "eucos")}
    np.testing.assert_allclose(found["eu"], distance.cdist(features, means) / 200)
    np.testing.assert_allclose(found["cos"], distance.cdist(features, means, "cosine"))
    np.testing.assert_allclose(found["eucos"], found["eu"] + found["cos"])


def test_the_tail_is_fitted_by_likelihood():
    drawn = weibull_min.rvs(3.0, scale=2.0, size=4000, random_state=0)
    shift, scale, shape = fit_tail(drawn, size=4000)
    assert shift == pytest.approx(drawn.min() - 1)
    tail = drawn - shift
    likelihood = weibull_min.logpdf(tail, shape, scale=scale).sum()
    for other in ((shape * 1.02, scale), (shape / 1.02, scale), (shape, scale * 1.02), (shape, scale / 1.02)):
        assert weibull_min.logpdf(tail, other[0], scale=other[1]).sum() < likelihood
    assert fit_tail(np.arange(100.0), 20)[0] == 79  # the 20 largest begin with 80
    assert fit_tail(np.full(5, 0.5)) == (-0.5, 1.0, 1.0)


def test_the_probability_of_the_tail_is_that_of_the_distribution():
    tails = torch.tensor([[0.5, 2.0, 3.0], [-1.0, 1.0, 0.5]])
    found = torch.tensor([[0.2, 0.0], [4.0, 2.0]])
    expected = [
        [
            weibull_min.cdf(x - shift, shape, scale=scale)
            for x, (shift, scale, shape) in zip(row, tails.tolist(), strict=True)
        ]
        for row in found.tolist()
    ]
    np.testing.assert_allclose(tail_probability(found, tails), expected, rtol=1e-6)


def test_the_best_classes_give_to_the_unknown_one():
    logits = torch.tensor([[3.0, 1.0, 2.0]], dtype=torch.float64)
    outside = torch.tensor([[0.5, 0.5, 1.0]], dtype=torch.float64)
    powers = np.exp([1.5, 1.0, 2.0, 1.5])
    np.testing.assert_allclose(openmax(logits, outside)[0], powers / powers.sum())
    powers = np.exp([1.5, 1.0, 1.0, 1.5 + 1.0])  # the second best by half of its weight
    np.testing.assert_allclose(openmax(logits, outside, rank=2)[0], powers / powers.sum())
    assert openmax(logits, outside, rank=9).shape == (1, 4)
    views = torch.tensor([[3.0, 1.0], [0.0, 4.0]], dtype=torch.float64)  # the second class is the best of both
    found = openmax(views, torch.full_like(views, 0.5))
    powers = np.exp([[3.0, 0.5, 0.5], [0.0, 2.0, 2.0]])
    np.testing.assert_allclose(found, powers / powers.sum(axis=1, keepdims=True))
