"""Videos given as frames: arrays, images, and folders of frame files."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image, ImageOps

from internvideo_hf.utils.names import reason_of
from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.settings import ReadSettings

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
# By content, whatever the name says. Pillow hands others to programs such as Ghostscript (EPS).
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
# Pillow answers damaged files with any of these, according to the format.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError)


Frame: TypeAlias = Image.Image | np.ndarray | Path
Frames: TypeAlias = np.ndarray | Sequence[Frame]


class StillFrames:
    """Frames that need no video decoder, read one by one when they are asked for.

    Args:
        frames: a uint8 array `(frames, height, width, 3)`, or a list of PIL images, of uint8 arrays
            `(height, width, 3)` and of paths of image files.
        label: name of the source for messages.
        settings: limits of image files.
        durations: seconds for which each frame is shown, `(frames,)`; None where unknown.

    Raises:
        VideoDecodeError: if there is no frame, or frames in memory differ in size.
    """

    name = "frames"

    def __init__(self, frames: Frames, label: str, settings: ReadSettings, durations: np.ndarray | None = None):
        if len(frames) == 0:
            raise VideoDecodeError(label, "it holds no frames", "Pass one frame or more.")
        self._frames = frames
        self._label = label
        self._settings = settings
        self.num_frames = len(frames)
        self.durations = durations
        if not isinstance(frames, np.ndarray):
            self._check_sizes_in_memory()

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Return the frames at `indices` as uint8 `(len(indices), height, width, 3)`, RGB.

        Args:
            indices: frame numbers in `[0, num_frames)`.

        Raises:
            VideoDecodeError: if a frame file cannot be read, or has another size than the others.
        """
        if isinstance(self._frames, np.ndarray):
            return self._frames[indices]
        frames = [rgb_of(self._frames[i], self._label, self._settings) for i in indices]
        for index, frame in zip(indices, frames, strict=True):
            if frame.shape != frames[0].shape:
                raise self._another_size(index, frame.shape[:2], frames[0].shape[:2])
        return np.stack(frames)

    def close(self) -> None:
        """Do nothing: no frame file stays open after it was read."""

    def _check_sizes_in_memory(self) -> None:
        sizes = [_size(frame) for frame in self._frames if not isinstance(frame, Path)]
        for index, size in enumerate(sizes):
            if size != sizes[0]:
                raise self._another_size(index, size, sizes[0])

    def _another_size(self, index: int, size: Sequence[int], expected: Sequence[int]) -> VideoDecodeError:
        frame = self._frames[index]
        name = f"frame {frame.name}" if isinstance(frame, Path) else f"frame {index}"
        return another_size(self._label, name, size, expected)


def another_size(label: str, name: str, size: Sequence[int], expected: Sequence[int]) -> VideoDecodeError:
    """Return the error of a frame of another size than those before it.

    Args:
        label: name of the source.
        name: of the frame.
        size: its height and width.
        expected: theirs.
    """
    cause = f"{name} is {size[0]}x{size[1]} (height x width) where others are {expected[0]}x{expected[1]}"
    return VideoDecodeError(label, cause, "Resize the frames to one size first.")


def frames_of_array(array: np.ndarray | torch.Tensor, label: str) -> np.ndarray:
    """Return an array of frames, or one image, as uint8 `(frames, height, width, 3)`.

    The last axis is taken for the colors where it has size 3, else the one that a channels-first array has.

    Args:
        array: uint8 `(frames, height, width, 3)`, `(frames, 3, height, width)`, `(height, width, 3)` or
            `(3, height, width)`, values in `[0, 255]`, RGB.
        label: name of the source for messages.

    Raises:
        VideoDecodeError: if the array has another dtype or shape.
    """
    if array.dtype not in (np.uint8, torch.uint8):
        cause = (
            f"the frames are {str(array.dtype).removeprefix('torch.')}, expected uint8 in [0, 255]{_range_of(array)}"
        )
        raise VideoDecodeError(label, cause, "Scale them to 0..255 (times 255 if they are in 0..1) and cast to uint8.")
    frames = array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else array
    if frames.ndim == 3:
        frames = frames[None]
    if frames.ndim == 4 and frames.shape[-1] == 3:
        return frames
    if frames.ndim == 4 and frames.shape[1] == 3:
        return frames.transpose(0, 2, 3, 1)
    if frames.ndim == 5:
        advice = "It holds several videos: pass one of them."
    elif frames.ndim == 4 and len(frames) == 3:
        move = "permute(1, 2, 3, 0)" if isinstance(array, torch.Tensor) else "transpose(1, 2, 3, 0)"
        advice = f"If the colors are the first axis, pass `frames.{move}`."
    else:
        advice = "Repeat a gray channel three times, drop an alpha channel, or move the axes."
    cause = f"the shape {tuple(array.shape)} has no RGB axis, expected (frames, height, width, 3)"
    raise VideoDecodeError(label, cause, advice)


def _range_of(array: np.ndarray | torch.Tensor) -> str:
    """Return the range of the values of an array in words, or nothing where it has none."""
    values = array.detach().cpu().float().numpy() if isinstance(array, torch.Tensor) else array
    is_number = values.size > 0 and values.dtype.kind in "fiu"
    return f"; their values go from {values.min():g} to {values.max():g}" if is_number else ""


