"""Key frames of a video, and the frames around each of them that a model looks at."""

import math

import numpy as np
from numpy.typing import NDArray

NUM_FRAMES, STRIDE = 16, 4
"""Frames that the released models take around a key frame, and from one to the next."""
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
