"""What a model answered to each sentence: recall, constant answers beside it, a file to submit."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from internvideo_hf.tasks.detections import overlap_in_time
from internvideo_hf.tasks.protocol import ANSWERS
from internvideo_hf.tasks.temporal_grounding.metrics import constant_stretch, recalls
from internvideo_hf.tasks.temporal_grounding.predictions import PREDICTIONS, to_predictions
from internvideo_hf.tasks.temporal_grounding.queries import Query
from internvideo_hf.utils.files import atomic_directory, write_table


@dataclass(frozen=True)
class Answers:
    """The answers to queries.

    Args:
        queries: all that were asked.
        found: of each, `(n, 3)`: start and end in seconds and score, the best first; None where there is no answer,
            such as of a video without features.
        thresholds: overlaps, 0-1.
        ranks: numbers of answers.
        durations: of each query's video in seconds; NaN if unknown. None: all are unknown.
        as_published: leave out queries without an answer, as Ego4D's evaluation does, instead of counting them as
            wrong.
    """

    queries: Sequence[Query]
    found: Sequence[NDArray[np.float64] | None]
    thresholds: Sequence[float]
    ranks: Sequence[int]
    durations: Sequence[float] | None = None
    as_published: bool = False

    def scores(self) -> dict[str, float]:
        """Return the recalls in percent, see `metrics.recalls`; none where no stretch is known, as in a test set."""
        rows = self._scored()
        return self._recalls([self._times(row) for row in rows], rows) if rows else {}

    def _scored(self) -> list[int]:
        return [
            row
            for row, (query, own) in enumerate(zip(self.queries, self.found, strict=True))
            if query.end is not None and not (self.as_published and own is None)
        ]

    def _times(self, row: int) -> NDArray[np.float64]:
        own = self.found[row]
        return np.zeros((0, 2)) if own is None else own[:, :2]

    def _truth(self, rows: Sequence[int]) -> NDArray[np.float64]:
        return np.array([[self.queries[row].start, self.queries[row].end] for row in rows], dtype=np.float64)

    def _recalls(self, answers: Sequence[NDArray[np.float64]], rows: Sequence[int]) -> dict[str, float]:
        return recalls(answers, self._truth(rows), self.thresholds, self.ranks)

    def constants(self) -> dict[str, dict[str, float]]:
        """Return the recalls of answers that do not look at the video; none where durations are unknown.

        Returns:
            By name: the whole video, and the stretch that is best as the answer to all these queries.
        """
        durations = np.full(len(self.queries), np.nan) if self.durations is None else np.asarray(self.durations)
        rows = [row for row in self._scored() if np.isfinite(durations[row])]
        if not rows:
            return {}
        own = durations[rows]
        best = constant_stretch(self._truth(rows), own, max(self.thresholds))
        fractions = {"whole video": (0.0, 1.0), f"{best[0]:.0%} to {best[1]:.0%} of it": best}
        return {
            name: self._recalls([np.array([fraction]) * duration for duration in own], rows)
            for name, fraction in fractions.items()
        }

    def text(self) -> str:
        """Return the recalls beside those of constant answers as text."""
        asked = f"{len(self.queries)} queries of {len({query.video for query in self.queries})} videos"
        scores = self.scores()
        if not scores:
            return f"{asked}, whose stretches are unknown: nothing is scored. {PREDICTIONS} has the answers."
        lines = [f"{asked}, {sum(own is None for own in self.found)} without an answer.", ""]
        lines.append(f"{'always the same answer':30}" + "".join(f"{name:>9}" for name in scores))
        for name, numbers in self.constants().items():
            lines.append(f"{name:30}" + "".join(f"{numbers[key]:9.2f}" for key in scores))
        lines.append(f"{'the answers':30}" + "".join(f"{number:9.2f}" for number in scores.values()))
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """Write all of it, atomically.

        Args:
            folder: replaced if it exists. It then holds answers.csv, a line for each answer, the best of a query
                first; predictions.json, of Ego4D the file of its challenge; and summary.txt.
        """
        answers = [np.zeros((0, 3)) if own is None else own for own in self.found]
        empty = dict.fromkeys(("video", "query", "start", "end", "score"), "")
        with atomic_directory(folder) as part:
            write_table(part / ANSWERS, self._lines() or [empty])
            (part / PREDICTIONS).write_text(to_predictions(self.queries, answers), encoding="utf-8")
            (part / "summary.txt").write_text(f"{self.text()}\n", encoding="utf-8")

    def _lines(self) -> list[dict[str, Any]]:
        lines = []
        for query, own in zip(self.queries, self.found, strict=True):
            for rank, (start, end, score) in enumerate(np.zeros((0, 3)) if own is None else own, 1):
                line: dict[str, Any] = {
                    "video": query.video,
                    "query": query.text,
                    "annotation": query.annotation or "",
                }
                line |= {"rank": rank, "start": f"{start:.3f}", "end": f"{end:.3f}", "score": f"{score:.6f}"}
                truth = dict.fromkeys(("true_start", "true_end", "overlap"), "")
                if query.start is not None and query.end is not None:
                    overlap = overlap_in_time(np.array([start, end]), np.array([query.start, query.end]))
                    numbers = f"{query.start:.3f}", f"{query.end:.3f}", f"{overlap:.4f}"
                    truth = dict(zip(truth, numbers, strict=True))
                lines.append({**line, **truth})
        return lines
