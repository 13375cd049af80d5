"""OpenMax (arXiv 1511.06233): logits recalibrated by how far features lie from the mean of their class."""

import numpy as np
import torch
from torch import Tensor, nn

EUCLIDEAN_SCALE = 200.0  # of the official code
DISTANCES = ("eucos", "eu", "cos")


def distances(features: Tensor, means: Tensor, kind: str = "eucos") -> Tensor:
    """Return the distance of each feature from each mean, `(..., classes)`.

    Args:
        features: `(..., dim)`.
        means: of the classes, `(classes, dim)`.
        kind: of `DISTANCES`: the Euclidean distance by 200, 1 - cosine, or both added.
    """
    euclidean = (features[..., None, :] - means).norm(dim=-1) / EUCLIDEAN_SCALE
    cosine = 1 - nn.functional.cosine_similarity(features[..., None, :], means, dim=-1)
    found: dict[str, Tensor] = {"eu": euclidean, "cos": cosine, "eucos": euclidean + cosine}
    return found[kind]


def fit_tail(found: np.ndarray, size: int = 20) -> tuple[float, float, float]:
    """Fit a Weibull distribution to the largest distances, as libMR does: by likelihood, shifted to begin at 1.

    Args:
        found: distances of a class's videos from their mean, `(videos,)`.
        size: number of the largest ones.

    Returns:
        Shift, scale and shape; `tail_probability` reads them.

    Raises:
        ImportError: if SciPy is not installed.
    """
    from scipy.stats import weibull_min  # type: ignore[import-untyped]  # of the extra [open-set]

    tail = np.sort(found)[-size:]
    shift = float(tail[0]) - 1
    shape, _, scale = weibull_min.fit(tail - shift, floc=0) if len(np.unique(tail)) > 1 else (1.0, 0.0, 1.0)
    return shift, float(scale), float(shape)


def tail_probability(found: Tensor, tails: Tensor) -> Tensor:
    """Return how probably a member of the class is nearer, 0-1, `(..., classes)`.

    Args:
        found: distances, `(..., classes)`.
        tails: shift, scale and shape of each class, `(classes, 3)`.
    """
    shift, scale, shape = tails.unbind(dim=-1)
    return 1 - torch.exp(-((found - shift).clamp(min=0) / scale).pow(shape))


def openmax(logits: Tensor, outside: Tensor, rank: int = 1) -> Tensor:
    """Return the probabilities of the classes and, last, of none of them, `(..., views, classes + 1)`.

    Args:
        logits: `(..., views, classes)`.
        outside: of `tail_probability`, `(..., views, classes)`.
        rank: how many of the classes that are best in the mean of the views are recalibrated, 1 or more.
    """
    rank = min(rank, logits.shape[-1])
    best = (
        logits.mean(dim=-2, keepdim=True).expand_as(logits).argsort(dim=-1, descending=True, stable=True)[..., :rank]
    )
    weights = torch.arange(rank, 0, -1, dtype=logits.dtype) / rank
    alpha = torch.zeros_like(logits).scatter(-1, best, weights.expand_as(best))
    kept = logits * (1 - outside * alpha)
    return torch.cat([kept, (logits - kept).sum(dim=-1, keepdim=True)], dim=-1).softmax(dim=-1)
