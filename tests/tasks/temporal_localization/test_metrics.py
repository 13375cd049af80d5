"""Mean average precision, on cases whose answer is computed by hand."""

import numpy as np
import pytest

from internvideo_hf.tasks.detections import overlap_in_time
from internvideo_hf.tasks.temporal_localization.metrics import (
    ACTIVITYNET_THRESHOLDS,
    SegmentTable,
    average_precisions,
    mean_average_precision,
    recall_by_instances,
)

TRUTH = SegmentTable(["a", "a", "b"], [[0, 10], [20, 30], [0, 10]], [1, 1, 4])


def predictions(*rows: tuple[str, float, float, int, float]) -> SegmentTable:
    videos, starts, ends, labels, scores = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    return SegmentTable(videos, np.stack([starts, ends], axis=1), labels, scores)


def test_thresholds_are_those_of_the_data_sets():
    assert ACTIVITYNET_THRESHOLDS == pytest.approx([0.5 + 0.05 * step for step in range(10)])


def test_the_truth_itself_is_found():
    found = mean_average_precision(SegmentTable(TRUTH.videos, TRUTH.segments, TRUTH.labels, np.ones(3)), TRUTH)
    assert found["mAP"] == 100 and found["mAP@0.95"] == 100 and len(found) == 11


def test_precision_is_interpolated_over_recall():
    # Class 1, two segments: a hit, a miss, a hit. Precisions 1, 1/2, 2/3 at recalls 1/2, 1/2, 1.
    found = average_precisions(
        predictions(("a", 0, 10, 1, 0.9), ("b", 0, 10, 1, 0.8), ("a", 20, 30, 1, 0.7)), TRUTH, [0.5]
    )
    np.testing.assert_allclose(found, [[0.5 * 1 + 0.5 * 2 / 3, 0]])


def test_a_segment_is_found_once_and_by_the_best_score():
    # The second prediction overlaps the same segment; the third has only 0.25 of overlap with the other one.
    rows = [("a", 0, 8, 1, 0.5), ("a", 0, 10, 1, 0.4), ("a", 26, 36, 1, 0.9)]
    found = average_precisions(predictions(*rows), TRUTH, [0.2, 0.5])
    np.testing.assert_allclose(found[:, 0], [0.5 * 1 + 0.5 * 1, 0.5 * 0.5])


def test_a_taken_segment_leaves_the_next_best_one():
    truth = SegmentTable(["a", "a"], [[0, 10], [0, 8]], [0, 0])
    rows = [("a", 0, 10, 0, 0.9), ("a", 0, 9.5, 0, 0.8)]  # both overlap the first segment best
    assert average_precisions(predictions(*rows), truth, [0.5])[0, 0] == 1
    assert average_precisions(predictions(*rows), truth, [0.9])[0, 0] == 0.5


@pytest.mark.parametrize("as_published", [False, True])
def test_of_equal_scores_the_later_prediction_comes_first(as_published):
    rows = [("b", 50, 60, 4, 0.5), ("b", 0, 10, 4, 0.5)]
    assert average_precisions(predictions(*rows), TRUTH, [0.5], as_published=as_published)[0, 1] == 1
    assert average_precisions(predictions(*rows[::-1]), TRUTH, [0.5], as_published=as_published)[0, 1] == 0.5


def test_a_class_without_truth_is_ignored_and_collides_as_published():
    # The classes 1 and 4 have the places 0 and 1: the released evaluator takes class 0 for class 1.
    rows = [("a", 0, 10, 0, 0.9), ("b", 0, 10, 4, 0.8), ("a", 0, 10, 7, 0.99)]
    np.testing.assert_allclose(average_precisions(predictions(*rows), TRUTH, [0.5]), [[0, 1]])
    np.testing.assert_allclose(average_precisions(predictions(*rows), TRUTH, [0.5], as_published=True), [[0.5, 1]])


def test_no_predictions_score_nothing():
    assert mean_average_precision(predictions(), TRUTH, [0.5]) == {"mAP@0.50": 0.0, "mAP": 0.0}


def test_empty_segments_overlap_nothing():
    assert overlap_in_time(np.array([1.0, 1.0]), np.array([[1.0, 1.0], [0.0, 2.0]])).tolist() == [0, 0]


def test_tables_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="labels has 1 rows, expected 2"):
        SegmentTable(["a", "b"], [[0, 1], [0, 1]], [0])
    with pytest.raises(ValueError, match="scores holds numbers that are not finite"):
        SegmentTable(["a"], [[0, 1]], [0], [np.nan])
    with pytest.raises(ValueError, match="no scores"):
        average_precisions(TRUTH, TRUTH, [0.5])
    with pytest.raises(ValueError, match="ground truth is empty"):
        average_precisions(predictions(), SegmentTable([], np.zeros((0, 2)), []), [0.5])


def test_recall_counts_as_many_answers_as_a_clip_has_segments_of_the_class():
    # Class 1 in "a" has two segments, so the two best of its answers count: 0.9 and 0.8, which find the first alone.
    rows = [("a", 0, 9, 1, 0.9), ("a", 40, 50, 1, 0.8), ("a", 20, 30, 1, 0.7), ("b", 0, 10, 4, 0.1)]
    assert recall_by_instances(predictions(*rows), TRUTH) == pytest.approx(100 * 2 / 3)
    assert recall_by_instances(predictions(*rows), TRUTH, multiple=2) == 100
    assert recall_by_instances(predictions(*rows), TRUTH, threshold=0.95) == pytest.approx(100 / 3)


def test_recall_asks_for_more_than_the_threshold_and_one_answer_may_find_several():
    assert recall_by_instances(predictions(("b", 0, 5, 4, 0.9)), TRUTH) == 0  # an overlap of 0.5 exactly
    assert recall_by_instances(predictions(("b", 0, 5.1, 4, 0.9)), TRUTH) == pytest.approx(100 / 3)
    near = SegmentTable(["a", "a"], [[0, 10], [0, 9]], [0, 0])
    assert recall_by_instances(predictions(("a", 0, 10, 0, 0.9), ("a", 70, 80, 0, 0.8)), near) == 100


def test_recall_of_other_videos_and_classes_is_none():
    assert recall_by_instances(predictions(("b", 0, 10, 1, 0.9), ("a", 0, 10, 4, 0.9)), TRUTH) == 0
    assert recall_by_instances(predictions(), TRUTH) == 0
    with pytest.raises(ValueError, match="no scores"):
        recall_by_instances(TRUTH, TRUTH)
    with pytest.raises(ValueError, match="ground truth is empty"):
        recall_by_instances(predictions(), SegmentTable([], np.zeros((0, 2)), []))
