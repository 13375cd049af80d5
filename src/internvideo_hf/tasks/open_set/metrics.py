"""Metrics of open-set recognition, in percent.

A positive video is one of an unknown class. scikit-learn computes what it has. Source: the released evaluation of
InternVideo's open-set models (reference case `os_threshold_auc`).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Metric = Callable[[Array, Array], Any]
ECE_BINS = 15
NUM_DRAWS = 10


class MacroF1(NamedTuple):
    """Macro F1 with more and more unknown classes.

    Args:
        mean: over the steps, weighted by their openness, in percent.
        deviation: of the draws at each step, weighted in the same way, in percent.
        openness: of each step, in percent: 0 without unknown classes.
        by_openness: F1 of each step, in percent.
    """

    mean: float
    deviation: float
    openness: list[float]
    by_openness: list[float]


def require() -> None:
    """Refuse to begin without scikit-learn.

    Raises:
        ImportError: if it is not installed.
    """
    try:
        import sklearn.metrics  # type: ignore[import-untyped]  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "Open-set scores are computed by scikit-learn: pip install 'internvideo-hf[open-set]'."
        ) from error


def ranking_scores(known: Array, unknown: Array) -> dict[str, float]:
    """Return how scores order videos: `AUROC`, `AUPR` (area by trapezoids) and `FPR95`.

    FPR95 is the fraction of known videos that are taken for unknown where the fraction of unknown ones that are found
    is nearest to 95 %; the lower one of two.

    Args:
        known: scores of known videos, `(videos,)`; a higher one is less known.
        unknown: scores of unknown videos, `(videos,)`.
    """
    from sklearn.metrics import auc, precision_recall_curve, roc_auc_score, roc_curve

    truth, scores = _joined(known, unknown)
    precision, recall, _ = precision_recall_curve(truth, scores)
    false, found, _ = roc_curve(truth, scores)
    return {
        "AUROC": 100 * float(roc_auc_score(truth, scores)),
        "AUPR": 100 * float(auc(recall, precision)),
        "FPR95": 100 * float(false[np.abs(found - 0.95).argmin()]),
    }


def decision_auc(known: Array, unknown: Array) -> float:
    """Return the area under the curve of decisions, the mean of both fractions of right ones, in percent.

    Args:
        known: whether each known video is taken for unknown, bool, `(videos,)`.
        unknown: the same of each unknown video.
    """
    from sklearn.metrics import roc_auc_score

    return 100 * float(roc_auc_score(*_joined(known, unknown)))


def _joined(known: Array, unknown: Array) -> tuple[Array, Array]:
    truth = np.repeat([0, 1], [len(known), len(unknown)])
    return truth, np.concatenate([known, unknown])


def open_macro_f1(
    known_labels: Array,
    known_answers: Array,
    unknown_labels: Array,
    unknown_answers: Array,
    num_known: int,
    random: np.random.RandomState,
    draws: int = NUM_DRAWS,
) -> MacroF1:
    """Return macro F1 over the known classes and "unknown", with 1, 2, ... of the unknown classes among the videos.

    Args:
        known_labels: classes of known videos, `(videos,)`.
        known_answers: the class that each is given, `num_known` if it is taken for unknown.
        unknown_labels: classes of unknown videos, numbered apart from the known ones, `(videos,)`.
        unknown_answers: the same as of known ones.
        num_known: number of known classes.
        random: draws unknown classes, `draws` times for each number of them.
        draws: 1 or more.
    """
    # By counts, which are added up: thousands of calls of scikit-learn's f1_score would take minutes.
    truth = np.bincount(known_labels, minlength=num_known + 1)
    given = np.bincount(known_answers, minlength=num_known + 1)
    right = np.bincount(known_labels[known_labels == known_answers], minlength=num_known + 1)
    classes = np.unique(unknown_labels)
    others = np.zeros((len(classes), num_known + 1), np.int64)
    np.add.at(others, (np.searchsorted(classes, unknown_labels), unknown_answers), 1)
    rejected = np.eye(num_known + 1, dtype=np.int64)[num_known]

    def macro_f1(chosen: Array) -> float:
        added = others[chosen].sum(axis=0)
        total = truth + given + added + rejected * added.sum()
        found = right + rejected * added
        return float((2 * found[total > 0] / total[total > 0]).mean())

    openness, means, deviations = [0.0], [macro_f1(np.zeros(0, np.int64))], [0.0]
    for count in range(1, len(classes) + 1):
        values = [macro_f1(random.choice(len(classes), count, replace=False)) for _ in range(draws)]
        openness.append(1 - np.sqrt(2 * num_known / (2 * num_known + count)))
        means.append(float(np.mean(values)))
        deviations.append(float(np.std(values)))
    weights = np.array(openness) / np.sum(openness)
    return MacroF1(
        100 * float(weights @ means),
        100 * float(weights @ deviations),
        [100 * float(value) for value in openness],
        [100 * value for value in means],
    )


def calibration_error(confidence: Array, right: Array, bins: int = ECE_BINS) -> float:
    """Return the expected calibration error, in percent: how far confidence lies from accuracy, over equal bins.

    Args:
        confidence: above 0, at most 1, `(videos,)`.
        right: whether each answer is right, bool, `(videos,)`.
        bins: 1 or more.
    """
    places = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(places, weights=right.astype(float) - confidence, minlength=bins)
    return 100 * float(np.abs(gaps).sum() / len(confidence))


def doubt_of_right_and_wrong(confidence: Array, doubt: Array, right: Array) -> float:
    """Return the error of accuracy versus uncertainty (EAvUC), summed over videos; lower is better.

    Args:
        confidence: in the answer, 0-1, `(videos,)`.
        doubt: uncertainty, above 0 and below 1, `(videos,)`.
        right: whether each answer is right, bool, `(videos,)`.
    """
    terms = np.where(right, confidence * np.log(1 - doubt), (1 - confidence) * np.log(doubt))
    return float(-terms.sum())


def accuracy(labels: Sequence[int] | Array, answers: Sequence[int] | Array) -> float:
    """Return how many answers are right, in percent.

    Args:
        labels: true classes, `(videos,)`.
        answers: predicted classes, `(videos,)`.
    """
    return 100 * float(np.mean(np.asarray(labels) == np.asarray(answers)))
