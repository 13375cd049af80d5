"""An answerer of files that hold numbers, importable by spawned processes."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from internvideo_hf.inference.answering import Question
from internvideo_hf.inference.rows import Loader


class Adder:
    """Adds a number to that of a file."""

    def __init__(self, name: str, *, device: str | None, plus: int, decodes_apart: bool):
        self.plus, self.decodes_apart = plus, decodes_apart

    def reader(self) -> Callable[[str], Any] | None:
        return read if self.decodes_apart else None

    def answer(self, video: str, inputs: Any) -> dict[str, Any]:
        return {"number": self.plus + (read(video) if inputs is None else inputs)}


def read(video: str) -> int:
    """Return the number of a file; 666 kills the process."""
    number = int(Path(video).read_text())
    if number == 666:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def question(model: Path, decodes_apart: bool = True, plus: int = 10) -> Question:
    """Return what adds a number."""
    loader = Loader(Adder, str(model), (("plus", plus), ("decodes_apart", decodes_apart)))
    return Question(loader, (str(model),), (), decodes_apart)
