"""Learning-rate schedules of the released recipes, as pure functions of the position in training."""

import math
from collections.abc import Callable


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


def linear_then_cosine(
    step: int, *, base: float, final: float, total_steps: int, warmup_steps: int = 0, start: float = 0.0
) -> float:
    """Computes VideoMAE's schedule of learning rate or weight decay: from `start` to `base`, then a cosine to `final`.

    As in the original, the warm-up reaches `base` at its last step, the cosine starts with `base` once more, and ends
    one step before it would reach `final`. Source: VideoMAE's `cosine_scheduler`.

    Args:
        step: Steps of the optimizer done, in [0, total_steps).
        base: Value after the warm-up.
        final: Value that the cosine goes to.
        total_steps: Steps in all, more than `warmup_steps`.
        warmup_steps: Steps of warm-up.
        start: Value of the first step, if there is a warm-up.

    Returns:
        The value.

    Raises:
        ValueError: If the warm-up does not end before training, or the step is negative.
    """
    _check_steps(step, total_steps, warmup_steps)
    if step < warmup_steps:
        return start if warmup_steps == 1 else start + (base - start) * step / (warmup_steps - 1)
    progress = (step - warmup_steps) / (total_steps - warmup_steps)
    return final + 0.5 * (base - final) * (1 + math.cos(math.pi * min(progress, 1.0)))


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
    _check_steps(step, total_steps, warmup_steps)
    if step < warmup_steps:
        return base_lr * max(floor, step / warmup_steps)
    progress = (step - warmup_steps) / (total_steps - warmup_steps)
    return base_lr * max(floor, 0.5 * (1 + math.cos(math.pi * progress)))


def warmup_cosine_of_all(step: int, *, base_lr: float, total_steps: int, warmup_share: float = 0.1) -> float:
    """Computes the learning rate of retrieval fine-tuning: from 0 in a line over `warmup_share` of all, then a cosine.

    The cosine counts from the first step of training and not from the end of the warm-up, so the rate drops a little
    there (released). Source: the `warmup_cosine` of BertAdam.

    Args:
        step: Steps done, in [0, total_steps].
        base_lr: Rate that the warm-up goes to.
        total_steps: Steps in all.
        warmup_share: Share of the steps that are warm-up, 0-1.

    Returns:
        The learning rate.

    Raises:
        ValueError: If the share is no share, or the step is negative.
    """
    if not 0 <= warmup_share < 1:
        raise ValueError(f"warmup_share: got {warmup_share}, expected a share of all steps, from 0 to below 1")
    _check_steps(step, total_steps, 0)
    progress = step / total_steps
    if progress < warmup_share:
        return base_lr * progress / warmup_share
    return base_lr * 0.5 * (1 + math.cos(math.pi * progress))


def _check_steps(step: int, total_steps: int, warmup_steps: int) -> None:
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(
            f"warmup_steps: got {warmup_steps}, expected at least 0 and less than total_steps={total_steps}; shorten "
            "the warm-up"
        )
    if step < 0:
        raise ValueError(f"step: got {step}, expected 0 or more; count the iterations done")


# Name in a recipe -> (step, steps in all, steps of warm-up, first rate of the warm-up, last rate) -> learning rate,
# all rates as shares of the one after the warm-up. Where a released schedule has its own numbers, these are not asked.
SCHEDULES: dict[str, Callable[[int, int, int, float, float], float]] = {
    "linear_then_cosine": lambda step, total, warmup, start, end: linear_then_cosine(
        step, base=1.0, final=end, total_steps=total, warmup_steps=warmup, start=start
    ),
    "warmup_cosine": lambda step, total, warmup, start, end: warmup_cosine(
        step, base_lr=1.0, num_epochs=total, warmup_epochs=warmup, start_lr=start, end_lr=end
    ),
    "warmup_cosine_floored": lambda step, total, warmup, start, end: warmup_cosine_floored(
        step, base_lr=1.0, total_steps=total, warmup_steps=warmup
    ),
    "warmup_cosine_of_all": lambda step, total, warmup, start, end: warmup_cosine_of_all(
        step, base_lr=1.0, total_steps=total, warmup_share=warmup / total
    ),
}
