"""What an agent did in each episode: its metrics, and predictions for the challenge."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from internvideo_hf.tasks.navigation.metrics import by_episode, mean_scores
from internvideo_hf.tasks.navigation.paths import RecordedPath, write_challenge
from internvideo_hf.tasks.protocol import ANSWERS
from internvideo_hf.utils.files import atomic_directory, write_table

PREDICTIONS = "predictions.json"
_LISTED = 10  # episodes in the text


@dataclass(frozen=True)
class Answers:
    """The paths of all episodes.

    Args:
        paths: with distances to the goal, and with reference paths.
    """

    paths: Sequence[RecordedPath]

    def scores(self) -> dict[str, float]:
        """Return the means over episodes."""
        return mean_scores(self.paths)

    def text(self) -> str:
        """Return the episodes that ended furthest from their goals as text."""
        rows = by_episode(self.paths)
        lines = [f"{'episode':24} {'SR':>5} {'NE':>7} {'PL':>7} {'nDTW':>6}"]
        lines += [
            f"{row['episode']!s:24.24} {row['SR']:5.0f} {row['NE']:7.2f} {row['PL']:7.2f} {row['nDTW']:6.1f}"
            for row in rows[:_LISTED]
        ]
        if len(rows) > _LISTED:
            lines.append(f"The {_LISTED} that ended furthest from their goals, of {len(rows)} episodes.")
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """Write all of it, atomically.

        Args:
            folder: replaced if it exists. It then holds answers.csv, the metrics of each episode; summary.txt; and,
                where all paths have headings, predictions.json for the VLN-CE challenge.
        """
        with atomic_directory(folder) as part:
            write_table(part / ANSWERS, by_episode(self.paths))
            if all(path.headings is not None for path in self.paths):
                write_challenge(part / PREDICTIONS, self.paths)
            (part / "summary.txt").write_text(f"{self.text()}\n", encoding="utf-8")
