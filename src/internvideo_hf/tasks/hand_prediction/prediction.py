"""Predict where hands will be, from a raw video."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.video_utils import VideoMetadata

from internvideo_hf.data.samples import PIXELS, Row, frame_rate
from internvideo_hf.inference.merging import check_finite
from internvideo_hf.inference.runner import Views, logits_of_views
from internvideo_hf.models.common.hand_prediction import HAND_LABELS, HAND_TIMES
from internvideo_hf.models.common.loading import classes_of
from internvideo_hf.models.common.narrowing import known
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor, RawPixels, read_selected
from internvideo_hf.tasks.hand_prediction.metrics import HANDS, POINTS_SHAPE
from internvideo_hf.tasks.hand_prediction.views import Placement, placement_of
from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.reader import VideoReader

Floats = NDArray[np.float64]
PLACEMENTS = "placements"
_OUTSIDE = 0.1  # of a frame's width or height, by which an annotated point may lie outside
_AT_A_TIME = 1e-6  # seconds; a time that is a frame's own, but for rounding, means that frame


def columns_of(config: PreTrainedConfig) -> list[int]:
    """Return the place of each of a model's numbers among `HAND_LABELS`.

    Args:
        config: of a hand predictor: its labels are some of these names, or 20 without names.

    Raises:
        ValueError: if they are others.
    """
    names = classes_of(config)
    if names == [f"LABEL_{number}" for number in range(len(HAND_LABELS))]:
        return list(range(len(HAND_LABELS)))
    if unknown := [name for name in names if name not in HAND_LABELS]:
        raise ValueError(
            f"The model predicts {len(names)} numbers, one of which is {unknown[0]}: these are not Ego4D's hands. Its "
            f"labels must be names such as {HAND_LABELS[0]!r} (internvideo_hf.models.common.hand_prediction)."
        )
    return [HAND_LABELS.index(name) for name in names]


def labels_of_hands(hands: Sequence[str]) -> list[str]:
    """Return the names of the numbers of one hand or both, in the order of the logits.

    Args:
        hands: "left", "right" or both.
    """
    return [name for name in HAND_LABELS if name.split()[1] in hands]


def hands_of(columns: Sequence[int]) -> list[str]:
    """Return the hands that a model predicts.

    Args:
        columns: of `columns_of`.
    """
    return [hand for number, hand in enumerate(HANDS) if any(column % 4 // 2 == number for column in columns)]


@dataclass(frozen=True)
class ClipReader:
    """Reads the clip before a moment, and says where it lies in the video.

    Args:
        processor: of the model.
        num_clips: clips whose predictions are averaged, each of other frames.
        points_of_video: of the model's configuration: the clip then counts as the whole video.
    """

    processor: InternVideoVideoProcessor
    num_clips: int
    points_of_video: bool

    def __call__(self, row: Row, *, raw: bool = False) -> dict[str, Any]:
        """Return `pixel_values_videos`, `placements` and `about`.

        They are `(clips, frames, 3, height, width)`; `(4,)` float64, a `Placement`; and `(3,)` float64, width and
        height of the video in pixels and the moment in seconds.

        Args:
            row: `video`, its name; `file`, a video of any kind that `VideoReader` takes, if that is not the name; the
                moment before which the clip ends: `frame`, an index, or `second`; the end of the video without; and
                `points`, true ones, if they are to be checked.
            raw: leave normalization to the process that takes the clips, see `InternVideoVideoProcessor.raw_frames`.

        Raises:
            VideoDecodeError: if the frames cannot be read, there are none before the moment, or they are smaller than
                those that were annotated.
        """
        frames, metadata = self.read(row, partial(self.processor.sample_frames, num_clips=self.num_clips))
        options = {"num_clips": self.num_clips, "num_crops": 1}
        pixels = self.processor.raw_frames(frames, metadata, **options)
        if not raw and isinstance(pixels, RawPixels):
            pixels = pixels.normalized()
        height, width = frames.shape[1:3]
        place = Placement() if self.points_of_video else placement_of(self.processor, height, width)
        second = row.get("second") or metadata.total_num_frames / known(metadata.fps)
        return {
            PIXELS: pixels,
            PLACEMENTS: torch.tensor(place, dtype=torch.float64),
            "about": torch.tensor([width, height, second], dtype=torch.float64),
        }

    def read(
        self, row: Row, rule: Callable[[VideoMetadata], NDArray[np.int64]]
    ) -> tuple[NDArray[np.uint8], VideoMetadata]:
        """Return the frames before the moment that a rule samples, uint8 `(t, height, width, 3)`, and metadata.

        Args:
            row: see `__call__`.
            rule: metadata -> indices.
        """
        processor, file = self.processor, row.get("file", row["video"])
        span = partial(_observed, row=row)
        ((frames, metadata),) = read_selected(file, [rule], processor.decoder, processor.input_channel_order, span)
        if not self.points_of_video and "points" in row:
            _check_size(frames, row)
        return frames, metadata


def _check_size(frames: NDArray[np.uint8], row: Row) -> None:
    """Refuse frames in which annotated points do not lie: those of a copy of another resolution."""
    height, width = frames.shape[1:3]
    furthest = np.reshape(row["points"], (-1, 2)).max(axis=0)
    if (furthest > np.array([width, height]) * (1 + _OUTSIDE)).any():
        x, y = furthest
        raise VideoDecodeError(
            str(row["video"]),
            f"its frames have {width} x {height} pixels, and hands are annotated up to {x:.0f}, {y:.0f}",
            "Give footage in full resolution, or set model.config.points_of_video=true, as released.",
        )


def _observed(reader: VideoReader, row: Row) -> tuple[int, int]:
    """Return the first frame of the part before the moment, and the frame after its last."""
    name, frame, second = str(row["video"]), row.get("frame"), row.get("second")
    rate = frame_rate(reader, row)  # raises where there is none, which the sampler needs
    if second is not None:
        times = np.arange(reader.num_frames) / rate if reader.seconds is None else reader.seconds
        frame = int(np.searchsorted(times, second - _AT_A_TIME))
        if second > (reader.duration or np.inf) + _AT_A_TIME:
            raise VideoDecodeError(name, f"it ends before {second:g} s", "Give a second within the video.")
    if frame is None:
        frame = reader.num_frames
    if not 0 < frame <= reader.num_frames:
        cause = (
            "no frame is before the moment" if frame < 1 else f"it has {reader.num_frames} frames, expected {frame}"
        )
        raise VideoDecodeError(name, cause, "Check that the file is the whole source, and the moment.")
    return 0, frame


@torch.no_grad()
def predict_points(model: PreTrainedModel, views: Views, batch_size: int = 8) -> Floats:
    """Predict hands from the views of several videos, in pixels of the videos.

    Args:
        model: a hand predictor.
        views: of `ClipReader`, stacked: `(videos, clips, ...)`, and placements `(videos, 4)`.
        batch_size: clips per forward pass.

    Returns:
        `(videos, 20)`, the mean over clips; 0 for a hand that the model does not predict.

    Raises:
        NotFiniteError: if a number is not finite.
    """
    pixels = views[PIXELS]
    logits = logits_of_views(model, {PIXELS: pixels.flatten(0, 1)}, batch_size).double().cpu().numpy()
    check_finite(logits, "A predicted point")
    means = logits.reshape(*pixels.shape[:2], -1).mean(axis=1)
    return points_in_video(means, views[PLACEMENTS].numpy(), model.config)


def points_in_video(logits: NDArray[Any], placements: NDArray[Any], config: PreTrainedConfig) -> Floats:
    """Return the numbers of a model in pixels of its videos; see `predict_points`.

    Args:
        logits: `(videos, num_labels)`.
        placements: of the views in the videos, `(videos, 4)`.
        config: of the model.
    """
    columns, numbers = columns_of(config), np.zeros((len(logits), len(HAND_LABELS)))
    numbers[:, columns] = logits
    points = numbers.reshape(-1, *POINTS_SHAPE)
    points = np.stack([Placement(*place).to_video(own) for place, own in zip(placements, points, strict=True)])
    found = np.zeros_like(numbers)
    found[:, columns] = points.reshape(len(numbers), -1)[:, columns]
    return found


def answer_of(points: Floats, config: PreTrainedConfig) -> dict[str, list[dict[str, Any]]]:
    """Return predicted points by hand: `{"left": [{"moment": "pre_45", "point": [x, y]}, ...], "right": [...]}`.

    Args:
        points: of one video, `(20,)`.
        config: of the model, whose hands they are.
    """
    table = points.reshape(POINTS_SHAPE)
    return {
        hand: [
            {"moment": moment, "point": table[time, HANDS.index(hand)].tolist()}
            for time, moment in enumerate(HAND_TIMES)
        ]
        for hand in hands_of(columns_of(config))
    }
