"""Answers to videos with several labels: by video, class and head."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from internvideo_hf.data.samples import Row
from internvideo_hf.models.common.configuration import slices_of
from internvideo_hf.models.common.losses import IGNORED
from internvideo_hf.tasks.classifier_answers import Answers, best_answers, clip_columns
from internvideo_hf.tasks.multi_label.metrics import average_precisions
from internvideo_hf.tasks.protocol import ANSWERS
from internvideo_hf.utils.files import atomic_directory, write_table

_LISTED = 20  # classes in the text


@dataclass(frozen=True)
class LabelSets:
    """The scores of classes that a video may show at the same time.

    Args:
        videos: rows of the list: `video`, and `start` and `end` in seconds if it is a part.
        labels: 1 for the classes of a video, 0 for the others, `(rows, classes)`.
        scores: `(rows, classes)`; NaN for a video that could not be read, which no class finds.
        classes: names, in the order of the scores.
    """

    videos: Sequence[Row]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    classes: Sequence[str]

    def per_class(self) -> list[dict[str, Any]]:
        """Return for each class with a video: `class`, the number of `videos`, and `AP` in percent."""
        precisions = average_precisions(self.scores, self.labels)
        return [
            {"class": name, "videos": int(videos), "AP": 100 * precision}
            for name, videos, precision in zip(self.classes, self.labels.sum(axis=0), precisions, strict=True)
            if videos
        ]

    def text(self) -> str:
        """Return the classes of the lowest average precision as text."""
        rows = sorted(self.per_class(), key=lambda row: row["AP"])
        width = max([5, *(min(40, len(row["class"])) for row in rows[:_LISTED])])
        lines = [f"{'class':{width}} {'videos':>7} {'AP':>7}"]
        lines += [f"{row['class'][:40]:{width}} {row['videos']:7d} {row['AP']:7.2f}" for row in rows[:_LISTED]]
        return "\n".join(lines + [f"... and {len(rows) - _LISTED} classes with a higher AP"][: len(rows) > _LISTED])

    def write(self, folder: Path) -> None:
        """Write all of it, atomically.

        Args:
            folder: replaced if it exists. It then holds answers.csv, a line for each video; per_class.csv; and
                summary.txt.
        """
        with atomic_directory(folder) as part:
            write_table(part / ANSWERS, [self._answer(row) for row in range(len(self.videos))])
            write_table(part / "per_class.csv", self.per_class())
            (part / "summary.txt").write_text(f"{self.text()}\n", encoding="utf-8")

    def _answer(self, row: int) -> dict[str, Any]:
        scores, own = self.scores[row], np.flatnonzero(self.labels[row]).tolist()
        unreadable = bool(np.isnan(scores).any())
        return {
            **clip_columns(self.videos[row]),
            "labels": "|".join(self.classes[number] for number in own),
            "scores of labels": "" if unreadable else "|".join(f"{scores[number]:.6f}" for number in own),
            "top-5": "unreadable" if unreadable else best_answers(scores, self.classes),
        }


@dataclass(frozen=True)
class HeadAnswers:
    """The answers of a classifier with several heads, one of each to a video.

    Args:
        videos: rows of the list: `video`, and `start` and `end` in seconds if it is a part.
        labels: class number within each head, -100 where it is unknown, `(rows, heads)`.
        scores: probabilities, `(rows, classes of all heads)`; NaN for a video that could not be read.
        heads: name -> names of its classes, in the order of the scores.
    """

    videos: Sequence[Row]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    heads: Mapping[str, Sequence[str]]

    @cached_property
    def of_heads(self) -> dict[str, Answers]:
        """The answers of each head to the videos with a known label, by its name; not of heads without such videos."""
        found = {}
        for (name, place), labels in zip(slices_of(self.heads).items(), self.labels.T, strict=True):
            if rows := np.flatnonzero(labels != IGNORED).tolist():
                videos = [self.videos[row] for row in rows]
                found[name] = Answers(videos, labels[rows], self.scores[rows, place], self.heads[name])
        return found

    def text(self) -> str:
        """Return the worst classes and the most frequent confusions of each head as text."""
        return "\n\n".join(f"{name}\n{answers.text()}" for name, answers in self.of_heads.items())

    def write(self, folder: Path) -> None:
        """Write all of it, atomically.

        Args:
            folder: replaced if it exists. It then holds answers.csv, a line for each video; summary.txt; and a folder
                for each head, see `Answers.write`.
        """
        with atomic_directory(folder) as part:
            write_table(part / ANSWERS, [self._answer(row) for row in range(len(self.videos))])
            (part / "summary.txt").write_text(f"{self.text()}\n", encoding="utf-8")
            for number, (name, answers) in enumerate(self.of_heads.items(), 1):
                answers.write(part / (f"{number}-" + re.sub(r"[^\w-]+", "_", name)))

    def _answer(self, row: int) -> dict[str, Any]:
        entry, right = clip_columns(self.videos[row]), True
        unreadable = bool(np.isnan(self.scores[row]).any())
        for (name, place), label in zip(slices_of(self.heads).items(), self.labels[row], strict=True):
            scores, classes = self.scores[row, place], self.heads[name]
            best = int(scores.argmax())
            right = right and not unreadable and best == label
            entry |= {
                name: "" if label == IGNORED else classes[label],
                f"{name} predicted": "unreadable" if unreadable else classes[best],
                f"{name} score": "" if unreadable else f"{scores[best]:.6f}",
            }
        return entry | {"all correct": "" if (self.labels[row] == IGNORED).any() else int(right)}
