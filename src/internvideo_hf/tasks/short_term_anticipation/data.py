"""Clips that end before objects are touched, with the boxes of objects, as samples of short-term anticipation."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers.utils import logging

from internvideo_hf.data.dataset import VideoDataset
from internvideo_hf.data.ego4d import find_footage
from internvideo_hf.data.failures import FailureLog, one_video
from internvideo_hf.data.records import ManifestError, require_datasets
from internvideo_hf.data.samples import Row
from internvideo_hf.models.common.losses import IGNORED
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.box_views import MULTIPLE, Geometry, Pixels, evaluation_view, training_view
from internvideo_hf.tasks.boxed_clips import FrameView, Sample, channels_first, collate_boxes
from internvideo_hf.tasks.boxes import clip, is_nonempty, resize
from internvideo_hf.tasks.key_frames import ANTICIPATION_STRIDE, frames_until, read_clips
from internvideo_hf.tasks.protocol import InteractionData
from internvideo_hf.tasks.short_term_anticipation.annotations import (
    Annotations,
    Detection,
    Moment,
    read_detections,
    read_interactions,
)
from internvideo_hf.tasks.short_term_anticipation.metrics import overlap
from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.reader import VideoReader

if TYPE_CHECKING:
    import datasets

logger = logging.get_logger(__name__)
NO_VERB = "no verb"
"""Name of the verb more than there are, which released models score and which is never right."""
TARGETS = {"verb_labels": IGNORED, "time_labels": torch.nan}
"""Name of a target -> its value where there is no box, or none that is known."""


# ---- rows -----------------------------------------------------------------------------------------------------------


def read_training_rows(
    path: Path,
    data_root: Path,
    *,
    interactions: InteractionData,
    labels: str | int | None = None,
    classes: list[str] | None = None,
    layout: str | None = None,
    skip_missing: bool = False,
) -> "tuple[datasets.Dataset, list[str]]":
    """Read annotations for training or validation; see `Training.read`.

    Args:
        path: see `annotations.read_interactions`.
        data_root: folder of the footage and of the detections.
        interactions: settings of the recipe.
        labels: must be None.
        classes: the verbs of the training list, for a validation list.
        layout: must be None.
        skip_missing: leave out moments without footage, with a warning.

    Returns:
        Rows of `rows_of`; and the names of the verbs, and of none.

    Raises:
        ManifestError: if a file is invalid, moments are not annotated, verbs are others than those of the training
            list, or footage is missing.
        RecipeError: if the layout or labels are set, or a setting is out of range.
    """
    check_settings(interactions)
    for name, value in (("layout", layout), ("labels", labels)):
        if value is not None:
            raise RecipeError(f"data.{name} changes nothing in short_term_anticipation. Leave it out.")
    annotations = read_interactions(path)
    if not annotations.is_annotated:
        raise ManifestError(str(path), None, "some moments are not annotated", "Give the list for training.")
    verbs = verbs_of(annotations)
    if classes is not None and len(verbs) > len(classes):
        cause = f"it has {len(verbs) - 1} verbs, and the training list has {len(classes) - 1}"
        raise ManifestError(str(path), None, cause, "Give lists of one version of the data set.")
    detections = find_detections(annotations, interactions, data_root)
    rows = rows_of(annotations.moments, detections, path, data_root / interactions.folder, skip_missing)
    return require_datasets().Dataset.from_list(rows), classes or verbs


def check_settings(data: InteractionData) -> None:
    """Refuse settings that are out of range.

    Raises:
        RecipeError: naming the setting.
    """
    for name in ("min_score", "label_overlap", "flip", "min_overlap"):
        if not 0 <= getattr(data, name) <= 1:
            raise RecipeError(f"data.interactions.{name} is {getattr(data, name)}, expected a number from 0 to 1.")
    for name, least in (("time_tolerance", 0), ("top_k", 1), ("crop_size", 1)):
        if getattr(data, name) is not None and getattr(data, name) < least:
            raise RecipeError(f"data.interactions.{name} is {getattr(data, name)}, expected {least} or more.")
    sides = data.short_sides
    if sides is not None and (len(sides) != 2 or not 1 <= sides[0] <= sides[1]):
        raise RecipeError(f"data.interactions.short_sides is {sides}, expected the least and the largest, in pixels.")


def verbs_of(annotations: Annotations) -> list[str]:
    """Return the names of the verbs by their numbers, and of none at the end.

    Args:
        annotations: whose categories, if there are some, name the verbs.
    """
    numbers = [one.verb for moment in annotations.moments for one in moment.interactions or ()]
    count = max([*annotations.verbs, *numbers], default=-1) + 1
    return [*(annotations.verbs.get(number, f"verb {number}") for number in range(count)), NO_VERB]


def find_detections(
    annotations: Annotations, data: InteractionData, data_root: Path
) -> Mapping[str, Sequence[Detection]]:
    """Return the objects of each moment, by its uid: those of a detector, or the true ones with a score of 1.

    Args:
        annotations: of the moments.
        data: settings.
        data_root: folder of the detections.

    Raises:
        ManifestError: if the detections are invalid, or lack a moment; or there are none, and a moment is not
            annotated.
    """
    if data.detections is not None:
        path = data_root / data.detections
        found = read_detections(path, data.min_score)
        if missing := [moment.uid for moment in annotations.moments if moment.uid not in found]:
            cause = f"{len(missing)} of {len(annotations.moments)} moments are missing, such as {missing[0]}"
            raise ManifestError(str(path), None, cause, "Detect objects in all of them; a list may be empty.")
        return found
    if not annotations.is_annotated:
        raise RecipeError(
            "Some moments are not annotated, so that there are no boxes to look at. Set data.interactions.detections "
            "to a file of objects that a detector found."
        )
    return {
        moment.uid: [Detection(one.box, 1.0, one.noun) for one in moment.interactions or ()]
        for moment in annotations.moments
    }


def rows_of(
    moments: Sequence[Moment],
    detections: Mapping[str, Sequence[Detection]],
    path: Path,
    folder: Path,
    skip_missing: bool = False,
) -> list[dict[str, Any]]:
    """Return a row for each moment with footage.

    Args:
        moments: of annotations.
        detections: objects of each, by its uid.
        path: of the annotations, for messages.
        folder: of the footage.
        skip_missing: leave out moments without, with a warning.

    Returns:
        `uid`; `file`, the path of the footage, and `frame`, the moment's number in it; `video`, both as text; `size`,
        (height, width) of the annotated frame; `boxes` in its pixels, `nouns` and `scores` of objects; and
        `true_boxes`, `true_nouns`, `true_verbs` and `true_times`.

    Raises:
        ManifestError: if footage is missing, unless it is skipped; or all of it.
    """
    rows, missing = [], []
    for moment in moments:
        try:
            file, frame = _footage_of(moment, folder)
        except (FileNotFoundError, ValueError) as error:
            missing.append(f"{moment.uid}: {error}")
            continue
        found, true = detections[moment.uid], moment.interactions or ()
        rows.append(
            {
                "uid": moment.uid,
                "file": str(file),
                "frame": frame,
                "video": f"{file} ({moment.uid})",
                "size": list(moment.size),
                "boxes": [list(one.box) for one in found],
                "nouns": [one.noun for one in found],
                "scores": [one.score for one in found],
                "true_boxes": [list(one.box) for one in true],
                "true_nouns": [one.noun for one in true],
                "true_verbs": [one.verb for one in true],
                "true_times": [one.time for one in true],
            }
        )
    if missing:
        cause = f"{len(missing)} of {len(moments)} moments have no footage, the first is {missing[0].rstrip('.')}"
        if not skip_missing or not rows:
            raise ManifestError(
                str(path), None, cause, "Set data.interactions.folder, or, to train, data.missing=skip."
            )
        logger.warning(f"{cause}; they are left out.")
    return rows


def _footage_of(moment: Moment, folder: Path) -> tuple[Path, int]:
    """Return the file that shows a moment, and the moment's frame in it."""
    if moment.clip_frame is None:
        return find_footage(folder, None, moment.video).path, moment.frame
    footage = find_footage(folder, moment.clip, moment.video)
    return footage.path, moment.clip_frame if footage.is_clip else moment.frame


