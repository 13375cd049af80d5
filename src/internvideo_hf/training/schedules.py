"""Learning-rate schedules of the released recipes, as pure functions of the position in training.

All take the same arguments:

    step: position in training, at least 0; fractions of a step are allowed.
    total_steps: steps of the training.
    warmup_steps: steps of the warm-up, fewer than `total_steps`.
    start: value at the first step of the warm-up.
    end: value at the end of training.
    peak: value after the warm-up. At 1, the default, the results are factors.

They raise a ValueError if the step is negative, or the warm-up does not end before training.
"""

import math
from collections.abc import Callable


def linear_then_cosine(
    step: float, total_steps: float, warmup_steps: float = 0, start: float = 0, end: float = 0, *, peak: float = 1
) -> float:
    """Compute VideoMAE's schedule, of a learning rate or a weight decay: a linear warm-up, then a cosine to `end`.

    As in the original, the warm-up reaches `peak` at its last step, the cosine starts with `peak` once more, and ends
    one step before it would reach `end`. Source: VideoMAE's `cosine_scheduler`.
    """
    _check_steps(step, total_steps, warmup_steps)
    if step < warmup_steps:
        return start if warmup_steps == 1 else start + (peak - start) * step / (warmup_steps - 1)
    return end + (peak - end) * _cosine(min((step - warmup_steps) / (total_steps - warmup_steps), 1.0))


def warmup_cosine(
    step: float, total_steps: float, warmup_steps: float = 0, start: float = 0, end: float = 0, *, peak: float = 1
) -> float:
    """Compute UniFormerV2's learning rate: a linear warm-up, then a cosine over the remaining steps to `end`.

    The original evaluates it once an iteration, at fractions of an epoch. Source: UniFormerV2 training code
    (PySlowFast).
    """
    _check_steps(step, total_steps, warmup_steps)
    if step < warmup_steps:
        return start + step * (peak - start) / warmup_steps
    return end + (peak - end) * _cosine(min((step - warmup_steps) / (total_steps - warmup_steps), 1.0))


def warmup_cosine_floored(
    step: float,
    total_steps: float,
    warmup_steps: float = 0,
    start: float = 0,
    end: float = 0,
    *,
    peak: float = 1,
    floor: float = 0.01,
) -> float:
    """Compute ViCLIP's learning rate: a linear warm-up, then a half cosine, neither below `floor * peak`.

    It ignores `start` and `end`. The cosine is not held at its end: it rises again if training continues (released).
    Source: ViCLIP training code, evaluated once an iteration.
    """
    _check_steps(step, total_steps, warmup_steps)
    if step < warmup_steps:
        return peak * max(floor, step / warmup_steps)
    return peak * max(floor, _cosine((step - warmup_steps) / (total_steps - warmup_steps)))


def warmup_cosine_of_all(
    step: float, total_steps: float, warmup_steps: float = 0, start: float = 0, end: float = 0, *, peak: float = 1
) -> float:
    """Compute the learning rate of retrieval fine-tuning: a linear warm-up from 0, then a cosine to 0.

    It ignores `start` and `end`. The cosine counts from the first step of training, not from the end of the warm-up,
    so the rate drops a little there (released). Source: the `warmup_cosine` of BertAdam.
    """
    _check_steps(step, total_steps, warmup_steps)
    return peak * (step / warmup_steps if step < warmup_steps else _cosine(step / total_steps))


def two_drops(
    step: float, total_steps: float, warmup_steps: float = 0, start: float = 0, end: float = 0, *, peak: float = 1
) -> float:
    """Compute the learning rate of open-set training: a tenth behind two fifths of training, and again behind four.

    These are epochs 20 and 40 of the released 50, which have no warm-up. It ignores `end`. Source: MMAction2 ("step"
    policy).
    """
    _check_steps(step, total_steps, warmup_steps)
    if step < warmup_steps:
        return start + step * (peak - start) / warmup_steps
    return peak * 0.1 ** sum(5 * step >= fifths * total_steps for fifths in (2, 4))


def one_drop(
    step: float, total_steps: float, warmup_steps: float = 0, start: float = 0, end: float = 0, *, peak: float = 1
) -> float:
    """Compute DINO's learning rate: a linear warm-up, then `peak`, and a tenth in the last twelfth of training.

    That is the last of the original's twelve epochs. It ignores `end`. Source: mmdetection ("step" policy).
    """
    _check_steps(step, total_steps, warmup_steps)
    if step < warmup_steps:
        return start + step * (peak - start) / warmup_steps
    return peak * (0.1 if 12 * step >= 11 * total_steps else 1)


def cosine_then_step(
    step: float, total_steps: float, warmup_steps: float = 0, start: float = 0, end: float = 0, *, peak: float = 1
) -> float:
    """Compute TCANet's learning rate: a rise from `start` along a half cosine, then `peak`, then `end`.

    Of the nine epochs of the original, the last two have `end`; here the last two ninths of any training.
    Source: the public training settings of TCANet.
    """
    _check_steps(step, total_steps, warmup_steps)
    if step < warmup_steps:
        return peak + (start - peak) * _cosine(step / warmup_steps)
    return peak if 9 * step < 7 * total_steps else end


def _cosine(progress: float) -> float:
    """Return the factor of a half cosine from 1 at progress 0 to 0 at progress 1."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def _check_steps(step: float, total_steps: float, warmup_steps: float) -> None:
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(
            f"warmup_steps: got {warmup_steps}, expected at least 0 and less than total_steps={total_steps}; shorten "
            "the warm-up"
        )
    if step < 0:
        raise ValueError(f"step: got {step}, expected 0 or more; count the steps since the start of training")


SCHEDULES: dict[str, Callable[[float, float, float, float, float], float]] = {
    "linear_then_cosine": linear_then_cosine,
    "warmup_cosine": warmup_cosine,
    "warmup_cosine_floored": warmup_cosine_floored,
    "warmup_cosine_of_all": warmup_cosine_of_all,
    "two_drops": two_drops,
    "one_drop": one_drop,
    "cosine_then_step": cosine_then_step,
}
"""Name in a recipe -> schedule; called with step, total_steps, warmup_steps, start and end."""
