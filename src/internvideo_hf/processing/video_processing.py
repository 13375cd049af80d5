"""The video processor of all families: which frames, which pixels, as saved configuration."""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple, Unpack

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch.utils.data import Dataset
from transformers.feature_extraction_utils import BatchFeature
from transformers.image_processing_utils import get_size_dict
from transformers.image_utils import ChannelDimension, SizeDict
from transformers.processing_utils import VideosKwargs
from transformers.utils.generic import TensorType
from transformers.video_processing_utils import BaseVideoProcessor
from transformers.video_utils import VideoMetadata

from internvideo_hf.utils.loader import SavedWithLoader
from internvideo_hf.utils.names import check_name, lookup
from internvideo_hf.utils.pretrained import MOST_VIEWS
from internvideo_hf.video import BLANK, RESIZE_METHODS, SAMPLERS, VideoReader, crop, resize_exact, resize_short_side
from internvideo_hf.video.reader import BACKENDS
from internvideo_hf.video.transforms import (
    CHANNEL_ORDERS,
    FLOAT_RESIZE_METHODS,
    LONG_SIDE_ROUNDINGS,
    OFFSET_ROUNDINGS,
)

# Option -> the names that it may have.
_CHOICES: dict[str, Collection[str]] = {
    "sampler": SAMPLERS,
    "resize_method": RESIZE_METHODS,
    "resize_rounding": LONG_SIDE_ROUNDINGS,
    "crop_rounding": OFFSET_ROUNDINGS,
    "channel_order": CHANNEL_ORDERS,
    "input_channel_order": CHANNEL_ORDERS,
    "decoder": BACKENDS,
}
SAMPLING_OPTIONS = ("num_frames", "num_clips", "sampler", "sampler_kwargs")


class InternVideoVideoProcessorKwargs(VideosKwargs, total=False):
    """Options beyond those of transformers.

    Attributes:
        sampler: rule that selects frames, a name in `internvideo_hf.video.SAMPLERS`.
        sampler_kwargs: options of the rule.
        num_clips: clips of `num_frames` frames per video, 1 or more.
        num_crops: crops of each clip along its longer side, 1 (the center) or more.
        resize_method: a name in `internvideo_hf.video.RESIZE_METHODS`.
        resize_rounding: of the longer side, "truncate", "floor" or "nearest".
        crop_rounding: of the offset of a center crop, "round" (half to even), "ceil" or "floor".
        channel_order: "rgb", or "bgr" for models that were trained on OpenCV's order.
        input_channel_order: of arrays passed as videos, "rgb", or "bgr" as OpenCV reads them; files and images have
            their own.
        decoder: of video files, "auto", "pyav", "torchcodec" or "decord".
    """

    sampler: str | None
    sampler_kwargs: dict[str, Any] | None
    num_clips: int | None
    num_crops: int | None
    resize_method: str | None
    resize_rounding: str | None
    crop_rounding: str | None
    channel_order: str | None
    input_channel_order: str | None
    decoder: str | None


class Statistics(NamedTuple):
    """How pixels become a model's input, as of transformers' options of these names."""

    do_rescale: bool
    rescale_factor: float
    do_normalize: bool
    image_mean: Any
    image_std: Any


@dataclass(frozen=True)
class RawPixels:
    """Views of a video before they are rescaled and normalized: a quarter of the bytes, for another process.

    Attributes:
        pixels: uint8, `(views, frames, 3, height, width)`.
        blank: the frames that stand for none, `(views, frames)`.
        statistics: for `normalize`.
    """

    pixels: np.ndarray
    blank: np.ndarray
    statistics: Statistics

    def normalized(self, device: torch.device | str | None = None) -> torch.Tensor:
        """Return the model's input, with the bits of `process_frames`.

        Args:
            device: that computes it and holds it; the CPU by default.
        """
        return normalize(self.pixels, self.blank, self.statistics, device)


def normalize(
    pixels: np.ndarray, blank: np.ndarray, statistics: Statistics, device: torch.device | str | None = None
) -> torch.Tensor:
    """Rescale and normalize pixels.

    Args:
        pixels: uint8, `(..., frames, 3, height, width)`.
        blank: the frames that stand for none, `(..., frames)`.
        statistics: of the processor that made them.
        device: that computes it and holds it; the CPU by default.
    """
    # A cluster's arrays are shared with other processes, and cannot be written.
    frames = torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy()).to(device)
    normalized: torch.Tensor = _normalizer().rescale_and_normalize(frames, *statistics)
    if blank.any():
        normalized[torch.from_numpy(np.array(blank)).to(device)] = (
            0  # as the released loaders pad, after normalization
        )
    return normalized


