"""Find the files of videos that a list names by ids, and read lists of ids."""

import csv
import json
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

VIDEO_SUFFIXES = (
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"),
)
"""Suffixes of video files."""


def without_suffix(name: str) -> str:
    """Remove the suffix of a video file, and no other: ids may hold dots."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in VIDEO_SUFFIXES else name


class VideoTree:
    """The video files of a folder and all folders below, by their names without suffix.

    Compressing videos changes the suffixes, and data sets differ in folders: an id is a file's name all the same.

    Args:
        root: the folder; links to folders are followed.
    """

    def __init__(self, root: str | Path):
        self.root = Path(root)

    def find(self, names: Sequence[str]) -> str | None:
        """Return the path, from `root`, of the file of one of these names, with any suffix; None if there is none.

        Raises:
            LookupError: if there are several, naming them.
        """
        for name in dict.fromkeys([*map(without_suffix, names), *names]):
            if len(paths := self._paths.get(name, [])) > 1:
                raise LookupError(f"{len(paths)} files have the name of {name}: {', '.join(sorted(paths)[:3])}")
            if paths:
                return paths[0]
        return None

    @cached_property
    def _paths(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        entered: set[str] = set()
        for folder, inner, files in os.walk(self.root, followlinks=True):
            inner[:] = [name for name in inner if not name.startswith(".")]
            if (real := os.path.realpath(folder)) in entered:  # a link back up
                inner.clear()
                continue
            entered.add(real)
            for file in files:
                stem, suffix = os.path.splitext(file)
                if suffix.lower() in VIDEO_SUFFIXES:
                    found.setdefault(stem, []).append(os.path.relpath(os.path.join(folder, file), self.root))
        return found


def read_ids(path: str | Path) -> list[str]:
    """Read a list of video ids, each once: text with one a line, json with a list, or csv with a column video_id.

    Raises:
        ValueError: if it cannot be read, or is none of these.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read ({error}). Give a list of video ids.") from error
    if path.suffix.lower() == ".json":
        try:
            ids = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is not valid JSON ({error}). Download it again.") from error
    else:
        ids = [line.strip() for line in text.splitlines()]
        header = next(csv.reader(ids[:1]), [])
        if "video_id" in header:
            ids = [row["video_id"] for row in csv.DictReader(text.splitlines())]
    if not isinstance(ids, list) or not ids or not all(isinstance(name, str) and name for name in ids):
        raise ValueError(
            f"{path} is not a list of video ids: expected one a line, a JSON list, or a csv with the column video_id."
        )
    return list(dict.fromkeys(ids))
