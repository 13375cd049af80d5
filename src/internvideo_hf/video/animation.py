"""Animated pictures that FFmpeg does not decode (WebP), and those that Pillow has open."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, ImageSequence

from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.settings import ReadSettings
from internvideo_hf.video.sources import first_bytes
from internvideo_hf.video.stills import UNREADABLE, check_pixels, image_to_rgb, unreadable_image, without_pillow_limit

# As browsers and FFmpeg show them: a picture that claims to be shown for less than a fiftieth of a second is not.
_SHORTEST, _INSTEAD = 20, 100  # milliseconds
_MOST_AT_ONCE = 16  # frames of the largest size that are held for a picture that Pillow has open


class AnimatedPicture:
    """Frames of an animated WebP file, decoded in order by Pillow.

    Args:
        file: absolute path, or the file's bytes.
        label: name of the source for messages.
        settings: limits.

    Attributes:
        num_frames: number of frames.
        durations: seconds for which each is shown, float64 `(num_frames,)`.

    Raises:
        VideoDecodeError: if it cannot be read, or is larger than a limit.
    """

    name = "frames"

    def __init__(self, file: Path | bytes, label: str, settings: ReadSettings):
        self._label = label
        content = file if isinstance(file, bytes) else file.read_bytes()
        self._image = _open(content, label)
        check_pixels(self._image.size, label, settings)
        self.num_frames: int = getattr(self._image, "n_frames", 1)
        if self.num_frames > settings.max_pictures:
            raise too_many_pictures(label, settings)
        told = list(_durations(content))[: self.num_frames]
        self.durations = _seconds(told + [0] * (self.num_frames - len(told)))

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Return the frames at `indices` as uint8 `(len(indices), height, width, 3)`, RGB.

        Args:
            indices: rising frame numbers in `[0, num_frames)`.

        Raises:
            VideoDecodeError: if a frame is damaged or missing.
        """
        frames = []
        for index in indices.tolist():
            try:
                self._image.seek(index)
                self._image.load()
            except UNREADABLE as error:
                raise unreadable_image(self._label, error, f"frame {index}") from error
            frames.append(image_to_rgb(ImageOps.exif_transpose(self._image), self._label))
        return np.stack(frames)

    def close(self) -> None:
        """Release the picture."""
        self._image.close()


def is_animated_webp(file: Path | bytes) -> bool:
    """Return whether a file or its content is a WebP picture of more than one frame."""
    head = first_bytes(file, 21)
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and bool(head[20:] and head[20] & 0x02)


def is_animated_png(file: Path) -> bool:
    """Return whether a file is a PNG picture of more than one frame."""
    if first_bytes(file, 8) != b"\x89PNG\r\n\x1a\n":
        return False
    try:
        with without_pillow_limit(), Image.open(file) as image:
            return bool(getattr(image, "is_animated", False))
    except UNREADABLE:
        return False


class TimedFrames(NamedTuple):
    """Frames, uint8 `(frames, height, width, 3)`, and the seconds for which each is shown, None where unknown."""

    frames: np.ndarray
    durations: np.ndarray | None


def has_frames(image: Image.Image) -> bool:
    """Return whether a picture that Pillow has open is several frames of one scene.

    The further pictures of an MPO file, as telephones write them, are previews and other eyes.
    """
    return image.format != "MPO" and bool(getattr(image, "is_animated", False))


def frames_of_picture(image: Image.Image, label: str, settings: ReadSettings) -> TimedFrames:
    """Return all frames of a picture that Pillow has open.

    Args:
        image: a picture of several frames. Its place is kept.
        label: name of the source for messages.
        settings: limits.

    Raises:
        VideoDecodeError: if a frame cannot be read, or a limit is passed.
    """
    check_pixels(image.size, label, settings)
    room, place = _MOST_AT_ONCE * settings.max_pixels, image.tell()
    frames: list[np.ndarray] = []
    milliseconds: list[float | None] = []
    try:
        for frame in ImageSequence.Iterator(image):
            if len(frames) == settings.max_pictures:
                raise too_many_pictures(label, settings)
            if (len(frames) + 1) * image.width * image.height > room:
                cause = f"the picture holds more than {room} pixels in all its frames"
                raise VideoDecodeError(label, cause, "Save it to a file, and pass its path.")
            frame.load()
            milliseconds.append(frame.info.get("duration"))
            frames.append(_opaque(frame) if image.format == "GIF" else image_to_rgb(frame, label))
    except VideoDecodeError:
        raise
    except UNREADABLE as error:
        raise unreadable_image(label, error, f"frame {len(frames)}") from error
    finally:
        image.seek(place)
    durations = [value for value in milliseconds if value is not None]
    return TimedFrames(np.stack(frames), _seconds(durations) if len(durations) == len(frames) else None)


def too_many_pictures(label: str, settings: ReadSettings) -> VideoDecodeError:
    """Return the error of an animated picture of more frames than the limit."""
    cause = f"the animated picture has more than {settings.max_pictures} frames"
    advice = (
        "Raise the limit if you trust the file: `--max-pictures N`, in Python `settings=ReadSettings(max_pictures=N)`."
    )
    return VideoDecodeError(label, cause, advice)


def _opaque(frame: Image.Image) -> np.ndarray:
    """Return a frame of a GIF; where nothing was drawn it is white, as FFmpeg reads the same file."""
    rgba = frame.convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB"))


def _open(content: bytes, label: str) -> Image.Image:
    try:
        with without_pillow_limit():
            return Image.open(io.BytesIO(content))
    except UNREADABLE as error:
        raise unreadable_image(label, error, "the picture") from error


def _durations(content: bytes) -> Iterator[int]:
    """Yield the milliseconds of each frame of a WebP file, from its `ANMF` chunks."""
    place = 12
    while place + 24 <= len(content):
        if content[place : place + 4] == b"ANMF":
            yield int.from_bytes(content[place + 20 : place + 23], "little")
        size = int.from_bytes(content[place + 4 : place + 8], "little")
        place += 8 + size + size % 2


def _seconds(milliseconds: list[int] | list[float]) -> np.ndarray:
    times = np.array(milliseconds, dtype=np.float64)
    return np.where(times < _SHORTEST, _INSTEAD, times) / 1000