@cache
def _normalizer() -> "InternVideoVideoProcessor":
    return InternVideoVideoProcessor()


class InternVideoVideoProcessor(SavedWithLoader, BaseVideoProcessor):
    """Turns videos of any kind into `pixel_values_videos`.

    Call it with one video or several (a list, an iterator, a column of `datasets`), each of a kind that
    `internvideo_hf.VideoReader` reads: a path, a URL, bytes, a file object, a folder of frames, a row of
    `datasets.Video`, uint8 frames in RGB as an array, as a tensor on any device, or as a list or an iterator of arrays
    or images. Frames of a known rate are `VideoReader(frames, fps=25)`. The defaults are the released evaluation of
    InternVideo-MM.

    The result holds `pixel_values_videos`, `(videos * num_clips * num_crops, num_frames, 3, height, width)`: the views
    of a video are consecutive, clip by clip, with the crops of a clip together. Each video is decoded once.

    Raises (when called):
        VideoDecodeError: if a video cannot be read.
        ValueError: if an option is invalid; the message names the valid ones.
    """

    loaded_by = "AutoVideoProcessor"
    valid_kwargs = InternVideoVideoProcessorKwargs  # type: ignore[assignment]  # declared for images
    model_input_names = ["pixel_values_videos"]

    do_sample_frames = True
    num_frames = 8
    sampler = "internvideo_mm"
    sampler_kwargs: dict[str, Any] = {}
    num_clips = 1
    num_crops = 1
    do_resize = True
    size = {"shortest_edge": 256}
    default_to_square = False
    # The original asks for "nearest" and gets PIL's antialiased bilinear (`mm_load_video` pins it).
    resize_method = "pil_bilinear"
    resize_rounding = "truncate"
    do_center_crop = True
    crop_size = {"height": 224, "width": 224}
    crop_rounding = "round"
    do_convert_rgb = False
    channel_order = "rgb"
    input_channel_order = "rgb"
    do_rescale = True
    do_normalize = True
    image_mean = [0.48145466, 0.4578275, 0.40821073]
    image_std = [0.26862954, 0.26130258, 0.27577711]
    decoder = "auto"
    # Clips and crops of each video in the released test of the model, for whoever asks for no others; None if unknown.
    released_views: list[int] | None = None

    def __init__(self, **kwargs: Unpack[InternVideoVideoProcessorKwargs]) -> None:
        kwargs.pop("auto_map", None)  # type: ignore[typeddict-item]  # of the folder, written again where this is saved
        super().__init__(**kwargs)  # type: ignore[misc]  # declared for transformers' options

    def configure(self, options: Mapping[str, Any]) -> None:
        """Set options; another sampler takes none of the former one's `sampler_kwargs`.

        Raises:
            ValueError: if one is invalid.
        """
        if "sampler" in options:
            options = {"sampler_kwargs": {}, **options}
        sizes = {"size": self.default_to_square, "crop_size": True}
        options = {
            name: _size(value, name, sizes[name]) if name in sizes else value for name, value in options.items()
        }
        _check_options({name: getattr(self, name, None) for name in self.valid_kwargs.__annotations__} | options)
        for name, value in options.items():
            setattr(self, name, value)

    @property
    def views(self) -> tuple[int, int]:
        """Clips and crops of each video by which the model is tested, the released test's or as configured."""
        clips, crops = self.released_views or (self.num_clips, self.num_crops)
        return clips, crops

    @property
    def samples_by_time(self) -> bool:
        """Whether the rule that selects frames needs the video's frame rate."""
        return self.do_sample_frames and "fps" in inspect.signature(SAMPLERS[self.sampler]).parameters

    def sample_frames(  # type: ignore[override]  # a rule selects the frames, not fps
        self,
        metadata: VideoMetadata,
        num_frames: int | None = None,
        num_clips: int | None = None,
        sampler: str | None = None,
        sampler_kwargs: Mapping[str, Any] | None = None,
    ) -> np.ndarray:
        """Select frames by a rule; None stands for the configured option.

        Args:
            metadata: with `total_num_frames`, and `fps` for rules that count in seconds.
            num_frames: per clip.
            num_clips: per video.
            sampler: the rule.
            sampler_kwargs: options of the rule.

        Returns:
            Indices of all clips, one after the other, `(num_clips * num_frames,)`.
        """
        rule = lookup(SAMPLERS, self.sampler if sampler is None else sampler, "sampler")
        options = dict(self.sampler_kwargs if sampler_kwargs is None else sampler_kwargs)
        if "fps" in inspect.signature(rule).parameters:
            options.setdefault("fps", metadata.fps)
        num_frames = self.num_frames if num_frames is None else num_frames
        num_clips = self.num_clips if num_clips is None else num_clips
        return rule(metadata.total_num_frames, num_frames, num_clips, **options).reshape(-1)

    def fetch_videos(
        self,
        video_url_or_urls: Any,
        sample_indices_fn: Callable[[VideoMetadata], np.ndarray] | None = None,
        decoder: str | None = None,
        input_channel_order: str | None = None,
    ) -> tuple[Any, Any]:
        """Read the selected frames of one video, or of a list of videos.

        Args:
            video_url_or_urls: a video of any kind that `VideoReader` reads, or a list.
            sample_indices_fn: metadata -> frame indices; None for all frames.
            decoder: of video files; the configured one by default.
            input_channel_order: of arrays; the configured one by default.

        Returns:
            Frames, uint8 `(t, h, w, 3)` RGB, and metadata; lists of both for a list.
        """
        order = input_channel_order or self.input_channel_order
        videos, is_one = list_videos(video_url_or_urls)
        read = [read_selected(video, [sample_indices_fn], decoder or self.decoder, order)[0] for video in videos]
        return read[0] if is_one else ([frames for frames, _ in read], [metadata for _, metadata in read])

    def preprocess(self, videos: Any, **kwargs: Any) -> BatchFeature:
        """Process videos; the same as calling the processor."""
        return preprocess_together([self], videos, [kwargs])[0]

    @property
    def branches(self) -> dict[str, "InternVideoVideoProcessor"]:
        """Name of an input of the model -> its processor."""
        return {"pixel_values_videos": self}

    def options(self, **kwargs: Any) -> dict[str, Any]:
        """Return all options: the given ones, and the configured ones.

        Raises:
            ValueError: if one is invalid.
        """
        if kwargs.get("fps") is not None:
            raise ValueError(
                "fps is not supported: a rule selects the frames. Pass sampler= and sampler_kwargs= instead, such as "
                "sampler='retrieval_fps', sampler_kwargs={'sample_fps': 2}. The rate of frames in memory belongs to "
                f"the video: VideoReader(frames, fps={kwargs['fps']})."
            )
        option = {name: getattr(self, name, None) for name in self.valid_kwargs.__annotations__}
        if kwargs.get("sampler") not in (None, self.sampler):
            option["sampler_kwargs"] = {}
        option |= {name: value for name, value in kwargs.items() if value is not None}
        _check_options(option)
        return option

    def process_frames(self, frames: list[np.ndarray], metadata: list[VideoMetadata], **kwargs: Any) -> BatchFeature:
        """Process frames that have been read.

        Args:
            frames: of each video, uint8 `(t, h, w, 3)` RGB, as `read_selected` returns them.
            metadata: of each video.
            kwargs: options of a call.
        """
        option = self.options(**kwargs)
        features: BatchFeature = super().preprocess(
            frames,
            **kwargs
            | {
                "do_sample_frames": False,
                "video_metadata": metadata,
                "input_data_format": ChannelDimension.LAST,
                "return_metadata": False,
            },
        )
        _blank_out(features["pixel_values_videos"], metadata, option["num_clips"], option["num_crops"])
        if option["return_metadata"]:
            features["video_metadata"] = metadata
        return features

    def raw_frames(self, frames: np.ndarray, metadata: VideoMetadata, **kwargs: Any) -> RawPixels | torch.Tensor:
        """Process the frames of one video, but leave the last step to the process that takes them.

        Args:
            frames: as of `process_frames`.
            metadata: of the video, with `frames_indices`.
            kwargs: options of a call.

        Returns:
            The views before they are normalized; normalized ones, float32, where they are resized between whole
            numbers.
        """
        option = self.options(**kwargs)
        # UniFormerV2's methods resize between whole numbers: what they make is float32 already, and stays.
        if not option["do_resize"] or option["resize_method"] not in FLOAT_RESIZE_METHODS:
            raw = kwargs | {"do_rescale": False, "do_normalize": False, "return_tensors": "pt"}
            pixels: torch.Tensor = self.process_frames([frames], [metadata], **raw)["pixel_values_videos"]
            if pixels.dtype == torch.uint8:
                blank = (np.asarray(metadata.frames_indices) == BLANK).reshape(option["num_clips"], -1)
                blank = blank.repeat(len(pixels) // len(blank), axis=0)
                return RawPixels(pixels.numpy(), blank, self.statistics(**kwargs))
        made = self.process_frames([frames], [metadata], **kwargs | {"return_tensors": "pt"})
        return made["pixel_values_videos"]  # type: ignore[no-any-return]

    def statistics(self, **kwargs: Any) -> Statistics:
        """Return how pixels are rescaled and normalized.

        Args:
            kwargs: options of a call.
        """
        option = {
            name: getattr(self, name) if kwargs.get(name) is None else kwargs[name] for name in Statistics._fields
        }
        for name in ("image_mean", "image_std"):
            if isinstance(option[name], list):  # which transformers cannot keep what it has computed by
                option[name] = tuple(option[name])
        return Statistics(**option)

    def raw_inputs(self, video: Any, **kwargs: Any) -> dict[str, RawPixels | torch.Tensor]:
        """Process one video as a call does, but leave the last step to the process that takes it; see `raw_frames`.

        Args:
            video: of any kind that a call takes.
            kwargs: options of a call.

        Returns:
            The views by name of the model's input.
        """
        return {"pixel_values_videos": raw_together([self], video, [kwargs])[0]}

    def process_whole(self, frames: np.ndarray) -> torch.Tensor:
        """Resize and normalize whole frames as configured, without crops: what a call gives, in half the time.

        Args:
            frames: uint8 `(t, h, w, 3)` RGB.

        Returns:
            `(t, 3, height, width)`.
        """
        channels = lookup(CHANNEL_ORDERS, self.channel_order, "channel_order")
        pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)
        if self.do_resize:
            size = self.size if isinstance(self.size, SizeDict) else SizeDict(**self.size)
            pixels = _resize(pixels, size, self.resize_method, self.resize_rounding)
        statistics = self.do_normalize, self.image_mean, self.image_std
        normalized: torch.Tensor = self.rescale_and_normalize(
            pixels[:, channels], self.do_rescale, self.rescale_factor, *statistics
        )
        return normalized

    def _validate_preprocess_kwargs(self, **kwargs: Any) -> None:  # type: ignore[override]  # passed by name only
        # transformers requires a `resample` filter for resizing; we have resize_method instead.
        super()._validate_preprocess_kwargs(**{**kwargs, "do_resize": False})

    def _preprocess(  # type: ignore[override]  # called with all options by name
        self,
        videos: list[torch.Tensor],
        do_resize: bool,
        size: SizeDict,
        resize_method: str,
        resize_rounding: str,
        do_center_crop: bool,
        crop_size: SizeDict,
        crop_rounding: str,
        num_clips: int,
        num_crops: int,
        channel_order: str,
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        image_mean: float | list[float],
        image_std: float | list[float],
        return_tensors: str | TensorType | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        channels = lookup(CHANNEL_ORDERS, channel_order, "channel_order")
        views: list[torch.Tensor] = []
        for frames in videos:
            if len(frames) % num_clips:
                raise ValueError(f"num_clips: got {num_clips}, expected a divisor of {len(frames)} frames.")
            if do_resize:
                frames = _resize(frames, size, resize_method, resize_rounding)
            crops = [frames]
            if do_center_crop:
                assert crop_size.height is not None and crop_size.width is not None  # set by transformers
                window = (crop_size.height, crop_size.width)
                crops = [crop(frames, window, position, num_crops, crop_rounding) for position in range(num_crops)]
            # The released tests count clip before crop.
            clips = rearrange(torch.stack(crops), "crop (clip t) c h w -> (clip crop) t c h w", clip=num_clips)
            pixels = self.rescale_and_normalize(
                clips[:, :, channels], do_rescale, rescale_factor, do_normalize, image_mean, image_std
            )
            views.extend(pixels)
        return BatchFeature({"pixel_values_videos": views}, tensor_type=return_tensors)


def preprocess_together(
    processors: Sequence[InternVideoVideoProcessor], videos: Any, kwargs: Sequence[Mapping[str, Any]]
) -> list[BatchFeature]:
    """Call several processors with the same videos, decoding each video once.

    Args:
        processors: one or more.
        videos: as of calling one.
        kwargs: options for each.

    Returns:
        The result of each.
    """
    features = []
    for processor, given, read in zip(processors, kwargs, _read_together(processors, videos, kwargs), strict=True):
        frames, metadata = zip(*read, strict=True)
        features.append(processor.process_frames(list(frames), list(metadata), **given))
    return features


def raw_together(
    processors: Sequence[InternVideoVideoProcessor], video: Any, kwargs: Sequence[Mapping[str, Any]]
) -> list[RawPixels | torch.Tensor]:
    """Call several processors with the same video, decoding it once; see `InternVideoVideoProcessor.raw_frames`.

    Args:
        processors: one or more.
        video: as of calling one.
        kwargs: options for each.
    """
    read = _read_together(processors, [video], kwargs)
    return [
        processor.raw_frames(*frames[0], **given)
        for processor, given, frames in zip(processors, kwargs, read, strict=True)
    ]


def _read_together(
    processors: Sequence[InternVideoVideoProcessor], videos: Any, kwargs: Sequence[Mapping[str, Any]]
) -> list[list[tuple[np.ndarray, VideoMetadata]]]:
    """Return frames and metadata of each video, for each processor."""
    options = [processor.options(**given) for processor, given in zip(processors, kwargs, strict=True)]
    videos, _ = list_videos(videos)
    if not videos:
        raise ValueError("videos is empty; pass one video or several.")
    known = _metadata_of(options[0].get("video_metadata"), videos)
    rules = [
        partial(processor.sample_frames, **{name: option[name] for name in SAMPLING_OPTIONS})
        for processor, option in zip(processors, options, strict=True)
    ]
    read = []
    for video, about in zip(videos, known, strict=True):
        samples = [
            partial(_with_known, rule, about) if option["do_sample_frames"] else None
            for rule, option in zip(rules, options, strict=True)
        ]
        read.append(read_selected(video, samples, options[0]["decoder"], options[0]["input_channel_order"]))
    return [[one[number] for one in read] for number in range(len(processors))]


def read_selected(
    video: Any,
    samples: Sequence[Callable[[VideoMetadata], np.ndarray] | None],
    decoder: str,
    input_channel_order: str,
    span: Callable[[VideoReader], tuple[int, int]] | None = None,
) -> list[tuple[np.ndarray, VideoMetadata]]:
    """Read the frames of a video that several rules select, in one pass.

    Args:
        video: of any kind that `VideoReader` reads, or an open reader, which stays open.
        samples: rules, metadata -> frame indices; None for all frames.
        decoder: of video files.
        input_channel_order: of arrays; images and files have their own.
        span: returns the first frame of the part that counts as the video, and the frame after its last; None for
            the whole video.

    Returns:
        For each rule: frames, uint8 `(t, h, w, 3)` RGB, and metadata.
    """
    order = lookup(CHANNEL_ORDERS, input_channel_order, "input_channel_order")
    with nullcontext(video) if isinstance(video, VideoReader) else VideoReader(video, backend=decoder) as reader:
        begin, end = (0, reader.num_frames) if span is None else span(reader)
        found = [
            VideoMetadata(
                total_num_frames=end - begin,
                fps=reader.fps,
                duration=reader.duration if end - begin == reader.num_frames else None,
                video_backend=reader.backend,
            )
            for _ in samples
        ]
        selected = [
            np.arange(end - begin) if sample is None else sample(metadata)
            for sample, metadata in zip(samples, found, strict=True)
        ]
        # Blank frames are set to zero after normalization, in process_frames.
        read = reader.read_clips([np.where(indices == BLANK, BLANK, indices + begin) for indices in selected])
        holds_arrays = reader.holds_arrays
    if holds_arrays:
        read = [frames[..., order] for frames in read]
    for frames, indices, metadata in zip(read, selected, found, strict=True):
        metadata.frames_indices = indices  # type: ignore[assignment]  # an array serves as the list
        metadata.height, metadata.width = frames.shape[1:3]
    return list(zip(read, found, strict=True))


def _check_options(option: Mapping[str, Any]) -> None:
    """Refuse invalid numbers and rules before a video is read."""
    for name in ("num_frames", "num_clips", "num_crops"):
        number = option[name]
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MOST_VIEWS:
            raise ValueError(f"{name}: got {number!r}, expected an integer from 1 to {MOST_VIEWS}.")
    for name, known in _CHOICES.items():
        if option[name] is not None:
            check_name(option[name], known, name)
    if option["do_sample_frames"] and option["sampler"].endswith("train"):
        raise ValueError(
            f"sampler: got {option['sampler']!r}, which samples at random for training. Use an evaluation rule, such "
            "as the same name without _train."
        )
    for name in ("image_mean", "image_std"):
        if option["do_normalize"] and isinstance(option[name], Sequence) and len(option[name]) != 3:
            raise ValueError(f"{name}: got {option[name]}, expected 3 numbers, one per channel, or one number.")


def _size(value: Any, name: str, default_to_square: bool) -> dict[str, int] | None:
    """Return sides by name, of anything that transformers takes for a size."""
    if value is None:
        return None
    try:
        sides: dict[str, int] = get_size_dict(value, default_to_square=default_to_square, param_name=name)
    except ValueError:
        sides = {}
    if not sides or not all(type(side) is int and side > 0 for side in sides.values()):
        raise ValueError(
            f'{name}: got {value!r}, expected "shortest_edge", or "height" and "width", each an integer of 1 or more.'
        )
    return sides


def list_videos(videos: Any) -> tuple[list[Any], bool]:
    """Return the videos of an argument of a processor or a pipeline, and whether it is one video.

    A list, a tuple or an iterator of images, or of arrays `(h, w, 3)`, holds the frames of one video. Any other, a
    column of `datasets`, a `torch.utils.data.Dataset`, and an array `(videos, frames, ...)` hold several videos. Lists
    of several videos in a list are joined, as in transformers.

    Args:
        videos: one video, as `VideoReader` takes it, an open reader, or several. An iterator is read to its end.
    """
    if isinstance(videos, Iterator) and not hasattr(videos, "read"):  # open files are iterators, too
        videos = list(videos)
    if not isinstance(videos, Dataset) and _is_one_video(videos):
        return [videos], True
    nested = [list_videos(item)[0] if isinstance(item, list | tuple) and item else [item] for item in videos]
    return [video for inner in nested for video in inner], False


def _is_one_video(videos: Any) -> bool:
    if isinstance(videos, (np.ndarray, torch.Tensor)):
        return videos.ndim < 5
    if isinstance(videos, str | bytes | bytearray | memoryview) or not isinstance(videos, Sequence):
        return True
    return len(videos) > 0 and all(isinstance(item, Image.Image) or getattr(item, "ndim", 0) == 3 for item in videos)


def _metadata_of(metadata: Any, videos: list[Any]) -> list[Mapping[str, Any]]:
    if metadata is None:
        return [{}] * len(videos)
    given = list(metadata) if isinstance(metadata, (list, tuple)) else [metadata]
    if len(given) != len(videos):
        raise ValueError(f"video_metadata: got {len(given)}, expected one for each of {len(videos)} videos.")
    return given


def _with_known(
    choose_frames: Callable[[VideoMetadata], np.ndarray], known: Mapping[str, Any], metadata: VideoMetadata
) -> np.ndarray:
    """Select frames with metadata from the caller that the source lacks, such as an array's fps."""
    metadata.update({key: known[key] for key in ("fps", "duration") if known and dict(known).get(key) is not None})
    return choose_frames(metadata)


def _resize(frames: torch.Tensor, size: SizeDict, method: str, rounding: str) -> torch.Tensor:
    if method in FLOAT_RESIZE_METHODS:
        # The released code normalizes before this resizing. Both are linear, so the order changes only speed.
        frames = frames.float()
    if size.shortest_edge:
        return resize_short_side(frames, size.shortest_edge, rounding=rounding, method=method)
    if size.height and size.width:
        return resize_exact(frames, (size.height, size.width), method=method)
    raise ValueError(f'size: got {dict(size)}, expected "shortest_edge", or "height" and "width".')


def _blank_out(
    views: Sequence[torch.Tensor | np.ndarray], metadata: list[VideoMetadata], num_clips: int, num_crops: int
) -> None:
    """Set blank frames to zero, in place."""
    for video, facts in enumerate(metadata):
        blank = np.asarray(facts.frames_indices).reshape(num_clips, -1) == BLANK
        for view in range(num_clips * num_crops):
            for frame in np.flatnonzero(blank[view // num_crops]):
                views[video * num_clips * num_crops + view][frame] = 0
