"""The loop that runs a model over videos: decode, move pixels to the device, no gradients, merge the views.

A video may give several views: clips in time, crops in space, windows of a long video. One rule merges them
everywhere, in pipelines, search and `evaluate`: the model answers for each view alone, and the answers are averaged
with equal weights.

- Classification averages probabilities, in float64 (`merging.METHODS` has the alternative).
- Embedding averages unit vectors, and scales the mean to length 1 again.
- Zero-shot classification averages probabilities over the labels, and cosines.

Pixels, logits and unnormalized features are never averaged.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm
from transformers.modeling_utils import PreTrainedModel
from transformers.models.auto.auto_factory import _BaseAutoModelClass

from internvideo_hf.auto import auto_class as find_auto_class
from internvideo_hf.data.executors.parts import Engine
from internvideo_hf.data.executors.processes import start_workers
from internvideo_hf.data.failures import FailureTable, TooManyFailuresError, one_video
from internvideo_hf.data.samples import Row, clip_span, frame_rate
from internvideo_hf.inference.precision import compile_if_asked, set_number_type
from internvideo_hf.models.common.exported.modeling import ExportedModel
from internvideo_hf.models.common.loading import load_strict
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor, read_selected
from internvideo_hf.utils.devices import INT8, NUMBER_TYPES, default_device, default_workers
from internvideo_hf.utils.names import check_name
from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.reader import VideoReader

Views = dict[str, Tensor]
"""A model's inputs by name, `(views, frames, channels, height, width)` each."""


