"""Mean average precision, and accuracies of several heads."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from internvideo_hf.tasks.multi_label.metrics import (
    accuracies_of_heads,
    average_precisions,
    mean_average_precision,
)


def test_average_precision_by_hand():
    # Right at ranks 1 and 3 of 3: (1/1 + 2/3) / 2. Nowhere: not counted. At rank 2 of 2, as the first is unknown.
    scores = np.array([[0.9, 0.1, 0.9], [0.5, 0.2, 0.5], [0.1, 0.3, 0.1]])
    labels = np.array([[1, 0, -100], [0, 0, 0], [1, 0, 1]])
    found = average_precisions(scores, labels)
    assert found[[0, 2]] == pytest.approx([5 / 6, 1 / 2]) and np.isnan(found[1])
    assert mean_average_precision(scores, labels) == {"mAP": pytest.approx(100 * 2 / 3)}
    assert mean_average_precision(scores, np.zeros((3, 3))) == {"mAP": 0}


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_is_that_of_scikit_learn_with_equal_scores_too(seed):
    draw = np.random.default_rng(seed)
    scores, labels = draw.integers(0, 6, (40, 5)) / 5, draw.integers(0, 2, (40, 5))
    assert average_precisions(scores, labels) == pytest.approx(average_precision_score(labels, scores, average=None))


def test_each_head_has_its_accuracy_and_all_have_one():
    heads = {"verb": slice(0, 2), "noun": slice(2, 5)}
    scores = np.array([[2, 1, 0, 0, 1], [1, 2, 5, 0, 0], [1, 2, 0, 1, 0]])
    labels = np.array([[0, 2], [0, 0], [1, -100]])
    assert accuracies_of_heads(scores, labels, heads) == {
        "verb-top-1": pytest.approx(200 / 3),
        "verb-top-5": 100,
        "noun-top-1": 100,
        "noun-top-5": 100,
        "all-top-1": 50,
    }
    assert accuracies_of_heads(scores, np.full((3, 2), -100), heads) == {}


def test_no_class_finds_an_unreadable_video():
    scores, labels = np.array([[0.9], [0.8], [np.nan], [np.nan]]), np.array([[1], [0], [1], [0]])
    assert average_precisions(scores, labels) == pytest.approx([1 / 2])
    assert average_precisions(scores[2:], labels[2:]) == pytest.approx([0])


def test_an_unreadable_video_is_wrong_for_each_head_and_all():
    scores, labels = np.array([[1.0, 0, 1, 0], [np.nan] * 4]), np.zeros((2, 2), int)
    found = accuracies_of_heads(scores, labels, {"verb": slice(0, 2), "noun": slice(2, 4)})
    assert found == {name: 50 for name in ("verb-top-1", "verb-top-5", "noun-top-1", "noun-top-5", "all-top-1")}
