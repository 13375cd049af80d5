"""What a model detected in each key frame: average precision of each class, and all boxes in AVA's format."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from internvideo_hf.tasks.action_detection.metrics import MIN_OVERLAP, BoxTable, Floats, average_precisions
from internvideo_hf.tasks.detections import best_and_worst
from internvideo_hf.tasks.protocol import ANSWERS
from internvideo_hf.utils.files import atomic_directory, atomic_path, write_table

DETECTIONS = "detections.csv"
_BATCH = 100_000  # lines that are formatted together


@dataclass(frozen=True)
class Answers:
    """The boxes and actions that a model found, beside the true ones.

    Args:
        found: with scores; all classes of the model.
        truth: ground truth.
        classes: names of the model's classes.
        scored: indices of the classes that count.
        min_overlap: of a correct detection, 0-1.
    """

    found: BoxTable
    truth: BoxTable
    classes: Sequence[str]
    scored: Sequence[int]
    min_overlap: float = MIN_OVERLAP

    def scores(self) -> dict[str, float]:
        """Return mean average precision in percent over the scored classes that have ground truth."""
        return {"mAP": float(100 * np.nanmean(self._precisions))}

    def by_class(self) -> list[dict[str, Any]]:
        """Return average precision of each scored class with ground truth, in percent, the best classes first."""
        boxes, found = (np.bincount(table.labels, minlength=len(self.classes)) for table in (self.truth, self.found))
        rows = [
            {
                "class": self.classes[label],
                "boxes": int(boxes[label]),
                "found": int(found[label]),
                "AP": 100 * float(ap),
            }
            for label, ap in zip(self.scored, self._precisions, strict=True)
            if boxes[label]
        ]
        return sorted(rows, key=lambda row: -float(row["AP"]))

    def text(self) -> str:
        """Return average precision of the best and the worst classes as text."""
        return best_and_worst(self.by_class(), "boxes", width=40)

    def write(self, folder: Path) -> None:
        """Write all of it, atomically.

        Args:
            folder: replaced if it exists. It then holds answers.csv, average precision of each class; detections.csv,
                all boxes and actions in AVA's format, which its own evaluation reads; and summary.txt.
        """
        with atomic_directory(folder) as part:
            write_table(part / ANSWERS, self.by_class())
            write_predictions(part / DETECTIONS, self.found)
            (part / "summary.txt").write_text(f"{self.text()}\n", encoding="utf-8")

    @cached_property
    def _precisions(self) -> Floats:
        return average_precisions(self.found, self.truth, self.scored, min_overlap=self.min_overlap)


def write_predictions(path: str | Path, found: BoxTable) -> None:
    """Write boxes and actions in AVA's format of results, atomically: `video,timestamp,x1,y1,x2,y2,action,score`.

    Args:
        path: the file.
        found: with scores and boxes in fractions of the frame, which are cut at its border.

    Raises:
        ValueError: if there are no scores.
    """
    if found.scores is None:
        raise ValueError("The detections have no scores.")
    names, boxes = np.asarray(found.key_frames), found.boxes.clip(0, 1)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for start in range(0, len(found), _BATCH):
            rows = slice(start, start + _BATCH)
            columns = names[rows].tolist(), boxes[rows].tolist(), found.labels[rows].tolist(), found.scores[rows]
            for name, corners, label, score in zip(*columns, strict=True):
                video, _, time = name.rpartition(",")
                writer.writerow([video, time, *(f"{edge:.5f}" for edge in corners), label + 1, f"{score:.5f}"])
