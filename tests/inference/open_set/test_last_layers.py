"""Last layers: densities by torch's distributions, losses by hand, and what they learn."""

import math

import torch
from inference.open_set.drawn import CLASSES, DIM, observations
from torch import nn

from internvideo_hf.inference.open_set.last_layers import (
    BayesianLinear,
    Points,
    bayesian_losses,
    learn,
    point_losses,
    split_variance,
)


def test_densities_are_those_of_the_drawn_weights():
    torch.manual_seed(0)
    layer = BayesianLinear(3, 2)
    features = torch.eye(3)
    outputs, priors, posteriors = layer(features, 2, torch.Generator().manual_seed(1), mean_pass=True)
    assert outputs.shape == (3, 3, 2) and priors.shape == posteriors.shape == (2,)
    draws = torch.Generator().manual_seed(1)
    normal = torch.distributions.Normal
    for number in range(2):
        prior = posterior = 0.0
        for mean, rho in ((layer.weight_mu, layer.weight_rho), (layer.bias_mu, layer.bias_rho)):
            own = normal(mean, torch.log1p(rho.exp()))
            drawn = mean + own.scale * torch.randn(mean.shape, generator=draws)
            densities = [normal(0, scale).log_prob(drawn).double().exp() for scale in (1.0, math.exp(-6))]
            prior += (0.5 * densities[0] + 0.5 * densities[1]).log().sum()
            posterior += own.log_prob(drawn).sum()
        torch.testing.assert_close(priors[number].double(), prior, atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(posteriors[number], posterior, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(outputs[2], features @ layer.weight_mu.T + layer.bias_mu)
    terms = bayesian_losses(outputs, priors, posteriors, torch.tensor([0, 1, 1]))
    torch.testing.assert_close(terms["complexity"], 1e-6 * (posteriors.mean() - priors.mean()))


def test_variances_add_up_to_that_of_the_mean_prediction():
    outputs = torch.randn(5, 7, 4, generator=torch.Generator().manual_seed(0))
    mean = outputs.softmax(dim=-1).mean(dim=0)
    aleatoric, epistemic = split_variance(outputs)
    torch.testing.assert_close(aleatoric + epistemic, 1 - mean.square().sum(dim=-1))


def test_points_draw_features_to_a_radius_or_to_prototypes():
    features, labels, centers = torch.tensor([[1.0, 3.0], [2.0, 0.0]]), torch.tensor([1, 0]), torch.eye(2)
    terms = point_losses(features, torch.zeros(2, 2), labels, torch.tensor(1.0), weight=0.2)
    assert terms["cls"].item() == torch.tensor(2.0).log() and terms["open"].item() == 0.1 * torch.tensor(6 / 4)
    terms = point_losses(features, torch.zeros(2, 2), labels, centers, weight=2.0)
    torch.testing.assert_close(terms["open"], torch.tensor((1 + 4 + 1 + 0) / 4))


def test_layers_learn_the_classes():
    seen = observations(80, views=1)
    features, labels = seen.features[:, 0], seen.labels
    torch.manual_seed(0)
    bayesian = BayesianLinear(DIM, CLASSES)
    learn(bayesian, lambda x, y: bayesian_losses(*bayesian(x, 2), y)["cls"], features, labels, 150, 1e-2)
    assert (bayesian(features, 3)[0].mean(dim=0).argmax(dim=-1) == labels).all()
    for reciprocal in (True, False):
        points = Points(DIM, CLASSES, reciprocal)
        assert points.embedding.equal(torch.eye(DIM))
        learn(points, lambda x, y: nn.functional.cross_entropy(points(x)[1], y), features, labels, 150, 1e-2)  # noqa: B023
        assert (points(features)[1].argmax(dim=-1) == labels).all()
