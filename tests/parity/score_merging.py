"""The original's score files, one line per view, and their merging by its test (golden case vm_score_merge)."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from internvideo_hf.inference.merging import METHODS
from internvideo_hf.utils.names import lookup


class View(NamedTuple):
    """What a model says of one view of a video.

    Args:
        video: Name of the video.
        segment: Which clip in time, from 0.
        crop: Which crop in space, from 0.
        label: True class of the video, from 0.
        logits: Shape (classes,); empty, or with NaN, where the computation failed.
    """

    video: str
    segment: int
    crop: int
    label: int
    logits: np.ndarray


class Merged(NamedTuple):
    """One row for each video.

    Args:
        videos: Names.
        labels: True classes, int64, shape (videos,).
        scores: float64, shape (videos, classes); NaN where the video failed.
        failed: Videos without a view, or with one that has no scores or NaN among them; bool, shape (videos,).
    """

    videos: list[str]
    labels: np.ndarray
    scores: np.ndarray
    failed: np.ndarray


# The greedy first group leaves the last bracket to the scores, whatever a name holds.
_LINE = re.compile(r"(?P<video>.+) \[(?P<logits>[^][]*)\] (?P<label>\d+) (?P<segment>\d+) (?P<crop>\d+)")


def _read_line(line: str, place: str) -> View:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(
            f"{place}: got {line[:80]!r}, expected 'video [score, score, ...] label segment crop'; was the run "
            "stopped while it wrote?"
        )
    numbers = {name: int(match[name]) for name in ("label", "segment", "crop")}
    try:
        logits = np.array([float(number) for number in match["logits"].split(",") if number.strip()])
    except ValueError as error:
        raise ValueError(f"{place}: {error}, expected numbers with commas between; write the file again") from error
    return View(match["video"].strip(), logits=logits, **numbers)


def read_views(folder: Path, num_ranks: int) -> list[View]:
    """Read the files of a test run on several processes: `0.txt`, `1.txt`, ..., one line per view after a header.

    The first line holds the process's own accuracy. Views that a sampler of several processes doubled to fill the last
    batch are still twice in the result; `merge_views` counts them once.

    Args:
        folder: Where the files lie.
        num_ranks: Processes of the run: files 0 to num_ranks - 1.

    Returns:
        The views of all files, in order.

    Raises:
        ValueError: If a file is missing or a line has another form; the message names it.
    """
    views = []
    for rank in range(num_ranks):
        path = folder / f"{rank}.txt"
        if not path.is_file():
            raise ValueError(
                f"{folder}: got no {path.name}, expected a file of each of {num_ranks} processes; copy all that the "
                "run wrote"
            )
        lines = path.read_text(encoding="utf-8").splitlines()[1:]
        views += [_read_line(line.strip(), f"{path}, line {number}") for number, line in enumerate(lines, start=2)]
    return views


def _pool(members: Iterable[Iterable[View]], known: Mapping[str, int] | None) -> tuple[dict[str, int], dict]:
    """Label and logits of each video; a view that a member has twice counts once."""
    labels = dict(known or {})
    pooled: dict[str, list[np.ndarray]] = {video: [] for video in labels}
    for member in members:
        seen = set()
        for view in member:
            if (view.video, view.segment, view.crop) in seen:
                continue
            seen.add((view.video, view.segment, view.crop))
            if known is not None and view.video not in known:
                raise ValueError(
                    f"video {view.video!r}: got a view of it, expected the {len(known)} videos of `labels`; "
                    "is this the right split?"
                )
            label = labels.setdefault(view.video, view.label)
            if label != view.label:
                raise ValueError(
                    f"video {view.video!r}: got the labels {label} and {view.label}, expected one; were the runs made "
                    "with the same label map?"
                )
            pooled.setdefault(view.video, []).append(np.asarray(view.logits, dtype=np.float64))
    return labels, pooled


def _count_classes(pooled: dict[str, list[np.ndarray]], labels: dict[str, int]) -> int:
    sizes = sorted({len(logits) for views in pooled.values() for logits in views if len(logits)})
    if len(sizes) != 1:
        raise ValueError(
            f"logits: got views of {sizes or 'no'} classes, expected one number; merge models of the same classes"
        )
    for video, label in labels.items():
        if not 0 <= label < sizes[0]:
            raise ValueError(
                f"video {video!r}: got the label {label}, expected 0 to {sizes[0] - 1}; check the label map"
            )
    return sizes[0]


def merge_views(*members: Iterable[View], method: str = "prob", labels: Mapping[str, int] | None = None) -> Merged:
    """Averages the scores of all views of each video in float64; several members are an ensemble.

    All views of all members weigh the same, so a member with more views weighs more (released). A view that a member
    has twice (same video, segment and crop) counts once.

    Args:
        members: The views of each model or run.
        method: Name in `METHODS`.
        labels: True class of every video of the test set; videos without a view then count as failed. Without it, the
            videos are those that have a view.

    Returns:
        One row for each video.

    Raises:
        ValueError: If the method or a video is unknown, views of a video differ in label, views differ in the number
            of classes, or a label is no class.
    """
    weigh = lookup(METHODS, method, "method")
    labels, pooled = _pool(members, labels)
    scores = np.full((len(pooled), _count_classes(pooled, labels)), np.nan)
    for row, views in zip(scores, pooled.values(), strict=True):
        if views and all(len(logits) for logits in views):
            row[:] = np.mean([weigh(logits) for logits in views], axis=0)
    failed = np.isnan(scores).any(axis=1)
    scores[failed] = np.nan
    return Merged(list(pooled), np.array([labels[video] for video in pooled], dtype=np.int64), scores, failed)
