"""The picture of a video's actions: bars where the actions are, colors by label, gaps in gray."""

import numpy as np
import pytest
from tasks.temporal_localization.heads import write_holed
from video.clips import write_video

from internvideo_hf.tasks.temporal_localization.localization import Action, Localization
from internvideo_hf.tasks.temporal_localization.timeline import (
    BAR,
    COLORS,
    FRAMES,
    GUTTER,
    SPACE,
    WIDTH,
    draw_timeline,
)
from internvideo_hf.utils.pictures import GAP, LINE, MISSING, PAPER

LEFT = GAP + GUTTER
STRIP = WIDTH // FRAMES * 48 // 64
FIRST = GAP + STRIP + LINE + 2 * SPACE


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return str(write_video(tmp_path_factory.mktemp("timeline") / "clip.mp4", 60))


def bar(picture: np.ndarray, row: int) -> np.ndarray:
    """Return the colors along the lower edge of a bar."""
    return picture[FIRST + row * (BAR + SPACE) + BAR - 1, LEFT : LEFT + WIDTH]


def test_bars_lie_where_the_actions_do(clip):
    actions = [
        Action("a", 1.0, 0.5, 1.0),
        Action("b", 1.0, 1.0, 2.0),
        Action("a", 0.5, 0.75, 1.5),
        Action("a", 1.0, 1.2, 1.6),
    ]
    picture = np.array(draw_timeline(clip, Localization(actions, 2.0)))
    assert picture.shape == (FIRST + 3 * (BAR + SPACE) + GAP, GUTTER + WIDTH + 2 * GAP, 3)
    first, second, third = (bar(picture, row) for row in range(3))
    assert (first[301:599] == COLORS[0]).all() and (first[721:959] == COLORS[0]).all()
    assert (second[451:899] != COLORS[0]).any(axis=1).all(), "a lower score is paler"
    assert (third[601:1199] == COLORS[1]).all() and not (third[:590] == COLORS[1]).all(axis=1).any()
    assert (first[100:290] == PAPER).all(axis=1).sum() > 180


def test_frames_are_those_in_the_middle_of_their_parts(clip, tmp_path):
    picture = np.array(draw_timeline(clip, Localization([], 2.0)))
    tiles = (
        picture[GAP : GAP + STRIP, LEFT : LEFT + WIDTH].reshape(STRIP, FRAMES, WIDTH // FRAMES, 3).mean(axis=(0, 2))
    )
    from internvideo_hf import VideoReader

    with VideoReader(clip) as reader:
        means = reader.read(range(3, 60, 6)).mean(axis=(1, 2))
    np.testing.assert_allclose(tiles, means, atol=2)


def test_gaps_are_gray_over_everything(tmp_path):
    video = str(write_holed(tmp_path / "holed.mkv", 60, 30, 42))
    picture = np.array(draw_timeline(video, Localization([Action("a", 1.0, 0.0, 2.0)], 2.0, [[1.0, 1.4]])))
    row = bar(picture, 0)
    assert (row[605:835] == MISSING).all() and (row[20:590] == COLORS[0]).all() and (row[850:1190] == COLORS[0]).all()
