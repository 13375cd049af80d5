"""Clips with boxes in their key frames, as the tasks that look at boxes share them: batches, and a run over a list."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm

from internvideo_hf.data.executors.processes import start_workers
from internvideo_hf.data.failures import TooManyFailuresError
from internvideo_hf.inference.runner import RunSettings
from internvideo_hf.models.internvideo_mae.modeling_internvideo_mae_detection import pad_boxes
from internvideo_hf.tasks.box_views import MULTIPLE, Geometry, Pixels, evaluation_view, pad_batch
from internvideo_hf.utils.devices import default_workers
from internvideo_hf.utils.journal import Journal

Sample = dict[str, Any]
Numbered = tuple[int, Sample]
NO_BOX = -1
"""Place of the box in a row that stands for a key frame that cannot be read."""


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


def run_boxes(
    clips: IterableDataset[tuple[int, Sample | str]],
    compute: Callable[[Sequence[Numbered]], dict[str, Tensor]],
    blank: Mapping[str, Tensor],
    total: int,
    settings: RunSettings,
    journal: Journal,
) -> None:
    """Add the answers for all boxes to a journal, which may have some already; its notes have the failures.

    A batch has clips of one size, so that no clip is filled up to the size of another.

    Args:
        clips: number of a key frame, and its pixels and boxes, or why it cannot be read.
        compute: batch of these -> columns of a row for each box: `row`, the number; `box`, its place; and answers.
        blank: columns of answers of one row, for a key frame that cannot be read.
        total: key frames of the list.
        settings: batches, workers, unreadable videos, progress bars.
        journal: of the run.

    Raises:
        TooManyFailuresError: if too many key frames cannot be read.
    """
    table = journal.tensors()
    done = len(set(table["row"].tolist())) if table else 0
    waiting: dict[torch.Size, list[Numbered]] = {}
    with tqdm(total=total, initial=done, desc="Key frames", unit="frame", disable=settings.quiet) as bar:
        for number, sample in _read(clips, settings.workers):
            bar.update()
            if isinstance(sample, str):
                mark = {"row": torch.tensor([number]), "box": torch.tensor([NO_BOX])}
                journal.append(mark | dict(blank), {str(number): sample})
                if len(journal.notes) > settings.max_damaged * total:
                    raise TooManyFailuresError(
                        f"{len(journal.notes)} key frames are unreadable; of all {total} at most a fraction of "
                        f"{settings.max_damaged:.4g} may be. The last one: {sample} Repair or remove these videos, or "
                        "tolerate more by --max-damaged (in Python, max_damaged)."
                    )
                continue
            batch = waiting.setdefault(sample["pixel_values_videos"].shape, [])
            batch.append((number, sample))
            if len(batch) == settings.batch_size:
                journal.append(compute(batch))
                batch.clear()
        for batch in filter(None, waiting.values()):
            journal.append(compute(batch))
    journal.write()


def left_to_do(journal: Journal, numbers: Sequence[int]) -> list[int]:
    """Return the numbers of key frames that a journal has no rows of.

    Args:
        journal: of `run_boxes`.
        numbers: of all.
    """
    table = journal.tensors()
    done = set(table["row"].tolist() if table else ())
    return [number for number in numbers if number not in done]


def _read(clips: IterableDataset[tuple[int, Sample | str]], workers: int | None) -> Iterator[tuple[int, Sample | str]]:
    loader = DataLoader(clips, batch_size=None, num_workers=default_workers(workers), collate_fn=_as_it_is)
    return start_workers(loader)


def _as_it_is(item: Any) -> Any:
    return item
