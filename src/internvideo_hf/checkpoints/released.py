"""The released checkpoints, as rows of `released.json`."""

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import PurePosixPath
from typing import Any


@cache
def released_rows() -> tuple[dict[str, Any], ...]:
    """Return all rows: name, file, address, family, config (values that no shape contains), labels, licence, ...

    `evaluation`, if known, is the published test: data set, hidden size of the model, frames and pixels of a clip,
    clips and crops of a video (None if not stated), `processor` settings that differ from the family's own, top-1 and
    sometimes top-5 accuracy in percent (None if none was published), `zoo` if other authors than InternVideo's
    published it; or data set, hidden size and the `protocol` in `internvideo_hf.recipes.evaluation` that states it.
    """
    text = resources.files("internvideo_hf.checkpoints").joinpath("released.json").read_text(encoding="utf-8")
    return tuple(json.loads(text))


def rows_of_file(file_name: str, family: str) -> list[dict[str, Any]]:
    """Return the rows of a family whose released file has a name; several fine-tuned models share theirs."""
    return [row for row in released_rows() if row["family"] == family and PurePosixPath(row["file"]).name == file_name]


def published(row: Mapping[str, Any]) -> str | None:
    """Return the published test of a row in words, or None if it is unknown."""
    test = row["evaluation"]
    if test is None:
        return None
    if "protocol" in test:
        return f"tested on {test['data_set']}, as in the protocol {test['protocol']}"
    scores = [f"top-{k} {test[f'top{k}']}" for k in (1, 5) if test.get(f"top{k}") is not None]
    scores += [f"frame mAP {test['frame_map']}"] if "frame_map" in test else []
    score = " and ".join(scores) or "no published score"
    clip = f"{test['num_frames']} frames at {test['image_size']} pixels"
    if "num_clips" not in test:
        return f"{score} on {test['data_set']}, {clip}"
    views = f"{test['num_clips']} x {test['num_crops']} views" if test["num_clips"] else "unstated views"
    return f"{score} on {test['data_set']}, {views} of {clip}"
