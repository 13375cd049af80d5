"""Samples from rows of a manifest: choose frames, decode them once, make one or several views.

`SampleSettings` says how, by names and numbers only, so that a recipe can hold it. Every draw comes from one seed.

The fused model has two inputs, each with its own frames and pixels, hence its own settings by name; a video is decoded
once for both, with the same draws of crop, flip and colors.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from transformers.video_utils import VideoMetadata

from internvideo_hf.data.raw_clips import RawClips
from internvideo_hf.utils.names import lookup
from internvideo_hf.video.augment import (
    contrastive_view,
    corner_view,
    cropped_view,
    finetuning_view,
    pretraining_view,
    repeated_views,
)
from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.masking import MASKS
from internvideo_hf.video.randomness import Randomness
from internvideo_hf.video.reader import VideoReader
from internvideo_hf.video.sampling import BLANK, SAMPLERS
from internvideo_hf.video.sources import describe, encoded_video
from internvideo_hf.video.transforms import CHANNEL_ORDERS

_AT_A_TIME = 1e-6  # seconds; a time that is a frame's own, but for rounding, means that frame


def processed_view(frames: Tensor, *, processor: Callable[..., Mapping[str, Any]], randomness: Randomness) -> Tensor:
    """Make the view that a video processor makes, for evaluation, without a draw.

    Args:
        frames: RGB, shape (frames, 3, height, width), uint8.
        processor: a video processor of this package.
        randomness: not used; every view takes it.

    Returns:
        float32, shape (frames, 3, height, width) of the processor's size.
    """
    options = {"do_sample_frames": False, "num_clips": 1, "num_crops": 1, "return_tensors": "pt"}
    return processor(rearrange(frames, "t c h w -> t h w c").numpy(), **options)["pixel_values_videos"][0]


VIEWS: dict[str, Callable[..., Tensor]] = {
    "pretraining": pretraining_view,
    "finetuning": finetuning_view,
    "contrastive": contrastive_view,
    "cropped": cropped_view,
    "corners": corner_view,
    "processor": processed_view,
}
"""Name in a config -> function (frames, **options, randomness) -> pixels. pretraining: VideoMAE. finetuning: VideoMAE,
and UniFormerV2 with erasing_probability=0; flip_probability=0 for Something-Something. contrastive: ViCLIP. cropped:
InternVideo-MM's question answering. corners: open set."""

PIXELS = "pixel_values_videos"  # suffix of the names of inputs that hold pixels
Row = Mapping[str, Any]
Sample = dict[str, Any]


