"""Key frames and their context: the released indices, and what happens at the ends of a video."""

import weakref

import numpy as np
import pytest
import torch
from tasks.temporal_localization.heads import write_holed
from video.clips import moving_picture

from internvideo_hf import VideoReader
from internvideo_hf.tasks.key_frames import context_frames, frames_at, frames_until, key_times, read_clips


def test_context_is_that_of_the_released_test():
    assert context_frames(32, 64).tolist() == list(range(1, 62, 4))
    assert context_frames(100, 1000, num_frames=4, stride=2).tolist() == [96, 98, 100, 102]
    assert context_frames(5, 100, num_frames=3, stride=1).tolist() == [4, 5, 6]


def test_the_edge_frame_is_repeated():
    assert context_frames(0, 64).tolist() == [0] * 8 + [1, 5, 9, 13, 17, 21, 25, 29]
    assert context_frames(63, 64).tolist() == [32, 36, 40, 44, 48, 52, 56, 60] + [63] * 8
    short = context_frames(5, 10)
    assert short.tolist() == [0] * 7 + [2, 6] + [9] * 7


def test_the_frames_until_a_key_frame_end_with_it_and_begin_with_the_video():
    assert frames_until(100).tolist() == list(range(70, 101, 2))
    assert frames_until(5, num_frames=4, stride=4).tolist() == [0, 0, 1, 5]
    assert frames_until(0, num_frames=3).tolist() == [0, 0, 0]


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


def test_frames_are_decoded_once_and_held_while_needed(tmp_path):
    frames = moving_picture(100, 16, 16)
    seen, held = [], []

    def process(frame):
        seen.append(frame)
        return torch.from_numpy(frame[:1, 0].astype(np.float32))

    contexts = [context_frames(key, 100, 4, 6) for key in (0, 10, 20, 30, 99)]
    with VideoReader(frames, fps=10) as reader:
        for clip in read_clips(reader, [0, 10, 20, 30, 99], contexts, process):
            held.append(clip)
    assert len(seen) == len(np.unique(np.concatenate(contexts)))
    for key, context, clip in zip((0, 10, 20, 30, 99), contexts, held, strict=True):
        np.testing.assert_array_equal(clip.frame, frames[key])
        np.testing.assert_array_equal(clip.pixels, frames[context][:, :1, 0])


def test_memory_does_not_grow_with_the_video():
    """Each processed frame is a new tensor; those alive are counted while the clips come."""
    alive = []

    class Frames(VideoReader):
        def frames(self, numbers, *, skip_damaged=False):
            return (np.zeros((4, 4, 3), np.uint8) for _ in numbers)

    def process(frame):
        pixels = torch.zeros(3, 1, 1)
        alive.append(weakref.ref(pixels))
        return pixels

    keys = list(range(0, 30000, 30))
    contexts = [context_frames(key, 30000) for key in keys]
    reader = Frames(np.zeros((1, 4, 4, 3), np.uint8), fps=30)
    most = max(sum(one() is not None for one in alive) for _ in read_clips(reader, keys, contexts, process))
    assert len(alive) > 10000 and most <= 34  # frames of 64, where two key frames' contexts lie between each other


def test_a_damaged_frame_concerns_the_key_frames_around_it(tmp_path):
    path = write_holed(tmp_path / "holed.mkv", 60, 24, 26)
    contexts = [context_frames(key, 60, 4, 2) for key in (5, 20, 25, 40)]  # 16 to 22, and 21 to 27
    with VideoReader(path) as reader:
        clips = list(read_clips(reader, [5, 20, 25, 40], contexts, lambda frame: torch.zeros(3, 2, 2)))
    assert [clip.pixels is None for clip in clips] == [False, False, True, False]
    with VideoReader(path) as reader:
        clips = list(read_clips(reader, [24], [np.array([10, 11])], lambda frame: torch.zeros(3, 2, 2)))
    assert clips == [(None, None)], "the key frame itself"
