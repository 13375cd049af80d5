"""Clips with boxes in their key frames, as the tasks that look at boxes share them: batches, and a run over a list."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor
from transformers.modeling_utils import PreTrainedModel

from internvideo_hf.data.failures import TooManyFailuresError
from internvideo_hf.data.samples import Row
from internvideo_hf.inference.rows import Loader, Read, Work, run_rows
from internvideo_hf.inference.runner import RunSettings
from internvideo_hf.models.internvideo_mae.modeling_internvideo_mae_detection import pad_boxes
from internvideo_hf.tasks.box_views import MULTIPLE, Geometry, Pixels, evaluation_view, pad_batch
from internvideo_hf.utils.storage import AnyPath
from internvideo_hf.video.errors import VideoDecodeError

Sample = dict[str, Any]


class FrameView:
    """Makes the evaluation view of frames, one at a time, and keeps what it did.

    Args:
        rule: of the pixels.
    """

    def __init__(self, rule: Pixels):
        self.rule = rule
        self.geometry: Geometry | None = None

    def __call__(self, frame: np.ndarray) -> Tensor:
        """Return the pixels of a frame, `(3, height, width)`.

        Args:
            frame: uint8, `(height, width, 3)`.
        """
        pixels, self.geometry = evaluation_view(channels_first(frame[None]), self.rule)
        return pixels[0]


def channels_first(frames: np.ndarray) -> Tensor:
    """Return frames `(t, height, width, 3)` as views take them, `(t, 3, height, width)`."""
    return rearrange(torch.from_numpy(frames), "t h w c -> t c h w")


def collate_boxes(
    samples: Sequence[Sample], targets: Mapping[str, float], *, fill_gaps: bool = False, multiple: int = MULTIPLE
) -> dict[str, Any]:
    """Make a batch of samples.

    Args:
        samples: `pixel_values_videos`, `(frames, 3, height, width)`; `boxes`, `(n, 4)`, in its pixels; targets of the
            boxes; and `video`, the name of the key frame; or `failure`, why it cannot be read.
        targets: name of a target, `(n, ...)` -> its value where there is no box. Those that samples lack are left out.
        fill_gaps: replace an unreadable sample by a blank clip without boxes, instead of making a smaller batch.
        multiple: pixels of which height and width become multiples: the side of a patch.

    Returns:
        `pixel_values_videos`, `(batch, frames, 3, height, width)`, filled up with zeros to the largest clip;
        `pixel_mask`, `(batch, height, width)`, where something was filled up; `boxes`, `(batch, boxes, 4)`;
        `box_mask`, `(batch, boxes)`; the targets, `(batch, boxes, ...)`; and `videos`, the names of the key frames.

    Raises:
        TooManyFailuresError: if no sample could be read.
    """
    read = [sample for sample in samples if "failure" not in sample]
    if not read:
        raise TooManyFailuresError(
            f"None of the {len(samples)} key frames of a batch can be read; the last: {samples[-1]['failure']}"
        )
    present = [name for name in targets if name in read[0]]
    if fill_gaps:
        blank = {"pixel_values_videos": torch.zeros_like(read[0]["pixel_values_videos"])}
        blank = {**read[0], **blank, **{name: read[0][name][:0] for name in ("boxes", *present)}}
        read = [blank if "failure" in sample else sample for sample in samples]
    pixels, pixel_mask = pad_batch([sample["pixel_values_videos"] for sample in read], multiple)
    boxes, box_mask = pad_boxes([sample["boxes"] for sample in read])
    batch: dict[str, Any] = {"pixel_values_videos": pixels, "boxes": boxes, "box_mask": box_mask}
    if not pixel_mask.all():
        batch["pixel_mask"] = pixel_mask
    for name in present:
        first = read[0][name]
        batch[name] = torch.full((*box_mask.shape, *first.shape[1:]), targets[name], dtype=first.dtype)
        for row, sample in zip(batch[name], read, strict=True):
            row[: len(sample[name])] = sample[name]
    if "video" in read[0]:
        batch["videos"] = [sample["video"] for sample in read]
    return batch


# ---- evaluation -----------------------------------------------------------------------------------------------------


class BoxAnswers(NamedTuple):
    """A model's answers for the boxes of a list, in its order; without those of key frames that cannot be read.

    Args:
        rows: the row of each box, `(n,)`.
        places: its place in the row, `(n,)`.
        answers: `(n, ...)` by name.
        causes: why others cannot be read, by their row.
    """

    rows: NDArray[np.int64]
    places: NDArray[np.int64]
    answers: dict[str, Tensor]
    causes: dict[int, str]


def run_boxes(
    rows: Sequence[Row],
    model: PreTrainedModel,
    work: Work[PreTrainedModel],
    settings: RunSettings,
    parts: AnyPath | None,
    moment: str,
) -> BoxAnswers:
    """Run a model over the boxes of key frames; those of one file follow each other, so that it is decoded once.

    Args:
        rows: of the list, with `boxes`, `file` and the time of the key frame in it.
        model: looks at boxes.
        work: of `box_work`.
        settings: see `run_rows`.
        parts: see `run_rows`.
        moment: name of the time.

    Raises:
        TooManyFailuresError: if too many key frames cannot be read.
    """
    busy = [number for number, row in enumerate(rows) if row["boxes"]]
    numbers = sorted(busy, key=lambda number: (rows[number]["file"], rows[number][moment]))
    ordered = [rows[number] for number in numbers]
    table, causes = run_rows(ordered, model, work, settings, parts=parts, description="Key frames", noun="key frames")
    counts = list(map(count_boxes, ordered))
    owners = np.repeat(np.array(numbers, dtype=np.int64), counts)
    places = np.concatenate([np.zeros(0, np.int64), *map(np.arange, counts)])
    is_read = np.repeat([place not in causes for place in range(len(ordered))], counts)
    order = np.lexsort((places, owners))
    order = order[is_read[order]] if len(order) else order
    answers = {name: column[torch.from_numpy(order)] for name, column in table.items()}
    return BoxAnswers(
        owners[order], places[order], answers, {numbers[place]: cause for place, cause in causes.items()}
    )


def box_work(
    read: Callable[[Sequence[Row]], Sequence[Sample | VideoDecodeError]],
    compute: Callable[[PreTrainedModel, Sequence[Sample]], Mapping[str, Tensor]],
    loader: Loader,
    blanks: Mapping[str, float],
) -> Work[PreTrainedModel]:
    """Return what a model does with key frames.

    Args:
        read: (rows of one file) -> pixels and boxes of each, see `collate_boxes`, or why it cannot be read.
        compute: (model, samples of one size) -> answers for their boxes, `(boxes, ...)` by name.
        loader: of the model.
        blanks: see `Work`.
    """
    answer = partial(answer_boxes, compute=compute)
    return Work(read, answer, loader, blanks=blanks, file=_file_of, entries=count_boxes, together=True)


def answer_boxes(
    model: PreTrainedModel,
    batch: Sequence[Read],
    compute: Callable[[PreTrainedModel, Sequence[Sample]], Mapping[str, Tensor]],
) -> dict[str, Tensor]:
    """Answer for the boxes of key frames, those of one size at once: none is filled up to the size of another.

    Args:
        model: as of `compute`.
        batch: rows with their samples.
        compute: see `box_work`.
    """
    groups: dict[torch.Size, list[int]] = {}
    for place, (_, sample) in enumerate(batch):
        groups.setdefault(sample["pixel_values_videos"].shape, []).append(place)
    ends = np.cumsum([0, *(len(sample["boxes"]) for _, sample in batch)]).tolist()
    found: dict[str, Tensor] = {}
    for places in groups.values():
        boxes = torch.cat([torch.arange(ends[place], ends[place + 1]) for place in places])
        for name, answers in compute(model, [batch[place][1] for place in places]).items():
            table = found.setdefault(name, answers.new_empty((ends[-1], *answers.shape[1:])))
            table[boxes] = answers
    return found


def count_boxes(row: Row) -> int:
    """Return the number of boxes of a row."""
    return len(row["boxes"])


def _file_of(row: Row) -> str:
    return str(row["file"])
