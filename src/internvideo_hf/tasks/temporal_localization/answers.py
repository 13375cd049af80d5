"""What a model localized in each video: average precision of each class, all segments, a file to submit."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from internvideo_hf.tasks.detections import best_and_worst, overlap_in_time
from internvideo_hf.tasks.protocol import ANSWERS
from internvideo_hf.tasks.temporal_localization.annotations import to_results
from internvideo_hf.tasks.temporal_localization.metrics import (
    Floats,
    SegmentTable,
    average_precisions,
    mean_precisions,
    recall_by_instances,
)
from internvideo_hf.tasks.temporal_localization.moments import SUBMISSION, to_submission
from internvideo_hf.utils.files import atomic_directory, write_table

DETECTIONS = "detections.json"


@dataclass(frozen=True)
class Answers:
    """The segments that a model found, beside the true ones.

    Args:
        found: with scores.
        truth: ground truth.
        classes: class index -> name.
        thresholds: overlaps in time, 0-1.
        as_published: see `average_precisions`.
        clips: of a challenge, ids of all clips that it asks for, true segments or not, so that the report has its file
            and the scores its recall; None where there is no challenge.
    """

    found: SegmentTable
    truth: SegmentTable
    classes: Mapping[int, str]
    thresholds: Sequence[float]
    as_published: bool = False
    clips: Sequence[str] | None = None

    def scores(self) -> dict[str, float]:
        """Return mean average precision in percent at each threshold, and their mean; of a challenge, the recall.

        The test clips of a challenge have no true segments, and no scores.
        """
        if self.clips is None:
            return mean_precisions(self._precisions, self.thresholds)
        if not len(self.truth.labels):
            return {}
        recall = recall_by_instances(self.found, self.truth)
        return {**mean_precisions(self._precisions, self.thresholds), "R@1x": recall}

    def by_class(self) -> list[dict[str, Any]]:
        """Return average precision of each class in percent at each threshold, the best classes first."""
        if self.clips is not None and not len(self.truth.labels):
            return []
        precisions = 100 * self._precisions
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
        return best_and_worst(self.by_class(), "segments", width=30)

    def write(self, folder: Path) -> None:
        """Write all of it, atomically.

        Args:
            folder: replaced if it exists. It then holds answers.csv, a line for each segment, the best of a video
                first; by_class.csv; detections.json, which ActivityNet's own evaluation reads; summary.txt; and
                submission.json, the file of a challenge.
        """
        with atomic_directory(folder) as part:
            write_table(part / ANSWERS, self._lines() or [dict.fromkeys(("video", "start", "end", "class"), "")])
            write_table(part / "by_class.csv", self.by_class() or [dict.fromkeys(("class", "AP"), "")])
            (part / DETECTIONS).write_text(json.dumps(self.detections()), encoding="utf-8")
            (part / "summary.txt").write_text(f"{self.text()}\n", encoding="utf-8")
            if self.clips is not None:
                submission = to_submission(self.clips, self.detections()["results"])
                (part / SUBMISSION).write_text(submission, encoding="utf-8")

    def _lines(self) -> list[dict[str, Any]]:
        found, truth = self.found, self.truth
        assert found.scores is not None
        same: dict[tuple[str, int], list[int]] = {}
        for row, owner in enumerate(zip(truth.videos, truth.labels.tolist(), strict=True)):
            same.setdefault(owner, []).append(row)
        rows = []
        for row in np.lexsort((-found.scores, np.asarray(found.videos))):
            label = int(found.labels[row])
            true = truth.segments[same.get((found.videos[row], label), [])]
            overlap = overlap_in_time(found.segments[row], true).max(initial=0.0)
            start, end = found.segments[row]
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

    @cached_property
    def _precisions(self) -> Floats:
        rule = {"as_published": self.as_published}
        return average_precisions(self.found, self.truth, self.thresholds, **rule)
