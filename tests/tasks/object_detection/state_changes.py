"""Made-up files of Ego4D's state-change object detection in the documented layout, with drawn frames."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 96, 64


def box(kind: str, x: float, y: float, width: float, height: float) -> dict[str, Any]:
    """Return a box of a frame."""
    place = {"x": x, "y": y, "width": width, "height": height}
    return {"object_type": kind, "structured_noun": "cup", "instance_number": 1, "bbox": place}


def moment(number: int, boxes: Sequence[Mapping[str, Any]] | None, clip_number: int = 0) -> dict[str, Any]:
    """Return one of a clip's three frames; without boxes as in the test file."""
    frame = {"frame_number": number, "clip_frame_number": clip_number, "width": WIDTH, "height": HEIGHT}
    return frame if boxes is None else {**frame, "bbox": list(boxes)}


def clip(name: str, video: str, frames: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a clip."""
    times = {"clip_parent_start_sec": 0.0, "clip_parent_end_sec": 8.0}
    return {"video_uid": video, "clip_id": f"id of {name}", "clip_uid": name, **times, **frames}


def write_scod(path: Path, clips: Sequence[Mapping[str, Any]], split: str = "val", version: str = "1.0") -> Path:
    """Write an annotation file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = {"version": version, "date": "220112", "description": "SCOD", "split": split}
    path.write_text(json.dumps({**head, "clips": list(clips)}))
    return path


def draw(boxes: Sequence[tuple[float, float, float, float]], seed: int = 0) -> np.ndarray:
    """Draw a gray noisy frame with a bright red object in each box, uint8 `(height, width, 3)`."""
    pixels = np.random.default_rng(seed).integers(40, 90, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    for x, y, width, height in boxes:
        pixels[round(y) : round(y + height), round(x) : round(x + width)] = (230, 30, 30)
    return pixels


def write_drawn(root: Path, clips: int, seed: int = 0) -> list[dict[str, Any]]:
    """Write images of clips of three frames with an object that moves a little; return their annotations."""
    rng, found = np.random.default_rng(seed), []
    for number in range(clips):
        name, video = f"clip{number:03d}", f"video{number:03d}"
        frames = {}
        for place, kind in enumerate(("pre_frame", "pnr_frame", "post_frame")):
            width, height = (int(value) for value in rng.integers(16, 40, 2))
            x, y = int(rng.integers(0, WIDTH - width)), int(rng.integers(0, HEIGHT - height))
            frames[kind] = moment(
                10 * place, [box("object_of_change", x, y, width, height), box("left_hand", 0, 0, 9, 9)]
            )
            folder = root / "frames" / video / f"id of {name}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw([(x, y, width, height)], seed + 3 * number + place)).save(
                folder / f"{10 * place}.png"
            )
        found.append(clip(name, video, frames))
    return found
