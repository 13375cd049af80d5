"""The twelve numbers of short-term anticipation: by hand, and against plain loops over random frames."""

import numpy as np
import pytest

from internvideo_hf.tasks.short_term_anticipation.metrics import SCORES, InteractionTable, Scoring, overlap, score

BOX = [10, 10, 19, 19]


def table(rows: list[tuple], scored: bool = False) -> InteractionTable:
    """Make a table of (frame, box, noun, verb, time[, score])."""
    frames, boxes, nouns, verbs, times, *scores = zip(*rows, strict=True)
    return InteractionTable(frames, np.array(boxes), nouns, verbs, times, scores[0] if scored else None)


def values(found: list[tuple], truth: list[tuple], **options) -> dict[str, float]:
    return score(table(found, scored=True), table(truth), Scoring(**options)).values


def test_overlap_counts_the_last_column_and_row():
    first, second = np.array([0.0, 0, 9, 9]), np.array([5.0, 0, 14, 9])
    assert overlap(first, second) == pytest.approx(50 / 150)
    assert overlap(first, np.array([9.0, 9, 9, 9])) == pytest.approx(1 / 100)
    assert overlap(first, np.array([20.0, 20, 30, 30])) == 0


def test_each_number_asks_for_what_its_name_says():
    truth = [("a", BOX, 3, 1, 1.0)]
    right = values([("a", BOX, 3, 1, 1.25, 0.9)], truth)
    assert list(right) == list(SCORES) and set(right.values()) == {100.0}
    for name, change in {"noun": (4, 1, 1.0), "verb": (3, 2, 1.0), "ttc": (3, 1, 1.26)}.items():
        wrong = values([("a", BOX, *change, 0.9)], truth, top_k=None)
        assert {key for key, value in wrong.items() if value == 0} == {
            key for key in SCORES if name in key or (name == "noun" and key.startswith("map"))
        }


def test_an_overlap_of_exactly_the_threshold_is_too_little():
    half = [10, 10, 19, 14]  # 50 of 100 pixels
    assert values([("a", half, 0, 0, 0, 1.0)], [("a", BOX, 0, 0, 0)])["ap_box"] == 0
    assert values([("a", half, 0, 0, 0, 1.0)], [("a", BOX, 0, 0, 0)], min_overlap=0.49)["ap_box"] == 100


def test_a_true_box_is_found_once_and_the_best_wrong_ones_of_a_frame_do_not_count():
    truth = [("a", BOX, 0, 0, 0)]
    far = [50, 50, 60, 60]
    # Four wrong detections before the right one.
    found = [("a", far, 0, 0, 0, 0.9 - n / 10) for n in range(4)] + [("a", BOX, 0, 0, 0, 0.1)]
    assert values(found, truth)["ap_box"] == 100
    assert values(found, truth, top_k=4)["ap_box"] == 50
    assert values(found, truth, top_k=1)["ap_box"] == values(found, truth, top_k=None)["ap_box"] == 20
    # The second of two at the same place is wrong, and comes last.
    twice = [("a", BOX, 0, 0, 0, 0.9), ("a", BOX, 0, 0, 0, 0.8)]
    assert values(twice, truth, top_k=1)["ap_box"] == 100


def test_equal_scores_are_in_the_order_of_the_released_evaluator():
    truth, far = [("a", BOX, 0, 0, 0)], [50, 50, 60, 60]
    found = [("a", far, 0, 0, 0, 0.5), ("a", BOX, 0, 0, 0, 0.5)]
    # Of equal scores the later comes first. Where wrong ones of a frame are left out, the frame is sorted before, and
    # so the earlier comes first.
    assert values(found, truth, top_k=1)["ap_box"] == 100
    assert values([("a", far, 0, 0, 0, 0.9), *found], truth, top_k=2)["ap_box"] == 50


def test_a_frame_without_detections_counts_as_missed_unless_it_is_left_out():
    truth = [("a", BOX, 0, 0, 0), ("b", BOX, 0, 0, 0)]
    found = table([("a", BOX, 0, 0, 0, 0.9)], scored=True)
    assert score(found, table(truth)).values["ap_box"] == 50
    assert score(found, table(truth).of_frames({"a"})).values["ap_box"] == 100
    assert found.of_frames({"b"}).scores.shape == (0,) and len(found.of_frames({"a", "b"})) == 1


