"""Targets and losses of ActionFormer."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0
LENGTH_TOLERANCE = 1e-3  # grid units; segments that are as short as the shortest one by this teach their classes too


def make_targets(
    points: torch.Tensor,
    labels: Sequence[Mapping[str, torch.Tensor]],
    num_labels: int,
    radius: float | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute what each point should answer: those of the shortest segment that it is inside of and in range of.

    Args:
        points: of all levels, `(points, 4)`: position, least and most distance in grid units, stride.
        labels: of each video, `segments` in grid units, `(actions, 2)`, and `class_labels`, `(actions,)`.
        num_labels: classes.
        radius: strides from a segment's center up to which points are inside; None for the entire segment.

    Returns:
        Classes, 0 or 1, `(batch, points, num_labels)`, and distances to start and end in strides,
        `(batch, points, 2)`; the distances of points without a class have no meaning.

    Raises:
        ValueError: if segments and classes differ in number, or a class is out of range.
    """
    targets = [_targets_of_video(points, *_check(entry, num_labels), num_labels, radius) for entry in labels]
    classes, distances = zip(*targets, strict=True)
    return torch.stack(classes), torch.stack(distances)


def _check(label: Mapping[str, torch.Tensor], num_labels: int) -> tuple[torch.Tensor, torch.Tensor]:
    segments, classes = label["segments"], label["class_labels"]
    if segments.shape != (len(classes), 2):
        raise ValueError(
            f"labels: segments has the shape {tuple(segments.shape)} for class_labels of the shape "
            f"{tuple(classes.shape)}, expected (actions, 2) and (actions,)."
        )
    if len(classes) and not 0 <= int(classes.min()) <= int(classes.max()) < num_labels:
        raise ValueError(f"labels: class_labels holds {classes.tolist()}, expected 0 to {num_labels - 1}.")
    return segments, classes


def _targets_of_video(
    points: torch.Tensor, segments: torch.Tensor, labels: torch.Tensor, num_labels: int, radius: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    if not len(segments):
        return points.new_zeros(len(points), num_labels), points.new_zeros(len(points), 2)
    positions, least, most, strides = points.T[..., None]  # (points, 1) each
    start, end = segments.to(points).T  # (actions,) each
    distances = torch.stack([positions - start, end - positions], dim=-1)
    inside = distances
    if radius is not None:
        center, reach = (start + end) / 2, strides * radius
        first, last = torch.maximum(center - reach, start), torch.minimum(center + reach, end)
        inside = torch.stack([positions - first, last - positions], dim=-1)
    farthest = distances.amax(dim=-1)
    fits = (inside.amin(dim=-1) > 0) & (farthest >= least) & (farthest <= most)
    lengths = (end - start).expand_as(fits).masked_fill(~fits, torch.inf)
    shortest, chosen = lengths.min(dim=1, keepdim=True)
    is_shortest = fits & (lengths <= shortest + LENGTH_TOLERANCE)
    one_hot = nn.functional.one_hot(labels.to(points.device).long(), num_labels).to(points.dtype)
    classes = (is_shortest.to(points.dtype) @ one_hot).clamp(0, 1)
    return classes, distances.gather(1, chosen[..., None].expand(-1, -1, 2))[:, 0] / strides


def class_loss(logits: torch.Tensor, classes: torch.Tensor, mask: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Compute the focal loss (arXiv 1708.02002) of all real points, summed.

    Args:
        logits: `(batch, points, num_labels)`.
        classes: targets, 0 or 1, likewise.
        mask: `(batch, points)`, True on real points.
        smoothing: of the targets, 0-1; the loss weighs by the smoothed ones.
    """
    targets = classes * (1 - smoothing) + smoothing / (classes.shape[-1] + 1)
    losses = nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    probabilities = logits.sigmoid()
    of_target = probabilities * targets + (1 - probabilities) * (1 - targets)
    weights = FOCAL_ALPHA * targets + (1 - FOCAL_ALPHA) * (1 - targets)
    return (weights * (1 - of_target) ** FOCAL_GAMMA * losses * mask[..., None]).sum()


def segment_loss(offsets: torch.Tensor, distances: torch.Tensor, is_positive: torch.Tensor) -> torch.Tensor:
    """Compute the distance-IoU loss (arXiv 1911.08287) in one dimension, summed over positive points.

    Args:
        offsets: distances to start and end, 0 or more, `(batch, points, 2)`.
        distances: targets, likewise.
        is_positive: `(batch, points)`.
    """
    offsets, distances = offsets[is_positive], distances[is_positive]
    intersection = torch.minimum(offsets, distances).sum(dim=-1)
    union = offsets.sum(dim=-1) + distances.sum(dim=-1) - intersection
    hull = torch.maximum(offsets, distances).sum(dim=-1)
    between_centers = 0.5 * (offsets.diff(dim=-1) - distances.diff(dim=-1))[:, 0]
    losses = 1 - intersection / union.clamp(min=1e-8) + (between_centers / hull.clamp(min=1e-8)) ** 2
    return losses.sum()
