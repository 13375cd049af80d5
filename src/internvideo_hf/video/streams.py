"""Windows in time of a stream: each comes as soon as its last frame is there, and only its frames are held."""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from numbers import Real
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from PIL import Image

from internvideo_hf.video.reader import VideoReader
from internvideo_hf.video.settings import ReadSettings
from internvideo_hf.video.stills import another_size, image_of, rgb_of

_ROUNDING = 1e-6  # seconds


class StreamWindow(NamedTuple):
    """A part of a stream.

    Attributes:
        start: where it begins, in seconds from the first frame of the stream.
        end: where it ends.
        frames: that begin in `[start, end)`, uint8 `(frames, height, width, 3)`, RGB.
    """

    start: float
    end: float
    frames: np.ndarray


def stream_windows(
    source: Any,
    window: float,
    stride: float | None = None,
    *,
    fps: float | None = None,
    settings: ReadSettings | None = None,
) -> Iterator[StreamWindow]:
    """Divide a stream of frames, or a video, into windows that come while it is read.

    Windows begin at 0, `stride`, 2 `stride`, ... seconds. If frames are left at the end, one more window of the same
    length ends with the stream; a stream shorter than one window is one window.

    >>> for start, end, frames in stream_windows(camera(), window=2, fps=25):
    ...     print(start, classify(frames, candidate_labels=["a dog runs", "a car stops"])[0]["label"])

    Args:
        source: an iterator of frames, endless or not: uint8 arrays or tensors `(height, width, 3)` or `(3, height,
            width)`, or PIL images, in RGB; or a video of any kind that `VideoReader` takes, or an open reader.
        window: seconds of a window.
        stride: seconds from the start of one window to the start of the next; the window if None. A larger one skips
            the frames between windows.
        fps: frames per second of an iterator, or of a video that is frames. Video files have their own times.
        settings: limits of the size of frames; None for the process's own.

    Yields:
        Start and end in seconds, and the frames. Windows without a frame are left out.

    Raises:
        ValueError: if a number is not above 0, or there are neither times nor `fps`.
        TypeError: if the source, or a frame, is of another type.
        VideoDecodeError: if the video cannot be read, or a frame has another dtype, shape or size; after the windows
            before it.
    """
    stride = window if stride is None else stride
    for name, number in (("window", window), ("stride", stride), ("fps", 1 if fps is None else fps)):
        if not isinstance(number, Real) or not 0 < number < math.inf:
            raise ValueError(f"{name}={number} must be a number above 0.")
    settings = settings or ReadSettings.default()
    if isinstance(source, Iterator) and not hasattr(source, "read"):  # open files are iterators, too
        if fps is None:
            raise ValueError("The stream has no frame rate: pass fps=, its frames per second.")
        return _windows(_timed(source, fps, settings), window, stride)
    return _windows(_read(source, fps, settings), window, stride)


Timed: TypeAlias = tuple[float, float, np.ndarray]
"""Begin and end of a frame in seconds, and the frame."""


def _windows(frames: Iterable[Timed], window: float, stride: float) -> Iterator[StreamWindow]:
    held: deque[tuple[float, np.ndarray]] = deque()
    count, covered, end = 0, 0.0, 0.0
    for begin, end, frame in frames:
        held.append((begin, frame))
        while end > (start := count * stride) + window - _ROUNDING:
            covered = start + window
            if chosen := [one for time, one in held if start - _ROUNDING <= time < covered - _ROUNDING]:
                yield StreamWindow(start, covered, np.stack(chosen))
            count += 1
        while held and held[0][0] < end - window - _ROUNDING:
            held.popleft()
    if held and held[-1][0] >= max(covered, count * stride) - _ROUNDING:
        start = max(0.0, end - window)
        yield StreamWindow(start, end, np.stack([one for time, one in held if time >= start - _ROUNDING]))


def _timed(stream: Iterator[Any], fps: float, settings: ReadSettings) -> Iterator[Timed]:
    size = None
    for number, frame in enumerate(stream):
        label = f"frame {number} of the stream"
        if not isinstance(frame, Image.Image | np.ndarray | torch.Tensor):
            raise TypeError(
                f"{label} is of type {type(frame).__name__}, expected a numpy or torch array or a PIL image"
            )
        image = np.array(rgb_of(image_of(frame, label), label, settings))  # a camera may write the next into the same
        size = size or image.shape
        if image.shape != size:
            raise another_size(label, label, image.shape, size)
        yield number / fps, (number + 1) / fps, image


def _read(source: Any, fps: float | None, settings: ReadSettings) -> Iterator[Timed]:
    opened = (
        nullcontext(source) if isinstance(source, VideoReader) else VideoReader(source, fps=fps, settings=settings)
    )
    with opened as reader:
        times = reader.timeline
        if times is None:
            raise ValueError("The video has no frame rate: pass fps=, its frames per second.")
        for begin, end, block in zip(times[:-1].tolist(), times[1:].tolist(), reader.blocks(1), strict=True):
            yield begin, end, block[0]
