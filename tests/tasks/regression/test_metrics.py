"""Errors and correlations of estimated numbers, by hand."""

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, mean_squared_error

from internvideo_hf.tasks.regression.metrics import regression_scores, scores_of_numbers


def test_scores_by_hand():
    # Errors 1, 1, 2; ranks of the estimates 1.5, 1.5, 3: Spearman is that of (1.5, 1.5, 3) and (1, 2, 3).
    found = regression_scores(np.array([[2.0], [2.0], [6.0]]), np.array([[1.0], [3.0], [4.0]]))
    pearson = (16 / 3) / np.sqrt((32 / 3) * (14 / 3))
    assert found == pytest.approx({"MAE": 4 / 3, "MSE": 2, "Pearson": pearson, "Spearman": np.sqrt(3) / 2})


@pytest.mark.parametrize("seed", range(3))
def test_errors_are_those_of_scikit_learn_and_ranks_ignore_the_scale(seed):
    draws = np.random.default_rng(seed)
    labels = draws.normal(size=(30, 2))
    estimates = labels + draws.normal(size=(30, 2))
    found = regression_scores(estimates, labels)
    assert found["MAE"] == pytest.approx(mean_absolute_error(labels, estimates))
    assert found["MSE"] == pytest.approx(mean_squared_error(labels, estimates))
    assert regression_scores(np.exp(estimates), labels)["Spearman"] == pytest.approx(found["Spearman"])
    assert regression_scores(3 * estimates - 7, labels)["Pearson"] == pytest.approx(found["Pearson"])


def test_unknown_numbers_and_unreadable_videos_are_left_out():
    estimates = np.array([[1.0, 5.0], [2.0, 9.0], [np.nan, np.nan]])
    labels = np.array([[1.0, -100], [4.0, -100], [7.0, 7.0]])
    assert scores_of_numbers(estimates, labels) == [
        {"MAE": 1, "MSE": 2, "Pearson": pytest.approx(1), "Spearman": pytest.approx(1)},
        {},
    ]
    assert regression_scores(estimates, labels)["MAE"] == 1
    assert regression_scores(estimates, np.full((3, 2), -100)) == {}


def test_constant_numbers_have_no_correlation():
    assert regression_scores(np.ones((3, 1)), np.array([[1.0], [2], [3]])) == {"MAE": 1, "MSE": pytest.approx(5 / 3)}
