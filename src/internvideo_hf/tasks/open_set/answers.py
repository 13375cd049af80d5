"""Answers to known and unknown videos: a table, a summary, and a histogram of the scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from internvideo_hf.data.samples import Row
from internvideo_hf.tasks.classifier_answers import clip_columns
from internvideo_hf.tasks.protocol import ANSWERS
from internvideo_hf.utils.files import atomic_directory, write_table

_LISTED = 10


@dataclass(frozen=True)
class Answers:
    """The answers to two lists of videos, "known" and "unknown".

    Args:
        videos: rows of each list: `video`, `label`, and `start` and `end` in seconds if it is a part.
        scores: how unknown each video is, `(videos,)`; NaN for an unreadable one.
        predicted: the best class of each video, `(videos,)`; -1 for an unreadable one.
        threshold: a video with a higher score is unknown.
        classes: names of the known classes.
    """

    videos: Mapping[str, Sequence[Row]]
    scores: Mapping[str, NDArray[np.float64]]
    predicted: Mapping[str, NDArray[np.int64]]
    threshold: float
    classes: Sequence[str]

    def text(self) -> str:
        """Return the known classes that are rejected most, and those that unknown videos are taken for most."""
        known = np.array([row["label"] for row in self.videos["known"]])
        rejected = self.scores["known"] > self.threshold
        missed = self.predicted["unknown"][self.scores["unknown"] <= self.threshold]
        lines = ["known classes that are rejected most"]
        counts = [(int((rejected & (known == number)).sum()), number) for number in np.unique(known)]
        lines += self._lines(counts, lambda number: f"of {int((known == number).sum())}")
        lines.append("classes that unknown videos are taken for most")
        taken = [(int((missed == number).sum()), number) for number in np.unique(missed)]
        return "\n".join([*lines, *self._lines(taken)])

    def _lines(self, counts: list[tuple[int, int]], remark: Any = lambda number: "") -> list[str]:
        found = sorted((entry for entry in counts if entry[0]), key=lambda entry: (-entry[0], entry[1]))[:_LISTED]
        lines = [f"  {count:6d} {remark(number)} {self.classes[number]}".rstrip() for count, number in found]
        return lines or ["  none"]

    def write(self, folder: Path) -> None:
        """Write all of it, atomically.

        Args:
            folder: replaced if it exists. It then holds answers.csv, a line for each video; summary.txt; and
                scores.png, how the scores of known and of unknown videos are distributed.
        """
        with atomic_directory(folder) as part:
            rows = [self._row(name, row) for name in self.videos for row in range(len(self.videos[name]))]
            write_table(part / ANSWERS, rows)
            (part / "summary.txt").write_text(f"{self.text()}\n", encoding="utf-8")
            self._draw(part / "scores.png")

    def _row(self, name: str, row: int) -> dict[str, Any]:
        video, score, predicted = self.videos[name][row], self.scores[name][row], int(self.predicted[name][row])
        label = self.classes[video["label"]] if name == "known" else ""
        unknown, readable = bool(score > self.threshold), predicted >= 0
        right = unknown if name == "unknown" else not unknown and predicted == video["label"]
        return {
            "list": name,
            **clip_columns(video),
            "label": label,
            "predicted": self.classes[predicted] if readable else "unreadable",
            "score": f"{score:.6g}" if readable else "",
            "unknown": int(unknown) if readable else "",
            "correct": int(readable and right),
        }

    def _draw(self, path: Path) -> None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        found = {name: scores[np.isfinite(scores)] for name, scores in self.scores.items()}
        bins = np.histogram_bin_edges(np.concatenate(list(found.values())), bins=40).tolist()
        for name, scores in found.items():
            axes.hist(scores, bins=bins, density=True, alpha=0.6, label=f"{name} ({len(scores)})")
        axes.axvline(self.threshold, color="black", linestyle="--", label=f"threshold {self.threshold:.4g}")
        axes.set(xlabel="score: how unknown a video is", ylabel="density")
        axes.legend()
        figure.savefig(path, format="png", dpi=100)
