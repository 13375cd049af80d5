"""Where a model expects hands, clip by clip: displacements, and the predictions file of Ego4D's challenge."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from internvideo_hf.models.common.hand_prediction import HAND_LABELS, HAND_TIMES
from internvideo_hf.tasks.hand_prediction.annotations import write_predictions
from internvideo_hf.tasks.hand_prediction.metrics import HANDS, displacement_scores, displacements
from internvideo_hf.tasks.protocol import ANSWERS
from internvideo_hf.utils.files import atomic_directory, write_table

PREDICTIONS = "predictions.json"
_LISTED = 10  # clips in the text


@dataclass(frozen=True)
class Answers:
    """Predicted hands beside the true ones, in pixels of the videos.

    Args:
        names: of the clips, as the challenge knows them.
        predictions: `(clips, 20)`; NaN for an unreadable clip, 0 for a hand that the model does not predict.
        labels: `(clips, 20)`; 0 where a hand is unknown.
    """

    names: Sequence[str]
    predictions: NDArray[np.float64]
    labels: NDArray[np.float64]

    def scores(self) -> dict[str, float]:
        """Return Ego4D's four scores in pixels, smaller ones are better; none of clips without annotations."""
        return displacement_scores(self.predictions, self.labels)

    def by_moment(self) -> list[dict[str, Any]]:
        """Return for each moment the mean displacement of each hand in pixels, and over how many clips."""
        found, rows = displacements(self.predictions, self.labels), []
        for time, moment in enumerate(HAND_TIMES):
            row: dict[str, Any] = {"moment": moment}
            for hand, side in enumerate(HANDS):
                known = found[:, time, hand][~np.isnan(found[:, time, hand])]
                row |= {f"{side} clips": len(known), f"{side} displacement": known.mean() if len(known) else None}
            rows.append(row)
        return rows

    def text(self) -> str:
        """Return the displacement at each moment, and the clips with the largest, as text."""
        lines = [f"{'moment':16}" + "".join(f"{f'{side}, pixels':>15}{'clips':>8}" for side in HANDS)]
        for row in self.by_moment():
            numbers = [(row[f"{side} displacement"], row[f"{side} clips"]) for side in HANDS]
            cells = "".join(f"{'-' if mean is None else f'{mean:.2f}':>15}{clips:8d}" for mean, clips in numbers)
            lines.append(f"{row['moment']:16}{cells}")
        means = self._means()
        worst = np.argsort(-np.nan_to_num(means, nan=-1.0), kind="stable")[:_LISTED]
        lines += ["", "the largest mean displacements"]
        lines += [f"{means[number]:8.2f}  {self.names[number]}" for number in worst if not np.isnan(means[number])]
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """Write all of it, atomically.

        Args:
            folder: replaced if it exists. It then holds answers.csv, a line for each clip with its mean displacement
                and the coordinates; by_moment.csv; predictions.json, which is the challenge's file but for those
                clips that could not be read; and summary.txt.
        """
        with atomic_directory(folder) as part:
            means = self._means()
            write_table(part / ANSWERS, [self._answer(number, means[number]) for number in range(len(self.names))])
            write_table(part / "by_moment.csv", self.by_moment())
            write_predictions(part / PREDICTIONS, self.names, self.predictions)
            (part / "summary.txt").write_text(f"{self.text()}\n", encoding="utf-8")

    def _means(self) -> NDArray[np.float64]:
        """Return the mean displacement of each clip over its known points, NaN without any, `(clips,)`."""
        found = displacements(self.predictions, self.labels).reshape(len(self.names), -1)
        known = ~np.isnan(found)
        return np.where(known.any(axis=1), np.where(known, found, 0).sum(axis=1) / known.sum(axis=1).clip(1), np.nan)

    def _answer(self, number: int, mean: float) -> dict[str, Any]:
        predicted, true = self.predictions[number], self.labels[number]
        entry: dict[str, Any] = {"clip": self.names[number], "displacement": "" if np.isnan(mean) else f"{mean:.3f}"}
        is_known = np.repeat((true.reshape(-1, 2) != 0).any(axis=1), 2)
        for name, found, wanted, known in zip(HAND_LABELS, predicted, true, is_known, strict=True):
            entry[name] = f"{wanted:.2f}" if known else ""
            entry[f"{name} predicted"] = "unreadable" if np.isnan(found) else f"{found:.2f}"
        return entry
