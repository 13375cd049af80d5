"""Key frames and their context: the released indices, and what happens at the ends of a video."""

import numpy as np
import pytest

from internvideo_hf.tasks.action_detection.keyframes import context_frames, frames_at, key_times


def test_context_is_that_of_the_released_test():
    assert context_frames(32, 64).tolist() == list(range(1, 62, 4))
    assert context_frames(100, 1000, num_frames=4, stride=2).tolist() == [96, 98, 100, 102]
    assert context_frames(5, 100, num_frames=3, stride=1).tolist() == [4, 5, 6]


def test_the_edge_frame_is_repeated():
    assert context_frames(0, 64).tolist() == [0] * 8 + [1, 5, 9, 13, 17, 21, 25, 29]
    assert context_frames(63, 64).tolist() == [32, 36, 40, 44, 48, 52, 56, 60] + [63] * 8
    short = context_frames(5, 10)
    assert short.tolist() == [0] * 7 + [2, 6] + [9] * 7


@pytest.mark.parametrize(
    ("duration", "every", "times"),
    [
        (3.0, 1, [0, 1, 2]),
        (3.04, 1, [0, 1, 2, 3]),
        (0.2, 1, [0]),
        (1.0, 0.4, [0, 0.4, 0.8]),
        (0.3, 0.1, [0, 0.1, 0.2]),
    ],
)
def test_key_frames_are_at_regular_times_before_the_end(duration, every, times):
    assert key_times(duration, every) == pytest.approx(times)


def test_a_time_shows_the_frame_that_began_last():
    uneven = np.array([0.0, 0.5, 0.6, 2.0, 2.1])
    assert frames_at(uneven, np.array([0.0, 0.49, 0.5, 1.0, 2.05])).tolist() == [0, 0, 1, 2, 3]
    thirds = np.arange(91) / 30
    assert frames_at(thirds, np.array([0.0, 1.0, 2.0])).tolist() == [0, 30, 60]
