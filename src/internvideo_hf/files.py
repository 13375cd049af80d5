"""Files that are there whole or not at all, and what tells one from another."""

import hashlib
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under another name first, so that it is there whole or not at all.

    Args:
        path: the file.
        write: writes it, given the name for the time being, which keeps the ending.
    """
    unfinished = path.with_name(f".unfinished-{path.name}")
    write(unfinished)
    unfinished.replace(path)


def sha256(file: Path) -> str:
    """The hash of a file's content, in hexadecimal."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
