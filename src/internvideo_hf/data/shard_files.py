"""Which files a list of videos is made of: the shards of folders and patterns, and the splits that they belong to."""

import json
import math
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from internvideo_hf.data.finding import list_folder
from internvideo_hf.utils.storage import AnyPath

SHARD_SUFFIXES = (".parquet", ".tar", ".arrow")
"""Suffixes of files that a folder may hold in place of videos; those of one kind are read, the first that it has."""
SPLITS = (
    ("train", "training"),
    ("val", "valid", "validation", "validate", "dev"),
    ("test", "testing", "eval", "evaluation"),
)
"""Names of the lists or folders of each split, without suffix; those of `datasets`, and Kinetics' "validate"."""
SPLIT_NAMES = {name for names in SPLITS for name in names}
_PATTERN = re.compile(r"[*?\[]")
_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")  # others are letters of the name, as in a shell
_MOST_EXPANDED = 1_000_000
_NAMED_SHARD = re.compile(r"([A-Za-z]+)[-_.]")


def is_pattern(path: AnyPath) -> bool:
    """Return whether a path names several files: by `*`, `?`, `[...]`, or braces such as `{000..031}` and `{a,b}`.

    Args:
        path: only its name counts.
    """
    return bool(_PATTERN.search(path.name) or _BRACES.search(path.name)) and not (
        isinstance(path, Path) and path.exists()
    )


def shards_of(path: AnyPath) -> list[AnyPath]:
    """Return the files that a list is made of.

    Args:
        path: a pattern, see `is_pattern`; or a folder: of shards without videos, also in its folder `data`, as in a
            repository of the Hub, or one that `save_to_disk` wrote.

    Returns:
        In the order of their names; none where the path is anything else. Files that braces name need not exist.

    Raises:
        ValueError: if braces name more than a million files.
    """
    if is_pattern(path):
        if math.prod(map(_count, _BRACES.finditer(path.name))) > _MOST_EXPANDED:
            raise ValueError(
                f"{path}: its braces name more than {_MOST_EXPANDED:,} files. Name fewer, such as by `*` for braces."
            )
        named = [path.with_name(name) for name in _expanded(path.name)]
        return [
            file
            for one in named
            for file in (_sorted(one.parent.glob(one.name)) if _PATTERN.search(one.name) else [one])
        ]
    if isinstance(path, Path) and not path.is_dir():
        return []
    entries = _sorted(path.iterdir())
    names = {entry.name for entry in entries}
    if "dataset_dict.json" in names:
        splits = _entries_in(path / "dataset_dict.json", "splits")
        return [file for name in splits if (path / name).is_dir() for file in shards_of(path / name)]
    if "state.json" in names and (listed := _entries_in(path / "state.json", "_data_files")):
        return [path / name for name in listed]
    files = _of_one_kind(entries)
    if not files and "data" in names and (path / "data").is_dir():
        files = _of_one_kind(_sorted((path / "data").iterdir()))
    return files if files and not list_folder(path).videos else []


def _sorted(paths: Iterable[AnyPath]) -> list[AnyPath]:
    return sorted(paths, key=str)


def _entries_in(file: AnyPath, key: str) -> list[str]:
    """Return the names in a file of `save_to_disk`, which are those of entries beside it."""
    with suppress(OSError, ValueError, RecursionError, TypeError, KeyError):
        entries = json.loads(file.read_text(encoding="utf-8"))[key]
        names = [entry["filename"] if isinstance(entry, dict) else entry for entry in entries]
        return [name for name in names if isinstance(name, str) and name not in ("", "..") and Path(name).name == name]
    return []


def _of_one_kind(entries: Iterable[AnyPath]) -> list[AnyPath]:
    by_kind = {suffix: [e for e in entries if e.suffix.lower() == suffix] for suffix in SHARD_SUFFIXES}
    return next(filter(None, by_kind.values()), [])


def _count(braces: re.Match[str]) -> int:
    """Return how many names braces stand for."""
    first, last, entries = braces.groups()
    return abs(int(last) - int(first)) + 1 if entries is None else entries.count(",") + 1


def _expanded(name: str) -> Iterator[str]:
    """Yield the names that one with braces stands for."""
    found = _BRACES.search(name)
    if found is None:
        yield name
        return
    first, last, entries = found.groups()
    parts: Iterable[str] = entries.split(",") if entries is not None else _numbers(first, last)
    for part in parts:
        yield from _expanded(f"{name[: found.start()]}{part}{name[found.end() :]}")


def _numbers(first: str, last: str) -> Iterator[str]:
    """Yield the numbers from one to another, also downwards, as wide as the first is written."""
    begin, end = int(first), int(last)
    step = 1 if begin <= end else -1
    return (f"{number:0{len(first)}d}" for number in range(begin, end + step, step))


def split_of(shard: AnyPath) -> str | None:
    """Return the name of the split that a shard belongs to, by its own name or that of its folder; None for none.

    Args:
        shard: such as `data/train-00000-of-00002.parquet` or `train/data-00000-of-00001.arrow`.
    """
    named = _NAMED_SHARD.match(shard.name)
    return next((name for name in (named[1] if named else "", shard.parent.name) if name.lower() in SPLIT_NAMES), None)


def find_split(folder: AnyPath, names: tuple[str, ...]) -> list[AnyPath]:
    """Return patterns of the shards of a split, such as `train-*.parquet`, in a folder or in `data` below it.

    Args:
        folder: of a data set.
        names: of the split, see `SPLITS`.
    """
    for place in (folder, folder / "data"):
        if not place.is_dir():
            continue
        found = {
            place / f"{named[0]}*{entry.suffix}"
            for entry in place.iterdir()
            if entry.suffix.lower() in SHARD_SUFFIXES
            and (named := _NAMED_SHARD.match(entry.stem))
            and named[1].lower() in names
        }
        if found:
            return _sorted(found)
    return []