class VideoProcessor(Protocol):
    """Any video processor of this package."""

    @property
    def branches(self) -> dict[str, InternVideoVideoProcessor]:
        """Name of an input of the model -> the processor that makes it."""

    @property
    def views(self) -> tuple[int, int]:
        """Clips and crops of each video by which the model is tested."""

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as they are saved."""


@dataclass(frozen=True)
class RunSettings:
    """How a model runs over a list of videos.

    Args:
        batch_size: views per forward pass.
        workers: decoding processes; one for each core, at most 8, if None; 0 decodes in this process.
        max_damaged: fraction of the videos that may be unreadable, in [0, 1).
        quiet: no progress bars.
        engine: runs several models at once, see `inference.rows`; None for one in this process.
        timeout: seconds after which a decoder of an engine counts as hung; 600 by default.
        failures: says which videos are not tried again, and takes those that fail; None for neither.

    Raises:
        ValueError: if a number is out of range.
    """

    batch_size: int = 8
    workers: int | None = None
    max_damaged: float = 0.01
    quiet: bool = False
    engine: Engine | None = None
    timeout: float | None = None
    failures: FailureTable | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1 or (self.workers is not None and self.workers < 0) or not 0 <= self.max_damaged < 1:
            raise ValueError(
                f"batch_size={self.batch_size}, workers={self.workers}, max_damaged={self.max_damaged}: expected "
                "batch_size >= 1, workers >= 0 and max_damaged in [0, 1)."
            )

    def videos_at_once(self, views: int) -> int:
        """Return the number of videos per batch, given the views of each."""
        return max(1, self.batch_size // views)


def load_model(
    auto_class: type[_BaseAutoModelClass],
    name: str | Path,
    device: str | torch.device | None = None,
    dtype: str | None = None,
) -> PreTrainedModel:
    """Load a model to run: strictly, on its device, in evaluation mode.

    Args:
        auto_class: an Auto class of transformers.
        name: a folder, or a name on the Hub.
        device: where it runs; the accelerator if there is one.
        dtype: number type of its weights, a name in `internvideo_hf.utils.devices.NUMBER_TYPES`; as saved if None.

    Raises:
        ValueError: if weights are missing, or the number type is unknown.
    """
    if dtype is not None:
        check_name(dtype, NUMBER_TYPES, "dtype")
    model = load_strict(auto_class, name)
    if dtype is not None:
        set_number_type(model, dtype)
    model.to(default_device(device))  # type: ignore[arg-type]  # transformers' wrapper hides the signature
    if device is not None and isinstance(model, ExportedModel) and torch.device(device).type != model.device.type:
        raise ValueError(
            f"{name} is exported and runs on the CPU, not on {device}. Give the folder that it was exported from, or "
            "leave the device out (--device, --gpus)."
        )
    model.eval()
    compile_if_asked(model)
    return model


def load_by_name(
    name: str | Path, *, auto_class: str, device: str | torch.device | None = None, dtype: str | None = None
) -> PreTrainedModel:
    """Load a model to run, as workers do; see `load_model`.

    Args:
        name: a folder, or a name on the Hub.
        auto_class: name of an Auto class, as of `internvideo_hf.auto.auto_class`.
        device: where it runs.
        dtype: number type of its weights.
    """
    return load_model(find_auto_class(auto_class), name, device, dtype)


def cast_of(model: PreTrainedModel) -> str | None:
    """Return the number type in which a loaded model runs, such as "float16"; None if it is the saved one.

    Args:
        model: from `load_model`.
    """
    if getattr(model, "number_type", None) == INT8:
        return INT8
    return None if model.dtype == model.config.dtype else str(model.dtype).removeprefix("torch.")


def logits_of_views(model: PreTrainedModel, views: Views, batch_size: int | None = None) -> Tensor:
    """Return the logits of a classifier, `(views, classes)` on its device.

    Args:
        model: a classifier.
        views: `(views, frames, channels, height, width)` for each input of the model.
        batch_size: views per forward pass; all if None.
    """
    parts = (torch.split(pixels, batch_size or len(pixels)) for pixels in views.values())
    batches = (dict(zip(views, batch, strict=True)) for batch in zip(*parts, strict=True))
    return torch.cat(
        [
            model(**{name: pixels.to(model.device, model.dtype) for name, pixels in batch.items()}).logits
            for batch in batches
        ]
    )


def video_features(model: PreTrainedModel, pixels: Tensor) -> Tensor:
    """Return a feature of each clip, `(clips, dim)` float32 on the model's device: projected, or else pooled.

    Args:
        model: any model of this package with one video input.
        pixels: `(clips, frames, channels, height, width)`.
    """
    embed = getattr(model, "get_video_features", model)
    # Frames that were left as decoded are whole numbers, for a model that processes them itself.
    dtype = model.dtype if pixels.is_floating_point() else pixels.dtype
    features: Tensor = embed(pixel_values_videos=pixels.to(model.device, dtype)).pooler_output
    return features.float()


def cosine_scale(model: PreTrainedModel) -> Tensor:
    """Return the learned factor of the cosine of a dual encoder, float32; 1 where a model has none."""
    scale = getattr(model, "cosine_scale", None)
    return torch.ones(()) if scale is None else torch.as_tensor(scale()).detach().float()


def embed_views(model: PreTrainedModel, pixels: Tensor, batch_size: int | None = None) -> Tensor:
    """Return unit vectors, `(videos, views, dim)` float32 on the model's device.

    Args:
        model: any model of this package with one video input.
        pixels: `(videos, views, frames, channels, height, width)`.
        batch_size: views per forward pass; all if None.
    """
    flat = pixels.flatten(0, 1)
    features = torch.cat([video_features(model, batch) for batch in torch.split(flat, batch_size or len(flat))])
    return torch.unflatten(nn.functional.normalize(features, dim=-1), 0, pixels.shape[:2])


def merge_embeddings(views: Tensor) -> Tensor:
    """Merge the views of each video: `(videos, views, dim)` -> unit vectors `(videos, dim)`."""
    return nn.functional.normalize(views.mean(dim=1), dim=-1)


def read_views(
    row: Row,
    processor: VideoProcessor,
    num_clips: int | None = None,
    num_crops: int | None = None,
    *,
    raw: bool = False,
) -> dict[str, Any]:
    """Decode a video once, and make all its views.

    Args:
        row: `video`; optionally `start` and `end` in seconds, the part to take as the video, and `num_frames`, the
            least number of readable frames.
        processor: frames and pixels.
        num_clips: clips in time; as the processor is configured if None.
        num_crops: crops in space; as the processor is configured if None.
        raw: leave normalization to the process that takes the views.

    Returns:
        `Views`; where `raw`, with `RawPixels` where the processor has them.

    Raises:
        VideoDecodeError: if the video cannot be read.
    """
    options = {name: n for name, n in (("num_clips", num_clips), ("num_crops", num_crops)) if n is not None}
    branches = processor.branches
    first = next(iter(branches.values()))
    rules = [
        partial(branch.sample_frames, num_clips=num_clips) if branch.do_sample_frames else None
        for branch in branches.values()
    ]
    by_time = any(branch.samples_by_time for branch in branches.values())
    span = partial(_span, row=row, by_time=by_time)
    read = read_selected(row["video"], rules, first.decoder, first.input_channel_order, span)
    return {
        name: branch.raw_frames(frames, metadata, **options)
        if raw
        else branch.process_frames([frames], [metadata], **options, return_tensors="pt")["pixel_values_videos"]
        for (name, branch), (frames, metadata) in zip(branches.items(), read, strict=True)
    }


def _span(reader: VideoReader, row: Row, by_time: bool) -> tuple[int, int]:
    if by_time:
        frame_rate(reader, row)  # raises a VideoDecodeError, which concerns this video alone
    return clip_span(reader, row)


def read_videos(
    rows: Sequence[Row],
    read: Callable[[Row], Views],
    settings: RunSettings,
    *,
    at_once: int = 1,
    first: int = 0,
    failed: int = 0,
    description: str = "Videos",
    noun: str = "videos",
    read_several: Callable[[Sequence[Row]], list[Views | VideoDecodeError]] | None = None,
) -> Iterator[list[tuple[int, Views | VideoDecodeError]]]:
    """Decode videos in worker processes, in order, with a progress bar.

    Args:
        rows: of a list.
        read: makes the views of a row; the workers receive a copy.
        settings: workers, tolerated unreadable videos, progress bar.
        at_once: videos per batch.
        first: the row to start at.
        failed: unreadable videos before that row.
        description: of the progress bar.
        noun: what rows are, in messages.
        read_several: makes the views of the rows of a batch, or their failures; in place of `read`.

    Yields:
        Batches of (row number, views), or of (row number, why it is unreadable).

    Raises:
        TooManyFailuresError: if more than `settings.max_damaged` of all videos are unreadable.
    """
    loader = DataLoader(
        _Videos(rows, read, first, read_several),
        batch_size=at_once,
        num_workers=default_workers(settings.workers),
        collate_fn=list,
        pin_memory=False,
    )
    batches = start_workers(loader)
    with tqdm(total=len(rows), initial=first, desc=description, unit="video", disable=settings.quiet) as bar:
        for start, batch in zip(range(first, len(rows), at_once), batches, strict=True):
            causes = [str(item) for item in batch if isinstance(item, VideoDecodeError)]
            failed += len(causes)
            check_damaged(failed, start + len(batch), len(rows), causes[-1] if causes else None, settings, noun)
            yield list(enumerate(batch, start))
            bar.update(len(batch))


def check_damaged(
    failed: int, seen: int, total: int, last: str | None, settings: RunSettings, noun: str = "videos"
) -> None:
    """Refuse to go on when too many videos of a list are unreadable.

    Args:
        failed: unreadable videos so far.
        seen: videos so far.
        total: videos of the list.
        last: why the last one is unreadable; None if all of the last batch are readable.
        settings: with the tolerated fraction.
        noun: what they are.

    Raises:
        TooManyFailuresError: if more are.
    """
    if last is not None and failed > settings.max_damaged * total:
        raise TooManyFailuresError(
            f"{failed} of the first {seen} {noun} are unreadable; of all {total} at most a fraction of "
            f"{settings.max_damaged:.4g} may be. The last one: {last} Repair or remove them (of videos, `internvideo "
            "scan` finds all), or tolerate more by --max-damaged (in Python, max_damaged)."
        )


def stack_views(batch: Sequence[tuple[int, Views | VideoDecodeError]]) -> Iterator[tuple[list[int], Views]]:
    """Stack the views of the readable videos of a batch, grouped by shape.

    Yields:
        Row numbers, and inputs `(videos, views, frames, channels, height, width)` by name.
    """
    groups: dict[tuple[torch.Size, ...], list[tuple[int, Views]]] = {}
    for row, views in batch:
        if not isinstance(views, VideoDecodeError):  # shapes differ where a processor does not crop
            groups.setdefault(tuple(pixels.shape for pixels in views.values()), []).append((row, views))
    for group in groups.values():
        rows, stacked = zip(*group, strict=True)
        yield list(rows), {name: torch.stack([views[name] for views in stacked]) for name in stacked[0]}


class _Videos(Dataset[Any]):
    def __init__(
        self,
        rows: Sequence[Row],
        read: Callable[[Row], Views],
        first: int,
        read_several: Callable[[Sequence[Row]], list[Views | VideoDecodeError]] | None,
    ):
        self.rows, self.read, self.first = rows, read, first
        self.read_several = read_several or self._read_each

    def __len__(self) -> int:
        return len(self.rows) - self.first

    def __getitems__(self, indices: Sequence[int]) -> list[Views | VideoDecodeError]:
        return self.read_several([self.rows[self.first + index] for index in indices])

    def _read_each(self, rows: Sequence[Row]) -> list[Views | VideoDecodeError]:
        return list(map(self._read_one, rows))

    def _read_one(self, row: Row) -> Views | VideoDecodeError:
        try:
            with one_video(str(row["video"])):
                return self.read(row)
        except VideoDecodeError as error:
            return error
