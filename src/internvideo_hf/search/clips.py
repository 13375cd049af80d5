"""From files to clips that a model reads: which windows a video has, and their pixels, in any process."""

import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers.video_utils import VideoMetadata

from internvideo_hf.processing.video_processing import InternVideoVideoProcessor
from internvideo_hf.utils.fingerprints import file_sha256, text_sha256
from internvideo_hf.video import BLANK, VideoReader
from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.sources import check_path, is_url

FRAMES_AT_ONCE = 64  # about 40 MB of pixels at 224 x 224, which is what a process hands over in one piece


@dataclass(frozen=True)
class Cut:
    """How videos are cut into clips.

    Args:
        window: seconds of a window; None takes every video whole.
        stride: seconds from the start of one window to the start of the next; as the window by default.

    Raises:
        ValueError: if a number is not above 0, windows leave gaps, or there is a stride without a window.
    """

    window: float | None = None
    stride: float | None = None

    def __post_init__(self) -> None:
        if self.window is None and self.stride is not None:
            raise ValueError(f"stride={self.stride} needs a window. Give the seconds of a window, or no stride.")
        if self.window is not None and not 0 < self.window < float("inf"):
            raise ValueError(f"window={self.window} must be a number of seconds above 0.")
        if self.stride is not None and not 0 < self.stride <= self.window:
            raise ValueError(
                f"stride={self.stride} must be above 0 and at most the window ({self.window} s): a larger one would "
                "leave parts of the videos out."
            )


def windows(duration: float, cut: Cut) -> list[tuple[float, float]]:
    """Cut a video into windows that cover it, `(begin, end)` in seconds.

    What is left at the end is a window of its own if it is at least half as long as the others; else the last window
    reaches over it. A video shorter than one window is one.
    """
    if cut.window is None:
        return [(0.0, duration)]
    stride = cut.stride or cut.window
    begins = [0.0]
    while begins[-1] + cut.window < duration and duration - (begins[-1] + stride) >= cut.window / 2:
        begins.append(len(begins) * stride)
    ends = [begin + cut.window for begin in begins[:-1]] + [duration]
    return list(zip(begins, ends, strict=True))


@dataclass(frozen=True)
class Clips:
    """What a process hands over of a video.

    Attributes:
        content: hash of the whole file.
        spans: begin and end of all of the video's clips in seconds, `(clips, 2)`, float64; NaN where the video has no
            times.
        numbers: which of the clips `pixels` are.
        pixels: float32 `(len(numbers), views, frames, channels, height, width)`.
        size: bytes of the file when it was read.
        mtime: its time of change then, in nanoseconds.
    """

    content: str
    spans: np.ndarray
    numbers: tuple[int, ...]
    pixels: np.ndarray
    size: int
    mtime: int


def stamp(video: str) -> tuple[int, int]:
    """Size and time of change of a file, or of a folder's files together; `(-1, -1)` for addresses.

    Raises:
        OSError: if there is nothing.
    """
    if is_url(video):
        return -1, -1
    path = Path(video)
    if not path.is_dir():
        status = path.stat()
        return status.st_size, status.st_mtime_ns
    statuses = [entry.stat() for entry in os.scandir(path) if entry.is_file()]
    return sum(s.st_size for s in statuses), max((s.st_mtime_ns for s in statuses), default=0)


def content_hash(video: str) -> str:
    """Hash all of a file, or all files of a folder with their names; of an address, itself.

    Raises:
        OSError: if it cannot be read.
    """
    path = Path(video)
    if is_url(video):
        return text_sha256(video)[:32]
    if not path.is_dir():
        return file_sha256(path)[:32]
    files = sorted(entry for entry in path.iterdir() if entry.is_file())
    return text_sha256("".join(f"{file.name} {content_hash(str(file))}\n" for file in files))[:32]


def read_clips(task: tuple[str, tuple[int, ...] | None], processor: InternVideoVideoProcessor, cut: Cut) -> Clips:
    """Decode some clips of a video and process them; what worker processes run.

    Args:
        task: the video and the numbers of its clips; None for as many of the first as are read at once.
        processor: whose frames and pixels they are.
        cut: how the video is cut.

    Raises:
        VideoDecodeError: if the video cannot be read, or has no times to cut it by.
        OSError: if it goes away meanwhile.
    """
    video, numbers = task
    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)  # the processes share the cores
    if not is_url(video):
        check_path(video)
    # Before the frames are read: of a file that changes meanwhile, these are the old ones, and it is done anew later.
    (size, mtime), content = stamp(video), content_hash(video)
    with VideoReader(video, backend=processor.decoder) as reader:
        spans, bounds = _plan(reader, video, cut)
        if numbers is None:
            numbers = tuple(range(min(len(spans), clips_at_once(processor))))
        pixels = np.stack([_pixels(reader, processor, *bounds[number]) for number in numbers])
    return Clips(content, spans, numbers, pixels, size, mtime)


def clips_at_once(processor: InternVideoVideoProcessor) -> int:
    """How many clips a process hands over in one piece."""
    views = processor.num_clips * processor.num_crops
    return max(1, FRAMES_AT_ONCE // (processor.num_frames * views))


def in_pieces(numbers: Sequence[int], processor: InternVideoVideoProcessor) -> list[tuple[int, ...]]:
    """Divide numbers of clips into what a process hands over at once."""
    size = clips_at_once(processor)
    return [tuple(numbers[start : start + size]) for start in range(0, len(numbers), size)]


def _plan(reader: VideoReader, video: str, cut: Cut) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Times of a video's clips, and the frames `[begin, end)` that each has."""
    count, duration, times = reader.num_frames, reader.duration, reader.seconds
    if duration is None or (times is None and not reader.fps):
        if cut.window is not None:
            raise VideoDecodeError(video, "its frames have no times to cut it by", "Index it whole, without a window.")
        return np.full((1, 2), np.nan), [(0, count)]
    times = np.arange(count) / reader.fps if times is None else times
    spans = windows(duration, cut)
    frames = [(int(np.searchsorted(times, a - 1e-6)), int(np.searchsorted(times, b - 1e-6))) for a, b in spans]
    frames[-1] = (frames[-1][0], count)
    kept = [i for i, (first, last) in enumerate(frames) if last > first]  # a gap in the times may span a window
    return np.array([spans[i] for i in kept], dtype=np.float64), [frames[i] for i in kept]


def _pixels(reader: VideoReader, processor: InternVideoVideoProcessor, first: int, last: int) -> np.ndarray:
    """What the processor makes of a part of a video, as if that were all: `(views, frames, c, h, w)`."""
    about = VideoMetadata(total_num_frames=last - first, fps=reader.fps, duration=None)
    indices = processor.sample_frames(about) if processor.do_sample_frames else np.arange(last - first)
    frames = reader.read(first + np.where(indices == BLANK, 0, indices))
    options = {"do_sample_frames": False, "input_channel_order": "rgb", "return_tensors": "pt"}
    pixels: torch.Tensor = processor(videos=[frames], **options)["pixel_values_videos"]
    blank = (indices == BLANK).reshape(processor.num_clips, -1).repeat(processor.num_crops, axis=0)
    pixels[torch.from_numpy(blank)] = 0  # as the released loaders pad, behind the normalisation
    return pixels.numpy()
