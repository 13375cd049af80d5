"""Division of videos into clips."""

import pytest

from internvideo_hf.search.clips import Windowing, windows


@pytest.mark.parametrize(
    ("duration", "window", "stride", "expected"),
    [
        (10, None, None, [(0, 10)]),
        (10, 4, None, [(0, 4), (4, 8), (8, 10)]),
        (9.5, 4, None, [(0, 4), (4, 9.5)]),  # what is left is short: the last window reaches over it
        (8, 4, None, [(0, 4), (4, 8)]),
        (3, 4, None, [(0, 3)]),
        (10, 4, 2, [(0, 4), (2, 6), (4, 8), (6, 10)]),
        (11, 4, 2, [(0, 4), (2, 6), (4, 8), (6, 10), (8, 11)]),
        (4.5, 4, 1, [(0, 4), (1, 4.5)]),
    ],
)
def test_windows_cover_the_video(duration, window, stride, expected):
    assert windows(duration, Windowing(window, stride)) == expected
