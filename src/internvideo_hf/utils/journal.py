"""Long computations whose rows are kept in part files, so that a restarted run continues where it stopped."""

import json
import time
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from internvideo_hf.utils.files import atomic_write, atomic_write_text, remove_leftovers
from internvideo_hf.utils.storage import AnyPath
from internvideo_hf.utils.transfers import fetched, remove_folder

CHECKPOINT_EVERY_SECONDS = 20.0


class Stopwatch:
    """Tells when the work since the last checkpoint is worth writing.

    Args:
        seconds: between checkpoints; `CHECKPOINT_EVERY_SECONDS` if None.
    """

    def __init__(self, seconds: float | None = None):
        self._seconds = seconds
        self._since = time.monotonic()

    def is_due(self) -> bool:
        """Return whether the interval is over; if so, the next one starts."""
        # Read at each call: tests set the module's value.
        seconds = CHECKPOINT_EVERY_SECONDS if self._seconds is None else self._seconds
        if time.monotonic() - self._since < seconds:
            return False
        self._since = time.monotonic()
        return True


class Journal:
    """Rows of one or more tensors, appended in order and written to part files from time to time.

    A part `NNNNNNNNN.safetensors` starts at row N; `NNNNNNNNN.json` beside it holds the notes of its rows. Files are
    written atomically, the notes first, so that every row on disk has its notes.

    Args:
        directory: of the parts; created if missing. None keeps everything in memory.
        seconds: between writes; `CHECKPOINT_EVERY_SECONDS` if None.

    Attributes:
        notes: JSON values by key, of all rows so far, such as why a video failed.
    """

    def __init__(self, directory: AnyPath | None, seconds: float | None = None):
        self.directory = directory
        self.notes: dict[str, Any] = {}
        self._parts: list[dict[str, torch.Tensor]] = []
        self._waiting: list[dict[str, torch.Tensor]] = []
        self._new_notes: dict[str, Any] = {}
        self._stopwatch = Stopwatch(seconds)
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            remove_leftovers(directory)
            files: list[AnyPath] = [*directory.glob("[0-9]*.*")]
            files.sort(key=str)
            parts = {part.stem: part for part in files if part.suffix == ".safetensors"}
            for part in parts.values():
                with fetched(part) as file:
                    self._parts.append(load_file(file))
            for notes in files:
                if notes.suffix == ".json" and notes.stem in parts:  # else a kill came between the two
                    self.notes |= json.loads(notes.read_text(encoding="utf-8"))
        self._written = sum(map(_rows, self._parts))

    def __len__(self) -> int:
        """Return the number of rows so far, those in memory included."""
        return self._written + sum(map(_rows, self._waiting))

    def append(self, rows: Mapping[str, torch.Tensor], notes: Mapping[str, Any] | None = None) -> None:
        """Add rows, and write a part if the interval is over.

        Args:
            rows: tensors by name, `(rows, ...)` each, on the CPU.
            notes: JSON values by key.
        """
        self._waiting.append(dict(rows))
        self._new_notes |= notes or {}
        self.notes |= notes or {}
        if self._stopwatch.is_due():
            self.write()

    def write(self) -> None:
        """Write the rows in memory as a part."""
        if self.directory is None or not self._waiting:
            return
        part, name = _concatenate(self._waiting), f"{self._written:09d}"
        if self._new_notes:
            atomic_write_text(self.directory / f"{name}.json", json.dumps(self._new_notes, ensure_ascii=False))
        atomic_write(self.directory / f"{name}.safetensors", lambda file: save_file(part, file))
        self._parts.append(part)
        self._written += _rows(part)
        self._waiting, self._new_notes = [], {}

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return all rows, `(rows, ...)` by name; empty without rows."""
        return _concatenate([*self._parts, *self._waiting])


def delete_parts(directory: AnyPath | None) -> None:
    """Delete the parts of a journal, or of several: the result stands elsewhere.

    Args:
        directory: the journal's, or one above; None where nothing was kept.
    """
    if directory is not None:
        remove_folder(directory)


def _rows(part: Mapping[str, torch.Tensor]) -> int:
    return len(next(iter(part.values())))


def _concatenate(parts: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]} if parts else {}
