"""What a model localized in each video: average precision of each class, all segments, a file to submit."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from internvideo_hf.tasks.protocol import ANSWERS
from internvideo_hf.tasks.temporal_localization.annotations import to_results
from internvideo_hf.tasks.temporal_localization.metrics import (
    SegmentTable,
    average_precisions,
    mean_average_precision,
    overlap_in_time,
)
from internvideo_hf.utils.files import atomic_directory, write_table

DETECTIONS = "detections.json"
_LISTED = 10  # classes in the text


@dataclass(frozen=True)
class Answers:
    """The segments that a model found, beside the true ones.

    Args:
        found: with scores.
        truth: ground truth.
        classes: class index -> name.
        thresholds: overlaps in time, 0-1.
        as_published: see `average_precisions`.
    """

    found: SegmentTable
    truth: SegmentTable
    classes: Mapping[int, str]
    thresholds: Sequence[float]
    as_published: bool = False

    def scores(self) -> dict[str, float]:
        """Return mean average precision in percent at each threshold, and their mean."""
        return mean_average_precision(self.found, self.truth, self.thresholds, as_published=self.as_published)

    def by_class(self) -> list[dict[str, Any]]:
        """Return average precision of each class in percent at each threshold, the best classes first."""
        rule = {"as_published": self.as_published}
        precisions = 100 * average_precisions(self.found, self.truth, self.thresholds, **rule)
        labels = np.unique(self.truth.labels)
        rows: list[dict[str, Any]] = []
        for column, label in enumerate(labels.tolist()):
            by_threshold = dict(zip(map("AP@{:.2f}".format, self.thresholds), precisions[:, column], strict=True))
            true, found = (int((table.labels == label).sum()) for table in (self.truth, self.found))
            start = {"class": self.classes.get(label, str(label)), "segments": true, "found": found}
            rows.append({**start, "AP": float(precisions[:, column].mean()), **by_threshold})
        return sorted(rows, key=lambda row: -row["AP"])

    def detections(self) -> dict[str, Any]:
        """Return the segments in the layout of ActivityNet's submissions."""
        assert self.found.scores is not None
        names = [self.classes.get(label, str(label)) for label in self.found.labels.tolist()]
        columns = map(str, self.found.videos), names, self.found.scores, self.found.segments
        return to_results(zip(*columns, strict=True))

    def text(self) -> str:
        """Return average precision of the best and the worst classes as text."""
        rows = self.by_class()
        lines = [f"{'class':30} {'segments':>8} {'found':>8} {'AP':>7}"]
        shown = rows if len(rows) <= 2 * _LISTED else [*rows[:_LISTED], *rows[-_LISTED:]]
        lines += [f"{row['class'][:30]:30} {row['segments']:8d} {row['found']:8d} {row['AP']:7.2f}" for row in shown]
        if len(shown) < len(rows):
            lines.append(f"The {_LISTED} best and the {_LISTED} worst of {len(rows)} classes.")
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """Write all of it, atomically.

        Args:
            folder: replaced if it exists. It then holds answers.csv, a line for each segment, the best of a video
                first; by_class.csv; detections.json, which ActivityNet's own evaluation reads; and summary.txt.
        """
        with atomic_directory(folder) as part:
            write_table(part / ANSWERS, self._lines() or [dict.fromkeys(("video", "start", "end", "class"), "")])
            write_table(part / "by_class.csv", self.by_class())
            (part / DETECTIONS).write_text(json.dumps(self.detections()), encoding="utf-8")
            (part / "summary.txt").write_text(f"{self.text()}\n", encoding="utf-8")

    def _lines(self) -> list[dict[str, Any]]:
        found, truth = self.found, self.truth
        assert found.scores is not None
        rows = []
        for row in np.lexsort((-found.scores, np.asarray(found.videos))):
            same = (truth.videos == found.videos[row]) & (truth.labels == found.labels[row])
            overlap = overlap_in_time(found.segments[row], truth.segments[same]).max(initial=0.0)
            start, end = found.segments[row]
            label = int(found.labels[row])
            rows.append(
                {
                    "video": found.videos[row],
                    "start": f"{start:.3f}",
                    "end": f"{end:.3f}",
                    "class": self.classes.get(label, str(label)),
                    "score": f"{found.scores[row]:.6f}",
                    "overlap": f"{overlap:.4f}",
                }
            )
        return rows
