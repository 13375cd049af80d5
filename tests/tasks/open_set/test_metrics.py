"""Metrics of open-set recognition: by hand, and by another way to count."""

import sys

import numpy as np
import pytest
from sklearn.metrics import f1_score

from internvideo_hf.tasks.open_set.metrics import (
    accuracy,
    calibration_error,
    decision_auc,
    doubt_of_right_and_wrong,
    open_macro_f1,
    ranking_scores,
    require,
)

DRAWS = np.random.default_rng(0)
KNOWN, UNKNOWN = DRAWS.normal(size=60).round(1), DRAWS.normal(1.0, size=40).round(1)


def test_ranking_scores_count_pairs():
    found = ranking_scores(KNOWN, UNKNOWN)
    pairs = np.sign(UNKNOWN[:, None] - KNOWN)
    assert found["AUROC"] == pytest.approx(100 * (pairs + 1).mean() / 2)
    thresholds = np.unique(np.concatenate([KNOWN, UNKNOWN]))[::-1]
    found_fraction = np.array([(threshold <= UNKNOWN).mean() for threshold in thresholds])
    false = np.array([(threshold <= KNOWN).mean() for threshold in thresholds])
    assert found["FPR95"] == pytest.approx(100 * false[np.abs(found_fraction - 0.95).argmin()])
    precision = 40 * found_fraction / (40 * found_fraction + 60 * false)
    recall, heights = np.concatenate([[0], found_fraction]), np.concatenate([[1], precision])
    assert found["AUPR"] == pytest.approx(100 * np.trapezoid(heights, recall), rel=1e-6)
    assert ranking_scores(np.zeros(3), np.ones(2)) == {"AUROC": 100, "AUPR": 100, "FPR95": 0}


def test_decisions_count_both_kinds_alike():
    known, unknown = np.array([True, False, False, False]), np.array([True] * 9 + [False])
    assert decision_auc(known, unknown) == pytest.approx(100 * (0.9 + 0.75) / 2)


def test_f1_over_openness_by_hand():
    known_labels, known_answers = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1])
    unknown_labels, unknown_answers = np.array([7, 7, 9, 9]), np.array([2, 2, 2, 0])
    found = open_macro_f1(
        known_labels, known_answers, unknown_labels, unknown_answers, 2, np.random.RandomState(0), draws=40
    )
    openness = [100 * (1 - np.sqrt(4 / (4 + count))) for count in range(3)]
    assert found.openness == pytest.approx(openness)
    closed = (2 * 1 / 3 + 1 + 0) / 3  # of classes 0 and 1, and of the unknown one, of which there is none
    by_class = {7: (2 / 3 + 1 + 2 * 2 / 5) / 3, 9: (2 * 1 / 4 + 1 + 2 * 1 / 4) / 3}
    both = (2 * 1 / 4 + 1 + 2 * 3 / 8) / 3
    first = found.by_openness[1] / 100
    assert min(by_class.values()) < first < max(by_class.values()) and found.by_openness[2] == pytest.approx(
        100 * both
    )
    assert found.by_openness[0] == pytest.approx(100 * closed)
    expected = (openness[1] * first + openness[2] * both) / sum(openness[1:])
    assert found.mean == pytest.approx(100 * expected) and found.deviation > 0


def test_f1_is_that_of_scikit_learn():
    labels, answers = DRAWS.integers(0, 5, 50), DRAWS.integers(0, 6, 50)
    others, taken = DRAWS.integers(10, 14, 30), DRAWS.integers(0, 6, 30)
    found = open_macro_f1(labels, answers, others, taken, 5, np.random.RandomState(7), draws=3)
    random, expected = np.random.RandomState(7), [f1_score(labels, answers, average="macro")]
    for count in range(1, 5):
        values = []
        for _ in range(3):
            rows = np.isin(others, 10 + random.choice(4, count, replace=False))
            truth, given = np.r_[labels, np.full(rows.sum(), 5)], np.r_[answers, taken[rows]]
            values.append(f1_score(truth, given, average="macro"))
        expected.append(np.mean(values))
    assert found.by_openness == pytest.approx([100 * value for value in expected])


def test_errors_of_calibration_by_hand():
    confidence, right = np.array([0.95, 0.97, 0.55, 1 / 15]), np.array([True, False, True, False])
    assert calibration_error(confidence, right) == pytest.approx(100 * (0.92 + 0.45 + 1 / 15) / 4)
    assert calibration_error(np.array([1.0, 1.0]), np.array([True, True])) == 0
    doubt = np.array([0.1, 0.2, 0.3, 0.4])
    terms = [0.95 * np.log(0.9), 0.03 * np.log(0.2), 0.55 * np.log(0.7), (1 - 1 / 15) * np.log(0.4)]
    assert doubt_of_right_and_wrong(confidence, doubt, right) == pytest.approx(-sum(terms))
    assert accuracy([0, 1, 2, 3], [0, 1, 2, 0]) == 75


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    require()
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(ImportError, match=r"pip install 'internvideo-hf\[open-set\]'"):
        require()
