"""Targets and losses of VSLNet, each a mean over videos."""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

FOREGROUND_WEIGHT = 2.0
"""Of highlighted rows in the loss of highlighting, where other rows count 1; the paper's code has it."""


def check_labels(labels: torch.Tensor, mask: torch.Tensor) -> None:
    """Refuse labels of another shape, and answers that do not lie in their video.

    Args:
        labels: first and last row of each answer, `(batch, 2)`.
        mask: `(batch, rows)`, True on real rows, which come first.

    Raises:
        ValueError: naming the answer and the rows of its video.
    """
    if tuple(labels.shape) != (mask.shape[0], 2) or labels.is_floating_point():
        raise ValueError(
            f"labels is {labels.dtype} of the shape {tuple(labels.shape)}, expected integers of the shape "
            f"({mask.shape[0]}, 2): the first and the last row of each answer."
        )
    if torch.compiler.is_compiling() or type(labels) is not torch.Tensor:
        return  # values of a traced tensor are not known
    rows, (first, last) = mask.sum(dim=1), labels.to(mask.device).T
    fits = (first >= 0) & (first <= last) & (last < rows)
    if not fits.all():
        wrong = int(fits.long().argmin())
        raise ValueError(
            f"labels: the answer {labels[wrong].tolist()} of sample {wrong} does not lie in its video of "
            f"{int(rows[wrong])} rows. Expected the first row and the last one, counted from 0."
        )


def highlight_targets(labels: torch.Tensor, mask: torch.Tensor, extension: float) -> torch.Tensor:
    """Return the rows to be highlighted, `(batch, rows)`: the answer, extended on both sides.

    Args:
        labels: first and last row of each answer, `(batch, 2)`.
        mask: `(batch, rows)`, True on real rows.
        extension: part of the answer's length by which it is extended; rounded to rows.
    """
    first, last = labels[:, :1], labels[:, 1:]
    extra = ((last - first + 1) * extension).round()
    rows = torch.arange(mask.shape[1], device=mask.device)
    return (rows >= first - extra) & (rows <= last + extra) & mask


def span_loss(start_logits: torch.Tensor, end_logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Compute the sum of the cross-entropies of first and last rows, in float32.

    Args:
        start_logits: `(batch, rows)`, -inf on padding.
        end_logits: likewise.
        labels: first and last row of each answer, `(batch, 2)`.
    """
    return cross_entropy(start_logits.float(), labels[:, 0]) + cross_entropy(end_logits.float(), labels[:, 1])


def highlight_loss(logits: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Compute the cross-entropy of highlighting in float32: the mean over the rows of a video, then over videos.

    Args:
        logits: `(batch, rows)`.
        targets: rows to be highlighted, `(batch, rows)`.
        mask: `(batch, rows)`, True on real rows.
    """
    weights = torch.where(targets, FOREGROUND_WEIGHT, 1.0) * mask
    losses = binary_cross_entropy_with_logits(logits.float(), targets.float(), reduction="none") * weights
    return (losses.sum(dim=1) / mask.sum(dim=1).clamp(min=1)).mean()
