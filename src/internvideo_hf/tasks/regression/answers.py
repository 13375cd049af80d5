"""Estimated numbers of videos: a table, scores of each number, and a scatter plot."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from internvideo_hf.data.samples import Row
from internvideo_hf.models.common.losses import IGNORED
from internvideo_hf.tasks.classifier_answers import clip_columns
from internvideo_hf.tasks.protocol import ANSWERS
from internvideo_hf.tasks.regression.metrics import scores_of_numbers
from internvideo_hf.utils.files import atomic_directory, write_table

_LISTED = 10  # videos in the text
_DRAWN = 9  # numbers in the picture


@dataclass(frozen=True)
class Estimates:
    """The numbers that a model estimates of the videos of a list.

    Args:
        videos: rows of the list: `video`, and `start` and `end` in seconds if it is a part.
        labels: the true numbers, -100 where one is unknown, `(rows, numbers)`.
        estimates: `(rows, numbers)`; NaN for a video that could not be read.
        names: of the numbers.
    """

    videos: Sequence[Row]
    labels: NDArray[np.float64]
    estimates: NDArray[np.float64]
    names: Sequence[str]

    def per_number(self) -> list[dict[str, Any]]:
        """Return for each number with a known value: `number`, the `videos`, and the scores of `scores_of_numbers`."""
        videos = ((self.labels != IGNORED) & ~np.isnan(self.estimates)).sum(axis=0)
        scores = scores_of_numbers(self.estimates, self.labels)
        return [
            {"number": name, "videos": int(count), **entry}
            for name, count, entry in zip(self.names, videos, scores, strict=True)
            if entry
        ]

    def text(self) -> str:
        """Return the scores of each number, and the largest errors, as text."""
        names = ("MAE", "MSE", "Pearson", "Spearman")
        width = max(6, *(min(40, len(name)) for name in self.names))
        lines = [f"{'number':{width}} {'videos':>7}" + "".join(f" {name:>9}" for name in names)]
        for row in self.per_number():
            scores = "".join(f" {row[name]:9.4f}" if name in row else f" {'-':>9}" for name in names)
            lines.append(f"{row['number'][:40]:{width}} {row['videos']:7d}{scores}")
        lines += ["", "the largest errors"]
        known = (self.labels != IGNORED) & ~np.isnan(self.estimates)
        errors = np.where(known, np.abs(self.estimates - self.labels), -1)
        for place in np.argsort(-errors, axis=None, kind="stable")[: min(_LISTED, int(known.sum()))]:
            row, number = np.unravel_index(place, errors.shape)
            lines.append(
                f"{self.names[number]}: {self.estimates[row, number]:.4g} for {self.labels[row, number]:.4g}, "
                f"{self.videos[row]['video']}"
            )
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """Write all of it, atomically.

        Args:
            folder: replaced if it exists. It then holds answers.csv, a line for each video; per_number.csv;
                summary.txt; and estimates.png, estimates over true numbers, of the first nine.
        """
        with atomic_directory(folder) as part:
            write_table(part / ANSWERS, [self._answer(row) for row in range(len(self.videos))])
            blank = {"number": "", "videos": 0, "MAE": "", "MSE": "", "Pearson": "", "Spearman": ""}
            write_table(part / "per_number.csv", [blank | row for row in self.per_number()])
            (part / "summary.txt").write_text(f"{self.text()}\n", encoding="utf-8")
            self._draw(part / "estimates.png")

    def _answer(self, row: int) -> dict[str, Any]:
        entry, estimates = clip_columns(self.videos[row]), self.estimates[row]
        unreadable = bool(np.isnan(estimates).any())
        for name, label, estimate in zip(self.names, self.labels[row], estimates, strict=True):
            known = label != IGNORED
            entry |= {
                name: f"{label:g}" if known else "",
                f"{name} estimated": "unreadable" if unreadable else f"{estimate:.6g}",
                f"{name} error": f"{estimate - label:.6g}" if known and not unreadable else "",
            }
        return entry

    def _draw(self, path: Path) -> None:
        from matplotlib.figure import Figure

        count = min(_DRAWN, len(self.names))
        rows = -(-count // 3)
        figure = Figure(figsize=(4 * min(3, count), 4 * rows), layout="constrained")
        for number in range(count):
            axes = figure.add_subplot(rows, min(3, count), number + 1)
            known = (self.labels[:, number] != IGNORED) & ~np.isnan(self.estimates[:, number])
            axes.scatter(self.labels[known, number], self.estimates[known, number], s=12, alpha=0.6)
            if known.any():
                axes.axline((float(self.labels[known, number][0]),) * 2, slope=1, color="black", linestyle="--")
            axes.set(xlabel="true number", ylabel="estimate", title=self.names[number])
        figure.savefig(path, format="png", dpi=100)
