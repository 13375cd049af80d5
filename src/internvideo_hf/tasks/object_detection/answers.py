"""What a detector found in each frame: scores by moment, the best box of each frame, and a file in COCO's layout."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from internvideo_hf.tasks.detections import overlap_of_boxes
from internvideo_hf.tasks.object_detection.annotations import Frame
from internvideo_hf.tasks.object_detection.metrics import Floats, coco_document, coco_results, coco_scores
from internvideo_hf.tasks.protocol import ANSWERS
from internvideo_hf.utils.files import atomic_directory, write_table

DETECTIONS, IMAGES = "detections.json", "images.json"


@dataclass(frozen=True)
class Answers:
    """The boxes that a detector found, beside the true ones.

    Args:
        frames: all frames that were asked for.
        found: image -> left, top, width, height in pixels and score, `(n, 5)`, the best first.
        object_type: name of the objects.
    """

    frames: Sequence[Frame]
    found: Mapping[int, Floats]
    object_type: str

    def scores(self) -> dict[str, float]:
        """Return COCO's scores in percent; empty where no frame is annotated."""
        return self._scores

    def by_moment(self) -> list[dict[str, Any]]:
        """Return the scores of each kind of frame."""
        moments = dict.fromkeys(frame.moment for frame in self.frames)
        rows = []
        for moment in moments:
            frames = [frame for frame in self.frames if frame.moment == moment and frame.boxes is not None]
            objects = sum(len(frame.boxes or ()) for frame in frames)
            scores = self.scores() if len(moments) == 1 else coco_scores(frames, self.found)
            row: dict[str, Any] = {"moment": moment or "all", "frames": len(frames), "objects": objects}
            rows.append({**row, **{name: scores.get(name, "") for name in ("AP", "AP50", "AP75")}})
        return rows

    def text(self) -> str:
        """Return the scores of each kind of frame as text."""
        lines = [f"{'moment':12} {'frames':>8} {'objects':>8} {'AP':>7} {'AP50':>7} {'AP75':>7}"]
        for row in self.by_moment():
            scores = " ".join(
                f"{row[name]:7.2f}" if row[name] != "" else f"{'-':>7}" for name in ("AP", "AP50", "AP75")
            )
            lines.append(f"{row['moment']:12} {row['frames']:8d} {row['objects']:8d} {scores}")
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """Write all of it, atomically.

        Args:
            folder: replaced if it exists. It then holds answers.csv, a line for each frame with its best box;
                by_moment.csv; detections.json and images.json, all boxes and the true ones in COCO's layout; and
                summary.txt.
        """
        with atomic_directory(folder) as part:
            write_table(part / ANSWERS, [self._line(frame) for frame in self.frames])
            write_table(part / "by_moment.csv", self.by_moment())
            (part / DETECTIONS).write_text(json.dumps(coco_results(self.found)), encoding="utf-8")
            (part / IMAGES).write_text(json.dumps(coco_document(self.frames, self.object_type)), encoding="utf-8")
            (part / "summary.txt").write_text(f"{self.text()}\n", encoding="utf-8")

    def _line(self, frame: Frame) -> dict[str, Any]:
        rows = self.found.get(frame.image, np.zeros((0, 5)))
        line: dict[str, Any] = {
            "image": frame.image,
            "video": frame.video,
            "moment": frame.moment,
            "frame": frame.number,
            "objects": "" if frame.boxes is None else len(frame.boxes),
            "found": len(rows),
            **dict.fromkeys(("left", "top", "width", "height", "score", "overlap"), ""),
        }
        if len(rows):
            names = ("left", "top", "width", "height")
            line |= {name: f"{value:.1f}" for name, value in zip(names, rows[0, :4], strict=True)}
            line["score"] = f"{rows[0, 4]:.6f}"
            if frame.boxes:
                best, true = (_corners(np.array(boxes, dtype=np.float64)) for boxes in (rows[0, :4], frame.boxes))
                line["overlap"] = f"{overlap_of_boxes(best, true).max():.4f}"
        return line

    @cached_property
    def _scores(self) -> dict[str, float]:
        return coco_scores(self.frames, self.found)


def _corners(boxes: Floats) -> Floats:
    """Return left, top, right, bottom of boxes `(..., 4)` that are left, top, width, height."""
    return np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)
