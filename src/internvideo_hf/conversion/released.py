"""The released checkpoints, as rows of `released.json`."""

import json
from functools import cache
from importlib import resources
from pathlib import PurePosixPath
from typing import Any


@cache
def released() -> tuple[dict[str, Any], ...]:
    """All rows: name, file, address, family, config (what shapes do not tell), labels, licence, manifest, note."""
    text = resources.files("internvideo_hf.conversion").joinpath("released.json").read_text(encoding="utf-8")
    return tuple(json.loads(text))


def rows_of_file(file_name: str, family: str) -> list[dict[str, Any]]:
    """The rows of a family whose released file has this name; several fine-tunes share theirs."""
    return [row for row in released() if row["family"] == family and PurePosixPath(row["file"]).name == file_name]
