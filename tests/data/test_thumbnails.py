"""Thumbnails: the middle frame of a clip, or a tile that says that there is none."""

import numpy as np
import pytest
from video.clips import write_video

from internvideo_hf import VideoDecodeError, VideoReader
from internvideo_hf.data.thumbnails import TILE, thumbnail, tile


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
