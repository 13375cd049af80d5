"""Clips around key frames with the boxes of their people, as samples of action detection."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from internvideo_hf.data.failures import FailureLog, one_video
from internvideo_hf.data.samples import Row, sample_seed
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.action_detection.annotations import key_frame_name
from internvideo_hf.tasks.action_detection.videos import Source, VideoFolder
from internvideo_hf.tasks.box_views import (
    MULTIPLE,
    Geometry,
    Pixels,
    evaluation_view,
    training_view,
)
from internvideo_hf.tasks.boxed_clips import FrameView, Sample, channels_first, collate_boxes
from internvideo_hf.tasks.boxes import extend, from_fractions, is_nonempty, jitter
from internvideo_hf.tasks.key_frames import STRIDE
from internvideo_hf.tasks.protocol import BoxData
from internvideo_hf.video.errors import VideoDecodeError

Floats = tuple[float, ...]
IGNORED = -100.0
"""Label of a row that is no box."""
MOST_TRAINED = 100
"""Boxes of a key frame that training takes, at random if there are more."""


@dataclass(frozen=True)
class ClipRule:
    """How a key frame becomes a model's input.

    Args:
        pixels: of frames.
        num_frames: frames of a clip.
        stride: from one to the next.
        num_labels: classes of the model.
        jitter: see `BoxData`.
        extension: see `BoxData`.
    """

    pixels: Pixels
    num_frames: int
    stride: int
    num_labels: int
    jitter: Floats | None
    extension: Floats

    @classmethod
    def of(cls, processor: Any, data: BoxData, num_labels: int) -> "ClipRule":
        """Return the rule of a recipe or a protocol: size, statistics and frames are the processor's.

        Args:
            processor: of the model.
            data: settings.
            num_labels: classes of the model.

        Raises:
            RecipeError: if the processor cuts off a part of the frame, or a setting is out of range.
        """
        if not isinstance(processor, InternVideoVideoProcessor) or "shortest_edge" not in (processor.size or {}):
            raise RecipeError("Action detection needs a processor with a short side: size={shortest_edge: 256}.")
        if processor.do_center_crop:
            raise RecipeError("The processor cuts off a part of the frame, with its people: set do_center_crop=false.")
        numbers = {"color": (data.color, 3), "jitter": (data.jitter, 4), "extension": (data.extension, 2)}
        for name, (values, count) in numbers.items():
            if values is not None and (len(values) != count or min(values) < 0):
                raise RecipeError(f"data.boxes.{name} is {values}, expected {count} numbers, 0 or more.")
        hue, saturation, value = data.color
        pixels = Pixels(
            processor.size["shortest_edge"],
            processor.resize_method,
            data.crop_size,
            hue,
            saturation,
            value,
            data.flip,
            processor.image_mean,
            processor.image_std,
            data.as_published,
        )
        stride = (processor.sampler_kwargs or {}).get("sampling_rate", STRIDE)
        moves = None if data.jitter is None else tuple(data.jitter)
        return cls(pixels, processor.num_frames, stride, num_labels, moves, tuple(data.extension))

    def check_training(self) -> None:
        """Refuse settings of training's draws that are out of range.

        Raises:
            RecipeError: naming the setting.
        """
        crop_size, short_side, flip = self.pixels.crop_size, self.pixels.short_side, self.pixels.flip
        if crop_size is not None and not 1 <= crop_size <= short_side:
            raise RecipeError(
                f"data.boxes.crop_size is {crop_size}, expected 1 to {short_side}, the short side of a frame "
                "(model.processor.size), or null for the whole frame."
            )
        if not 0 <= flip <= 1:
            raise RecipeError(f"data.boxes.flip is {flip}, expected a probability, 0 to 1.")

    def training_sample(self, row: Row, frames: np.ndarray, seed: int) -> Sample:
        """Make the sample of a key frame for training.

        People outside the crop are left out, but as published.

        Args:
            row: `boxes` as fractions of the frame, and the `labels` of each.
            frames: of the clip, uint8, `(frames, height, width, 3)`.
            seed: of the draws.

        Returns:
            `pixel_values_videos`, `(frames, 3, height, width)`; `boxes`, `(n, 4)`, in its pixels; `labels`,
            `(n, classes)`, 0 or 1.
        """
        randomness, generator = random.Random(seed), torch.Generator().manual_seed(seed)
        pixels, geometry = training_view(channels_first(frames), self.pixels, randomness)
        given, labels = _boxes_of(row, geometry), self.targets(row)
        moved = geometry.follow(given, as_published=self.pixels.as_published)
        if not self.pixels.as_published:
            inside = is_nonempty(moved)
            moved, labels = moved[inside], labels[inside]
        if len(moved) > MOST_TRAINED:
            chosen = torch.randperm(len(moved), generator=generator)[:MOST_TRAINED]
            moved, labels = moved[chosen], labels[chosen]
        if self.jitter is not None:
            x_out, x_in, y_out, y_in = self.jitter
            moved = jitter(moved, geometry.view, generator, (x_out, x_in, y_out, y_in))
        return {"pixel_values_videos": pixels, "boxes": moved, "labels": labels}

    def evaluation_boxes(self, row: Row, geometry: Geometry) -> torch.Tensor:
        """Return the boxes that the model looks at in an evaluation, in pixels of the view.

        Args:
            row: `boxes` as fractions of the frame.
            geometry: of the view.
        """
        width, height = self.extension
        return extend(geometry.follow(_boxes_of(row, geometry)), geometry.view, (width, height))

    def targets(self, row: Row) -> torch.Tensor:
        """Return 0 or 1 for each box and class, `(n, classes)`.

        Args:
            row: the `labels` of each box.
        """
        targets = torch.zeros(len(row["boxes"]), self.num_labels)
        for box, labels in enumerate(row["labels"]):
            targets[box, labels] = 1
        return targets


class KeyFrameDataset(Dataset[Sample]):
    """Key frames as samples, decoded on access, in the worker that asks.

    A sample depends on `seed`, the epoch and its index alone: any number of workers and processes gives the same bits.

    Args:
        rows: a `datasets.Dataset` with `video`, `timestamp`, `boxes` and `labels` of each key frame.
        videos: the files.
        rule: how a key frame becomes an input.
        training: draw crops, colors, flips and jitter; otherwise the samples are those of an evaluation.
        seed: of these.
        failures: the log of unreadable videos, which give `{"failure": ...}`; None raises.
    """

    def __init__(
        self,
        rows: Any,
        videos: VideoFolder,
        rule: ClipRule,
        *,
        training: bool,
        seed: int = 0,
        failures: FailureLog | None = None,
    ):
        self.rows, self.videos, self.rule = rows, videos, rule
        self.training, self.seed, self.failures = training, seed, failures
        self._num_videos = len(set(rows["video"]))
        # In shared memory: workers that outlive an epoch see the next one's number.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return len(self.rows)

    def set_epoch(self, epoch: int) -> None:
        """Change the draws: call it before an epoch's iterator is made, as Trainer and Accelerate do."""
        self._epoch.fill_(epoch)

    def __getitem__(self, index: int) -> Sample:
        """Make the sample of a key frame; see `ClipRule.training_sample`, and `video`, the name of the key frame.

        Raises:
            VideoDecodeError: if the frames cannot be read, and failures are not logged.
            TooManyFailuresError: if too many cannot be read.
        """
        row = self.rows[index]
        name = key_frame_name(row["video"], row["timestamp"])
        try:
            with one_video(row["video"]):
                return {**self._sample(row, index), "video": name}
        except VideoDecodeError as error:
            if self.failures is None:
                raise
            # A bad movie has many key frames, and is one failure.
            self.failures.add(row["video"], error, self._num_videos)
            return {"failure": str(error)}

    def _sample(self, row: Row, index: int) -> Sample:
        source = self.videos.find(row["video"], row["timestamp"])
        if source is None:
            raise missing_file(row["video"])
        frames = source.read(row["timestamp"], self.rule.num_frames, self.rule.stride)
        if self.training:
            return self.rule.training_sample(row, frames, sample_seed(self.seed, int(self._epoch), index))
        pixels, geometry = evaluation_view(channels_first(frames), self.rule.pixels)
        boxes = self.rule.evaluation_boxes(row, geometry)
        return {"pixel_values_videos": pixels, "boxes": boxes, "labels": self.rule.targets(row)}


