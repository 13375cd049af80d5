"""Small video files, and their simplest reading, for the tests of the reader."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from internvideo_hf.video import VideoReader

RATE = 30

FAR_APART = [0, 1, 7, 12, 25, 26, 38, 39]


def moving_picture(num_frames: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Return RGB frames `(num_frames, height, width, 3)` of which no two are alike: a drifting, changing wave."""
    t, y, x = np.mgrid[0:num_frames, 0:height, 0:width].astype(np.float64)
    red = 127 + 100 * np.sin(x / 7 + t / 3)
    green = 127 + 100 * np.sin(y / 5 - t / 4)
    blue = 255 * ((t * 37) % 101) / 100
    return np.stack([red, green, blue], axis=-1).round().clip(0, 255).astype(np.uint8)


def write_video(
    target,
    num_frames: int = 40,
    *,
    codec: str = "libx264",
    size: tuple[int, int] = (48, 64),
    options: dict | None = None,
    format: str | None = None,
    container_options: dict | None = None,
    times: list[int] | None = None,
    shift: int = 0,
    gop: int = 10,
    bframes: int = 2,
    audio: bool = False,
):
    """Encode `moving_picture` into `target` (a path or a file object) and return `target`.

    `times` are presentation times in 1/30 s; `shift` moves the times of all packets, in 1/30 s, as an edit does.
    """
    frames = moving_picture(num_frames, *size)
    destination = target if hasattr(target, "write") else str(target)
    with av.open(destination, "w", format=format, container_options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.height, stream.width = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, RATE)
        stream.codec_context.gop_size = gop
        if codec in ("libx264", "libx265", "mpeg4", "mpeg2video"):
            stream.codec_context.max_b_frames = bframes
        stream.options = {"x265-params": "log-level=none", "preset": "ultrafast"} if codec == "libx265" else {}
        stream.options = {**stream.options, **(options or {})}
        sound = container.add_stream("aac", rate=16000) if audio else None
        for i, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = times[i] if times else i
            frame.time_base = Fraction(1, RATE)
            _mux(container, stream.encode(frame), shift)
        _mux(container, stream.encode(None), shift)
        if sound is not None:
            container.mux(sound.encode(_silence()))
            container.mux(sound.encode(None))
    return target


def write_sound(path: Path) -> Path:
    """Write a file that holds audio only."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        container.mux(stream.encode(_silence()))
        container.mux(stream.encode(None))
    return path


def video_bytes(num_frames: int = 40, **keywords) -> bytes:
    """Return the content of an MP4 file."""
    buffer = io.BytesIO()
    write_video(buffer, num_frames, format="mp4", **keywords)
    return buffer.getvalue()


def set_rotation(path: Path, degrees: int) -> Path:
    """Write a display matrix into the track header of an MP4 file, as telephones do."""
    one = 0x00010000
    cosine, sine = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    matrix = [cosine * one, sine * one, 0, -sine * one, cosine * one, 0, 0, 0, 0x40000000]
    content = bytearray(path.read_bytes())
    # Version 0 of the header: 4 bytes of name, 40 bytes of fields, then the matrix.
    place = content.index(b"tkhd") + 4 + 40
    content[place : place + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    path.write_bytes(content)
    return path


def decode_in_order(source) -> np.ndarray:
    """Return every frame by decoding from the first to the last, which needs no seeking and no index."""
    frames = []
    with av.open(source if hasattr(source, "read") else str(source)) as container:
        # One thread: PyAV keeps a closed decoder until the garbage collector comes, and if that is in a forked child,
        # the child waits for ever for threads that it has not.
        container.streams.video[0].codec_context.thread_count = 1
        for frame in container.decode(video=0):
            image = frame.to_ndarray(format="rgb24", interpolation="BICUBIC")
            frames.append(np.rot90(image, round(frame.rotation / 90) % 4))
    return np.stack(frames)


def _mux(container, packets, shift: int) -> None:
    for packet in packets:
        ticks = round(shift / RATE / packet.time_base)
        packet.pts += ticks
        packet.dts += ticks
        container.mux(packet)


def _silence():
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
    frame.sample_rate = 16000
    frame.pts = 0
    return frame


class EndsOfVideo(Dataset):
    """Frames from both ends of a 40-frame video; here, where a spawned worker finds it by import."""

    def __init__(self, reader: VideoReader):
        self.reader = reader

    def __len__(self) -> int:
        return 12

    def __getitem__(self, i: int) -> np.ndarray:
        return self.reader.read([i, 39 - i])


def assert_reads_like_decoding_in_order(path: Path, backend: str) -> None:
    expected = decode_in_order(path)
    n = len(expected)
    with VideoReader(path, backend=backend) as reader:
        assert reader.num_frames == n
        np.testing.assert_array_equal(reader.read(range(n)), expected)
        for i in np.random.default_rng(0).permutation(n):
            np.testing.assert_array_equal(reader.read([i])[0], expected[i], err_msg=f"frame {i}")
        for step in (3, 7, 13):
            asked = range(step // 2, n, step)
            np.testing.assert_array_equal(reader.read(asked), expected[asked])


def write_frames(folder: Path, suffix: str = ".png", count: int = 12) -> np.ndarray:
    folder.mkdir()
    frames = moving_picture(count)
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"frame{i}{suffix}")
    (folder / "notes.txt").write_text("not a frame")
    (folder / "._frame0.png").write_bytes(b"what a file system leaves behind")
    return frames
