"""The captions that a model wrote, beside those of people."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from internvideo_hf.tasks.protocol import ANSWERS
from internvideo_hf.utils.files import atomic_directory, write_table

_LISTED = 10  # captions in the text


@dataclass(frozen=True)
class Captions:
    """Captions of the videos of a list.

    Args:
        videos: names.
        captions: the model's; empty for a video that could not be read.
        references: those of people, one or several for each video.
    """

    videos: Sequence[str]
    captions: Sequence[str]
    references: Sequence[Sequence[str]]

    def text(self) -> str:
        """Return the first captions, each with a reference, as text."""
        rows = zip(self.videos[:_LISTED], self.captions, self.references, strict=False)
        return "\n".join(f"{Path(video).name}: {caption!r}, expected {texts[0]!r}" for video, caption, texts in rows)

    def write(self, folder: Path) -> None:
        """Write all of it, atomically.

        Args:
            folder: replaced if it exists. It then holds answers.csv, a line for each video and reference; and
                summary.txt.
        """
        rows = [
            {"video": video, "caption": caption, "reference": text}
            for video, caption, texts in zip(self.videos, self.captions, self.references, strict=True)
            for text in texts
        ]
        with atomic_directory(folder) as part:
            write_table(part / ANSWERS, rows)
            (part / "summary.txt").write_text(f"{self.text()}\n", encoding="utf-8")
