"""Animated pictures: all frames with their durations, as Pillow composites them."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image, ImageDraw

from internvideo_hf.video import VideoDecodeError, VideoReader

MILLISECONDS = [40, 100, 250, 20, 500, 70]
FORMATS = {
    "a.gif": {"disposal": 2},
    "b.gif": {"disposal": 1},
    "a.apng": {"format": "PNG"},
    "a.png": {"disposal": 1, "blend": 1},
    "a.webp": {"lossless": True},
}


def write(path, **options) -> None:
    """Write six frames of moving shapes over a plain ground."""
    frames = []
    for i in range(6):
        frame = Image.new("RGB", (64, 48), (20, 40, 60))
        draw = ImageDraw.Draw(frame)
        draw.rectangle((4 + 8 * i, 10, 20 + 8 * i, 30), fill=(255, 10 * i, 0))
        draw.ellipse((30, 5 + 5 * i, 40, 15 + 5 * i), fill=(0, 200, 30 * i))
        frames.append(frame)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=MILLISECONDS, **options)


def composited(path) -> np.ndarray:
    with Image.open(path) as image:
        frames = []
        for i in range(image.n_frames):
            image.seek(i)
            frames.append(np.asarray(image.convert("RGB")))
    return np.stack(frames)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("kind", ["path", "bytes", "picture", "picture of bytes", "misnamed"])
def test_all_frames_come_with_their_times(tmp_path, name, kind):
    path = tmp_path / name
    write(path, **FORMATS[name])
    truth, content = composited(path), path.read_bytes()
    (tmp_path / "other.mp4").write_bytes(content)
    source = {
        "path": lambda: path,
        "bytes": lambda: content,
        "picture": lambda: Image.open(path),
        "picture of bytes": lambda: Image.open(io.BytesIO(content)),
        "misnamed": lambda: tmp_path / "other.mp4",
    }[kind]()
    with VideoReader(source) as reader:
        assert len(reader) == 6
        np.testing.assert_array_equal(reader.read([5, 0, 3, 3]), truth[[5, 0, 3, 3]])
        np.testing.assert_array_equal(reader.read(range(6)), truth)
        np.testing.assert_array_equal(np.concatenate(list(reader.blocks(4))), truth)
        np.testing.assert_allclose(reader.seconds, [0, 0.04, 0.14, 0.39, 0.41, 0.91], atol=1e-9)
        assert reader.duration == pytest.approx(0.98)
        assert 5 < reader.fps < 7
        copy = pickle.loads(pickle.dumps(reader))
        np.testing.assert_array_equal(copy.read([4]), truth[[4]])


def test_a_picture_that_is_open_keeps_its_place(tmp_path):
    write(tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as image:
        image.seek(2)
        VideoReader(image)
        assert image.tell() == 2


def test_where_a_gif_draws_nothing_it_is_white_from_a_file_and_from_a_picture(tmp_path):
    frames = [Image.new("RGBA", (16, 16)) for _ in range(2)]
    for i, frame in enumerate(frames):
        ImageDraw.Draw(frame).rectangle((2 + 4 * i, 2, 6 + 4 * i, 8), fill=(255, 0, 0, 255))
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], disposal=2)
    with VideoReader(tmp_path / "a.gif") as file, VideoReader(Image.open(tmp_path / "a.gif")) as picture:
        assert file.read([1])[0, 15, 15].tolist() == [255, 255, 255]
        np.testing.assert_array_equal(file.read([0, 1]), picture.read([0, 1]))


def test_a_frame_that_claims_no_time_lasts_as_long_as_browsers_show_it(tmp_path):
    frames = [Image.new("RGB", (8, 8), (90 * i, 0, 0)) for i in range(3)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], duration=[0, 50, 10])
    with VideoReader(tmp_path / "a.webp") as reader:
        np.testing.assert_allclose(reader.seconds, [0, 0.1, 0.15])


@pytest.mark.parametrize("at", [0.3, 0.8])
def test_a_cut_animation_is_an_error_and_no_shorter_video(tmp_path, at):
    write(tmp_path / "a.webp", lossless=True)
    content = (tmp_path / "a.webp").read_bytes()
    (tmp_path / "a.webp").write_bytes(content[: int(at * len(content))])
    with pytest.raises(VideoDecodeError, match="cannot be read"):
        VideoReader(tmp_path / "a.webp").read([5])


def test_pictures_of_one_frame_stay_what_they_were(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.webp")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    for name in ("a.webp", "a.png"):
        with VideoReader(tmp_path / name, fps=2.0) as reader:
            assert (len(reader), reader.fps, reader.seconds) == (1, 2.0, None)
