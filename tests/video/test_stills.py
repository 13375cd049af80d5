"""Arrays, images and folders of frame files as videos."""

import contextlib
import os
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from video.clips import (
    moving_picture,
    write_frames,
)

from internvideo_hf.video.reader import VideoDecodeError, VideoReader
from internvideo_hf.video.settings import ReadSettings


@pytest.mark.parametrize("of", [np.array, torch.tensor], ids=["numpy", "torch"])
@pytest.mark.parametrize("channels_first", [False, True])
def test_arrays_of_frames_are_taken_as_they_are(of, channels_first):
    frames = moving_picture(6)
    source = of(frames.transpose(0, 3, 1, 2).copy() if channels_first else frames)
    reader = VideoReader(source, fps=2)
    assert (reader.num_frames, reader.fps, reader.duration, reader.backend) == (6, 2, 3, "frames")
    np.testing.assert_array_equal(reader.read([5, 0, 0]), frames[[5, 0, 0]])
    assert VideoReader(source).fps is None and VideoReader(source).duration is None


def test_reading_an_array_copies_it():
    frames = moving_picture(3)
    VideoReader(frames).read([0, 1, 2])[:] = 0
    assert frames.any()


def test_images_and_lists_of_them_are_videos():
    frames = moving_picture(4)
    images = [Image.fromarray(frame) for frame in frames]
    np.testing.assert_array_equal(VideoReader(images).read([3, 1]), frames[[3, 1]])
    np.testing.assert_array_equal(VideoReader(list(frames)).read([3, 1]), frames[[3, 1]])
    np.testing.assert_array_equal(VideoReader(list(torch.tensor(frames))).read([3, 1]), frames[[3, 1]])
    np.testing.assert_array_equal(VideoReader(images[2]).read([0]), frames[[2]])
    np.testing.assert_array_equal(VideoReader(frames[2]).read([0]), frames[[2]])
    grey = VideoReader([images[0].convert("L"), images[1].convert("RGBA").convert("P")])
    assert grey.read([0, 1]).shape == (2, 48, 64, 3)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
def test_a_folder_of_frames_is_read_in_the_order_of_its_numbers(tmp_path, suffix):
    frames = write_frames(tmp_path / "frames", suffix)
    reader = VideoReader(tmp_path / "frames")
    assert (reader.num_frames, reader.fps, reader.duration) == (12, None, None)
    assert (reader.height, reader.width) == (48, 64)
    difference = np.abs(reader.read([10, 2, 11]).astype(int) - frames[[10, 2, 11]]).mean()
    assert difference == 0 if suffix in (".png", ".bmp") else difference < 12


def test_of_a_folder_only_the_asked_frames_are_read(tmp_path):
    frames = write_frames(tmp_path / "frames")
    (tmp_path / "frames" / "frame7.png").write_bytes(b"damaged")
    reader = VideoReader(tmp_path / "frames")
    np.testing.assert_array_equal(reader.read([6, 8]), frames[[6, 8]])
    with pytest.raises(VideoDecodeError, match="frame7.png: the frame cannot be read"):
        reader.read([6, 7])


def test_an_image_file_is_a_video_of_one_frame(tmp_path):
    frames = write_frames(tmp_path / "frames")
    # FFmpeg would take this name for a pattern that stands for many files.
    os.rename(tmp_path / "frames" / "frame3.png", tmp_path / "frames" / "frame%d.png")
    reader = VideoReader(tmp_path / "frames" / "frame%d.png")
    assert reader.num_frames == 1
    np.testing.assert_array_equal(reader.read([0]), frames[[3]])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), "float32, expected uint8.*times 255"),
        (torch.zeros(2, 3, 4, 4), "float32, expected uint8"),
        (np.float16([[[[-1.5, 0, 2.5]]]]), "float16, .*values go from -1.5 to 2.5"),
        (torch.full((1, 3, 4, 4), 7), "int64, .*values go from 7 to 7"),
        (np.array([[None]]), "object, expected uint8 in \\[0, 255\\]\\. Scale"),
        (np.zeros((2, 4, 4), np.uint8), "shape \\(2, 4, 4\\) has no RGB axis.*Repeat a gray channel"),
        (np.zeros((2, 4, 4, 4), np.uint8), "no RGB axis.*drop an alpha channel"),
        (np.zeros((3, 2, 4, 4), np.uint8), "no RGB axis.*pass `frames.transpose\\(1, 2, 3, 0\\)`"),
        (torch.zeros((3, 2, 4, 4), dtype=torch.uint8), "no RGB axis.*pass `frames.permute\\(1, 2, 3, 0\\)`"),
        (np.zeros((1, 2, 4, 4, 3), np.uint8), "several videos: pass one of them"),
        (np.zeros((0, 4, 4, 3), np.uint8), "no frames"),
        ([], "no frames"),
        ([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)], "frame 1 is 4x6.*where others are 4x4"),
        ([Image.new("RGB", (4, 4)), Image.new("RGB", (4, 6))], "frame 1 is 6x4.*where others are 4x4"),
        ([np.zeros((2, 4, 4, 3), np.uint8)], "expected \\(height, width, 3\\)"),
    ],
)
def test_frames_of_a_wrong_kind_are_refused_with_the_cure(source, message):
    with pytest.raises(VideoDecodeError, match=message):
        VideoReader(source)


def test_frames_of_sixteen_bits_are_refused():
    with pytest.raises(VideoDecodeError, match="more than 8 bits"):
        VideoReader([Image.new("I;16", (4, 4))]).read([0])


def test_frame_files_of_different_sizes_are_refused(tmp_path):
    write_frames(tmp_path / "frames")
    Image.new("RGB", (8, 8)).save(tmp_path / "frames" / "frame5.png")
    with pytest.raises(VideoDecodeError, match="frame5.png is 8x8"):
        VideoReader(tmp_path / "frames").read([4, 5])


def test_blocks_of_frames_that_are_frames_already():
    frames = moving_picture(9)
    with VideoReader(frames) as reader:
        np.testing.assert_array_equal(np.concatenate(list(reader.blocks(4, 2))), frames[2:])


def test_a_picture_is_handed_to_no_other_program(tmp_path, monkeypatch):
    mark, program = tmp_path / "it ran", tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch '{mark}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    Image.new("RGB", (16, 16)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image, contextlib.suppress(Exception):
        image.load()
    assert mark.exists(), "Pillow by itself would run Ghostscript"
    mark.unlink()
    with pytest.raises(VideoDecodeError, match=r"a\.png: "):
        VideoReader(tmp_path / "a.png").read([0])
    assert not mark.exists()


def test_one_limit_holds_for_pictures_beyond_pillows_own(tmp_path):
    """Pillow itself refuses more than 179 million pixels, and warns of half as many."""
    Image.new("1", (20_000, 10_000)).save(tmp_path / "large.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(VideoDecodeError, match=r"20000 x 10000 has more than 67108864 pixels.*--max-pixels"):
            VideoReader(tmp_path / "large.png").read([0])
    frame = VideoReader(tmp_path / "large.png", settings=ReadSettings(max_pixels=10**9)).read([0])
    assert frame.shape == (1, 10_000, 20_000, 3) and not frame[0, ::999].any()
    assert Image.MAX_IMAGE_PIXELS is not None