def test_the_mean_is_over_the_nouns_of_the_ground_truth_or_of_all_detections():
    truth = [("a", BOX, 0, 0, 0), ("b", BOX, 1, 0, 0)]
    found = [("a", BOX, 0, 0, 0, 0.9), ("b", BOX, 2, 0, 0, 0.8)]
    assert values(found, truth, top_k=None)["map_box_noun"] == 50
    assert values(found, truth, top_k=None, all_nouns=True)["map_box_noun"] == pytest.approx(100 / 3)
    # Discounted, noun 2 has nothing left, and is no noun of the mean.
    assert values(found, truth, all_nouns=True)["map_box_noun"] == 50


def test_what_cannot_be_scored_is_refused():
    truth = table([("a", BOX, 0, 0, 0)])
    with pytest.raises(ValueError, match="no scores"):
        score(truth, truth)
    with pytest.raises(ValueError, match="no interaction"):
        score(table([("a", BOX, 0, 0, 0, 1)], scored=True), InteractionTable([], np.zeros((0, 4)), [], [], []))
    with pytest.raises(ValueError, match="verbs has 2 rows, expected 1"):
        InteractionTable(["a"], np.array([BOX]), [0], [0, 1], [0.0])


# ---- plain loops ----------------------------------------------------------------------------------------------------


def iou(a, b) -> float:
    def pixels(box) -> float:
        return max(box[2] - box[0] + 1, 0) * max(box[3] - box[1] + 1, 0)

    shared = pixels([max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])])
    return shared / (pixels(a) + pixels(b) - shared)


def by_loops(found: list[tuple], truth: list[tuple], name: str, top_k: int) -> float:
    parts = name.split("_")[2:]
    marks = []
    for frame in dict.fromkeys([row[0] for row in truth] + [row[0] for row in found]):
        own = sorted((row for row in found if row[0] == frame), key=lambda row: -row[5])
        true = [row for row in truth if row[0] == frame]
        free, wrong = list(range(len(true))), 0
        for row in own:
            fits = [
                place
                for place in free
                if iou(row[1], true[place][1]) > 0.5
                and ("noun" not in parts or row[2] == true[place][2])
                and ("verb" not in parts or row[3] == true[place][3])
                and ("ttc" not in parts or abs(row[4] - true[place][4]) <= 0.25)
            ]
            if fits:
                free.remove(max(fits, key=lambda place: iou(row[1], true[place][1])))
                marks.append((row[5], row[2], True))
            elif (wrong := wrong + 1) > (top_k - 1) * len(true):
                marks.append((row[5], row[2], False))
    nouns = sorted({row[2] for row in truth}) if name.startswith("map") else [None]
    precisions = []
    for noun in nouns:
        right = [mark[2] for mark in sorted(marks, reverse=True) if noun is None or mark[1] == noun]
        total = sum(noun is None or row[2] == noun for row in truth)
        curve = [(sum(right[: n + 1]) / total, sum(right[: n + 1]) / (n + 1)) for n in range(len(right))]
        area, last = 0.0, 0.0
        for recall, _ in curve:
            area += (recall - last) * max((p for r, p in curve if r >= recall), default=0.0)
            last = recall
        precisions.append(100 * area)
    return sum(precisions) / len(precisions)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("top_k", [1, 2, 5])
def test_random_frames_score_as_by_plain_loops(seed, top_k):
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for frame in "abcdefg":
        for _ in range(rng.integers(0, 4)):
            left, top = rng.uniform(0, 60, 2)
            width, height = rng.uniform(10, 30, 2)
            box = [left, top, left + width, top + height]
            truth.append((frame, box, int(rng.integers(3)), int(rng.integers(2)), rng.uniform(0, 1)))
            for _ in range(rng.integers(0, 5)):
                moved = [edge + rng.normal(0, 3) for edge in box]
                rest = int(rng.integers(3)), int(rng.integers(2)), rng.uniform(0, 1), rng.uniform()
                found.append((frame, moved, *rest))
    ours = values(found, truth, top_k=top_k)
    assert ours == pytest.approx({name: by_loops(found, truth, name, top_k) for name in SCORES}, abs=1e-9)
