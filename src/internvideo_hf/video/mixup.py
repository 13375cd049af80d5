"""Mixup and cutmix of the clips of a batch, as VideoMAE takes them from timm 0.4.12.

The partner of clip i is clip -1 - i: the batch is mixed with itself reversed. With repeated sampling the views of a
video stand together, so the order of the batch matters. timm 1.0 draws cutmix's box otherwise where its side is odd.
"""

import math

import numpy as np
import torch
from torch import Tensor


def mixed_targets(labels: Tensor, num_labels: int, share: float, smoothing: float = 0.1) -> Tensor:
    """Make the targets of a mixed batch: `share` of each clip's own class, the rest of its partner's.

    Args:
        labels: classes, int64, shape (batch,), in [0, num_labels).
        num_labels: number of classes.
        share: fraction that a clip keeps of itself, in [0, 1].
        smoothing: probability that is spread evenly over all classes, in [0, 1).

    Returns:
        Probabilities, float32, shape (batch, num_labels).

    Raises:
        ValueError: if the labels are not classes, or a number is out of range.
    """
    if labels.ndim != 1 or labels.is_floating_point() or not 0 <= smoothing < 1:
        raise ValueError(
            f"labels, smoothing: got {labels.dtype} of shape {tuple(labels.shape)} and {smoothing}, expected whole "
            "numbers of shape (batch,) and a number in [0, 1); mix a batch once only"
        )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_labels:
        raise ValueError(
            f"labels: got {int(labels.min())} to {int(labels.max())}, expected 0 to {num_labels - 1}; give the number "
            "of classes of the data"
        )
    off = smoothing / num_labels
    own = torch.full((len(labels), num_labels), off, device=labels.device)
    own.scatter_(1, labels[:, None], 1 - smoothing + off)
    return own * share + own.flip(0) * (1 - share)


def _draw_box(height: int, width: int, share: float, generator: np.random.RandomState) -> tuple[int, int, int, int]:
    """Draw first and last (exclusive) row and column of a box of 1 - `share` of the picture, cut at its border."""
    side = math.sqrt(1 - share)
    # Reference: half of an odd side is rounded down on both sides, so the box is a pixel smaller (vm_mixup).
    half_height, half_width = int(height * side) // 2, int(width * side) // 2
    row, column = int(generator.randint(0, height)), int(generator.randint(0, width))
    return (
        max(row - half_height, 0),
        min(row + half_height, height),
        max(column - half_width, 0),
        min(column + half_width, width),
    )


def mix_batch(
    clips: Tensor,
    labels: Tensor,
    num_labels: int,
    *,
    mixup_alpha: float = 0.8,
    cutmix_alpha: float = 1.0,
    probability: float = 1.0,
    switch_probability: float = 0.5,
    smoothing: float = 0.1,
    generator: np.random.RandomState,
) -> tuple[Tensor, Tensor]:
    """Mix a batch with itself reversed: by a weighted sum (mixup), or by a box out of the partner (cutmix).

    One draw serves the batch, one box all frames of a clip. An alpha of 0 turns either off. Draws: whether; where both
    are on, which; the share from Beta(alpha, alpha); for cutmix the box's middle row and column. Sources: mixup
    (arXiv:1710.09412), cutmix (arXiv:1905.04899), VideoMAE fine-tuning (golden case vm_mixup).

    Args:
        clips: normalized clips, shape (batch, ..., height, width), float.
        labels: classes, int64, shape (batch,).
        num_labels: number of classes.
        mixup_alpha: alpha of mixup, at least 0.
        cutmix_alpha: alpha of cutmix, at least 0.
        probability: chance to mix a batch at all, in [0, 1].
        switch_probability: chance of cutmix where both are on, in [0, 1].
        smoothing: label smoothing, in [0, 1); it applies to unmixed batches too.
        generator: source of the draws (the original: `numpy.random`).

    Returns:
        The mixed clips, of the same shape and type, and the targets, float32, shape (batch, num_labels).

    Raises:
        ValueError: if clips and labels do not fit, the clips are not normalized, or a number is out of range.
    """
    if not clips.is_floating_point() or clips.ndim < 3 or len(clips) != len(labels):
        raise ValueError(
            f"clips: got {clips.dtype} of shape {tuple(clips.shape)} for {len(labels)} labels, expected a float type, "
            "(batch, ..., height, width), and a label for each; normalize the clips before this step"
        )
    if min(mixup_alpha, cutmix_alpha) < 0 or not (0 <= probability <= 1 and 0 <= switch_probability <= 1):
        raise ValueError(
            f"got mixup_alpha={mixup_alpha}, cutmix_alpha={cutmix_alpha}, probability={probability}, "
            f"switch_probability={switch_probability}, expected alphas of at least 0 and chances in [0, 1]; 0 turns "
            "each off"
        )
    share = 1.0
    if max(mixup_alpha, cutmix_alpha) > 0 and generator.rand() < probability:
        cuts = generator.rand() < switch_probability if min(mixup_alpha, cutmix_alpha) > 0 else cutmix_alpha > 0
        alpha = cutmix_alpha if cuts else mixup_alpha
        share = float(generator.beta(alpha, alpha))
        clips, share = (_cut if cuts else _blend)(clips, share, generator)
    return clips, mixed_targets(labels, num_labels, share, smoothing)


def _blend(clips: Tensor, share: float, generator: np.random.RandomState) -> tuple[Tensor, float]:
    return clips * share + clips.flip(0) * (1 - share), share


def _cut(clips: Tensor, share: float, generator: np.random.RandomState) -> tuple[Tensor, float]:
    height, width = clips.shape[-2:]
    top, bottom, left, right = _draw_box(height, width, share, generator)
    mixed = clips.clone()
    mixed[..., top:bottom, left:right] = clips.flip(0)[..., top:bottom, left:right]
    # The box can reach beyond the border: what counts is what was replaced.
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)
