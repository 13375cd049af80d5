"""Windows of streams: which frames, when they come, what is held, what is refused."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from video.clips import moving_picture, write_video

from internvideo_hf.video import VideoDecodeError, VideoReader
from internvideo_hf.video.streams import stream_windows

FRAMES = moving_picture(10)


@pytest.mark.parametrize(
    ("count", "fps", "window", "stride", "expected"),
    [
        (10, 2, 2, None, [(0, 2, 0, 4), (2, 4, 4, 8), (3, 5, 6, 10)]),  # the rest is in a window as long as the others
        (8, 2, 2, None, [(0, 2, 0, 4), (2, 4, 4, 8)]),
        (8, 2, 2, 1, [(0, 2, 0, 4), (1, 3, 2, 6), (2, 4, 4, 8)]),
        (9, 2, 2, 1, [(0, 2, 0, 4), (1, 3, 2, 6), (2, 4, 4, 8), (2.5, 4.5, 5, 9)]),
        (3, 2, 2, None, [(0, 1.5, 0, 3)]),  # shorter than a window
        (10, 2, 1, 2, [(0, 1, 0, 2), (2, 3, 4, 6), (4, 5, 8, 10)]),  # gaps between windows
        (7, 2, 1, 2, [(0, 1, 0, 2), (2, 3, 4, 6)]),  # the end lies in a gap
        (3, 1, 0.5, None, [(0, 0.5, 0, 1), (1, 1.5, 1, 2), (2, 2.5, 2, 3)]),  # windows without a frame are left out
        (0, 2, 2, None, []),
    ],
)
def test_windows_hold_the_frames_that_begin_in_them(count, fps, window, stride, expected):
    found = list(stream_windows(iter(FRAMES[:count]), window, stride, fps=fps))
    assert [(one.start, one.end) for one in found] == [one[:2] for one in expected]
    for (_, _, frames), (_, _, first, last) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(frames, FRAMES[first:last])


def test_a_window_comes_with_its_last_frame_from_a_camera_that_never_ends():
    picture, taken = np.zeros((4, 4, 3), np.uint8), 0

    def camera():
        nonlocal taken
        while True:
            picture[:] = taken % 256  # into the same memory
            taken += 1
            yield picture[..., ::-1]

    stream = stream_windows(camera(), 1, fps=30)
    for number in range(100):
        start, end, frames = next(stream)
        assert (start, end, taken) == (number, number + 1, 30 * (number + 1))
        assert frames[:, 0, 0, 0].tolist() == [frame % 256 for frame in range(taken - 30, taken)]


@pytest.mark.parametrize(
    "of",
    [
        lambda frame: frame,
        lambda frame: frame.transpose(2, 0, 1),
        torch.tensor,
        lambda frame: torch.tensor(frame).permute(2, 0, 1),
        Image.fromarray,
    ],
)
def test_frames_of_every_kind_make_the_same_windows(of):
    (window,) = stream_windows((of(frame) for frame in FRAMES), 2, fps=5)
    np.testing.assert_array_equal(window.frames, FRAMES)


def test_videos_have_windows_by_their_own_times(tmp_path):
    path = write_video(tmp_path / "video.mp4")
    with VideoReader(path) as reader:
        frames, fps = reader.read(range(reader.num_frames)), reader.fps
        half = len(frames) // 2
        for source in (path, path.read_bytes(), io.BytesIO(path.read_bytes()), reader):
            found = list(stream_windows(source, half / fps))
            np.testing.assert_array_equal(found[1].frames, frames[half : 2 * half])
        assert reader.read([0]).shape  # the caller's reader is still open
    assert len(list(stream_windows(FRAMES, 1, fps=5))) == len(list(stream_windows(VideoReader(FRAMES, fps=5), 1))) == 2


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        (iter(FRAMES), {"window": 0}, ValueError, "window=0 must be a number above 0"),
        (iter(FRAMES), {"window": 1, "stride": -1}, ValueError, "stride=-1"),
        (iter(FRAMES), {"window": 1, "fps": float("inf")}, ValueError, "fps=inf"),
        (iter(FRAMES), {"window": 1}, ValueError, "no frame rate: pass fps="),
        (FRAMES, {"window": 1}, ValueError, "no frame rate: pass fps="),
        (iter(["a.mp4"]), {"window": 1, "fps": 5}, TypeError, "frame 0 of the stream is of type str"),
        (iter([FRAMES[0], FRAMES[0, 1:]]), {"window": 9, "fps": 5}, VideoDecodeError, "frame 1 .*47x64.*are 48x64"),
        (iter(FRAMES / 255), {"window": 1, "fps": 5}, VideoDecodeError, "frame 0 of the stream: .*float64, expected"),
        (iter([FRAMES]), {"window": 1, "fps": 5}, VideoDecodeError, r"has the shape \(10, 48, 64, 3\)"),
    ],
)
def test_mistakes_are_named(source, options, error, message):
    with pytest.raises(error, match=message):
        list(stream_windows(source, **options))


def test_numbers_of_numpy_are_numbers_and_texts_are_not():
    frames = [np.full((4, 4, 3), number, np.uint8) for number in range(4)]
    found = stream_windows(iter(frames), window=np.int64(1), stride=np.float32(1), fps=np.float32(2))
    assert [(start, end, len(seen)) for start, end, seen in found] == [(0, 1, 2), (1, 2, 2)]
    with pytest.raises(ValueError, match="window=a must be a number above 0"):
        stream_windows(iter(frames), window="a", fps=2)
