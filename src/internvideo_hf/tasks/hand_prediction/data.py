"""Clips before a moment with the hands to come, as samples of hand prediction."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from transformers.utils import logging
from transformers.video_utils import VideoMetadata

from internvideo_hf.data.dataset import VideoDataset
from internvideo_hf.data.ego4d import check_uid, find_footage
from internvideo_hf.data.failures import FailureLog, TooManyFailuresError
from internvideo_hf.data.records import ManifestError, require_datasets
from internvideo_hf.data.samples import PIXELS, Row, Sample
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.hand_prediction.annotations import HandClip, read_hands
from internvideo_hf.tasks.hand_prediction.metrics import HANDS, POINTS_SHAPE
from internvideo_hf.tasks.hand_prediction.prediction import PLACEMENTS, ClipReader, labels_of_hands
from internvideo_hf.tasks.hand_prediction.views import Placement, TrainingView
from internvideo_hf.tasks.protocol import HandData
from internvideo_hf.video.randomness import Generator, Randomness
from internvideo_hf.video.sampling import SAMPLERS

if TYPE_CHECKING:
    import datasets

logger = logging.get_logger(__name__)
SAMPLER = "ego4d_hands"
"""Rule that samples frames for evaluation; with "_train", for training."""
_TENSORS = (PIXELS, "labels", "label_mask", PLACEMENTS)


def read_training_rows(
    path: Path,
    data_root: Path,
    *,
    hands: HandData,
    labels: str | int | None = None,
    classes: list[str] | None = None,
    layout: str | None = None,
    skip_missing: bool = False,
) -> "tuple[datasets.Dataset, list[str]]":
    """Read annotations for training or validation; see `Training.read`.

    Args:
        path: see `annotations.read_hands`.
        data_root: folder of the footage.
        hands: settings of the recipe.
        labels: must be None.
        classes: names of the numbers of the training list, for a validation list.
        layout: must be None.
        skip_missing: leave out clips without footage, with a warning.

    Returns:
        Rows of `rows_of`, without clips that show no hand; and the names of the numbers to predict, those of both
        hands, or of one if the training list knows no other.

    Raises:
        ManifestError: if the annotations are invalid, know no hand, or footage is missing.
        RecipeError: if the layout or labels are set.
    """
    for name, value in (("layout", layout), ("labels", labels)):
        if value is not None:
            raise RecipeError(f"data.{name} changes nothing in hand_prediction. Leave it out.")
    clips = read_hands(path)
    known = [clip for clip in clips if clip.known.any()]
    if not known:
        raise ManifestError(str(path), None, "no clip has an annotated hand", "Give a list with annotations.")
    if len(known) < len(clips):
        logger.warning(f"{path}: {len(clips) - len(known)} of {len(clips)} clips show no hand; they are left out.")
    rows = rows_of(known, path, data_root / hands.folder, skip_missing)
    shown = np.array([clip.known for clip in known]).reshape(-1, *POINTS_SHAPE)
    names = labels_of_hands([hand for number, hand in enumerate(HANDS) if shown[:, :, number].any()])
    return require_datasets().Dataset.from_list(rows), classes or names


def rows_of(clips: Sequence[HandClip], path: Path, folder: Path, skip_missing: bool = False) -> list[dict[str, Any]]:
    """Return a row for each clip with footage.

    Args:
        clips: of annotations.
        path: of these, for messages.
        folder: of the footage, see `HandData`.
        skip_missing: leave out the others, with a warning.

    Returns:
        `name`; `file`, the path of its footage; `frame`, before which the clip ends; `video`, both as text; `points`
        and `known`, `(20,)`.

    Raises:
        ManifestError: if footage is missing, unless it is skipped; or all of it.
    """
    rows, missing = [], []
    for clip in clips:
        try:
            file, frame = _footage_of(clip, folder)
        except (FileNotFoundError, ValueError) as error:
            missing.append(f"{clip.name}: {error}")
            continue
        about = {"name": clip.name, "file": str(file), "frame": frame, "video": f"{file} ({clip.name})"}
        rows.append({**about, "points": clip.points.tolist(), "known": clip.known.tolist()})
    if missing:
        cause = f"{len(missing)} of {len(clips)} clips have no footage, the first is {missing[0].rstrip('.')}"
        if not skip_missing or not rows:
            raise ManifestError(str(path), None, cause, "Set data.hands.folder, or, to train, data.missing=skip.")
        logger.warning(f"{cause}; they are left out.")
    return rows


def _footage_of(clip: HandClip, folder: Path) -> tuple[Path, int | None]:
    """Return the file that shows a clip, and the frame of its first moment; None for the end of the file."""
    cut = folder / f"{check_uid(clip.name)}.mp4"
    if cut.is_file():
        return cut, None
    footage = find_footage(folder, clip.clip if clip.clip_frame is not None else None, clip.video)
    return footage.path, clip.clip_frame if footage.is_clip else clip.frame


class HandDataset(VideoDataset):
    """Clips before a moment as samples, decoded on access; see `VideoDataset`.

    Args:
        rows: a `datasets.Dataset` of `rows_of`.
        reader: of evaluation, with one clip.
        columns: of the model's numbers among the 20.
        view: of training; None for evaluation.
        seed: of the draws.
        failures: the log of unreadable videos, which give `{"failure": ...}`; None raises.

    Raises:
        RecipeError: if the processor samples frames by a rule that has none for training, or the view mirrors clips of
            both hands.
    """

    def __init__(
        self,
        rows: Any,
        reader: ClipReader,
        columns: Sequence[int],
        view: TrainingView | None = None,
        *,
        seed: int = 0,
        failures: FailureLog | None = None,
    ):
        super().__init__(rows, {}, seed=seed, on_error="raise" if failures is None else "skip", failures=failures)
        if view is not None and reader.processor.sampler != SAMPLER:
            raise RecipeError(
                f"model.processor.sampler is {reader.processor.sampler}, and hand_prediction trains on frames of the "
                f"last seconds before a moment. Set model.processor.sampler={SAMPLER}."
            )
        if view is not None and view.flip and len({column // 2 % len(HANDS) for column in columns}) > 1:
            raise RecipeError(
                f"data.hands.flip is {view.flip}, and the model predicts both hands, which change sides in a mirror. "
                "Set it to 0."
            )
        self.reader, self.columns, self.view = reader, list(columns), view

    def make(self, row: Row, seed: int) -> Sample:
        """Make the sample of a row.

        Args:
            row: of `rows_of`.
            seed: of the draws.

        Returns:
            `pixel_values_videos`, `(frames, 3, height, width)`; `labels` and `label_mask`, `(num_labels,)`, in the
            model's pixels; `placements`, `(4,)`, of the view in the video; `video`.

        Raises:
            VideoDecodeError: see `ClipReader`.
        """
        points, known = np.reshape(row["points"], (-1, 2)), np.array(row["known"])
        if self.view is None:
            views = self.reader(row)
            pixels, placement = views[PIXELS][0], views[PLACEMENTS]
            moved = Placement(*placement.tolist()).to_view(points)
        else:
            randomness = Randomness.seeded(seed)
            frames, _ = self.reader.read(row, partial(self._draw, generator=randomness.numpy))
            pixels, moved = self.view(rearrange(torch.from_numpy(frames), "t h w c -> t c h w"), points, randomness)
            placement = torch.tensor(Placement(), dtype=torch.float64)  # for evaluation alone
        labels = (points if self.reader.points_of_video else moved).ravel()
        return {
            PIXELS: pixels,
            "labels": torch.from_numpy(np.where(known, labels, 0)[self.columns]).float(),
            "label_mask": torch.from_numpy(known[self.columns]),
            PLACEMENTS: placement,
            "video": row["video"],
        }

    def _draw(self, metadata: VideoMetadata, generator: Generator) -> NDArray[np.int64]:
        processor = self.reader.processor
        options = {"fps": metadata.fps, **(processor.sampler_kwargs or {}), "generator": generator}
        indices: NDArray[np.int64] = SAMPLERS[f"{SAMPLER}_train"](
            metadata.total_num_frames, processor.num_frames, **options
        )
        return indices.reshape(-1)


def collate(samples: Sequence[Sample], *, fill_gaps: bool = False) -> dict[str, Any]:
    """Make a batch of samples.

    Args:
        samples: of `HandDataset`.
        fill_gaps: replace an unreadable sample by a blank clip without known hands, whose placement is NaN, instead of
            making a smaller batch.

    Returns:
        Their fields, with a first axis of samples; and `videos`, their names.

    Raises:
        TooManyFailuresError: if no sample could be read.
    """
    read = [sample for sample in samples if "failure" not in sample]
    if not read:
        raise TooManyFailuresError(
            f"None of the {len(samples)} clips of a batch can be read; the last: {samples[-1]['failure']}"
        )
    if fill_gaps:
        blank = {**{name: torch.zeros_like(read[0][name]) for name in _TENSORS}, "video": read[0]["video"]}
        blank[PLACEMENTS] = torch.full_like(read[0][PLACEMENTS], torch.nan)
        read = [blank if "failure" in sample else sample for sample in samples]
    batch: dict[str, Any] = {name: torch.stack([sample[name] for sample in read]) for name in _TENSORS}
    return {**batch, "videos": [sample["video"] for sample in read]}
