"""Recall of temporal grounding, by hand, and as Ego4D's evaluation computes it."""

import numpy as np
import pytest

from internvideo_hf.tasks.detections import overlap_in_time
from internvideo_hf.tasks.temporal_grounding.metrics import constant_stretch, recalls


def test_overlaps_by_hand():
    answers = np.array([[0.0, 4.0], [2.0, 4.0], [5.0, 6.0], [4.0, 2.0]])
    assert overlap_in_time(answers, np.array([0.0, 4.0])).tolist() == [1, 0.5, 0, 0]
    assert overlap_in_time(np.array([3.0, 3.0]), np.array([3.0, 3.0])) == 0


def test_recall_by_hand():
    truth = np.array([[0.0, 10.0], [0.0, 10.0], [5.0, 10.0], [3.0, 3.0]])
    answers = [
        np.array([[0.0, 4.0], [0.0, 9.0]]),  # .4, .9
        np.array([[0.0, 5.0]]),  # exactly .5, which does not exceed .5
        np.array([[0.0, 1.0]] * 5 + [[5.0, 10.0]]),  # the right one is the sixth
        np.array([[3.0, 3.0]]),  # no length
    ]
    found = recalls(answers, truth)
    assert found == {
        "R1@0.3": 50.0,
        "R1@0.5": 0.0,
        "R5@0.3": 50.0,
        "R5@0.5": 25.0,
        "mIoU": pytest.approx(100 * (0.4 + 0.5) / 4),
    }
    assert recalls([np.zeros((0, 2))], truth[:1], ranks=[1]) == {"R1@0.3": 0, "R1@0.5": 0, "mIoU": 0}
    with pytest.raises(ValueError, match="no queries with a true stretch"):
        recalls([], np.zeros((0, 2)))


def released(predicted: list, true: list) -> np.ndarray:
    """Return overlaps as Ego4D's evaluation defines them: intersection over the hull of both."""
    found = []
    for start, end in predicted:
        inter = max(0.0, min(end, true[1]) - max(start, true[0]))
        found.append(inter / max(0.0, max(end, true[1]) - min(start, true[0])))
    return np.array(found)


def test_recall_is_that_of_ego4ds_evaluation():
    rng = np.random.default_rng(0)
    truth = np.sort(rng.uniform(0, 100, (60, 2)), axis=1)
    answers = [np.sort(true + rng.normal(0, 12, (5, 2)), axis=1) for true in truth]
    hits = {(rank, threshold): [] for rank in (1, 5) for threshold in (0.3, 0.5)}
    best = []
    for own, true in zip(answers, truth, strict=True):
        found = released(own.tolist(), true.tolist())
        best.append(found[0])
        for rank, threshold in hits:
            hits[rank, threshold].append((found > threshold)[:rank].any())
    expected = {f"R{rank}@{threshold}": 100 * np.mean(values) for (rank, threshold), values in hits.items()}
    assert recalls(answers, truth) == pytest.approx({**expected, "mIoU": 100 * np.mean(best)})
    assert 5 < expected["R1@0.5"] < expected["R5@0.3"] < 95


def test_the_best_constant_stretch_is_found():
    truth = np.array([[5.0, 10.0], [10.0, 20.0], [0.0, 1.0]])
    assert constant_stretch(truth, np.array([10.0, 20.0, 100.0])) == (0.5, 1.0)