@dataclass(frozen=True)
class SampleSettings:
    """How a row becomes a sample.

    Args:
        num_frames: frames of a clip.
        sampler: name in `SAMPLERS`, the rule that chooses the frames.
        view: name in `VIEWS`, the transform of their pixels.
        sampler_options: options of the rule, such as `{"sampling_rate": 4}`.
        view_options: options of the view, such as `{"size": 224, "mean": [...], "std": [...]}`.
        num_views: views of the same frames, each with new draws (repeated sampling).
        mask: None, or the mask of every view: `{"mask": name in MASKS, "mask_ratio", "patch_size", "tubelet_size"}`.
        channel_order: name in `internvideo_hf.video.transforms.CHANNEL_ORDERS`, the order that the view gets.
        backend: decoder, see `VideoReader`.

    Raises:
        ValueError: if a name or an option is unknown or missing, or a number is not positive.
    """

    num_frames: int
    sampler: str
    view: str
    sampler_options: Mapping[str, Any] = field(default_factory=dict)
    view_options: Mapping[str, Any] = field(default_factory=dict)
    num_views: int = 1
    mask: Mapping[str, Any] | None = None
    channel_order: str = "rgb"
    backend: str = "auto"

    def __post_init__(self) -> None:
        for name in ("num_frames", "num_views"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected at least 1; correct the recipe")
        lookup(CHANNEL_ORDERS, self.channel_order, "channel_order")
        _check_options("sampler_options", lookup(SAMPLERS, self.sampler, "sampler"), self.sampler_options)
        _check_options("view_options", lookup(VIEWS, self.view, "view"), self.view_options)
        if self.mask is not None:
            wanted = {"mask", "mask_ratio", "patch_size", "tubelet_size"}
            if set(self.mask) != wanted:
                raise ValueError(f"mask: got {sorted(self.mask)}, expected {sorted(wanted)}; correct the recipe")
            lookup(MASKS, self.mask["mask"], "mask")


# What `make_sample` fills in by itself.
_FILLED_IN = ("frames", "length", "num_frames", "num_clips", "generator", "randomness", "fps", "normalized")


def _check_options(name: str, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    parameters = {key: value for key, value in inspect.signature(function).parameters.items() if key not in _FILLED_IN}
    missing = [key for key, value in parameters.items() if value.default is value.empty and key not in options]
    unknown = [key for key in options if key not in parameters]
    if missing or unknown:
        raise ValueError(
            f"{name}: unknown are {unknown}, missing are {missing}; {function.__name__} takes {list(parameters)}; "
            "correct the recipe"
        )


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """Mix three numbers into the seed of one sample, in [0, 2**32).

    A sample so depends on nothing else: not on the number of workers or processes, nor on the order of samples.
    """
    return int(np.random.SeedSequence([seed, epoch, index]).generate_state(1)[0])


def make_sample(
    row: Row,
    settings: SampleSettings | Mapping[str, SampleSettings],
    seed: int,
    content: bytes | None = None,
    *,
    raw: bool = False,
    raw_processor: bool = False,
) -> Sample:
    """Read the clip of a row and make its views.

    Args:
        row: with `video`, a name or a row of `datasets.Video`, and what else is known of `label`, `caption`, `start`,
            `end`, `num_frames`.
        settings: how; for a model of several inputs, by their names.
        seed: in [0, 2**32); two calls with one seed give the same sample, bit for bit.
        content: the bytes of the video file; where None they are read from `row["video"]`.
        raw: leave normalization to `finish_batch`, where it is the last step of a view for training: the pixels are
            `RawClips` then.
        raw_processor: leave the last step of the view "processor" to the caller: the pixels are the processor's
            `RawPixels`, without their axis of views.

    Returns:
        `pixel_values_videos`, float32, shape (num_frames, 3, height, width), with more than one view (num_views, ...);
        with a mask `bool_masked_pos`, bool, shape (tokens,) or (num_views, tokens), True = hidden; `labels`, int64,
        shape (), and `captions`, text, where the row has them; `seed`; and `video`, the row's. With settings by name,
        the pixels stand under these names.

    Raises:
        VideoDecodeError: if the frames cannot be read. It names the row's video, also where `content` is given.
    """
    if (encoded := encoded_video(row["video"])) is not None:
        content = encoded["bytes"] or content
        row = {**row, "video": encoded["path"] or describe(row["video"])}
    inputs = {PIXELS: settings} if isinstance(settings, SampleSettings) else settings
    draws = {name: Randomness.seeded(seed) for name in inputs}
    try:
        backend = next(iter(inputs.values())).backend
        with VideoReader(row["video"] if content is None else content, backend=backend) as reader:
            chosen = {name: _choose_frames(reader, row, inputs[name], draws[name]) for name in inputs}
            clips = reader.read_clips(list(chosen.values()))
    except VideoDecodeError as error:
        if content is None:
            raise
        raise VideoDecodeError(row["video"], error.cause, error.advice) from error
    if len(inputs) > 1:  # samplers draw different counts of numbers: restart, so that crops and flips are equal
        draws = {name: Randomness.seeded(sample_seed(seed, 0, 0)) for name in inputs}
    sample: Sample = {}
    for (name, how), frames in zip(inputs.items(), clips, strict=True):
        blank = chosen[name] == BLANK
        if raw_processor and how.num_views == 1 and how.mask is None and _has_raw_view(how):
            sample[name] = _raw_view(frames, blank, how)
        else:
            sample |= _make_views(frames, blank, how, draws[name], name, raw)
    if row.get("label") is not None:
        sample["labels"] = torch.tensor(row["label"])
    if row.get("caption") is not None:
        sample["captions"] = row["caption"]
    return {**sample, "seed": seed, "video": str(row["video"])}


def _choose_frames(reader: VideoReader, row: Row, settings: SampleSettings, randomness: Randomness) -> np.ndarray:
    """Return indices of the clip's frames, or `BLANK`, int64, shape (num_frames,)."""
    first, last = clip_span(reader, row)
    rule = SAMPLERS[settings.sampler]
    wanted, options = inspect.signature(rule).parameters, dict(settings.sampler_options)
    if "generator" in wanted:
        options["generator"] = randomness.numpy
    if "fps" in wanted:
        options["fps"] = frame_rate(reader, row)
    indices = rule(last - first, settings.num_frames, 1, **options)[0]
    return np.where(indices == BLANK, BLANK, indices + first)


def frame_rate(reader: VideoReader, row: Row) -> float:
    """Return frames per second.

    Raises:
        VideoDecodeError: If the row's video has none.
    """
    if reader.fps is None:
        raise VideoDecodeError(
            row["video"], "it has no frame rate, and seconds are asked for", "Use a video file, or another sampler."
        )
    return reader.fps


def clip_span(reader: VideoReader, row: Row) -> tuple[int, int]:
    """Return the first frame of a row's clip and the one behind the last: those that begin in [start, end) seconds.

    Raises:
        VideoDecodeError: if the video has fewer frames than the row says, or ends before the clip.
    """
    listed = row.get("num_frames")
    if listed is not None and reader.num_frames < listed:
        raise VideoDecodeError(
            row["video"],
            f"the list says {listed} frames, {reader.num_frames} can be read",
            "Extract or download them again.",
        )
    start, end = row.get("start"), row.get("end")
    if start is None or end is None:
        return 0, reader.num_frames
    seconds = reader.seconds
    if seconds is None:
        seconds = np.arange(reader.num_frames) / frame_rate(reader, row)
    first, last = np.searchsorted(seconds, [start - _AT_A_TIME, end - _AT_A_TIME]).tolist()
    if first >= reader.num_frames:
        raise VideoDecodeError(
            row["video"],
            f"the clip starts at {start:g} s, the last frame is at {seconds[-1]:g} s",
            "Check the times, and that the file is the whole source.",
        )
    return first, max(last, first + 1)


def _make_views(
    frames: np.ndarray, blank: np.ndarray, settings: SampleSettings, randomness: Randomness, name: str, raw: bool
) -> dict[str, Any]:
    """Make all views of a clip, stacked where there are several, their pixels under `name`."""
    clip = rearrange(torch.from_numpy(frames), "t h w c -> t c h w")
    if settings.channel_order != "rgb":  # indexing copies
        clip = clip[:, CHANNEL_ORDERS[settings.channel_order]]
    raw = raw and settings.view != "processor"
    make = partial(_make_view, settings=settings, randomness=randomness, name=name, raw=raw)
    views = repeated_views(clip, settings.num_views, make)
    made: dict[str, Any] = {
        key: views[0][key] if settings.num_views == 1 else torch.stack([view[key] for view in views])
        for key in views[0]
    }
    is_blank, pixels = torch.from_numpy(blank), made[name]
    if pixels.dtype == torch.uint8:
        mean, std = (tuple(settings.view_options[option]) for option in ("mean", "std"))
        made[name] = RawClips(pixels, is_blank.expand(pixels.shape[:-3]), mean, std)
    elif is_blank.any():
        made[name] = pixels.masked_fill(is_blank[:, None, None, None], 0)
    return made


def _has_raw_view(settings: SampleSettings) -> bool:
    return settings.view == "processor" and hasattr(settings.view_options["processor"], "raw_frames")


def _raw_view(frames: np.ndarray, blank: np.ndarray, settings: SampleSettings) -> Any:
    """Make the view of a video processor, but leave its last step."""
    frames = frames[..., CHANNEL_ORDERS[settings.channel_order]]
    metadata = VideoMetadata(total_num_frames=len(frames))
    metadata.frames_indices = np.where(blank, BLANK, np.arange(len(frames))).tolist()
    options = {"do_sample_frames": False, "num_clips": 1, "num_crops": 1}
    made = settings.view_options["processor"].raw_frames(frames, metadata, **options)
    return made[0] if isinstance(made, Tensor) else replace(made, pixels=made.pixels[0], blank=made.blank[0])


def _make_view(
    frames: Tensor, settings: SampleSettings, randomness: Randomness, name: str, raw: bool
) -> dict[str, Tensor]:
    options = dict(settings.view_options) | ({"normalized": False} if raw else {})
    pixels = VIEWS[settings.view](frames, **options, randomness=randomness)
    view = {name: pixels}
    if settings.mask is not None:
        # After the pixels, from the same streams: the order of the original (golden case vm_preprocess).
        view["bool_masked_pos"] = _make_mask(pixels.shape, settings.mask, randomness)
    return view


def _make_mask(shape: Sequence[int], mask: Mapping[str, Any], randomness: Randomness) -> Tensor:
    patch, tubelet = mask["patch_size"], mask["tubelet_size"]
    grid = (shape[0] // tubelet, shape[2] // patch, shape[3] // patch)
    return torch.from_numpy(MASKS[mask["mask"]](grid, mask["mask_ratio"], generator=randomness.numpy))
