"""Ranking metrics on small tables."""

import numpy as np
import pytest

from internvideo_hf.inference.ranking import (
    dual_softmax,
    rank_scores,
    retrieval_metrics,
    retrieval_ranks,
    retrieval_recalls,
)


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


# Texts are rows: the first and the third find theirs at once, the second behind one other.
SIMILARITY = np.array([[3.0, 1.0, 0.0], [2.0, 1.0, 0.0], [0.0, 1.0, 2.0]])


def scores(recall1, median, mean):
    return {"R@1": pytest.approx(recall1), "R@5": 100, "R@10": 100, "MedR": median, "MeanR": pytest.approx(mean)}


def test_retrieval_both_ways():
    found = retrieval_metrics(SIMILARITY)
    assert found["text_to_video"]["plain"] == scores(200 / 3, 1, 4 / 3)
    # The second video is as near to each text: the other two count as before its own.
    assert found["video_to_text"]["plain"] == scores(200 / 3, 1, 5 / 3)


def test_dual_softmax_of_both_ways_is_that_of_the_whole_matrix():
    rng = np.random.default_rng(0)
    similarity = 5 * rng.standard_normal((40, 40)) + 4 * np.eye(40)
    found, partners = retrieval_metrics(similarity), [[index] for index in range(40)]
    for direction, matrix in (("text_to_video", similarity), ("video_to_text", similarity.T)):
        for way, weighed in (("plain", matrix), ("dual_softmax", dual_softmax(matrix))):
            recalls = retrieval_recalls(weighed, partners)
            assert {key: found[direction][way][key] for key in ("R@1", "R@5", "R@10")} == {
                key: recalls[key] for key in ("R@1", "R@5", "R@10")
            }


def test_order_of_captions_does_not_matter_and_blocks_do_not_show(monkeypatch):
    rng = np.random.default_rng(1)
    owners = np.array([0, 0, 0, 1, 2, 2, 3, 4, 4, 4])
    similarity, order = rng.standard_normal((10, 5)), rng.permutation(10)
    for several in ("video", "caption"):
        found = retrieval_metrics(similarity, owners, several=several)
        assert retrieval_metrics(similarity[order], owners[order], several=several) == found
        with monkeypatch.context() as patch:
            patch.setattr("internvideo_hf.inference.ranking.BLOCK_SIZE", 12)
            assert retrieval_metrics(similarity, owners, several=several) == found


def test_several_captions_are_found_by_the_nearest():
    similarity = np.array([[2.0, 4.0], [3.0, 1.0], [9.0, 2.0], [1.0, 3.0]])
    ranks = retrieval_ranks(similarity, [0, 0, 1, 1])
    assert ranks["text_to_video"]["plain"].tolist() == [1, 0, 1, 0]
    # The nearest captions of the first video: 3 of its own, 9 of the other's. Of the second: 3 of its own, 4.
    assert ranks["video_to_text"]["plain"].tolist() == [1, 1]


def test_ranks_among_captions_and_among_videos_differ():
    similarity = np.array([[5.0, 0.0], [4.0, 0.0], [3.0, 0.0], [1.0, 9.0]])
    owners = [1, 1, 1, 0]  # before the first video's own caption stand three, of one other video
    assert retrieval_ranks(similarity, owners)["video_to_text"]["plain"].tolist()[0] == 1
    assert retrieval_ranks(similarity, owners, several="caption")["video_to_text"]["plain"].tolist()[0] == 3


def test_medians_are_those_of_the_original():
    assert rank_scores(np.array([0, 1, 2, 3]))["MedR"] == 2.5
    assert rank_scores(np.array([0, 1, 2, 3]), lower_median=True)["MedR"] == 2


@pytest.mark.parametrize("several", ["video", "caption"])
@pytest.mark.parametrize("way", ["plain", "dual_softmax"])
def test_a_missing_video_is_never_found_and_stands_in_nobodys_way(several, way):
    similarity = np.array([[5.0, 9.0, 1.0], [0.0, 9.0, 1.0], [0.0, 9.0, 4.0], [4.5, 9.0, 1.0]])
    owners = [0, 1, 2, 0]
    found = retrieval_ranks(similarity, owners, missing=[1], several=several)
    assert found["text_to_video"][way].tolist() == [0, 10, 0, 0]
    assert found["video_to_text"][way].tolist() == [0, 10, 0]
    scores = retrieval_metrics(similarity, owners, missing=[1], several=several)["text_to_video"][way]
    assert scores["R@10"] == 75
    # What the missing column holds has no say.
    similarity[:, 1] = [0, 7, -3, 2]
    again = retrieval_ranks(similarity, owners, missing=[1], several=several)
    assert again["video_to_text"][way].tolist() == found["video_to_text"][way].tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((2, 3)),), r"expected 0 to 2|no caption"),
        ((np.zeros((3, 2)), [0, 1]), r"\(3, 2\), expected"),
        ((np.zeros((2, 2)), [0, 2]), "ranges from 0 to 2, expected 0 to 1"),
        ((np.zeros((2, 2)), [0, 0]), "Video 1 has no caption"),
        ((np.array([[0.0, np.inf], [0, 0]]),), "not finite"),
        ((np.zeros((0, 0)),), "at least one text"),
        ((np.zeros((2, 2)), [0.0, 1.0]), "expected integers"),
    ],
)
def test_wrong_retrieval_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        retrieval_metrics(*arguments)


def test_wrong_options_are_refused():
    for options, message in (
        ({"missing": [0, 1]}, "All videos are missing"),
        ({"missing": [2]}, "names video 2, expected 0 to 1"),
        ({"missing": [-1]}, "names video -1"),
        ({"several": "text"}, "several: got 'text'"),
        ({"ties": "none"}, "ties: got 'none'"),
        ({"ties": "each", "missing": [0]}, "excludes missing"),
    ):
        with pytest.raises(ValueError, match=message):
            retrieval_metrics(np.eye(2), **options)


def test_small_weights_do_not_become_ties():
    # exp(-200) is zero in float32; the released temperature makes such differences.
    similarity = np.array([[200.0, 0.0], [100.0, 1.0]], dtype=np.float32)
    assert retrieval_ranks(np.diag([200.0, 1.0]).astype(np.float32))["text_to_video"]["dual_softmax"].tolist() == [
        0,
        0,
    ]
    assert retrieval_ranks(similarity)["video_to_text"]["dual_softmax"].tolist() == [0, 0]