# ---- samples --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClipRule:
    """How a moment becomes a model's input.

    Args:
        pixels: of frames.
        num_frames: frames of a clip.
        stride: from one to the next.
        with_truth: see `InteractionData`.
        label_overlap: see `InteractionData`.
    """

    pixels: Pixels
    num_frames: int
    stride: int
    with_truth: bool
    label_overlap: float

    @classmethod
    def of(cls, processor: Any, data: InteractionData) -> "ClipRule":
        """Return the rule of a recipe or a protocol: size, statistics and frames are the processor's.

        Args:
            processor: of the model.
            data: settings.

        Raises:
            RecipeError: if the processor cuts off a part of the frame.
        """
        if not isinstance(processor, InternVideoVideoProcessor) or "shortest_edge" not in (processor.size or {}):
            raise RecipeError(
                "Short-term anticipation needs a processor with a short side: size={shortest_edge: 256}."
            )
        if processor.do_center_crop:
            raise RecipeError(
                "The processor cuts off a part of the frame, with its objects: set do_center_crop=false."
            )
        pixels = Pixels(
            processor.size["shortest_edge"],
            processor.resize_method,
            data.crop_size,
            0,
            0,
            0,
            data.flip,
            processor.image_mean,
            processor.image_std,
            short_sides=None if data.short_sides is None else (data.short_sides[0], data.short_sides[1]),
        )
        stride = (processor.sampler_kwargs or {}).get("sampling_rate", ANTICIPATION_STRIDE)
        # Boxes of the ground truth are those of the detector already where there is none.
        with_truth = data.with_truth and data.detections is not None
        return cls(pixels, processor.num_frames, stride, with_truth, data.label_overlap)

    def check_training(self) -> None:
        """Refuse a square that is larger than frames may be.

        Raises:
            RecipeError: naming the setting.
        """
        least = self.pixels.short_side if self.pixels.short_sides is None else self.pixels.short_sides[0]
        if self.pixels.crop_size is not None and self.pixels.crop_size > least:
            raise RecipeError(
                f"data.interactions.crop_size is {self.pixels.crop_size}, expected 1 to {least}, the least short side "
                "of a frame, or null for the whole frame."
            )

    def indices(self, frame: int) -> np.ndarray:
        """Return the frames of a clip that ends with a frame.

        Args:
            frame: its number.
        """
        return frames_until(frame, self.num_frames, self.stride)

    def sample(self, row: Row, frames: np.ndarray, seed: int | None) -> Sample:
        """Make the sample of a moment.

        In training, boxes outside the crop are left out.

        Args:
            row: of `rows_of`.
            frames: of the clip, uint8, `(frames, height, width, 3)`.
            seed: of the draws of training; None for the view of an evaluation.

        Returns:
            `pixel_values_videos`, `(frames, 3, height, width)`; `boxes`, `(n, 4)`, in its pixels; and of each box
            `verb_labels`, -100 where no true box is, and `time_labels`, NaN where none is.
        """
        clip_frames = channels_first(frames)
        if seed is None:
            pixels, geometry = evaluation_view(clip_frames, self.pixels)
        else:
            pixels, geometry = training_view(clip_frames, self.pixels, random.Random(seed))
        boxes, true = self.boxes(row["boxes"], row, geometry), self.boxes(row["true_boxes"], row, geometry)
        verbs, times = torch.tensor(row["true_verbs"], dtype=torch.int64), torch.tensor(row["true_times"])
        if seed is not None:
            shown = is_nonempty(true)
            true, verbs, times = true[shown], verbs[shown], times[shown]
            boxes = boxes[is_nonempty(boxes)]
            boxes = torch.cat([boxes, true]) if self.with_truth else boxes
        targets = self.targets(boxes, true, verbs, times)
        return {"pixel_values_videos": pixels, "boxes": boxes, **targets}

    def boxes(self, given: Any, row: Row, geometry: Geometry) -> torch.Tensor:
        """Return boxes of a moment in pixels of a view, `(n, 4)`.

        Args:
            given: in pixels of the annotated frame, of which the footage may have more or fewer.
            row: with `size`, that of the annotated frame.
            geometry: of the view.
        """
        height, width = row["size"]
        read = resize(torch.tensor(given, dtype=torch.float32).reshape(-1, 4), (height, width), geometry.size)
        return clip(geometry.follow(clip(read, geometry.size)), geometry.view)

    def targets(
        self, boxes: torch.Tensor, true: torch.Tensor, verbs: torch.Tensor, times: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return the verb and the time of the true box with which each box overlaps most, if that is enough.

        Args:
            boxes: `(n, 4)`.
            true: `(m, 4)`.
            verbs: of the true boxes, `(m,)`.
            times: likewise.
        """
        verb_labels = torch.full((len(boxes),), IGNORED, dtype=torch.int64)
        time_labels = torch.full((len(boxes),), torch.nan)
        if len(boxes) and len(true):
            overlaps = torch.from_numpy(overlap(boxes.numpy()[:, None], true.numpy()[None]))
            most, best = overlaps.max(dim=1)
            close = most >= self.label_overlap
            verb_labels[close], time_labels[close] = verbs[best[close]], times[best[close]].float()
        return {"verb_labels": verb_labels, "time_labels": time_labels}


class MomentDataset(VideoDataset):
    """Moments as samples, decoded on access; see `VideoDataset`.

    Args:
        rows: a `datasets.Dataset` of `rows_of`.
        rule: how a moment becomes an input.
        training: draw sizes, crops and flips; otherwise the samples are those of an evaluation.
        seed: of these.
        failures: the log of unreadable moments, which give `{"failure": ...}`; None raises.
    """

    def __init__(
        self, rows: Any, rule: ClipRule, *, training: bool, seed: int = 0, failures: FailureLog | None = None
    ):
        super().__init__(rows, {}, seed=seed, on_error="raise" if failures is None else "skip", failures=failures)
        self.rule, self.training = rule, training

    def make(self, row: Row, seed: int) -> Sample:
        """Make the sample of a row, see `ClipRule.sample`; and `video`, its name.

        Args:
            row: of `rows_of`.
            seed: of the draws.

        Raises:
            VideoDecodeError: if the frames cannot be read.
        """
        with VideoReader(row["file"]) as reader:
            check_frame(reader, row["frame"])
            frames = reader.read(self.rule.indices(row["frame"]))
        return {**self.rule.sample(row, frames, seed if self.training else None), "video": row["video"]}


def read_moments(rows: Sequence[Row], rule: ClipRule) -> list[Sample | VideoDecodeError]:
    """Read the clips of moments for an evaluation; each frame of the file is decoded once.

    Args:
        rows: of `rows_of`, all of one file, by time.
        rule: how a moment becomes an input.

    Returns:
        Pixels and boxes of each, or why it cannot be read.
    """
    file, frames = rows[0]["file"], [row["frame"] for row in rows]
    damaged = VideoDecodeError(file, "a frame before the moment is damaged", "Get the file again.")
    found: list[Sample | VideoDecodeError] = []
    try:
        with one_video(file), VideoReader(file) as reader:
            view, whole = FrameView(rule.pixels), [frame for frame in frames if frame < reader.num_frames]
            clips = read_clips(reader, whole, [rule.indices(frame) for frame in whole], view)
            for row, frame in zip(rows, frames, strict=True):
                if frame >= reader.num_frames:
                    found.append(_too_short(reader, frame))
                    continue
                pixels = next(clips).pixels
                if pixels is None or view.geometry is None:
                    found.append(damaged)
                else:
                    boxes = rule.boxes(row["boxes"], row, view.geometry)
                    found.append({"pixel_values_videos": pixels, "boxes": boxes})
    except VideoDecodeError as error:
        found += [error] * (len(rows) - len(found))
    return found


def check_frame(reader: VideoReader, frame: int) -> None:
    """Refuse a moment behind the end of a video.

    Args:
        reader: of the video.
        frame: the moment's number.

    Raises:
        VideoDecodeError: if there is no such frame.
    """
    if frame >= reader.num_frames:
        raise _too_short(reader, frame)


def _too_short(reader: VideoReader, frame: int) -> VideoDecodeError:
    cause = f"it has {reader.num_frames} frames, and the moment is frame {frame}, counted from 0"
    return VideoDecodeError(reader.name, cause, "Check that the file is the whole source.")


def collate(samples: Sequence[Sample], *, fill_gaps: bool = False, multiple: int = MULTIPLE) -> dict[str, Any]:
    """Make a batch of samples, see `collate_boxes`; `box_mask` is of 0 and 1, which may be filled up by other values.

    Args:
        samples: of `MomentDataset`.
        fill_gaps: see `collate_boxes`.
        multiple: see `collate_boxes`.
    """
    batch = collate_boxes(samples, TARGETS, fill_gaps=fill_gaps, multiple=multiple)
    return batch | {"box_mask": batch["box_mask"].long()}
