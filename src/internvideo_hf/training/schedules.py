"""Learning-rate schedules of the released recipes, as pure functions of the position in training."""

import math


def warmup_cosine(
    epoch: float,
    *,
    base_lr: float,
    num_epochs: float,
    warmup_epochs: float = 0.0,
    start_lr: float = 1e-6,
    end_lr: float = 1e-6,
) -> float:
    """Computes UniFormerV2's learning rate: a linear warm-up to `base_lr`, then a cosine down to `end_lr`.

    The cosine runs over the epochs that the warm-up leaves. The original evaluates it once an iteration, at fractions
    of an epoch. Source: UniFormerV2 training code (PySlowFast).

    Args:
        epoch: Position in training, fractional, in [0, num_epochs].
        base_lr: Rate at the end of the warm-up.
        num_epochs: Epochs in all.
        warmup_epochs: Epochs of warm-up; 0 starts at `base_lr`.
        start_lr: Rate at epoch 0, if there is a warm-up.
        end_lr: Rate at `num_epochs`.

    Returns:
        The learning rate.

    Raises:
        ValueError: If the warm-up does not end before training, or the epoch lies outside.
    """
    if not 0 <= warmup_epochs < num_epochs:
        raise ValueError(
            f"warmup_epochs: got {warmup_epochs}, expected at least 0 and less than num_epochs={num_epochs}; shorten "
            "the warm-up"
        )
    if not 0 <= epoch <= num_epochs:
        raise ValueError(f"epoch: got {epoch}, expected 0 to num_epochs={num_epochs}; give epochs, not iterations")
    if epoch < warmup_epochs:
        return start_lr + epoch * (base_lr - start_lr) / warmup_epochs
    progress = (epoch - warmup_epochs) / (num_epochs - warmup_epochs)
    return end_lr + (base_lr - end_lr) * 0.5 * (1 + math.cos(math.pi * progress))


def warmup_cosine_floored(
    step: int, *, base_lr: float, total_steps: int, warmup_steps: int = 0, floor: float = 0.01
) -> float:
    """Computes ViCLIP's learning rate: a linear warm-up, then a half cosine, neither below `floor` of `base_lr`.

    The cosine is not held at its end: it rises again if training goes on (released). Source: ViCLIP training code,
    evaluated once an iteration.

    Args:
        step: Iterations done, 0 or more.
        base_lr: Rate at the end of the warm-up.
        total_steps: Iterations in all, more than `warmup_steps`.
        warmup_steps: Iterations of warm-up.
        floor: Smallest share of `base_lr`, 0-1.

    Returns:
        The learning rate.

    Raises:
        ValueError: If the warm-up does not end before training, or the step is negative.
    """
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(
            f"warmup_steps: got {warmup_steps}, expected at least 0 and less than total_steps={total_steps}; shorten "
            "the warm-up"
        )
    if step < 0:
        raise ValueError(f"step: got {step}, expected 0 or more; count the iterations done")
    if step < warmup_steps:
        return base_lr * max(floor, step / warmup_steps)
    progress = (step - warmup_steps) / (total_steps - warmup_steps)
    return base_lr * max(floor, 0.5 * (1 + math.cos(math.pi * progress)))
