"""What TCANet's stages learn: the boundaries of well placed proposals, and the overlap of all kinds of them.

All sums run over the proposals of one batch, and no gradient is stopped: it flows from a stage's targets, which depend
on the proposals that the stage before has refined, back into that one.

The targets of centers and widths are not scaled, although `refine` scales what is predicted; so it is in the original.
"""

import torch
from torch.nn.functional import smooth_l1_loss

LOWEST_OVERLAP = 0.3  # proposals below are "low" examples of the overlap, those from here to the threshold "middle"
_SMALLEST_WIDTH, _EPSILON = 1e-5, 1e-5


def match_segments(proposals: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
    """Return for each proposal the segment that it overlaps best, as the labels of the model.

    Args:
        proposals: of one video, `(proposals, 2)`, start and end in seconds.
        segments: its ground truth, `(n, 2)`, likewise.

    Returns:
        `(proposals, 2)`; of equal overlaps the first segment, and zeros where the video has none.
    """
    if not len(segments):
        return torch.zeros_like(proposals)
    return segments[overlap(proposals[:, None], segments[None]).argmax(dim=1)].to(proposals.dtype)


def overlap(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the intersection over union of segments `(..., 2)`."""
    shared = torch.minimum(first[..., 1], second[..., 1]) - torch.maximum(first[..., 0], second[..., 0])
    shared = shared.clamp(min=0)
    union = first[..., 1] - first[..., 0] - shared + second[..., 1] - second[..., 0]
    return shared / (union + _EPSILON)


def boundary_loss(
    offsets: torch.Tensor, shape: torch.Tensor, proposals: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Compare predicted changes of proposals with those that lead to their segments.

    Args:
        offsets: of start and end, `(..., 2)`, in widths of the proposal.
        shape: of the center, in widths, and the logarithm of the change in width, `(..., 2)`.
        proposals: `(..., 2)`.
        labels: their segments, `(..., 2)`.
        weights: `(...)`, 1 for the proposals that count.

    Returns:
        The mean over these proposals of the sum over their four numbers; 0 if none counts.
    """
    widths, true_widths = (
        (ends - starts).clamp(min=_SMALLEST_WIDTH) for starts, ends in (proposals.unbind(-1), labels.unbind(-1))
    )
    centers, true_centers = proposals[..., 0] + 0.5 * widths, labels[..., 0] + 0.5 * true_widths
    true_offsets = (labels - proposals) / widths[..., None]
    true_shape = torch.stack([(true_centers - centers) / widths, (true_widths / widths).log()], dim=-1)
    errors = smooth_l1_loss(offsets, true_offsets, reduction="none").sum(-1)
    errors = errors + smooth_l1_loss(shape, true_shape, reduction="none").sum(-1)
    return (errors * weights).sum() / weights.sum().clamp(min=1)


def overlap_loss(
    predicted: torch.Tensor, overlaps: torch.Tensor, threshold: float, draws: torch.Tensor, is_real: torch.Tensor
) -> torch.Tensor:
    """Compare predicted with true overlaps, on about as many middle and low examples as there are high ones.

    Args:
        predicted: `(...)`, 0-1.
        overlaps: of the proposals with their segments, `(...)`.
        threshold: overlap above which an example is high.
        draws: `(..., 2)`, uniform in [0, 1): which of the middle and of the low examples count.
        is_real: `(...)`, False on padding.

    Returns:
        The mean over the examples that count; 0 if none does.
    """
    high = is_real & (overlaps > threshold)
    low = is_real & (overlaps <= LOWEST_OVERLAP)
    chosen = high
    for examples, draw in zip((is_real & ~high & ~low, low), draws.unbind(-1), strict=True):
        rate = (high.sum() / examples.sum().clamp(min=1)).clamp(max=1)
        chosen = chosen | (draw * examples > 1 - rate)
    errors = smooth_l1_loss(predicted, overlaps, reduction="none") * chosen
    return errors.sum() / chosen.sum().clamp(min=1)
