"""Metrics on tables that the eye can check."""

import numpy as np
import pytest

from internvideo_hf.evaluation.metrics import dual_softmax, retrieval_recalls


def test_recalls_count_queries_whose_best_partner_is_high_enough():
    similarity = np.array([[0.9, 0.1, 0.2], [0.3, 0.1, 0.2], [0.1, 0.5, 0.4]])
    recalls = retrieval_recalls(similarity, [[0], [2], [2]], ranks=(1, 2))
    assert recalls == {"R@1": pytest.approx(100 / 3), "R@2": 100, "mean": pytest.approx(200 / 3)}


def test_one_of_several_partners_is_enough():
    assert retrieval_recalls(np.array([[0.1, 0.5, 0.3]]), [[0, 1]], ranks=(1,))["R@1"] == 100


def test_a_model_that_says_the_same_of_all_is_right_about_none():
    recalls = retrieval_recalls(np.zeros((20, 20)), [[index] for index in range(20)])
    assert recalls["R@1"] == recalls["R@10"] == 0


@pytest.mark.parametrize(
    ("similarity", "partners", "message"),
    [
        (np.zeros((2, 3)), [[0]], r"\(2, 3\), expected"),
        (np.zeros(3), [[0]], "expected"),
        (np.array([[0.0, np.nan]]), [[0]], "not finite"),
        (np.zeros((2, 2)), [[0], []], "Query 1 has no partner"),
    ],
)
def test_wrong_tables_are_refused(similarity, partners, message):
    with pytest.raises(ValueError, match=message):
        retrieval_recalls(similarity, partners)


def test_dual_softmax_weighs_each_item_by_how_much_a_query_wants_it():
    similarity = np.log(np.array([[3.0, 1.0], [1.0, 1.0]]))
    np.testing.assert_allclose(dual_softmax(similarity), similarity * [[3 / 4, 1 / 2], [1 / 4, 1 / 2]])
