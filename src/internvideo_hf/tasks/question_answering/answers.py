"""What a model answered to each question: both accuracies, per kind of question, frequent mistakes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from internvideo_hf.models.common.losses import IGNORED
from internvideo_hf.tasks.protocol import ANSWERS
from internvideo_hf.utils.files import atomic_directory, write_table

OF_KNOWN = "top-1 of known answers"
"""The score as the original counts: questions whose answer is not in the list are left out. In "top-1", as everybody
else counts, they are wrong."""
KEPT = 5
"""Answers to a question that are kept, the best first."""
_LISTED = 10  # kinds of questions and mistakes in the text


def both_accuracies(right: NDArray[np.bool_], listed: NDArray[np.bool_]) -> dict[str, float]:
    """Return the accuracy in percent, counted both ways; `OF_KNOWN` is missing where no answer is in the list.

    Args:
        right: whether the best answer is the right one, `(questions,)`.
        listed: whether the right one is in the list, `(questions,)`.
    """
    found = {"top-1": 100 * right.mean().item()}
    return found | ({OF_KNOWN: 100 * right[listed].mean().item()} if listed.any() else {})


@dataclass(frozen=True)
class Answers:
    """The answers of a model to a list of questions.

    Args:
        questions: `video`, `question` and the right `answer` of each.
        labels: number of the right answer, `(questions,)`; `IGNORED` where the list of answers lacks it.
        best: numbers of the best answers, at most `KEPT`, the best first, `(questions, k)`; -1 for a video that could
            not be read, which counts as wrong.
        scores: their probabilities, `(questions, k)`.
        classes: the answers, in the order of their numbers.
    """

    questions: Sequence[Mapping[str, Any]]
    labels: NDArray[np.int64]
    best: NDArray[np.int64]
    scores: NDArray[np.float64]
    classes: Sequence[str]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the best answer is the right one, `(questions,)`."""
        return np.asarray((self.best[:, 0] == self.labels) & (self.labels != IGNORED))

    def by_kind(self) -> list[dict[str, Any]]:
        """Return, for each first word of a question, the frequent ones first: `questions` and both accuracies."""
        words = np.array([str(row["question"]).split()[0].lower().rstrip("?,.'") for row in self.questions])
        found = []
        for word, count in Counter(words.tolist()).most_common():
            right, listed = self.right[words == word], self.labels[words == word] != IGNORED
            found.append({"kind": word, "questions": count, **both_accuracies(right, listed)})
        return found

    def mistakes(self) -> list[tuple[str, str, int]]:
        """Return right answers with wrong ones given in their place, and how often; the frequent ones first."""
        wrong = np.flatnonzero(~self.right & (self.best[:, 0] >= 0)).tolist()
        pairs = Counter((str(self.questions[row]["answer"]), self.classes[self.best[row, 0]]) for row in wrong)
        return [(answer, given, count) for (answer, given), count in pairs.most_common()]

    def text(self) -> str:
        """Return accuracies per kind of question, and the most frequent mistakes, as text."""
        lines = [f"{'kind':12} {'questions':>9} {'top-1':>7}  {OF_KNOWN}"]
        for row in self.by_kind()[:_LISTED]:
            known = f"{row[OF_KNOWN]:.2f}" if OF_KNOWN in row else "-"
            lines.append(f"{row['kind'][:12]:12} {row['questions']:9d} {row['top-1']:7.2f}  {known:>{len(OF_KNOWN)}}")
        lines += ["", "right answer: given answer (how often)"]
        lines += [f"{answer}: {given} ({count})" for answer, given, count in self.mistakes()[:_LISTED]]
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """Write all of it, atomically.

        Args:
            folder: replaced if it exists. It then holds answers.csv, a line for each question; by_kind.csv;
                mistakes.csv; and summary.txt.
        """
        with atomic_directory(folder) as part:
            write_table(part / ANSWERS, [self._answer(row) for row in range(len(self.questions))])
            kinds = self.by_kind()
            write_table(part / "by_kind.csv", [{**row, OF_KNOWN: row.get(OF_KNOWN, "")} for row in kinds])
            mistakes = [dict(zip(("answer", "given", "count"), entry, strict=True)) for entry in self.mistakes()]
            write_table(part / "mistakes.csv", mistakes or [{"answer": "", "given": "", "count": 0}])
            (part / "summary.txt").write_text(f"{self.text()}\n", encoding="utf-8")

    def _answer(self, row: int) -> dict[str, Any]:
        question, best, scores = self.questions[row], self.best[row], self.scores[row]
        entry = {name: question[name] for name in ("video", "question", "answer")}
        entry["known"] = int(self.labels[row] != IGNORED)
        if best[0] < 0:
            return entry | {"given": "", "score": "", "correct": 0, "best": "unreadable"}
        named = [f"{self.classes[number]} {score:.4f}" for number, score in zip(best, scores, strict=True)]
        return entry | {
            "given": self.classes[best[0]],
            "score": f"{scores[0]:.6f}",
            "correct": int(self.right[row]),
            "best": "; ".join(named),
        }
