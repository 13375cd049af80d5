"""What a model anticipates at each moment: the twelve numbers, scores of each noun, and the challenge's file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from internvideo_hf.tasks.detections import best_and_worst
from internvideo_hf.tasks.protocol import ANSWERS
from internvideo_hf.tasks.short_term_anticipation.annotations import write_predictions
from internvideo_hf.tasks.short_term_anticipation.metrics import InteractionTable, Scores, Scoring, score
from internvideo_hf.utils.files import atomic_directory, write_table

SUBMISSION = "submission.json"
_COLUMNS = ("AP noun", "AP noun+verb", "AP noun+time", "AP")
_WIDTH = 32  # characters of a noun in the text


@dataclass(frozen=True)
class Answers:
    """The interactions that a model anticipates, beside those that happened.

    Args:
        found: with scores, and boxes in pixels of the annotated videos.
        truth: ground truth; None where it is not known.
        uids: of all moments.
        nouns: number of a noun -> its name; those without are named by their numbers.
        scoring: how they are scored.
    """

    found: InteractionTable
    truth: InteractionTable | None
    uids: Sequence[str]
    nouns: Mapping[int, str]
    scoring: Scoring

    @cached_property
    def scored(self) -> Scores | None:
        """The numbers, in percent; None where the truth is not known."""
        return None if self.truth is None else score(self.found, self.truth, self.scoring)

    def scores(self) -> dict[str, float]:
        """Return the numbers of `metrics.SCORES`, in percent; none where the truth is not known."""
        return {} if self.scored is None else dict(self.scored.values)

    def by_noun(self) -> list[dict[str, Any]]:
        """Return the scores of each noun with ground truth, in percent, the best nouns first; or what was found."""
        if self.scored is None or self.truth is None:
            nouns, found = np.unique(self.found.nouns, return_counts=True)
            return [{"class": self._name(noun), "found": int(n)} for noun, n in zip(nouns, found, strict=True)]
        rows = [
            {
                "class": self._name(noun),
                "boxes": int((self.truth.nouns == noun).sum()),
                "found": int((self.found.nouns == noun).sum()),
                **{name: float(value) for name, value in zip(_COLUMNS, values, strict=True)},
            }
            for noun, values in zip(self.scored.nouns, self.scored.by_noun, strict=True)
        ]
        return sorted(rows, key=lambda row: -float(row["AP"]))

    def text(self) -> str:
        """Return the scores of the best and the worst nouns as text: of noun, verb and time together."""
        if self.scored is None:
            return f"{len(self.found)} interactions at {len(self.uids)} moments, of which the true ones are not known."
        return best_and_worst(self.by_noun(), "boxes", _WIDTH)

    def write(self, folder: Path) -> None:
        """Write all of it, atomically.

        Args:
            folder: replaced if it exists. It then holds answers.csv, scores of each noun; submission.json, all
                interactions as the challenge takes them; and summary.txt.
        """
        with atomic_directory(folder) as part:
            write_table(part / ANSWERS, self.by_noun() or [{"class": "", "found": 0}])
            write_predictions(part / SUBMISSION, self.found, self.uids)
            (part / "summary.txt").write_text(f"{self.text()}\n", encoding="utf-8")

    def _name(self, noun: int) -> str:
        return self.nouns.get(int(noun), f"noun {noun}")
