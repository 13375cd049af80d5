"""Key frames of a video, and the frames around each of them that a model looks at."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from internvideo_hf.video import VideoReader

NUM_FRAMES, STRIDE = 16, 4
"""Frames that the released models take around a key frame, and from one to the next."""
ANTICIPATION_STRIDE = 2
"""Frames from one to the next that the released models of short-term anticipation take before a key frame."""
_ROUNDING = 1e-6  # seconds; times of frames are sums of binary fractions


def context_frames(
    key_frame: int, length: int, num_frames: int = NUM_FRAMES, stride: int = STRIDE
) -> NDArray[np.int64]:
    """Return the frames that a model sees of a key frame, `(num_frames,)`, rising.

    They are those of the released test: `num_frames * stride` frames around the key frame, half of them before it, and
    of these each `stride`-th, beginning in the middle of the first stride; of frames 0 to 63 around frame 32 they are
    1, 5, ..., 61. Beyond an end of the video its first or last frame is repeated, also where the whole video is
    shorter.

    Args:
        key_frame: its number, in `[0, length)`.
        length: frames of the video.
        num_frames: to return.
        stride: from one to the next.
    """
    first = key_frame - num_frames * stride // 2 + (stride - 1) // 2
    return np.clip(first + stride * np.arange(num_frames), 0, length - 1)


def frames_until(key_frame: int, num_frames: int = NUM_FRAMES, stride: int = ANTICIPATION_STRIDE) -> NDArray[np.int64]:
    """Return the frames of a clip that ends with the key frame, `(num_frames,)`, rising.

    Before the beginning of the video its first frame is repeated.

    Args:
        key_frame: its number, from 0.
        num_frames: to return.
        stride: from one to the next.
    """
    return np.maximum(key_frame - stride * np.arange(num_frames)[::-1], 0)


def key_times(duration: float, every: float) -> NDArray[np.float64]:
    """Return the times of regular key frames in seconds: 0, `every`, ..., before the end of the video.

    Args:
        duration: of the video in seconds.
        every: seconds from one to the next, above 0.
    """
    return np.arange(max(1, math.ceil((duration - _ROUNDING) / every)), dtype=np.float64) * every


def frames_at(timeline: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the number of the frame that is shown at each time.

    Args:
        timeline: begin of each frame and end of the last in seconds, see `VideoReader.timeline`.
        times: in seconds, from 0 to before the end of the video.
    """
    return np.maximum(np.searchsorted(timeline[:-1], times + _ROUNDING, side="right") - 1, 0)


class KeyClip(NamedTuple):
    """A key frame with the frames around it.

    Args:
        frame: the key frame, uint8 `(height, width, 3)`; None if it is damaged.
        pixels: the frames around it as the model sees them, `(frames, channels, height, width)`; None if one of them,
            or the key frame, is damaged.
    """

    frame: NDArray[np.uint8] | None
    pixels: torch.Tensor | None


def read_clips(
    reader: VideoReader,
    key_frames: Sequence[int],
    contexts: Sequence[NDArray[np.int64]],
    process: Callable[[NDArray[np.uint8]], torch.Tensor],
) -> Iterator[KeyClip]:
    """Yield key frames with the frames around them. Each frame is decoded and processed once, and held while needed.

    Args:
        reader: of the video.
        key_frames: their numbers, rising.
        contexts: the frames around each, rising.
        process: makes the model's pixels of a frame, `(channels, height, width)`.
    """
    if not len(key_frames):
        return
    around = np.unique(np.concatenate(contexts))
    numbers = np.union1d(around, key_frames)
    shown, is_around = set(key_frames), np.isin(numbers, around)
    frames: dict[int, NDArray[np.uint8] | None] = {}
    processed: dict[int, torch.Tensor | None] = {}
    place = 0  # of the next key frame to yield
    decoded = reader.frames(numbers.tolist(), skip_damaged=True)
    for number, needed, frame in zip(numbers.tolist(), is_around.tolist(), decoded, strict=True):
        if needed:
            processed[number] = None if frame is None else process(frame)
        if number in shown:
            frames[number] = frame
        while place < len(key_frames) and max(key_frames[place], contexts[place][-1]) <= number:
            key_frame = frames[key_frames[place]]
            clip = [pixels for one in contexts[place].tolist() if (pixels := processed[one]) is not None]
            is_whole = key_frame is not None and len(clip) == len(contexts[place])
            yield KeyClip(key_frame, torch.stack(clip) if is_whole else None)
            place += 1
            _forget_before(frames, key_frames[place] if place < len(key_frames) else number)
            _forget_before(processed, contexts[place][0] if place < len(key_frames) else number)


def _forget_before(held: dict[int, Any], number: int) -> None:
    for old in [one for one in held if one < number]:
        del held[old]
