"""Displacement of hands, against numbers by hand."""

import numpy as np
import pytest

from internvideo_hf.tasks.hand_prediction.metrics import displacement_scores, displacements


def labels() -> np.ndarray:
    points = np.zeros((2, 5, 2, 2))
    points[0, :, 0] = [[10, 10]] * 5  # the left hand at all times
    points[1, 4, 0] = [0, 7]  # known: only one coordinate is 0
    points[1, 0, 1] = [3, 4]
    return points.reshape(2, 20)


def test_each_hand_is_averaged_over_its_known_points():
    predictions = np.zeros((2, 5, 2, 2))
    predictions[0, :, 0] = [[13, 14], [10, 10], [10, 11], [10, 10], [16, 18]]  # 5, 0, 1, 0, 10
    predictions[1, 4, 0] = [0, 5]  # 2
    predictions[:, :, 1] = 1e6  # counts where the right hand is known alone
    predictions[1, 0, 1] = [3, 4]
    found = displacement_scores(predictions.reshape(2, 20), labels())
    assert found == pytest.approx(
        {"left M.Disp": 18 / 6, "right M.Disp": 0.0, "left C.Disp": 6.0}
    )  # no right hand at a contact
    assert list(found) == ["left M.Disp", "right M.Disp", "left C.Disp"]


def test_a_point_at_the_origin_is_unknown_and_unreadable_clips_are_left_out():
    predictions = np.full((2, 20), np.nan)
    predictions[1] = 0
    assert np.isnan(displacements(predictions, labels())[1, 1:4]).all()
    assert displacement_scores(predictions, labels()) == pytest.approx(
        {"left M.Disp": 7.0, "right M.Disp": 5.0, "left C.Disp": 7.0}
    )
    assert displacement_scores(predictions, np.zeros((2, 20))) == {}
