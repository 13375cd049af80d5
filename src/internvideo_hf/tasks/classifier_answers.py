"""What a classifier answered for each video: per class, confusions, worst mistakes; several tasks share it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from internvideo_hf.data.samples import Row
from internvideo_hf.data.thumbnails import TILE, tile
from internvideo_hf.inference.merging import top_k_accuracies
from internvideo_hf.tasks.protocol import ANSWERS
from internvideo_hf.utils.files import atomic_directory, write_table
from internvideo_hf.utils.names import distinct_names
from internvideo_hf.utils.pictures import contact_sheet

WORST, COLUMNS = 20, 4  # mistakes on the sheet, and in a row of it
_NAMED_CLASSES = 60  # of more, the axes of the confusion matrix have no names
_LISTED = 10  # classes and confusions in the text


@dataclass(frozen=True)
class Answers:
    """The answers of a classifier to a labeled list.

    Args:
        videos: rows of the list: `video`, and `start` and `end` in seconds if it is a part.
        labels: the class of each, `(rows,)`.
        scores: probabilities, `(rows, classes)`; NaN for a video that could not be read, which counts as wrong.
        classes: names, in the order of the scores.
        columns: further numbers of each video for answers.csv, `(rows,)` by name.
    """

    videos: Sequence[Row]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    classes: Sequence[str]
    columns: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """The best class of each video, the lower one of a tie; -1 for a video that could not be read."""
        readable = ~np.isnan(self.scores).any(axis=1)
        best = np.where(np.isnan(self.scores), -np.inf, self.scores).argmax(axis=1)
        return np.where(readable, best, -1)

    def confusions(self) -> NDArray[np.int64]:
        """Count videos by their class (rows) and the predicted one (columns); unreadable ones are left out."""
        counts = np.zeros((len(self.classes), len(self.classes)), np.int64)
        readable = self.predicted >= 0
        np.add.at(counts, (self.labels[readable], self.predicted[readable]), 1)
        return counts

    def per_class(self) -> list[dict[str, Any]]:
        """Return for each class with videos: `class`, `videos`, `top-1`, `top-5`, and what it is `taken for` most."""
        confusions, rows = self.confusions(), []
        for number in np.unique(self.labels):
            mine = self.labels == number
            wrong = confusions[number].copy()
            wrong[number] = 0
            taken = f"{self.classes[wrong.argmax()]} ({wrong.max()})" if wrong.any() else ""
            scores = top_k_accuracies(self.scores[mine], self.labels[mine])
            rows.append({"class": self.classes[number], "videos": int(mine.sum()), **scores, "taken for": taken})
        return rows

    def worst(self, count: int = WORST) -> list[int]:
        """Return the rows of the most confident mistakes, the worst first.

        Args:
            count: at most this many.
        """
        rows = np.flatnonzero((self.predicted >= 0) & (self.predicted != self.labels))
        confidence = self.scores[rows, self.predicted[rows]]
        return [int(row) for row in rows[np.argsort(-confidence, kind="stable")][:count]]

    def text(self) -> str:
        """Return the worst classes and the most frequent confusions as text."""
        rows = sorted(self.per_class(), key=lambda row: row["top-1"])
        kept = rows if len(rows) <= 2 * _LISTED else rows[:_LISTED]
        width = max(5, *(min(40, len(row["class"])) for row in kept))
        lines = [f"{'class':{width}} {'videos':>7} {'top-1':>7} {'top-5':>7}  most often taken for"]
        for row in kept:
            numbers = f"{row['videos']:7d} {row['top-1']:7.2f} {row['top-5']:7.2f}"
            lines.append(f"{row['class'][:40]:{width}} {numbers}  {row['taken for']}".rstrip())
        if len(kept) < len(rows):
            lines.append(f"... and {len(rows) - len(kept)} classes with a higher top-1")
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """Write all of it, atomically.

        Args:
            folder: replaced if it exists. It then holds answers.csv, a line for each video; per_class.csv;
                confusion.csv and confusion.png, videos by class and prediction; summary.txt; and mistakes.png, if
                there are mistakes.
        """
        with atomic_directory(folder) as part:
            write_table(part / ANSWERS, [self._answer(row) for row in range(len(self.videos))])
            write_table(part / "per_class.csv", self.per_class())
            counts = self.confusions()
            header = [{"class \\ taken for": name} for name in self.classes]
            table = [
                start | dict(zip(self.classes, row, strict=True)) for start, row in zip(header, counts, strict=True)
            ]
            write_table(part / "confusion.csv", table)
            draw_confusions(counts, self.classes, part / "confusion.png")
            (part / "summary.txt").write_text(f"{self.text()}\n", encoding="utf-8")
            if worst := self.worst():
                self.sheet(worst).save(part / "mistakes.png")

    def sheet(self, rows: Sequence[int]) -> Any:
        """Draw a contact sheet of videos: what each is, and what it is taken for.

        Args:
            rows: numbers of videos.
        """
        tiles = []
        names = distinct_names([str(self.videos[row]["video"]) for row in rows])
        for row, name in zip(rows, names, strict=True):
            video, taken = self.videos[row], self.predicted[row]
            lines = [
                f"taken for {self.classes[taken]} ({self.scores[row, taken]:.0%})",
                f"is {self.classes[self.labels[row]]} ({self.scores[row, self.labels[row]]:.0%})",
                name if video.get("start") is None else f"{name} {video['start']:g}-{video['end']:g} s",
            ]
            tiles.append((tile(video["video"], video.get("start"), video.get("end")), lines))
        return contact_sheet(tiles, TILE, COLUMNS, title="The most confident mistakes")

    def _answer(self, row: int) -> dict[str, Any]:
        label, scores = self.labels[row], self.scores[row]
        entry = {**clip_columns(self.videos[row]), "label": self.classes[label]}
        numbers = {name: f"{column[row]:.6f}" for name, column in self.columns.items()}
        if self.predicted[row] < 0:
            blank = {"predicted": "", "score": "", "correct": 0, "rank of label": "", **dict.fromkeys(numbers, "")}
            return entry | blank | {"top-5": "unreadable"}
        order = np.argsort(-scores, kind="stable")
        return entry | {
            "predicted": self.classes[order[0]],
            "score": f"{scores[order[0]]:.6f}",
            "correct": int(order[0] == label),
            "rank of label": int(np.flatnonzero(order == label)[0]) + 1,
            **numbers,
            "top-5": best_answers(scores, self.classes),
        }


def clip_columns(video: Row) -> dict[str, Any]:
    """Return the columns of a table that say which clip a line is of.

    Args:
        video: a row of a list.
    """
    return {"video": video["video"], "start": video.get("start"), "end": video.get("end")}


def best_answers(scores: NDArray[np.float64], classes: Sequence[str], count: int = 5) -> str:
    """Return the best classes with their scores as text, such as "run 0.9000; jump 0.0800".

    Args:
        scores: `(classes,)`.
        classes: names.
        count: at most this many.
    """
    order = np.argsort(-scores, kind="stable")[:count]
    return "; ".join(f"{classes[number]} {scores[number]:.4f}" for number in order)


def draw_confusions(counts: NDArray[np.int64], classes: Sequence[str], path: Path) -> None:
    """Draw a confusion matrix, in fractions of each row.

    Args:
        counts: videos by class (rows) and prediction (columns).
        classes: names.
        path: PNG to write.
    """
    from matplotlib.figure import Figure

    side = min(16.0, 3 + 0.28 * len(classes))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    picture = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(picture, ax=axes, label="fraction of the videos of a class")
    axes.set(xlabel="taken for", ylabel="class")
    if len(classes) <= _NAMED_CLASSES:
        axes.set_xticks(range(len(classes)), classes, rotation=90)
        axes.set_yticks(range(len(classes)), classes)
    if len(classes) <= 20:
        for row, column in np.argwhere(counts > 0):
            color = "white" if shares[row, column] > 0.6 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=color, fontsize="small")
    figure.savefig(path, format="png", dpi=100)