def with_sources(rows: Sequence[Row], videos: VideoFolder) -> list[Row]:
    """Return rows for an evaluation, with `source`, their files, and `file`, the name of these.

    Args:
        rows: `video` and `timestamp` of each key frame.
        videos: the files.
    """
    found = [videos.find(row["video"], row["timestamp"]) for row in rows]
    return [
        {**row, "source": source, "file": row["video"] if source is None else source.name}
        for row, source in zip(rows, found, strict=True)
    ]


def read_key_frames(rows: Sequence[Row], rule: ClipRule) -> list[Sample | VideoDecodeError]:
    """Read the clips of key frames for an evaluation; each frame of the file is decoded once.

    Args:
        rows: of `with_sources`, with `boxes`, all of one file, by time.
        rule: how a key frame becomes an input.

    Returns:
        Pixels and boxes of each, or why it cannot be read.
    """
    source: Source | None = rows[0]["source"]
    if source is None:
        return [missing_file(row["video"]) for row in rows]
    view, found = FrameView(rule.pixels), list[Sample | VideoDecodeError]()
    clips = source.stream([row["timestamp"] for row in rows], view, rule.num_frames, rule.stride)
    for row, pixels in zip(rows, clips, strict=True):
        if isinstance(pixels, VideoDecodeError):
            found.append(pixels)
        else:
            assert view.geometry is not None  # of a frame of the clip
            found.append({"pixel_values_videos": pixels, "boxes": rule.evaluation_boxes(row, view.geometry)})
    return found


def missing_file(video: str) -> VideoDecodeError:
    """Return the failure of a key frame without a file."""
    return VideoDecodeError(video, "there is no file of its name", "Set data.boxes.folder, or get the video.")


def collate(samples: Sequence[Sample], *, fill_gaps: bool = False, multiple: int = MULTIPLE) -> dict[str, Any]:
    """Make a batch of samples, see `collate_boxes`; `labels` are -100 where there is no box.

    Args:
        samples: of one of the data sets.
        fill_gaps: see `collate_boxes`.
        multiple: see `collate_boxes`.
    """
    return collate_boxes(samples, {"labels": IGNORED}, fill_gaps=fill_gaps, multiple=multiple)


def _boxes_of(row: Mapping[str, Any], geometry: Geometry) -> torch.Tensor:
    given = torch.tensor(row["boxes"], dtype=torch.float32).reshape(-1, 4)
    return from_fractions(given, geometry.size)
