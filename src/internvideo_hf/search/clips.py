"""From files to clips: the windows of a video, and their pixels, in any process."""

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.video_utils import VideoMetadata

from internvideo_hf.data.contents import content_hash, stamp
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor, RawPixels, normalize
from internvideo_hf.video import BLANK, VideoReader
from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.members import split_member
from internvideo_hf.video.sources import check_path, is_url

CHUNK_FRAMES = 64  # about 40 MB of pixels at 224 x 224, which a process returns in one piece
Task = tuple[str, tuple[int, ...] | None]
"""A video and the numbers of its clips; None for the first ones, as many as fit in one piece."""


@dataclass(frozen=True)
class Windowing:
    """How videos are divided into clips.

    Args:
        window: seconds of a window; None takes every video whole.
        stride: seconds from the start of one window to the start of the next; the window by default.

    Raises:
        ValueError: if a number is not above 0, windows would leave gaps, or there is a stride without a window.
    """

    window: float | None = None
    stride: float | None = None

    def __post_init__(self) -> None:
        if self.window is None:
            if self.stride is not None:
                raise ValueError(f"stride={self.stride} needs a window. Give its seconds (--window), or no --stride.")
            return
        if not 0 < self.window < float("inf"):
            raise ValueError(f"window={self.window} must be a number of seconds above 0.")
        if self.stride is not None and not 0 < self.stride <= self.window:
            raise ValueError(
                f"stride={self.stride} must be above 0 and at most the window ({self.window} s): a larger one would "
                "leave parts of the videos out (--window, --stride)."
            )


def windows(duration: float, windowing: Windowing) -> list[tuple[float, float]]:
    """Divide a video into windows that cover it, `(begin, end)` in seconds.

    The rest at the end is a window of its own if it is at least half as long as the others; otherwise the last window
    extends over it. A video shorter than one window is one window.

    Args:
        duration: seconds of the video.
        windowing: length and stride of the windows.
    """
    if windowing.window is None:
        return [(0.0, duration)]
    stride = windowing.stride or windowing.window
    begins = [0.0]
    while begins[-1] + windowing.window < duration and duration - (begins[-1] + stride) >= windowing.window / 2:
        begins.append(len(begins) * stride)
    ends = [begin + windowing.window for begin in begins[:-1]] + [duration]
    return list(zip(begins, ends, strict=True))


@dataclass(frozen=True)
class Clips:
    """Processed clips of a video, as a process returns them.

    Attributes:
        content: hash of the whole file.
        spans: begin and end of all clips of the video in seconds, `(clips, 2)`, float64; NaN without times.
        numbers: the clips that `pixels` holds.
        pixels: `(len(numbers), views, frames, channels, height, width)`, or a list where the clips differ; uint8
            before they are normalized, a quarter of the size, or float32, which `normalized` leaves as they are.
        size: bytes of the file when it was read.
        mtime: its modification time then, in nanoseconds.
        blank: the frames that stand for none, `(len(numbers), views, frames)`, of uint8; None for none.
    """

    content: str
    spans: np.ndarray
    numbers: tuple[int, ...]
    pixels: np.ndarray
    size: int
    mtime: int
    blank: np.ndarray | None = None


def read_clips(task: Task, processor: InternVideoVideoProcessor, windowing: Windowing) -> Clips:
    """Decode and process some clips of a video; worker processes run this.

    Args:
        task: the clips.
        processor: samples and processes the frames.
        windowing: how the video is divided into clips.

    Raises:
        VideoDecodeError: if the video cannot be read, or has no times to divide it by.
        OSError: if it disappears meanwhile.
    """
    video, numbers = task
    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)  # the processes share the cores
    if not is_url(video) and split_member(video) is None:
        check_path(video)
    # Before the frames are read: if the file changes meanwhile, the next run finds it changed.
    (size, mtime), content = stamp(video), content_hash(video)
    with VideoReader(video, backend=processor.decoder) as reader:
        spans, bounds = _divide(reader, video, windowing)
        if numbers is None:
            numbers = tuple(range(min(len(spans), clips_at_once(processor))))
        pixels, blank = zip(*(_pixels(reader, processor, *bounds[number]) for number in numbers), strict=True)
    return Clips(content, spans, numbers, _together(pixels), size, mtime, _together(blank))


def _together(arrays: Sequence[np.ndarray]) -> Any:
    """Return arrays as one; as they are where their shapes differ, as of windows with frames by the second."""
    return np.stack(arrays) if len({array.shape for array in arrays}) == 1 else list(arrays)


def normalized(
    pixels: np.ndarray, blank: np.ndarray, processor: InternVideoVideoProcessor, device: torch.device | None = None
) -> torch.Tensor:
    """Return clips as the model takes them.

    Args:
        pixels: as in `Clips`.
        blank: as in `Clips`.
        processor: of the model.
        device: normalizes them; the CPU by default.
    """
    if pixels.dtype == np.uint8:
        return normalize(pixels, blank, processor.statistics(), device)
    return torch.from_numpy(pixels)


def clips_at_once(processor: InternVideoVideoProcessor) -> int:
    """Return how many clips a process returns in one piece."""
    views = processor.num_clips * processor.num_crops
    return max(1, CHUNK_FRAMES // (processor.num_frames * views))


def in_pieces(numbers: Sequence[int], processor: InternVideoVideoProcessor) -> list[tuple[int, ...]]:
    """Divide numbers of clips into pieces that a process returns at once."""
    size = clips_at_once(processor)
    return [tuple(numbers[start : start + size]) for start in range(0, len(numbers), size)]


def _divide(reader: VideoReader, video: str, windowing: Windowing) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Return the times of a video's clips, and the frames `[begin, end)` of each."""
    count, times = reader.num_frames, reader.timeline
    if times is None:
        if windowing.window is not None:
            raise VideoDecodeError(video, "its frames have no times to cut it by", "Index it whole, without a window.")
        return np.full((1, 2), np.nan), [(0, count)]
    spans = windows(float(times[-1]), windowing)
    frames = [(int(np.searchsorted(times, a - 1e-6)), int(np.searchsorted(times, b - 1e-6))) for a, b in spans]
    frames[-1] = (frames[-1][0], count)
    kept = [i for i, (first, last) in enumerate(frames) if last > first]  # a gap in the times may span a window
    return np.array([spans[i] for i in kept], dtype=np.float64), [frames[i] for i in kept]


def _pixels(
    reader: VideoReader, processor: InternVideoVideoProcessor, first: int, last: int
) -> tuple[np.ndarray, np.ndarray]:
    """Process the frames `[first, last)` as if they were the whole video: a row of `pixels` and of `blank`."""
    metadata = VideoMetadata(total_num_frames=last - first, fps=reader.fps, duration=None)
    indices = processor.sample_frames(metadata) if processor.do_sample_frames else np.arange(last - first)
    metadata.frames_indices = indices  # type: ignore[assignment]  # an array serves as the list
    frames = reader.read(first + np.where(indices == BLANK, 0, indices))
    made = processor.raw_frames(frames, metadata, do_sample_frames=False)
    if isinstance(made, RawPixels):
        return made.pixels, made.blank
    return made.numpy(), np.zeros(made.shape[:2], dtype=bool)
