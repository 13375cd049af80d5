"""Frame sampling: every rule of the released systems, as a pure function of the video's length.

Evaluation rule: `rule(length, num_frames, num_clips=1, **options)`; training rules also require `generator`.

- `length`: frames of the video; `num_frames`: frames of a clip; `num_clips`: clips of the video. All at least 1.
- `fps`: frames per second of the video.
- `generator`: source of the draws, see `internvideo_hf.video.randomness.Generator`. A `RandomState` of the same seed
  replays an original that drew from `numpy.random`, as all do but those marked otherwise.
- Returns 0-based frame indices, int64, shape (num_clips, num_frames), each clip ascending unless the video loops. Data
  sets of image files count their files from 1: add 1 to the index.
- Raises ValueError for a number out of range, an unknown name, or a generator of an unknown kind.

Every rule fills `num_frames` entries, however short the video is; each docstring says with what. All indices lie in
[0, length), except in the two retrieval rules, whose released loader appends all-zero frames: they return `BLANK`.

Many originals know one clip only. Unless a docstring says otherwise, more clips are, in evaluation, the rule applied
to `num_clips` equal parts of the video (a part has at least one frame), and in training `num_clips` independent draws
over the whole video. One clip is always exactly the original.

A docstring names its source, and "released" marks what looks like a slip and is kept, since a checkpoint depends on
it. `SAMPLERS` names the rules for configs.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from internvideo_hf.utils.names import lookup
from internvideo_hf.video.randomness import Generator, draw_integer, draw_permutation

BLANK = -1
"""Index of a frame whose pixels are zero AFTER normalization, which the released loader puts after the video."""


# ---- shared pieces --------------------------------------------------------------------------------------------------


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            cure = (
                "the video has no readable frame"
                if name == "length"
                else "give the number that the model was built for"
            )
            raise ValueError(f"{name}: got {value!r}, expected an integer of at least 1; {cure}")


def _check_fps(fps: float | None) -> None:
    if fps is None or not math.isfinite(fps) or fps <= 0:
        raise ValueError(
            f"fps: got {fps!r}, expected frames per second above 0; this rule counts in seconds: pass the rate that "
            "the reader reports, or choose a rule that does not need it"
        )


def _parts(length: int, num_clips: int) -> list[tuple[int, int]]:
    """Return first frame and number of frames of `num_clips` equal parts; more parts than frames share frames."""
    bounds = np.linspace(0, length, num_clips + 1).astype(np.int64).tolist()
    return [(min(lo, length - 1), max(hi - lo, 1)) for lo, hi in zip(bounds[:-1], bounds[1:], strict=True)]


def _in_each_part(rule: Callable[[int], np.ndarray], length: int, num_clips: int) -> np.ndarray:
    return np.stack([start + rule(part) for start, part in _parts(length, num_clips)])


def _repeat_last(indices: np.ndarray, num_frames: int) -> np.ndarray:
    return np.pad(indices, (0, num_frames - len(indices)), mode="edge")


# ---- InternVideo-MM and ViCLIP: a frame of every interval -----------------------------------------------------------


def uniform_truncated(length: int, num_frames: int, num_clips: int = 1) -> np.ndarray:
    """Sample from the first to the last frame in equal steps, each position truncated to an integer.

    Short videos: frames repeat, spread over the clip. `num_frames=1` is the first frame. Source: `load_video` of the
    InternVideo-MM demo (8 frames).
    """
    _check_counts(length=length, num_frames=num_frames, num_clips=num_clips)
    return _in_each_part(lambda n: np.linspace(0, n - 1, num_frames).astype(np.int64), length, num_clips)


def _interval_bounds(length: int, num_frames: int) -> np.ndarray:
    return np.linspace(0, length, min(num_frames, length) + 1).astype(np.int64)


def interval_middles(length: int, num_frames: int, num_clips: int = 1) -> np.ndarray:
    """Sample the middle frame of `num_frames` equal intervals; of two middles the earlier one.

    Short videos: every frame once, then the last one repeated (ViCLIP). The InternVideo-MM fine-tuning code returned
    fewer frames there, which its model then regrouped wrongly; the repetition mends that. Source: evaluation of the
    InternVideo-MM fine-tuning code (`uniform`), and of the ViCLIP training code (`middle`).
    """
    _check_counts(length=length, num_frames=num_frames, num_clips=num_clips)

    def rule(n: int) -> np.ndarray:
        bounds = _interval_bounds(n, num_frames)
        return _repeat_last((bounds[:-1] + bounds[1:] - 1) // 2, num_frames)

    return _in_each_part(rule, length, num_clips)


def interval_draws(length: int, num_frames: int, num_clips: int = 1, *, generator: Generator) -> np.ndarray:
    """Draw one frame of each of `num_frames` equal intervals, in order, never an interval's last frame (released).

    Short videos (an interval of one frame, so `length < 2 * num_frames`): a sorted random choice of distinct frames,
    then the last chosen one repeated, as ViCLIP does; the InternVideo-MM code stopped with an IndexError. Source:
    training of the InternVideo-MM fine-tuning code and of ViCLIP (`rand`), which drew the frames from Python's
    `random` and the short videos' choice from `numpy.random`.
    """
    _check_counts(length=length, num_frames=num_frames, num_clips=num_clips)
    bounds = _interval_bounds(length, num_frames)
    has_single = np.any(np.diff(bounds) == 1)

    def clip() -> np.ndarray:
        if has_single:
            return np.sort(draw_permutation(generator, length)[: len(bounds) - 1])
        return np.array([draw_integer(generator, lo, hi - 1) for lo, hi in zip(bounds[:-1], bounds[1:], strict=True)])

    return np.stack([_repeat_last(clip(), num_frames) for _ in range(num_clips)])


def strided(length: int, num_frames: int, num_clips: int = 1) -> np.ndarray:
    """Sample frames 0, step, 2 * step, ... with step = length // num_frames; the tail is ignored (released).

    Short videos: every frame once, then the last one repeated; the original stopped with an assertion. Source:
    `frames2tensor` of the ViCLIP demo.
    """
    _check_counts(length=length, num_frames=num_frames, num_clips=num_clips)
    return _in_each_part(
        lambda n: np.minimum(np.arange(num_frames) * max(n // num_frames, 1), n - 1), length, num_clips
    )


def timed_middles(
    length: int, num_frames: int, num_clips: int = 1, *, fps: float, sample_fps: float = 1.0
) -> np.ndarray:
    """Sample the middle of every 1 / sample_fps seconds of a video, and keep the first `num_frames` (released).

    Short videos: the last sampled frame is repeated. A video shorter than half a step gives its last frame, where the
    original gave no frame at all. Source: `fps` sampling of the ViCLIP training code.
    """
    _check_counts(length=length, num_frames=num_frames, num_clips=num_clips)
    _check_fps(fps)
    _check_fps(sample_fps)
    step = 1 / sample_fps

    def rule(n: int) -> np.ndarray:
        indices = np.around(np.arange(step / 2, n / fps + step / 2, step) * fps).astype(np.int64)
        indices = indices[indices < n][:num_frames]
        return _repeat_last(indices if len(indices) else np.array([n - 1]), num_frames)

    return _in_each_part(rule, length, num_clips)


# ---- VideoMAE -------------------------------------------------------------------------------------------------------


def dense_windows(length: int, num_frames: int, num_clips: int = 1, *, sampling_rate: int = 4) -> np.ndarray:
    """Keep every `sampling_rate`-th frame and spread `num_clips` windows of `num_frames` over those, end to end.

    Short videos: the last kept frame is repeated. The windows overlap where the video is too short for disjoint ones.
    `num_clips=1` is the central window (the original divides by zero). Source: VideoMAE Kinetics test.
    """
    _check_counts(length=length, num_frames=num_frames, num_clips=num_clips, sampling_rate=sampling_rate)
    kept = np.arange(0, length, sampling_rate)
    kept = _repeat_last(kept, max(num_frames, len(kept)))
    surplus = len(kept) - num_frames
    step = surplus / max(num_clips - 1, 1)
    starts = [surplus // 2] if num_clips == 1 else [int(clip * step) for clip in range(num_clips)]
    return np.stack([kept[start : start + num_frames] for start in starts])


def _dense_clips(
    length: int, num_frames: int, num_clips: int, sampling_rate: int, choose_end: Callable[[int, int], int]
) -> np.ndarray:
    """Sample a clip of each of `num_clips` segments of `length // num_clips` frames as VideoMAE's training loader.

    A clip that fits spans num_frames * sampling_rate frames up to `choose_end(span, segment)`, both ends included, so
    the true distance of frames is span / (num_frames - 1), not the sampling rate (released).
    """
    _check_counts(length=length, num_frames=num_frames, num_clips=num_clips, sampling_rate=sampling_rate)
    segment, span = length // num_clips, num_frames * sampling_rate

    def clip() -> np.ndarray:
        if segment <= span:
            spread = np.linspace(0, segment, segment // sampling_rate)
            padded = np.concatenate([spread, np.full(num_frames - len(spread), segment)])
            return np.minimum(padded, segment - 1).astype(np.int64)
        end = choose_end(span, segment)
        start = end - span
        return np.clip(np.linspace(start, end, num_frames), start, end - 1).astype(np.int64)

    # With fewer frames than segments a segment is empty and the released index is -1, which its reader takes as the
    # last frame: hence the modulo.
    return np.stack([number * segment + clip() for number in range(num_clips)]) % length


def dense_middle(length: int, num_frames: int, num_clips: int = 1, *, sampling_rate: int = 4) -> np.ndarray:
    """Sample the central window of num_frames * sampling_rate frames, in each of `num_clips` equal segments.

    Short videos (not longer than that window): length // sampling_rate frames spread over the whole video, then its
    last frame repeated; a video shorter than the sampling rate is its last frame only. With fewer frames than clips
    all indices are the last frame. `sampling_rate` is nominal, see `_dense_clips`. Source: VideoMAE Kinetics
    validation.
    """
    return _dense_clips(length, num_frames, num_clips, sampling_rate, lambda span, segment: (span + segment) // 2)


def dense_draw(
    length: int, num_frames: int, num_clips: int = 1, *, sampling_rate: int = 4, generator: Generator
) -> np.ndarray:
    """Draw a window of num_frames * sampling_rate frames in each segment, never the one that ends it (released).

    Otherwise as `dense_middle`, whose short videos need no draw. Source: VideoMAE Kinetics training; `num_clips > 1`
    is its option `num_segment` ("V4D"). There the released code stacked the clips in time and then took every
    `num_clips`-th frame as a clip, which mixes the segments; here a clip holds the frames of its own segment.
    """
    return _dense_clips(length, num_frames, num_clips, sampling_rate, partial(draw_integer, generator))


def sparse_interleaved(length: int, num_frames: int, num_clips: int = 1) -> np.ndarray:
    """Sample num_frames * num_clips frames in equal steps from frame 0 and deal them out to the clips in turn.

    Short videos: frames repeat, spread over the clip. Source: VideoMAE Something-Something and sparse Kinetics test.
    """
    _check_counts(length=length, num_frames=num_frames, num_clips=num_clips)
    tick = length / num_frames
    # Written out as released: a re-arranged product rounds differently and sometimes gives the neighboring frame.
    indices = [int(clip * tick / num_clips + tick * frame) for clip in range(num_clips) for frame in range(num_frames)]
    return np.sort(np.array(indices, dtype=np.int64)).reshape(num_frames, num_clips).T


def sparse_draws(length: int, num_frames: int, num_clips: int = 1, *, generator: Generator) -> np.ndarray:
    """Draw one frame, never the last (released), of each of `num_frames` segments of length // num_frames frames.

    Short videos: a segment of one frame gives that frame without a draw; with fewer frames than segments all indices
    are the last frame (released). Source: VideoMAE sparse Kinetics training.
    """
    _check_counts(length=length, num_frames=num_frames, num_clips=num_clips)
    return np.stack(
        [dense_draw(length, 1, num_frames, sampling_rate=1, generator=generator)[:, 0] for _ in range(num_clips)]
    )


def _segment_frames(length: int, num_frames: int, choose: Callable[[int], int]) -> np.ndarray:
    segment = length // num_frames
    if segment == 0:
        return np.pad(np.arange(length), (num_frames - length, 0), mode="edge")
    return np.array([number * segment + choose(segment) for number in range(num_frames)])


def segment_middles(length: int, num_frames: int, num_clips: int = 1) -> np.ndarray:
    """Sample the middle of `num_frames` segments of length // num_frames frames (of two middles the later one).

    Short videos: the FIRST frame is repeated in front (released). The remainder at the end of the video is never seen.
    Source: VideoMAE Something-Something validation.
    """
    _check_counts(length=length, num_frames=num_frames, num_clips=num_clips)
    return _in_each_part(lambda n: _segment_frames(n, num_frames, lambda segment: segment // 2), length, num_clips)


def segment_draws(length: int, num_frames: int, num_clips: int = 1, *, generator: Generator) -> np.ndarray:
    """Draw one frame of each of `num_frames` segments of length // num_frames frames, in order.

    Short videos: the FIRST frame is repeated in front, without a draw (released). Source: VideoMAE Something-Something
    training.
    """
    _check_counts(length=length, num_frames=num_frames, num_clips=num_clips)
    draw = partial(draw_integer, generator, 0)
    return np.stack([_segment_frames(length, num_frames, draw) for _ in range(num_clips)])


def _latest(length: int, fps: float, seconds: float) -> int:
    """Return how many frames the last `seconds` of a video have: all of a shorter one, and at least one."""
    _check_fps(fps)
    if not math.isfinite(seconds) or seconds <= 0:
        raise ValueError(f"seconds: got {seconds!r}, expected a number above 0; how much of the end is observed")
    return min(length, max(round(seconds * fps), 1))


def latest_interleaved(
    length: int, num_frames: int, num_clips: int = 1, *, fps: float, seconds: float = 2.0
) -> np.ndarray:
    """Apply `sparse_interleaved` to the last `seconds` of a video, after which something is to be predicted.

    Short videos: those not longer than that are taken whole. Source: Ego4D's future hand prediction, whose clips are
    the 60 frames, at 30 a second, before the first moment; test and validation.
    """
    _check_counts(length=length, num_frames=num_frames, num_clips=num_clips)
    part = _latest(length, fps, seconds)
    return length - part + sparse_interleaved(part, num_frames, num_clips)


def latest_draws(
    length: int, num_frames: int, num_clips: int = 1, *, fps: float, seconds: float = 2.0, generator: Generator
) -> np.ndarray:
    """Apply `segment_draws` to the last `seconds` of a video; see `latest_interleaved`. Source: its training."""
    _check_counts(length=length, num_frames=num_frames, num_clips=num_clips)
    part = _latest(length, fps, seconds)
    return length - part + segment_draws(part, num_frames, num_clips, generator=generator)


def _clip_starts(length: int, span: int, num_clips: int, generator: Generator) -> np.ndarray:
    """Draw starts of clips that span `span` frames, as MMAction2 does (VideoMAE pre-training: the same for one clip).

    One start in each of `num_clips` stretches of possible starts; where there are too few, any starts, sorted; where
    the video is no longer than a clip or holds no more frames than clips, spread evenly without a draw.
    """
    num_starts = max(length - span + 1, 0)
    stretch = num_starts // num_clips
    if stretch > 0:
        return np.array([clip * stretch + draw_integer(generator, 0, stretch) for clip in range(num_clips)])
    if length > max(num_clips, span):
        return np.sort([draw_integer(generator, 0, num_starts) for _ in range(num_clips)])
    return np.around(np.arange(num_clips) * (num_starts / num_clips)).astype(np.int64) % length


def stalling_stride(
    length: int, num_frames: int, num_clips: int = 1, *, sampling_rate: int = 4, generator: Generator
) -> np.ndarray:
    """Draw a start, then step by `sampling_rate` frames, standing still when a step would pass the last but one frame.

    Several clips: one start in each of as many equal stretches. Short videos: frames 0, rate, 2 * rate, ... as far as
    that goes, then the last of these repeated; no draw. Source: VideoMAE pre-training (rate 4 for videos, 2 for
    Something-Something frame files).
    """
    _check_counts(length=length, num_frames=num_frames, num_clips=num_clips, sampling_rate=sampling_rate)
    starts = _clip_starts(length, num_frames * sampling_rate, num_clips, generator)
    # The released comparison takes the 1-based position: the last frame is not stepped on, only started on.
    steps_left = np.maximum((length - 2 - starts) // sampling_rate, 0)
    steps = np.minimum(np.arange(num_frames), steps_left[:, None])
    return starts[:, None] + steps * sampling_rate


# ---- UniFormerV2 ----------------------------------------------------------------------------------------------------


def _segment_bounds(length: int, num_frames: int) -> np.ndarray:
    """Return the num_frames + 1 rounded bounds (half to even) of equal segments between the first and last frame."""
    return np.round((length - 1) / num_frames * np.arange(num_frames + 1)).astype(np.int64)


def segment_fractions(length: int, num_frames: int, num_clips: int = 1) -> np.ndarray:
    """Sample each of `num_frames` equal segments at (k + 1) / (num_clips + 1) of it, for clip k.

    Short videos: frames repeat, spread over the clip, and all clips are equal. Source: UniFormerV2 test and validation
    (the latter with one clip), Kinetics-like data sets and Something-Something.
    """
    _check_counts(length=length, num_frames=num_frames, num_clips=num_clips)
    step = (length - 1) / num_frames / (num_clips + 1)
    shifts = np.array([int(step * (clip + 1)) for clip in range(num_clips)])
    return np.minimum(_segment_bounds(length, num_frames)[:-1] + shifts[:, None], length - 1)


def segment_draws_closed(length: int, num_frames: int, num_clips: int = 1, *, generator: Generator) -> np.ndarray:
    """Draw one frame of each of `num_frames` equal segments, both bounds included, in order.

    Short videos: frames repeat. Source: UniFormerV2 training, Kinetics-like data sets and Something-Something, drawn
    from Python's `random`.
    """
    _check_counts(length=length, num_frames=num_frames, num_clips=num_clips)
    bounds = _segment_bounds(length, num_frames).tolist()
    segments = list(zip(bounds[:-1], bounds[1:], strict=True))
    return np.array(
        [[draw_integer(generator, lo, hi + 1) for lo, hi in segments] for _ in range(num_clips)], dtype=np.int64
    )


# ---- Retrieval ------------------------------------------------------------------------------------------------------

_SLICES: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "uniform": lambda positions, num_frames: positions[
        np.linspace(0, len(positions) - 1, num_frames).astype(np.int64)
    ],
    "head": lambda positions, num_frames: positions[:num_frames],
    "tail": lambda positions, num_frames: positions[-num_frames:],
}


def _pad_with_last(positions: np.ndarray, num_frames: int) -> np.ndarray:
    if not len(positions):
        raise ValueError(
            "start: got a second after the end of the video, expected one within it; correct the time window, or use "
            "padding='blank'"
        )
    return _repeat_last(positions, num_frames)


_PADDINGS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "blank": lambda positions, num_frames: np.pad(positions, (0, num_frames - len(positions)), constant_values=BLANK),
    "last": _pad_with_last,
}


def _window_seconds(start: float | None, end: float | None) -> tuple[int, float]:
    """Clean up a time window as released: whole seconds, none below 0, swapped if reversed, never empty."""
    if (start is None) != (end is None):
        raise ValueError(
            f"start, end: got {start!r}, {end!r}, expected both or none; give the whole window in seconds"
        )
    if start is None or end is None:
        return 0, math.inf
    low, high = sorted((max(int(start), 0), max(int(end), 0)))
    return low, high + (low == high)


def _every_stride(
    num_frames: int, num_clips: int, window: tuple[int, int], stride: int, position: str, padding: str
) -> np.ndarray:
    """Take every `stride`-th frame of the closed frame window, thinned out to `num_frames` where there are more."""
    first, last = window
    pad, thin_out = lookup(_PADDINGS, padding, "padding"), lookup(_SLICES, position, "position")

    def clip(start: int, length: int) -> np.ndarray:
        positions = np.arange(start, start + length, stride)
        return pad(thin_out(positions, num_frames) if len(positions) > num_frames else positions, num_frames)

    if last < first:
        return np.stack([clip(first, 0)] * num_clips)
    return np.stack([clip(first + start, length) for start, length in _parts(last - first + 1, num_clips)])


def one_per_second(
    length: int,
    num_frames: int,
    num_clips: int = 1,
    *,
    fps: float,
    start: float | None = None,
    end: float | None = None,
    sample_fps: int = 1,
    padding: str = "blank",
) -> np.ndarray:
    """Sample every round(fps / sample_fps)-th frame of a time window, thinned out evenly to `num_frames`.

    The window goes from second `start`, truncated to an integer, to the first frame of second `end`; equal ones mean
    one second more, reversed ones are swapped, None for both is the whole video. Several clips: equal parts of the
    window.

    Short videos: `BLANK` after the last frame, since the released loader appends all-zero frames there and its model
    DOES encode them; likewise everything is `BLANK` for a window after the end. `padding="last"` repeats the last
    sampled frame instead, and fails where there is none. Below half a frame per sample the released stride is 0, an
    error; here it is 1. Source: retrieval, decord loader (MSR-VTT, LSMDC, DiDeMo, VATEX; DiDeMo with start 0, end 31).
    """
    _check_counts(length=length, num_frames=num_frames, num_clips=num_clips, sample_fps=sample_fps)
    _check_fps(fps)
    low, high = _window_seconds(start, end)
    window = int(low * fps), int(min(high * fps, length - 1))
    return _every_stride(num_frames, num_clips, window, max(round(fps / sample_fps), 1), "uniform", padding)


def whole_seconds(
    length: int,
    num_frames: int,
    num_clips: int = 1,
    *,
    fps: float,
    start: float | None = None,
    end: float | None = None,
    position: str = "uniform",
    padding: str = "blank",
) -> np.ndarray:
    """Sample the first frame of every second, a second being int(fps) frames, thinned out to `num_frames`.

    `fps` is truncated, so 29.97 counts as 29 (released). `position` says what is kept of too many frames: "uniform",
    "head" or "tail" (slice_framepos 2, 0, 1). Time window, clips, short videos and `padding`: as `one_per_second`.
    Below one frame per second the original divides by zero; here every frame is taken. Source: retrieval, OpenCV
    loader (MSVD; ActivityNet with start 0, end ceil(duration)).
    """
    _check_counts(length=length, num_frames=num_frames, num_clips=num_clips)
    _check_fps(fps)
    low, high = _window_seconds(start, end)
    second = max(int(fps), 1)
    window = low * second, int(min(high * second, length - 1))
    return _every_stride(num_frames, num_clips, window, second, position, padding)


# ---- Open-set recognition -------------------------------------------------------------------------------------------


def _looped(starts: np.ndarray, length: int, num_frames: int, frame_interval: int) -> np.ndarray:
    return (starts[:, None] + np.arange(num_frames) * frame_interval) % length


def looped_middles(length: int, num_frames: int, num_clips: int = 1, *, frame_interval: int = 2) -> np.ndarray:
    """Sample the clips centered in `num_clips` equal stretches of possible starts, frames `frame_interval` apart.

    Short videos: clips start at frame 0 and the video is played again from its start ("loop"), so a clip need not
    ascend. Source: MMAction2 `SampleFrames` in test mode (open-set threshold and out-of-distribution scores).
    """
    _check_counts(length=length, num_frames=num_frames, num_clips=num_clips, frame_interval=frame_interval)
    stretch = max(length - num_frames * frame_interval + 1, 0) / num_clips
    starts = (np.arange(num_clips) * stretch + stretch / 2).astype(np.int64)
    return _looped(starts, length, num_frames, frame_interval)


def looped_draws(
    length: int, num_frames: int, num_clips: int = 1, *, frame_interval: int = 2, generator: Generator
) -> np.ndarray:
    """Draw the start of one clip in each of `num_clips` equal stretches of starts, frames `frame_interval` apart.

    Short videos: a clip longer than the video starts at frame 0 and the video loops. Where there are fewer possible
    starts than clips, the starts are drawn from all of them and sorted; in a video just as long as a clip, or with no
    more frames than clips, they are spread without a draw. Source: MMAction2 `SampleFrames` in training mode.
    """
    _check_counts(length=length, num_frames=num_frames, num_clips=num_clips, frame_interval=frame_interval)
    starts = _clip_starts(length, num_frames * frame_interval, num_clips, generator)
    return _looped(starts, length, num_frames, frame_interval)


def _group_starts(start: int, length: int, sample_range: int, clips_per_start: int) -> np.ndarray:
    return (start + np.arange(clips_per_start) * (sample_range // clips_per_start)) % length


def looped_dense(
    length: int,
    num_frames: int,
    num_clips: int = 1,
    *,
    frame_interval: int = 2,
    sample_range: int = 64,
    clips_per_start: int = 1,
) -> np.ndarray:
    """Spread windows of `sample_range` frames evenly over the video, from its start to its end, a clip in each.

    `num_clips` counts the clips of all windows, of which each has `clips_per_start`, evenly shifted (`num_clips` of
    the original; there 1). `sample_range` does not follow num_frames * frame_interval (released).

    Short videos (not longer than the range): every window starts at frame 0 and the video loops, so a clip need not
    ascend. `num_clips=1` is the window at the START; `looped_middles` takes the center. Source: MMAction2
    `DenseSampleFrames` in test mode (open-set test of the training config, 10 windows).
    """
    _check_counts(length=length, num_frames=num_frames, num_clips=num_clips, frame_interval=frame_interval)
    _check_counts(sample_range=sample_range, clips_per_start=clips_per_start)
    if num_clips % clips_per_start:
        raise ValueError(
            f"num_clips: got {num_clips}, expected a multiple of clips_per_start={clips_per_start}; num_clips counts "
            "the clips of all windows"
        )
    windows = np.linspace(0, max(length - sample_range, 0), num_clips // clips_per_start).astype(np.int64)
    starts = np.concatenate([_group_starts(start, length, sample_range, clips_per_start) for start in windows])
    return _looped(starts, length, num_frames, frame_interval)


def looped_dense_draw(
    length: int,
    num_frames: int,
    num_clips: int = 1,
    *,
    frame_interval: int = 2,
    sample_range: int = 64,
    generator: Generator,
) -> np.ndarray:
    """Draw a window of `sample_range` frames, never the one that ends the video (released), and shift the clips in it.

    Short videos (not longer than the range): the window starts at frame 0, without a draw, and the video loops.
    Source: MMAction2 `DenseSampleFrames` in training mode (open-set training).
    """
    _check_counts(length=length, num_frames=num_frames, num_clips=num_clips, frame_interval=frame_interval)
    _check_counts(sample_range=sample_range)
    start = draw_integer(generator, 0, length - sample_range) if length > sample_range else 0
    return _looped(_group_starts(start, length, sample_range, num_clips), length, num_frames, frame_interval)


# ---- Names for configs, and views -----------------------------------------------------------------------------------

SAMPLERS: dict[str, Callable[..., np.ndarray]] = {
    "internvideo_mm": uniform_truncated,
    "internvideo_mm_intervals": interval_middles,
    "internvideo_mm_intervals_train": interval_draws,
    "viclip_stride": strided,
    "viclip_middle": interval_middles,
    "viclip_fps": timed_middles,
    "viclip_train": interval_draws,
    "videomae_dense": dense_windows,
    "videomae_dense_validation": dense_middle,
    "videomae_dense_train": dense_draw,
    "videomae_sparse": sparse_interleaved,
    "videomae_sparse_train": sparse_draws,
    "videomae_ssv2_validation": segment_middles,
    "videomae_ssv2_train": segment_draws,
    "videomae_pretrain": stalling_stride,
    "ego4d_hands": latest_interleaved,
    "ego4d_hands_train": latest_draws,
    "uniformerv2": segment_fractions,
    "uniformerv2_train": segment_draws_closed,
    "retrieval_fps": one_per_second,
    "retrieval_seconds": whole_seconds,
    "openset": looped_middles,
    "openset_train": looped_draws,
    "openset_dense": looped_dense,
    "openset_dense_train": looped_dense_draw,
}
"""Name in a config -> rule. A name that ends in "train" takes a `generator`. Something-Something: VideoMAE tests with
"videomae_sparse", UniFormerV2 with "uniformerv2" as everywhere."""


class Views(NamedTuple):
    """The test views of one video, arranged for one decoding call.

    Attributes:
        frames: distinct frame indices to decode, ascending, shape (n,).
        clips: position in `frames` of each frame of each clip, shape (num_clips, num_frames); `BLANK` stays `BLANK`.
        order: (clip, crop) of each view, shape (num_clips * num_crops, 2).
    """

    frames: np.ndarray
    clips: np.ndarray
    order: np.ndarray


def views(indices: np.ndarray, num_crops: int = 1) -> Views:
    """List the (clip, crop) views of a video in the released order: all crops of a clip, then the next clip.

    The order is that of VideoMAE's and UniFormerV2's test loaders. Every frame is named once, so that clips that
    overlap, and the crops of a clip, are decoded together: `decode(result.frames)[result.clips]`.

    Args:
        indices: frame indices from a sampler, shape (num_clips, num_frames).
        num_crops: spatial crops of each clip.

    Raises:
        ValueError: if `indices` has another number of axes, or `num_crops` is not a positive integer.
    """
    _check_counts(num_crops=num_crops)
    if indices.ndim != 2:
        raise ValueError(
            f"indices: got shape {indices.shape}, expected (num_clips, num_frames); add an axis to a single clip"
        )
    frames = np.unique(indices[indices != BLANK])
    clips = np.where(indices == BLANK, BLANK, np.searchsorted(frames, indices))
    order = np.stack(np.divmod(np.arange(len(indices) * num_crops), num_crops), axis=1)
    return Views(frames, clips, order)
