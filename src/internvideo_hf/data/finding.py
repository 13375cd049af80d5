"""Videos that a list names by an id: which ids are meant, and where their files are."""

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
"""What files in a folder are taken for videos."""


def without_suffix(name: str) -> str:
    """A file's name without its ending, where that is a video's: ids may hold dots."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in VIDEO_SUFFIXES else name


class VideoTree:
    """The video files of a folder and all folders below, by their names without endings.

    Compressing videos changes the endings, and data sets differ in folders: an id is a file's name all the same.

    Args:
        root: the folder; links to folders are followed.
    """

    def __init__(self, root: str | Path):
        self.root = Path(root)

    def find(self, names: Sequence[str]) -> str | None:
        """The path, from `root`, of the file of one of these names, whatever its ending; None where there is none.

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
        entered = set()
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
    """Read a list of videos' ids, each once: text with one a line, json with a list, or csv with a column video_id.

    Raises:
        ValueError: if it cannot be read, or is none of these.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read ({error}). Give a list of videos' ids.") from error
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
            f"{path} is no list of videos' ids: expected one a line, a JSON list, or a csv with the column video_id."
        )
    return list(dict.fromkeys(ids))
