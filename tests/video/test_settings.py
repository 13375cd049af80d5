"""Settings of reading: the environment, and limits that hold before memory is taken."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from video.clips import moving_picture, write_video

from internvideo_hf.video import ReadSettings, VideoDecodeError, VideoReader


def test_the_environment_changes_the_defaults(monkeypatch):
    assert ReadSettings.default() == ReadSettings(max_pixels=67_108_864, max_pictures=10_000, hdr="tonemap")
    monkeypatch.setenv("INTERNVIDEO_READ_MAX_PIXELS", "100")
    monkeypatch.setenv("INTERNVIDEO_READ_HDR", "ignore")
    assert ReadSettings.default() == ReadSettings(max_pixels=100, hdr="ignore")
    monkeypatch.setenv("INTERNVIDEO_READ_MAX_PIXELS", "many")
    with pytest.raises(ValueError, match="INTERNVIDEO_READ_MAX_PIXELS='many': expected a number"):
        ReadSettings.default()


@pytest.mark.parametrize("wrong", [{"max_pixels": 0}, {"max_pictures": -1}, {"hdr": "yes"}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        ReadSettings(**wrong)


def write_black_png(path, side: int) -> None:
    """Write a black picture row by row, which never stands in memory."""
    packer = zlib.compressobj(1)
    rows = b"".join(packer.compress(b"\0" + bytes(3 * side)) for _ in range(side)) + packer.flush()

    def chunk(name: bytes, content: bytes) -> bytes:
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def test_a_small_file_of_a_huge_picture_is_refused_by_itself(tmp_path):
    (tmp_path / "frames").mkdir()
    write_black_png(tmp_path / "frames" / "1.png", 8200)
    for source in (tmp_path / "frames", tmp_path / "frames" / "1.png"):
        with (
            VideoReader(source) as reader,
            pytest.raises(VideoDecodeError, match="8200 x 8200.*--max-pixels") as error,
        ):
            reader.read([0])
        assert "1.png" in str(error.value)


def test_the_limit_of_pixels_holds_for_every_kind_of_source(tmp_path, backend):
    settings = ReadSettings(max_pixels=48 * 64 - 1)
    image = Image.fromarray(moving_picture(1)[0])
    sources = [write_video(tmp_path / "a.mp4", 4), (tmp_path / "a.mp4").read_bytes(), [image], image]
    image.save(tmp_path / "a.webp", save_all=True, append_images=[Image.new("RGB", (64, 48))])
    for source in [*sources, tmp_path / "a.webp"]:
        with pytest.raises(VideoDecodeError, match="64 x 48 has more than 3071 pixels"):
            VideoReader(source, backend=backend, settings=settings).read([0])
    with VideoReader(tmp_path / "a.mp4", backend=backend, settings=ReadSettings(max_pixels=48 * 64)) as reader:
        assert reader.read([3]).shape == (1, 48, 64, 3)


def write_gif(path, count: int) -> None:
    """Write `count` frames of one pixel, 23 bytes each."""
    header = b"GIF89a" + struct.pack("<HH", 1, 1) + b"\x80\0\0\0\0\0\xff\xff\xff"
    frame = b"\x21\xf9\x04\0\x01\0\0\0" + b"\x2c" + struct.pack("<HHHH", 0, 0, 1, 1) + b"\0\x02\x02\x44\x01\0"
    path.write_bytes(header + frame * count + b";")


def test_the_limit_of_frames_holds_for_every_animated_picture(tmp_path):
    write_gif(tmp_path / "a.gif", 6)
    frames = [Image.fromarray(frame) for frame in moving_picture(6)]
    for name in ("a.webp", "a.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    few = ReadSettings(max_pictures=5)
    with Image.open(tmp_path / "a.gif") as image:
        for source in (*(tmp_path / name for name in ("a.gif", "a.webp", "a.png")), image):
            with pytest.raises(VideoDecodeError, match="more than 5 frames.*--max-pictures"):
                VideoReader(source, settings=few)
            with VideoReader(source, settings=ReadSettings(max_pictures=6)) as reader:
                assert len(reader) == 6


def test_a_gif_of_very_many_frames_is_refused_after_a_look_at_the_first_of_them(tmp_path):
    write_gif(tmp_path / "a.gif", 100_000)
    with pytest.raises(VideoDecodeError, match="more than 10000 frames"):
        VideoReader(tmp_path / "a.gif")


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def huge_pictures() -> dict[str, bytes]:
    """Return animated pictures of a few bytes whose headers name 65535 x 65535 pixels."""
    side, pixel = 65535, b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0"
    gif = b"GIF89a" + struct.pack("<HH", side, side) + b"\x80\0\0\0\0\0\xff\xff\xff" + pixel + b";"
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    control = struct.pack(">IIIIHHBB", side, side, 0, 0, 1, 10, 0, 0)
    png += chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", bytes(4) + control)
    png += chunk(b"IDAT", zlib.compress(bytes(10))) + chunk(b"fcTL", struct.pack(">I", 1) + control)
    png += chunk(b"fdAT", struct.pack(">I", 2) + zlib.compress(bytes(10))) + chunk(b"IEND", b"")
    jpeg = b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xc0\0\x0b\x08" + struct.pack(">HH", side, side)
    jpeg += b"\1\1\x11\0\xff\xda\0\x08\1\1\0\0\x3f\0" + bytes(50) + b"\xff\xd9"
    return {"a.gif": gif, "a.png": png, "a.apng": png, "a.mjpeg": 3 * jpeg}


@pytest.mark.parametrize("name", huge_pictures())
def test_a_picture_of_a_huge_canvas_is_refused_for_its_size(name, tmp_path):
    content = huge_pictures()[name]
    (tmp_path / name).write_bytes(content)
    for source in (tmp_path / name, content):
        with pytest.raises(VideoDecodeError, match=r"a frame of 65535 x 65535 has more than 67108864.*--max-pixels"):
            VideoReader(source)


def test_frames_in_memory_have_no_limit():
    with VideoReader(np.zeros((2, 8, 8, 3), np.uint8), settings=ReadSettings(max_pixels=1)) as reader:
        assert len(reader.read([0, 1])) == 2
