"""Evidential classification (EDL, arXiv 1806.01768 and 2107.10161): logits as evidence of a Dirichlet distribution.

Evidence `e` of each class gives `alpha = e + 1` with the sum `S`: the expected probabilities are `alpha / S`, and the
uncertainty is `K / S`, 1 where there is no evidence for any of the `K` classes. Source: InternVideo's open-set code
(reference case `os_edl_losses`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from internvideo_hf.models.common.losses import IGNORED
from internvideo_hf.utils.names import check_name

EVIDENCES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "exp": lambda logits: logits.clamp(-10, 10).exp(),  # without a gradient outside
    "relu": nn.functional.relu,
    "softplus": nn.functional.softplus,
}
"""Name -> evidence of logits, 0 or more."""

LOSSES = ("log", "digamma", "mse", "cross_entropy")
ANNEALINGS = ("exp", "step")
_TINY = 1e-10  # below the logarithms of AvU


@dataclass(frozen=True)
class EvidentialSettings:
    """The evidence and the loss of an evidential classifier; the defaults are those of the published models.

    Args:
        evidence: of a logit, a name in `EVIDENCES`.
        loss: the main term, of `LOSSES`. "mse" adds the variance of the Dirichlet distribution, "cross_entropy" adds
            that and the KL term, as the original does.
        kl: add the annealed KL divergence of the evidence for wrong classes from none.
        avu: add the annealed term of accuracy versus uncertainty, with the losses "log" and "digamma".
        disentangle: the variant of AvU with confidence inside the logarithms.
        annealing: how the weight of both terms rises by epoch: "exp" from `annealing_start` to 1 at the end of
            training, "step" linearly from 0 to 1 in `annealing_epochs`.
        annealing_start: above 0, at most 1.
        annealing_epochs: above 0.

    Raises:
        ValueError: if a name is unknown, a number is out of range, or a switch is neither true nor false.
    """

    evidence: str = "exp"
    loss: str = "log"
    kl: bool = False
    avu: bool = False
    disentangle: bool = False
    annealing: str = "exp"
    annealing_start: float = 0.01
    annealing_epochs: float = 10

    def __post_init__(self) -> None:
        for name, choices in (("evidence", EVIDENCES), ("loss", LOSSES), ("annealing", ANNEALINGS)):
            check_name(getattr(self, name), choices, f"evidential.{name}")
        for name in ("kl", "avu", "disentangle"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"evidential.{name}={getattr(self, name)!r} must be true or false.")
        if not 0 < self.annealing_start <= 1 or self.annealing_epochs <= 0:
            raise ValueError(
                f"evidential.annealing_start={self.annealing_start} must be above 0 and at most 1, and "
                f"evidential.annealing_epochs={self.annealing_epochs} above 0."
            )

    def annealing_weight(self, epoch: int, num_epochs: int) -> float:
        """Return the weight of the annealed terms in an epoch, 0-1.

        Args:
            epoch: counted from 0.
            num_epochs: of the training.
        """
        if self.annealing == "step":
            return min(1.0, epoch / self.annealing_epochs)
        return self.annealing_start * math.exp(-math.log(self.annealing_start) / num_epochs * epoch)


def concentrations(logits: torch.Tensor, evidence: str) -> torch.Tensor:
    """Return `alpha` of the Dirichlet distribution in float32, 1 or more, `(..., classes)`.

    Args:
        logits: `(..., classes)`.
        evidence: a name in `EVIDENCES`.
    """
    return EVIDENCES[evidence](logits.float()) + 1


def expected_probabilities(alpha: torch.Tensor) -> torch.Tensor:
    """Return the mean of the Dirichlet distribution, `(..., classes)`.

    Args:
        alpha: from `concentrations`.
    """
    return alpha / alpha.sum(dim=-1, keepdim=True)


def uncertainty(alpha: torch.Tensor) -> torch.Tensor:
    """Return `K / S`, above 0, and 1 without evidence, `(...)`.

    Args:
        alpha: from `concentrations`.
    """
    return alpha.shape[-1] / alpha.sum(dim=-1)


def evidential_losses(
    logits: torch.Tensor, labels: torch.Tensor, settings: EvidentialSettings, annealing_weight: float = 1.0
) -> dict[str, torch.Tensor]:
    """Compute the terms of the evidential loss, each `(batch,)`, in float32.

    Args:
        logits: `(batch, classes)`.
        labels: class numbers `(batch,)`, or soft targets `(batch, classes)`. The terms of `IGNORED` ones are 0.
        settings: of the model.
        annealing_weight: of the terms `kl` and `avu`, 0-1, see `EvidentialSettings.annealing_weight`.

    Returns:
        `cls` and, where the loss has them, `variance`, `kl` and `avu`; the loss is the sum of their means.
    """
    targets = _targets(labels.to(logits.device), logits.shape[-1])
    alpha = concentrations(logits, settings.evidence)
    total, terms = alpha.sum(dim=-1, keepdim=True), {}
    probabilities = alpha / total
    if settings.loss == "mse":
        terms["cls"] = (targets - probabilities).square().sum(dim=-1)
    elif settings.loss == "cross_entropy":
        terms["cls"] = -(targets * probabilities.log()).sum(dim=-1)
    else:
        function = torch.log if settings.loss == "log" else torch.digamma
        terms["cls"] = (targets * (function(total) - function(alpha))).sum(dim=-1)
    if settings.loss in ("mse", "cross_entropy"):
        terms["variance"] = (alpha * (total - alpha) / (total * total * (total + 1))).sum(dim=-1)
    if settings.kl or settings.loss == "cross_entropy":
        terms["kl"] = annealing_weight * divergence_from_uniform((alpha - 1) * (1 - targets) + 1)
    if settings.avu and settings.loss in ("log", "digamma"):
        terms["avu"] = _accuracy_versus_uncertainty(alpha, targets, settings.disentangle, annealing_weight)
    known = targets.sum(dim=-1) > 0
    return {name: torch.where(known, term, 0.0) for name, term in terms.items()}


def mean_of_known(terms: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean of a loss over the labels that are not `IGNORED`, 0 without any.

    Args:
        terms: `(batch,)`.
        labels: as of `evidential_losses`.
    """
    count = (labels != IGNORED).sum() if labels.ndim == 1 else len(labels)
    return terms.sum() / torch.as_tensor(count, device=terms.device).clamp(min=1)


