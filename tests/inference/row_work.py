"""A model that adds to numbers, importable by spawned processes."""

import os
import signal
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from internvideo_hf import InternVideoMAEConfig
from internvideo_hf.data.executors.local import LocalEngine
from internvideo_hf.inference.rows import Loader, Work, of_views
from internvideo_hf.video.errors import VideoDecodeError


class Adder:
    """Adds a number; `model` is what a revision is told by."""

    def __init__(self, name: str, device: Any = None, number: int = 0):
        self.number, self.name = number, name
        self.model = type("Model", (), {"config": InternVideoMAEConfig()})()


def read_number(row: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the views of a file that holds a number; 666 kills the process, and 777 never ends."""
    number = int(Path(row["video"]).read_text())
    if number == 666:
        os.kill(os.getpid(), signal.SIGKILL)
    while number == 777:
        time.sleep(0.1)
    if number < 0:
        raise ValueError(f"{number} is negative. Take its absolute value.")
    return {"pixel_values_videos": torch.full((1, 1 + number % 2), float(number))}  # of two shapes


def add(adder: Adder, views: dict[str, torch.Tensor], mark: Path | None = None) -> dict[str, torch.Tensor]:
    """Return the sums of numbers, and how many were added at once; the first 13 kills the worker."""
    numbers = views["pixel_values_videos"][:, 0, 0]
    if mark is not None and 13 in numbers and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"sum": numbers.double() + adder.number, "at_once": torch.full((len(numbers),), len(numbers))}


def work(folder: Path, mark: Path | None = None) -> Work[Adder]:
    """Return what the adder does."""
    loader = Loader(Adder, str(folder), (("number", 100),), "model")
    return Work(read_number, partial(of_views, compute=partial(add, mark=mark)), loader, blanks={"at_once": -1})


def two_workers() -> LocalEngine:
    """Two workers on this machine."""
    return LocalEngine(("cpu", "cpu"), jobs=2)


def read_several(rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return the number of the file of rows, and how many are read; of several rows of 2, the first fails."""
    number = float(Path(rows[0]["video"]).read_text())
    found: list[Any] = [{"number": torch.tensor(number), "reads": torch.tensor(len(rows))} for _ in rows]
    if number == 2 and len(rows) == 2:
        found[0] = VideoDecodeError(rows[0]["video"], "it is the first of several", "Read it alone.")
    return found


def add_each(adder: Adder, batch: Sequence[tuple[Mapping[str, Any], Any]]) -> dict[str, torch.Tensor]:
    """Return the sums of each row, and how many rows were read with it."""
    sums = [own["number"] + torch.tensor(row["add"]) for row, own in batch]
    reads = [own["reads"].repeat(len(row["add"])) for row, own in batch]
    return {"sum": torch.cat(sums), "reads": torch.cat(reads)}


def count(row: Mapping[str, Any]) -> int:
    """Return how many numbers are added to that of the file."""
    return len(row["add"])


def several(folder: Path) -> Work[Adder]:
    """Return what adds several numbers to that of a file, whose rows are read together."""
    loader = Loader(Adder, str(folder), (), "model")
    return Work(read_several, add_each, loader, blanks={"reads": 0}, entries=count, together=True)
