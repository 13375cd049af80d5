"""Find the videos of folders, find those that a list names by ids, and read lists of ids."""

import csv
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from internvideo_hf.utils.names import reason_of
from internvideo_hf.utils.storage import StoragePath, as_path

VIDEO_SUFFIXES = (
    *(".264", ".265", ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".h264", ".h265"),
    *(".hevc", ".ivf", ".m1v", ".m2t", ".m2ts", ".m2v", ".m4v", ".mj2", ".mjpeg", ".mjpg", ".mk3d", ".mkv", ".mov"),
    *(".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".obu", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".ts"),
    *(".vob", ".webm", ".wmv", ".wtv", ".y4m"),
)
"""Suffixes of video files."""
_KINDS_NAMED = 5  # kinds of files that the line about those left out names


@dataclass
class Listing:
    """The videos of a folder and all folders below.

    Attributes:
        videos: paths, each begins with that of the folder; sorted.
        left_out: number of entries by kind: "hidden", a suffix, "unreadable folder".
    """

    videos: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def list_folder(root: str | Path | StoragePath) -> Listing:
    """List the videos of a folder and all folders below.

    Links to folders are followed, except those to a folder above. Each folder is entered once, under its own path
    rather than a link's. Hidden files and folders, such as trash and the `._*` of macOS, are left out.

    Args:
        root: the folder, also of an object store.

    Raises:
        OSError: if a store cannot be asked.
    """
    stored = as_path(root)
    if isinstance(stored, StoragePath):
        return _list_stored(stored)
    listing, entered, waiting = Listing(), set(), [os.fspath(root)]

    def count_unreadable(error: OSError) -> None:
        listing.left_out["unreadable folder"] += 1

    while waiting:
        links = []
        for folder, inner, files in os.walk(waiting.pop(0), onerror=count_unreadable):
            if (real := os.path.realpath(folder)) in entered:  # a link back up, or a second one
                inner.clear()
                continue
            entered.add(real)
            shown = [name for name in inner if not name.startswith(".")]
            listing.left_out["hidden"] += len(inner) - len(shown)
            inner[:] = shown
            links += [path for name in shown if _leads_elsewhere(path := os.path.join(folder, name), real)]
            for file in files:
                suffix = os.path.splitext(file)[1].lower()
                if file.startswith("."):
                    listing.left_out["hidden"] += 1
                elif suffix in VIDEO_SUFFIXES:
                    listing.videos.append(os.path.join(folder, file))
                else:
                    listing.left_out[suffix or "without suffix"] += 1
        waiting += sorted(links)
    listing.videos.sort()
    return listing


def _list_stored(root: StoragePath) -> Listing:
    listing = Listing()
    for path in root.files():
        suffix = os.path.splitext(path)[1].lower()
        if any(part.startswith(".") for part in path.split("/")):
            listing.left_out["hidden"] += 1
        elif suffix in VIDEO_SUFFIXES:
            listing.videos.append(f"{root}/{path}")
        else:
            listing.left_out[suffix or "without suffix"] += 1
    return listing


def _leads_elsewhere(path: str, folder: str) -> bool:
    """Return whether a folder is a link to another place than its real folder and those above, which is a loop."""
    return os.path.islink(path) and not os.path.join(folder, "").startswith(os.path.join(os.path.realpath(path), ""))


def left_out_line(left_out: Counter[str]) -> str:
    """Return one line about the entries of folders that are no videos; empty without any.

    Args:
        left_out: number of entries by kind, as in `Listing`.
    """
    by_count = sorted(left_out.items(), key=lambda kind: (-kind[1], kind[0]))
    kinds = [f"{count:,} {kind}" for kind, count in by_count if count]
    if not kinds:
        return ""
    more = f", {len(kinds) - _KINDS_NAMED} other kinds" if len(kinds) > _KINDS_NAMED else ""
    entries = "1 file or folder" if left_out.total() == 1 else f"{left_out.total():,} files and folders"
    return f"Left out {entries}: {', '.join(kinds[:_KINDS_NAMED])}{more}."


def without_suffix(name: str) -> str:
    """Remove the suffix of a video file, and no other: ids may hold dots."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in VIDEO_SUFFIXES else name


class VideoTree:
    """The video files of a folder and all folders below, see `list_folder`, by their names without suffix.

    Compressing videos changes the suffixes, and data sets differ in folders: an id is a file's name all the same.

    Args:
        root: the folder.
    """

    def __init__(self, root: str | Path | StoragePath):
        self.root = as_path(root)

    def find(self, names: Sequence[str]) -> str | None:
        """Return the path, from `root`, of the file of one of these names, with any suffix; None if there is none.

        Raises:
            LookupError: if there are several, naming them.
        """
        for name in dict.fromkeys([*map(without_suffix, names), *names]):
            paths = self._paths.get(name, [])
            # Beside a video, an animated picture is its preview.
            paths = [path for path in paths if not path.lower().endswith(".gif")] or paths
            if len(paths) > 1:
                raise LookupError(f"{len(paths)} files have the name of {name}: {', '.join(sorted(paths)[:3])}")
            if paths:
                return paths[0]
        return None

    @cached_property
    def _paths(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for path in list_folder(self.root).videos:
            stem = os.path.splitext(os.path.basename(path))[0]
            below = path.removeprefix(f"{self.root}/") if isinstance(self.root, StoragePath) else None
            found.setdefault(stem, []).append(below or os.path.relpath(path, self.root))
        return found


def read_ids(path: str | Path | StoragePath) -> list[str]:
    """Read a list of video ids, each once: text with one a line, json with a list, or csv with a column video_id.

    Raises:
        ValueError: if it cannot be read, or is none of these.
    """
    path = as_path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read ({reason_of(error)}). Give a list of video ids.") from error
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


def video_id(video: str) -> str:
    """Return the id of a video in data sets: its file name without the ending of videos."""
    path = Path(video)
    return path.stem if path.suffix.lower() in VIDEO_SUFFIXES else path.name


def distinct_ids(names: Sequence[str]) -> list[str]:
    """Return the id of each video in a list, or its name where another one has the same id.

    Args:
        names: of the videos, all different.
    """
    ids = [video_id(name) for name in names]
    shared = Counter(ids)
    return [name if shared[own] > 1 else own for name, own in zip(names, ids, strict=True)]