def divergence_from_uniform(alpha: torch.Tensor) -> torch.Tensor:
    """Return the KL divergence of Dirichlet distributions from the uniform one, `(...)`.

    Args:
        alpha: `(..., classes)`.
    """
    # In the original's order: the logarithms are large and cancel, so that another one rounds differently in float32.
    total, none = alpha.sum(dim=-1, keepdim=True), torch.ones_like(alpha[..., :1])
    normalization = total.lgamma() - alpha.lgamma().sum(dim=-1, keepdim=True)
    uniform = -(none * alpha.shape[-1]).lgamma()
    of_total, of_each = total.digamma(), alpha.digamma()
    terms = ((alpha - 1) * (of_each - of_total)).sum(dim=-1, keepdim=True)
    return (terms + normalization + uniform)[..., 0]


def _accuracy_versus_uncertainty(
    alpha: torch.Tensor, targets: torch.Tensor, disentangle: bool, weight: float
) -> torch.Tensor:
    """Return the term that wants right answers certain and wrong ones uncertain, `(batch,)`."""
    confidence, answers = expected_probabilities(alpha).max(dim=-1)
    is_right, doubt = (answers == targets.argmax(dim=-1)).float(), uncertainty(alpha)
    if disentangle:
        of_right = -(confidence * (1 - doubt) + _TINY).log()
        of_wrong = -((1 - confidence) * doubt + _TINY).log()
    else:
        of_right = -confidence * (1 - doubt + _TINY).log()
        of_wrong = -(1 - confidence) * (doubt + _TINY).log()
    return weight * is_right * of_right + (1 - weight) * (1 - is_right) * of_wrong


def _targets(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Return soft targets in float32, all 0 in rows without a known label."""
    if labels.ndim == 2:
        return labels.float()
    known = labels != IGNORED
    return nn.functional.one_hot(labels.where(known, 0), classes).float() * known[:, None]
