"""Frame mAP, on cases whose answer is computed by hand, and beside a plain reading of its rules."""

import time

import numpy as np
import pytest

from internvideo_hf.tasks.action_detection.metrics import BoxTable, average_precisions
from internvideo_hf.tasks.detections import overlap_of_boxes

WHOLE, LEFT, RIGHT = [0.0, 0, 1, 1], [0.0, 0, 0.5, 1], [0.5, 0, 1, 1]
TRUTH = BoxTable(["a,1", "a,1", "b,2"], [LEFT, RIGHT, WHOLE], [1, 1, 4])


def detections(*rows: tuple[str, list[float], int, float]) -> BoxTable:
    frames, boxes, labels, scores = zip(*rows, strict=True) if rows else ((), np.zeros((0, 4)), (), ())
    return BoxTable(frames, boxes, labels, scores)


def test_overlap_is_a_ratio_of_areas():
    found = overlap_of_boxes(np.array([LEFT, LEFT, LEFT, [0.3, 0.3, 0.3, 0.3]]), np.array([WHOLE, RIGHT, LEFT, LEFT]))
    assert found.tolist() == [0.5, 0, 1, 0]


def test_the_truth_itself_is_found():
    found = average_precisions(BoxTable(TRUTH.key_frames, TRUTH.boxes, TRUTH.labels, np.ones(3)), TRUTH, [1, 4])
    assert found.tolist() == [1, 1]


def test_precision_is_interpolated_over_recall():
    # Two boxes: a hit, a miss elsewhere, a hit. Precisions 1, 1/2, 2/3 at recalls 1/2, 1/2, 1.
    found = average_precisions(
        detections(("a,1", LEFT, 1, 0.9), ("b,2", LEFT, 1, 0.8), ("a,1", RIGHT, 1, 0.7)), TRUTH, [1]
    )
    np.testing.assert_allclose(found, [0.5 * 1 + 0.5 * 2 / 3])


def test_a_box_is_taken_once_and_never_a_second_best():
    # The second looks at LEFT alone, which is taken, though it also covers half of RIGHT.
    wide = [0.0, 0, 0.99, 1]
    assert overlap_of_boxes(np.array(wide), np.array(RIGHT)) < overlap_of_boxes(np.array(wide), np.array(LEFT))
    found = average_precisions(detections(("a,1", LEFT, 1, 0.9), ("a,1", wide, 1, 0.8)), TRUTH, [1])
    np.testing.assert_allclose(found, [0.5])


def test_overlap_of_exactly_the_threshold_is_enough():
    assert average_precisions(detections(("b,2", LEFT, 4, 0.9)), TRUTH, [4]).tolist() == [1]
    assert average_precisions(detections(("b,2", [0.0, 0, 0.49, 1], 4, 0.9)), TRUTH, [4]).tolist() == [0]
    assert average_precisions(detections(("b,2", LEFT, 4, 0.9)), TRUTH, [4], min_overlap=0.6).tolist() == [0]


def test_of_equal_scores_the_earlier_row_comes_first():
    hit, miss = ("b,2", WHOLE, 4, 0.5), ("a,1", WHOLE, 4, 0.5)
    assert average_precisions(detections(hit, miss), TRUTH, [4]).tolist() == [1]
    assert average_precisions(detections(miss, hit), TRUTH, [4]).tolist() == [0.5]


def test_a_class_without_truth_has_none_and_one_without_detections_has_zero():
    found = average_precisions(detections(("a,1", WHOLE, 2, 0.5)), TRUTH, [1, 2])
    assert found[0] == 0 and np.isnan(found[1])
    assert average_precisions(detections(), TRUTH, [1]).tolist() == [0]


def test_empty_boxes_count_neither_as_hits_nor_as_mistakes():
    given = detections(("b,2", [0.4, 0, 0.4, 1], 4, 0.9), ("b,2", [0.4, 1, 0.6, 0], 4, 0.9), ("b,2", WHOLE, 4, 0.5))
    assert average_precisions(given, TRUTH, [4]).tolist() == [1]


def test_key_frames_can_be_left_out():
    assert TRUTH.without({"a,1"}).labels.tolist() == [4]
    assert len(TRUTH.without(())) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [1]}, "labels has 1 rows, expected 2"),
        ({"scores": [0.5, np.nan]}, "scores holds numbers that are not finite"),
        ({"boxes": [WHOLE, [0, 0, np.inf, 1]]}, "boxes holds numbers"),
    ],
)
def test_wrong_tables_are_refused(change, message):
    columns = {"key_frames": ["a", "b"], "boxes": [WHOLE, WHOLE], "labels": [1, 1], "scores": [0.5, 0.5]}
    with pytest.raises(ValueError, match=message):
        BoxTable(**{**columns, **change})


def test_wrong_calls_are_refused():
    with pytest.raises(ValueError, match="no scores"):
        average_precisions(TRUTH, TRUTH, [1])
    with pytest.raises(ValueError, match="label map"):
        average_precisions(detections(), TRUTH, [7])


def random_tables(frames: int, people: int, rows: int, classes: int, seed: int) -> tuple[BoxTable, BoxTable]:
    random = np.random.default_rng(seed)
    names = np.array([f"video{number // 900:06d},{number % 900:04d}" for number in range(frames)])

    def table(count: int, scores: bool) -> BoxTable:
        corner = random.random((count, 2)) * 0.4
        boxes = np.concatenate([corner, corner + 0.3 + 0.3 * random.random((count, 2))], axis=1)
        numbers, labels = random.integers(frames, size=count), random.integers(1, classes + 1, size=count)
        return BoxTable(names[numbers], boxes, labels, random.random(count) if scores else None)

    return table(rows, True), table(people, False)


def test_random_tables_score_as_by_a_plain_reading_of_the_rules():
    found, truth = random_tables(20, 80, 400, 3, seed=0)

    def plain(label: int) -> float:
        taken, hits = set(), []
        own = [row for row in range(len(truth)) if truth.labels[row] == label]
        rows = [row for row in range(len(found)) if found.labels[row] == label]
        for row in sorted(rows, key=lambda row: -found.scores[row]):
            here = [place for place in own if truth.key_frames[place] == found.key_frames[row]]
            values = [float(overlap_of_boxes(found.boxes[row], truth.boxes[place])) for place in here]
            best = here[values.index(max(values))] if here and max(values) >= 0.5 else None
            hits.append(best is not None and best not in taken)
            taken.add(best)
        precisions = [sum(hits[: n + 1]) / (n + 1) for n in range(len(hits))]
        return sum(max(precisions[n:]) for n, hit in enumerate(hits) if hit) / len(own)

    expected = [plain(label) for label in (1, 2, 3)]
    assert min(expected) > 0.05
    np.testing.assert_allclose(average_precisions(found, truth, [1, 2, 3]), expected)


@pytest.mark.slow
def test_a_million_rows_take_less_than_a_minute():
    found, truth = random_tables(57_000, 200_000, 1_000_000, 60, seed=0)  # 1.7 s on a quiet core
    begin = time.monotonic()
    average_precisions(found, truth, range(1, 61))
    assert time.monotonic() - begin < 60
