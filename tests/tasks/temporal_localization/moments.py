"""Made-up files of Ego4D's moment queries, in the documented layout."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FPS = 30


def label(start: float, end: float, name: str, primary: bool = True, offset: float = 0.0) -> dict[str, Any]:
    """Return a label of an annotator; its times in the video are `offset` later."""
    times = {"start_time": start, "end_time": end}
    in_video = {"video_start_time": start + offset, "video_end_time": end + offset}
    frames = {"video_start_frame": round((start + offset) * FPS), "video_end_frame": round((end + offset) * FPS)}
    return {**times, "label": name, "primary": primary, **in_video, **frames}


def clip(
    name: str, annotators: Sequence[Sequence[Mapping[str, Any]]] | None, start: float = 0.0, seconds: float = 60.0
) -> dict[str, Any]:
    """Return a clip; None for one of the test file."""
    times = {"video_start_sec": start, "video_end_sec": start + seconds, "clip_start_sec": 0, "clip_end_sec": seconds}
    frames = {name.replace("_sec", "_frame"): round(value * FPS) for name, value in times.items()}
    found = {"clip_uid": name, **times, **frames, "source_clip_uid": f"source {name}"}
    if annotators is not None:
        entries = [{"annotator_uid": f"person {number}", "labels": rows} for number, rows in enumerate(annotators)]
        found["annotations"] = entries
    return found


def write_moments(
    path: Path, split: str, clips: Mapping[str, Sequence[Mapping[str, Any]]], version: str = "1.0"
) -> Path:
    """Write a file of videos with their clips."""
    videos = [{"video_uid": video, "split": split, "clips": rows} for video, rows in clips.items()]
    head = {"version": version, "date": "211105", "description": "Moments", "manifest": "s3://ego4d.json"}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**head, "videos": videos}))
    return path
