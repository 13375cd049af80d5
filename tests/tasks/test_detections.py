"""What tasks that detect something share: average precision, checks of tables, and their text."""

import numpy as np
import pytest

from internvideo_hf.tasks.detections import (
    best_and_worst,
    check_columns,
    interpolated_precision,
    overlap_in_time,
    overlap_of_boxes,
)


def test_precision_is_interpolated_over_all_points():
    # Precisions 1, 1/2, 2/3 at recalls 1/3, 1/3, 2/3: the second third of recall has the best to its right, 2/3.
    hits = np.array([True, False, True])
    assert interpolated_precision(hits, 3) == pytest.approx((1 + 2 / 3) / 3)
    assert interpolated_precision(np.array([True, True]), 2) == 1
    assert (
        interpolated_precision(np.array([], dtype=bool), 4) == interpolated_precision(np.zeros(5, dtype=bool), 4) == 0
    )


def test_columns_that_do_not_fit_are_named():
    check_columns("videos", 2, {"labels": np.array([1, 2])})
    with pytest.raises(ValueError, match="labels has 1 rows, expected 2, one for each entry of videos"):
        check_columns("videos", 2, {"labels": np.array([1])})
    with pytest.raises(ValueError, match="scores holds numbers that are not finite"):
        check_columns("videos", 2, {"labels": np.ones(2), "scores": np.array([0.5, np.nan])})


def test_text_has_the_best_and_the_worst_classes():
    rows = [{"class": f"class {n}", "boxes": n, "found": 2 * n, "AP": 90.0 - n} for n in range(25)]
    lines = best_and_worst(rows, "boxes", width=8).splitlines()
    assert lines[0] == "class       boxes    found      AP" and len(lines) == 22
    assert lines[1] == "class 0         0        0   90.00" and lines[11] == "class 15       15       30   75.00"
    assert lines[-1] == "The 10 best and the 10 worst of 25 classes."
    assert len(best_and_worst(rows[:20], "boxes", width=8).splitlines()) == 21


def test_overlaps_are_intersections_over_unions():
    assert overlap_in_time(np.array([0.0, 4.0]), np.array([[2.0, 6.0], [4.0, 5.0]])) == pytest.approx([2 / 6, 0])
    assert overlap_in_time(np.array([5.0, 1.0]), np.array([[0.0, 3.0], [1.0, 1.0]])).tolist() == [0, 0]
    boxes = np.array([[2.0, 2, 6, 6], [5, 0, 9, 4], [0, 0, 4, 4]])
    assert overlap_of_boxes(np.array([0.0, 0, 4, 4]), boxes) == pytest.approx([4 / 28, 0, 1])
    assert overlap_of_boxes(np.ones(4), np.ones(4)) == 0