def image_of(frame: Image.Image | np.ndarray | torch.Tensor, label: str) -> Image.Image | np.ndarray:
    """Return a frame as a PIL image, or as a uint8 array `(height, width, 3)`.

    Args:
        frame: a PIL image, or a uint8 array `(height, width, 3)` or `(3, height, width)`, RGB.
        label: name of the source for messages.

    Raises:
        VideoDecodeError: if an array has another dtype or shape.
    """
    if isinstance(frame, Image.Image):
        return frame
    frames = frames_of_array(frame, label)
    if frame.ndim != 3:
        cause = f"a frame in the list has the shape {tuple(frame.shape)}, expected (height, width, 3)"
        raise VideoDecodeError(label, cause, "Concatenate the clips into one array first.")
    return frames[0]


def frame_files(folder: Path, label: str) -> list[Path]:
    """Return the image files of a folder, in the order in which a person numbers them (2 before 10).

    Args:
        folder: path of the folder.
        label: name of the source for messages.

    Raises:
        VideoDecodeError: if the folder cannot be listed, or holds no image file.
    """
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise VideoDecodeError(
            label, f"the folder cannot be listed ({reason_of(error)})", "Check its rights."
        ) from error
    files = [file for file in entries if is_image_file(file) and not file.name.startswith(".") and file.is_file()]
    if not files:
        cause = f"the folder holds no videos and no frame files ({', '.join(IMAGE_SUFFIXES)})"
        raise VideoDecodeError(label, cause, "Pass a folder of frames, or the path of one video.")
    return sorted(files, key=_natural_order)


def is_image_file(path: Path) -> bool:
    """Return whether the name of `path` ends as that of an image file."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def _natural_order(path: Path) -> tuple[list[int | str], str]:
    # The name itself decides between `1.jpg` and `01.jpg`, so that the order never depends on the folder's own.
    parts = re.split(r"(\d+)", path.name)
    return [int(part) if part.isdecimal() else part.lower() for part in parts], path.name


def _size(frame: Image.Image | np.ndarray) -> tuple[int, int]:
    width, height = frame.size if isinstance(frame, Image.Image) else frame.shape[1::-1]
    return height, width


def rgb_of(frame: Frame, label: str, settings: ReadSettings) -> np.ndarray:
    """Return a frame as uint8 `(height, width, 3)`.

    Args:
        frame: such an array, a PIL image, or the path of an image file.
        label: name of the source for messages.
        settings: limits of images.

    Raises:
        VideoDecodeError: if an image cannot be read, is too large, or has more than 8 bits a channel.
    """
    if isinstance(frame, np.ndarray):
        return frame
    if isinstance(frame, Image.Image):
        check_pixels(frame.size, label, settings)
        return image_to_rgb(frame, label)
    try:
        with without_pillow_limit(), Image.open(frame, formats=_FORMATS) as image:
            check_pixels(image.size, str(frame), settings)
            return image_to_rgb(ImageOps.exif_transpose(image), str(frame))
    except VideoDecodeError:
        raise
    except UNREADABLE as error:
        raise unreadable_image(str(frame), error, "the frame") from error


@contextmanager
def without_pillow_limit() -> Iterator[None]:
    """Let Pillow open images of any size in a block, which checks their size by `check_pixels`: one limit, ours."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def picture_size(file: Path | bytes) -> tuple[int, int]:
    """Return width and height by the header of a picture's file or content; (0, 0) if it is no picture."""
    source = io.BytesIO(file) if isinstance(file, bytes) else file
    with suppress(*UNREADABLE), without_pillow_limit(), Image.open(source, formats=_FORMATS) as image:
        return image.size
    return 0, 0


def check_pixels(size: tuple[int, int], label: str, settings: ReadSettings) -> None:
    """Refuse a frame that is larger than the limit, before memory is taken for it.

    Args:
        size: width and height.
        label: name of the source for messages.
        settings: the limit.

    Raises:
        VideoDecodeError: if there are more than `settings.max_pixels` pixels.
    """
    width, height = size
    if width * height > settings.max_pixels:
        cause = f"a frame of {width} x {height} has more than {settings.max_pixels} pixels"
        advice = (
            "Scale it down, or raise the limit if you trust the file: `--max-pixels N`, in Python "
            "`settings=ReadSettings(max_pixels=N)`."
        )
        raise VideoDecodeError(label, cause, advice)


def unreadable_image(label: str, error: Exception, what: str) -> VideoDecodeError:
    """Return the error of an image that Pillow cannot read.

    Args:
        label: name of the source.
        error: one of `UNREADABLE`.
        what: what cannot be read, such as "frame 3".
    """
    return VideoDecodeError(label, f"{what} cannot be read ({reason_of(error)})", "Extract this frame again.")


def image_to_rgb(image: Image.Image, label: str) -> np.ndarray:
    """Return an image as uint8 `(height, width, 3)`.

    Raises:
        VideoDecodeError: if it has more than 8 bits a channel.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        # Pillow clips these modes at 255 instead of scaling them, which makes nearly every pixel white.
        cause = f"an image has the mode {image.mode!r}, more than 8 bits a channel"
        raise VideoDecodeError(label, cause, "Scale it to 8 bits first.")
    return np.asarray(image.convert("RGB"))
