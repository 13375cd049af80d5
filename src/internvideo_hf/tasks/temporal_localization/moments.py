"""Ego4D's moments (moment queries): moments_train.json, moments_val.json, moments_test_unannotated.json, v1 and v2."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from internvideo_hf.data.ego4d import list_in, list_of, number_of, text_of
from internvideo_hf.data.layouts import Record
from internvideo_hf.data.records import ManifestError

CHALLENGE = "ego4d_moment_queries"
SUBMISSION = "submission.json"
"""Name of the challenge's file in a report."""
UNANNOTATED = "test"
"""Split whose clips are all asked for, though nothing is annotated in them."""
_FPS = (10, 100)  # of clips whose frames and seconds fit each other

# Of one clip: id; subset, duration, fps; and for each segment its ends, the name of its class, and no index.
_Row = tuple[tuple[float, float], str, int | None]
Clip = tuple[str, dict[str, Any], list[_Row]]


def is_moments(content: Mapping[str, Any]) -> bool:
    """Return whether annotations are Ego4D's: videos with clips."""
    return "database" not in content and "videos" in content


def read_moments(content: Mapping[str, Any], path: str | Path) -> Iterator[Clip]:
    """Read the clips of an annotation file, as Ego4D's own evaluation does.

    A clip is a video of its own, by its `clip_uid`, and has the primary labels of all annotators in seconds of the
    clip. Annotated clips without any are left out, but for those of the split "test".

    Args:
        content: of the file.
        path: of the file, for messages.

    Raises:
        ManifestError: if the file or one of its entries lacks something.
    """
    clips: dict[str, Clip] = {}
    for number, video in enumerate(list_in(content, "videos", path), 1):
        where: dict[str, Any] = {"file": path, "place": f"videos {number}"}
        subset = text_of(video, "split", **where).lower()
        for clip in list_of(video, "clips", **where):
            name = text_of(clip, "clip_uid", **where)
            inner = {**where, "place": f"clip {name}"}
            rows = _rows(clip, inner)
            if rows or name in clips or rows is None or subset == UNANNOTATED:
                clips.setdefault(name, (name, {"subset": subset, **_facts(clip, inner)}, []))[2].extend(rows or [])
    if not clips:
        advice = "Check that it is a file of moment queries; those of natural language queries have no labels."
        raise ManifestError(str(path), None, "no clip has a primary label", advice)
    yield from clips.values()


def _facts(clip: Record, where: Mapping[str, Any]) -> dict[str, Any]:
    start = max(number_of(clip, "video_start_sec", **where), 0.0)
    duration = number_of(clip, "video_end_sec", **where) - start
    if duration <= 0:
        cause = f"it ends at {start + duration:g} s of its video, and begins at {start:g} s"
        raise ManifestError(str(where["file"]), where["place"], cause, "Download the file again.")
    fps = None
    if clip.get("video_end_frame") is not None and clip.get("video_start_frame") is not None:
        frames = number_of(clip, "video_end_frame", **where) - number_of(clip, "video_start_frame", **where)
        fps = frames / duration if _FPS[0] <= frames / duration <= _FPS[1] else None
    return {"duration": duration, "fps": fps}


def _rows(clip: Record, where: Mapping[str, Any]) -> list[_Row] | None:
    """Return the primary segments of a clip; None if it is not annotated."""
    if clip.get("annotations") is None:
        return None
    rows: list[_Row] = []
    for annotator in list_of(clip, "annotations", **where):
        for label in list_of(annotator, "labels", **where):
            if label.get("primary") is True:
                times = number_of(label, "start_time", **where), number_of(label, "end_time", **where)
                rows.append((times, text_of(label, "label", **where), None))
    return rows


def to_submission(clips: Iterable[str], results: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return the file of the Ego4D Moment Queries challenge, as JSON.

    Args:
        clips: ids of all clips that were asked for; those where nothing is found have empty lists.
        results: id of a clip -> segments with "label", "score" and "segment", such as `to_results` gives. They are in
            the file twice, for detection and for retrieval, whose evaluation takes the best of each class.
    """
    found = {clip: list(results.get(clip, [])) for clip in clips}
    head = {"version": "1.0", "challenge": CHALLENGE}
    return json.dumps({**head, "detect_results": found, "retrieve_results": found})
