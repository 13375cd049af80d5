"""Thumbnails: the middle frame of a clip, or a tile that says that there is none."""

import numpy as np
import pytest
from video.clips import write_video

from internvideo_hf import VideoDecodeError, VideoReader
from internvideo_hf.data.thumbnails import TILE, spread_pictures, thumbnail, tile


def test_the_frame_in_the_middle_of_a_clip(tmp_path):
    path = write_video(tmp_path / "a.mp4", num_frames=20)
    with VideoReader(path) as reader:
        times, frames = reader.timeline, reader.read(range(20))
    size = frames.shape[2], frames.shape[1]
    assert np.array_equal(np.asarray(thumbnail(str(path), size=size)), frames[10])
    start, end = times[4] - 0.001, times[6] - 0.001
    assert np.array_equal(np.asarray(thumbnail(str(path), start, end, size=size)), frames[5])


def test_a_video_that_is_gone_leaves_a_tile(tmp_path):
    with pytest.raises(VideoDecodeError):
        thumbnail(str(tmp_path / "gone.mp4"))
    assert tile(str(tmp_path / "gone.mp4")).size == TILE


def test_spread_pictures_are_in_the_middles_of_equal_parts(tmp_path):
    path = write_video(tmp_path / "v.mp4", 12)
    with VideoReader(path) as reader:
        frames = reader.read(range(12))
    for count, numbers in ((1, [6]), (3, [2, 6, 10]), (24, [n // 2 for n in range(24)])):
        pictures = spread_pictures(str(path), count)
        assert [np.asarray(picture).tolist() for picture in pictures] == [frames[n].tolist() for n in numbers]
