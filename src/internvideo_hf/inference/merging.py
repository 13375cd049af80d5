"""Merging of the scores of several views, and accuracy.

An unreadable video counts as wrong; the original's `ensemble.py` counts it as correct. Source: VideoMAE test
(`merge`, `ensemble`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class NotFiniteError(ValueError, RuntimeError):
    """A model's answer is infinite or NaN; a RuntimeError as well for one version, which `Embedder` raised."""


def check_finite(numbers: Array, name: str) -> None:
    """Refuse numbers that are not finite.

    Args:
        numbers: answers of a model.
        name: one of them, such as "A score of MODEL".

    Raises:
        NotFiniteError: if one is infinite or NaN, which damaged weights cause.
    """
    if not np.isfinite(numbers).all():
        raise NotFiniteError(f"{name} is not finite: the model's weights are damaged. Convert or download it again.")


def _softmax(logits: Array) -> Array:
    # An infinite logit gives NaN: the video has failed.
    with np.errstate(invalid="ignore"):
        powers = np.exp(logits - logits.max())
        probabilities: Array = powers / powers.sum()
        return probabilities


FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "softmax": _softmax,
    "sigmoid": lambda logits: np.asarray(1 / (1 + np.exp(-logits))),
    "none": lambda logits: logits,
}
"""Name, as of transformers' `function_to_apply`, -> the function from logits `(classes,)` to scores."""


def function_of(problem_type: str | None, classes: int) -> str:
    """Return the name of the function from a classifier's logits to its scores; see `FUNCTIONS`.

    Args:
        problem_type: of the model's configuration.
        classes: of the model.
    """
    if problem_type == "multi_label_classification":
        return "sigmoid"
    return "none" if problem_type == "regression" or classes == 1 else "softmax"


def class_scores(
    logits: Array,
    problem_type: str | None,
    heads: Mapping[str, slice] | None = None,
    function: str | None = None,
) -> Array:
    """Return what a classifier says of one view: for each class a probability, or for a regression the numbers.

    Args:
        logits: `(classes,)`.
        problem_type: of the model's configuration: several classes at once are independent of each other.
        heads: from `head_slices`: the classes of a head exclude each other. None, or none, for one answer.
        function: a name in `FUNCTIONS`; that of `problem_type` if None.
    """
    apply = FUNCTIONS[function or function_of(problem_type, len(logits))]
    return np.concatenate([apply(logits[place]) for place in heads.values()]) if heads else apply(logits)


METHODS: dict[str, Callable[[Array], Array]] = {
    "prob": _softmax,
    "score": lambda logits: logits,
}
"""Name -> the quantity that is averaged over views. prob: probabilities (the published scores). score: logits."""


def top_k_accuracies(scores: Array, labels: Array, ks: Sequence[int] = (1, 5)) -> dict[str, float]:
    """Return how often the true class is among the k best, in percent: `{"top-1": ..., "top-5": ...}`.

    Ties go to the lower class. With fewer than k classes, every row without NaN is right.

    Args:
        scores: `(rows, classes)`; a row with NaN, such as that of an unreadable video, counts as wrong.
        labels: true classes, `(rows,)`.
        ks: numbers of classes to consider, 1 or more.

    Raises:
        ValueError: if a k is not positive.
    """
    if min(ks) < 1:
        raise ValueError(f"k: got {min(ks)}, expected at least 1; 1 is the usual accuracy")
    order = np.argsort(-scores, axis=1, kind="stable")
    correct = (order == labels[:, None]) & ~np.isnan(scores).any(axis=1, keepdims=True)
    return {f"top-{k}": float(100 * correct[:, :k].any(axis=1).mean()) for k in ks}
