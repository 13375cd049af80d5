"""Last layers that are learned on the features of a classifier: Bayesian, and of reciprocal or prototype points.

The published ones are trained together with the whole network; these stand on its frozen features. Losses and layers
are those of the original (reference case `os_baselines`).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

PRIOR_DEVIATIONS = (1.0, math.exp(-6))  # the original takes e^-6 for a standard deviation
COMPLEXITY = 1e-6
_BATCH = 256


class BayesianLinear(nn.Module):
    """A linear layer whose weights are normally distributed (Bayes by backprop, arXiv 1505.05424).

    Args:
        dim: of the features.
        classes: number of classes.
    """

    def __init__(self, dim: int, classes: int):
        super().__init__()
        self.weight_mu = nn.Parameter(torch.empty(classes, dim).uniform_(-0.2, 0.2))
        self.weight_rho = nn.Parameter(torch.empty(classes, dim).uniform_(-5, -4))
        self.bias_mu = nn.Parameter(torch.empty(classes).uniform_(-0.2, 0.2))
        self.bias_rho = nn.Parameter(torch.empty(classes).uniform_(-5, -4))

    def forward(
        self, features: Tensor, passes: int, generator: torch.Generator | None = None, mean_pass: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the logits of several draws of the weights.

        Args:
            features: `(rows, dim)`.
            passes: draws, 1 or more.
            generator: of the draws; torch's own if None.
            mean_pass: append the logits by the mean weights, as the original does in tests.

        Returns:
            Logits, `(passes, rows, classes)`; and of each draw the logarithm of its density by the prior and by the
            layer's own distribution, `(passes,)`.
        """
        outputs, priors, posteriors = [], [], []
        for _ in range(passes):
            drawn, prior, posterior = [], torch.zeros(()), torch.zeros(())
            for mean, rho in ((self.weight_mu, self.weight_rho), (self.bias_mu, self.bias_rho)):
                deviation = nn.functional.softplus(rho)
                noise = torch.randn(mean.shape, generator=generator).to(mean)
                drawn.append(mean + deviation * noise)
                prior = prior + _log_prior(drawn[-1])
                posterior = posterior + _log_density(drawn[-1] - mean, deviation).sum()
            outputs.append(nn.functional.linear(features, *drawn))
            priors.append(prior)
            posteriors.append(posterior)
        if mean_pass:
            outputs.append(nn.functional.linear(features, self.weight_mu, self.bias_mu))
        return torch.stack(outputs), torch.stack(priors), torch.stack(posteriors)


def _log_prior(weights: Tensor) -> Tensor:
    """Return the logarithm of the density of weights by an equal mixture of two normal distributions around 0."""
    wide, narrow = (_log_density(weights, torch.tensor(deviation)) for deviation in PRIOR_DEVIATIONS)
    return (torch.logaddexp(wide, narrow) - math.log(2)).sum()


def _log_density(offsets: Tensor, deviation: Tensor) -> Tensor:
    return -offsets.square() / (2 * deviation.square()) - deviation.log() - math.log(2 * math.pi) / 2


def bayesian_losses(
    outputs: Tensor, priors: Tensor, posteriors: Tensor, labels: Tensor, weight: float = COMPLEXITY
) -> dict[str, Tensor]:
    """Return the terms of the loss, `cls` and `complexity`.

    Args:
        outputs: logits, `(passes, rows, classes)`.
        priors: of `BayesianLinear`.
        posteriors: of `BayesianLinear`.
        labels: class numbers, `(rows,)`.
        weight: of the complexity.
    """
    return {
        "cls": nn.functional.cross_entropy(outputs.mean(dim=0), labels),
        "complexity": weight * (posteriors.mean() - priors.mean()),
    }


def split_variance(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the traces of the aleatoric and the epistemic covariance of the predicted classes, `(rows,)` each.

    Args:
        outputs: logits, `(passes, rows, classes)`.
    """
    probabilities = outputs.softmax(dim=-1)
    aleatoric = (1 - probabilities.square().sum(dim=-1)).mean(dim=0)
    epistemic = (probabilities - probabilities.mean(dim=0)).square().sum(dim=-1).mean(dim=0)
    return aleatoric, epistemic


class Points(nn.Module):
    """One point of each class, in a learned linear map of the features that starts as the identity.

    Args:
        dim: of the features.
        classes: number of classes.
        reciprocal: points are what a class is not (RPL, arXiv 2011.11167), or else its prototypes (GCP).
    """

    def __init__(self, dim: int, classes: int, reciprocal: bool):
        super().__init__()
        self.reciprocal = reciprocal
        self.embedding = nn.Parameter(torch.eye(dim))
        self.centers = nn.Parameter(0.1 * torch.randn(classes, dim))
        self.radius = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return mapped features, `(rows, dim)`, and logits, `(rows, classes)`.

        Args:
            features: `(rows, dim)`.
        """
        mapped = features @ self.embedding
        return mapped, point_logits(mapped, self.centers, self.reciprocal)


def point_logits(features: Tensor, centers: Tensor, reciprocal: bool) -> Tensor:
    """Return the products with the points, `(rows, classes)`, negated for prototypes, as the original has both.

    Args:
        features: `(rows, dim)`.
        centers: `(classes, dim)`.
        reciprocal: as of `Points`.
    """
    products = features @ centers.T
    return products if reciprocal else -products


def point_losses(
    features: Tensor, logits: Tensor, labels: Tensor, towards: Tensor, temperature: float = 1.0, weight: float = 0.1
) -> dict[str, Tensor]:
    """Return the terms of the loss, `cls` and `open`.

    Args:
        features: mapped, `(rows, dim)`.
        logits: `(rows, classes)`.
        labels: class numbers, `(rows,)`.
        towards: where features are drawn to: the radius, `()`, or the prototypes, `(classes, dim)`.
        temperature: of the logits, above 0.
        weight: of the open term, 0 or more.
    """
    target = towards.expand_as(features) if towards.numel() == 1 else towards[labels]
    return {
        "cls": nn.functional.cross_entropy(logits / temperature, labels),
        "open": weight * nn.functional.mse_loss(features, target) / 2,
    }


@torch.enable_grad()
def learn(
    layer: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    features: Tensor,
    labels: Tensor,
    steps: int,
    learning_rate: float,
) -> None:
    """Train a layer by Adam on batches of rows, drawn by torch's generator.

    Args:
        layer: changed in place.
        loss: (features, labels) -> loss.
        features: `(rows, dim)`.
        labels: class numbers, `(rows,)`.
        steps: number of batches.
        learning_rate: above 0.
    """
    optimizer = torch.optim.Adam(layer.parameters(), lr=learning_rate)
    for _ in range(steps):
        rows = torch.randint(len(features), (min(_BATCH, len(features)),))
        optimizer.zero_grad()
        loss(features[rows], labels[rows]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
