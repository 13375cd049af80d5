"""Files of short-term anticipation: Ego4D's annotations, boxes of an object detector, and the challenge's answers.

- Annotations, `fho_sta_{train,val,test_unannotated}.json` of version 1 or 2: `annotations`, a list of moments with
  `uid`, `video_id` (version 1) or `video_uid`, `frame`, `clip_uid`, `clip_frame` and, unless unannotated, `objects`:
  `box`, `noun_category_id`, `verb_category_id`, `time_to_contact`. `info.video_metadata` has `frame_width` and
  `frame_height` of the videos, of which boxes are pixels; `noun_categories` and `verb_categories` the names.
- Detections, `object_detections.json` of the challenge's baseline: uid -> list of `box`, `score`, `noun_category_id`.
- Answers: `results`, uid -> list of `box`, `noun_category_id`, `verb_category_id`, `time_to_contact`, `score`.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from internvideo_hf.data.ego4d import FILES, field_of, frame_of, list_of, number_of, read_annotations, text_of
from internvideo_hf.data.records import ManifestError, read_json
from internvideo_hf.tasks.boxes import Size
from internvideo_hf.tasks.short_term_anticipation.metrics import InteractionTable
from internvideo_hf.utils.files import atomic_write_text

CHALLENGE, VERSION = "ego4d_short_term_object_interaction_anticipation", "1.0"
"""What the challenge's server asks a file of answers to state."""
_AGAIN = "Download the file again."
_DETECTIONS = "Give detections as of object_detections.json: {uid: [{box, score, noun_category_id}, ...], ...}."
_ANSWERS = "Give a file of the challenge: {version, challenge, results: {uid: [{box, ...}, ...], ...}}."

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Interaction:
    """An object that will be touched.

    Args:
        box: left, top, right, bottom in pixels of the annotated video.
        noun: number of the object's class.
        verb: number of what will be done to it.
        time: to contact in seconds.
    """

    box: Box
    noun: int
    verb: int
    time: float


@dataclass(frozen=True)
class Moment:
    """A frame that is asked about.

    Args:
        uid: its id.
        video: id of the whole video.
        frame: its number in the whole video.
        clip: id of the exported clip; None if unknown.
        clip_frame: its number in the exported clip; None if unknown.
        size: of the annotated frame, (height, width) in pixels.
        interactions: what will happen; None if it is not annotated.
    """

    uid: str
    video: str
    frame: int
    clip: str | None
    clip_frame: int | None
    size: Size
    interactions: tuple[Interaction, ...] | None


@dataclass(frozen=True)
class Annotations:
    """The moments of a file.

    Args:
        moments: in the order of the file.
        nouns: number -> name; empty where the file names none.
        verbs: likewise.
    """

    moments: Sequence[Moment]
    nouns: Mapping[int, str]
    verbs: Mapping[int, str]

    @property
    def is_annotated(self) -> bool:
        """Whether the interactions of all moments are known."""
        return all(moment.interactions is not None for moment in self.moments)

    def table(self) -> InteractionTable:
        """Return the ground truth."""
        rows = [(moment.uid, one) for moment in self.moments for one in moment.interactions or ()]
        return InteractionTable(
            [uid for uid, _ in rows],
            np.array([one.box for _, one in rows], dtype=np.float64).reshape(-1, 4),
            np.array([one.noun for _, one in rows], dtype=np.int64),
            np.array([one.verb for _, one in rows], dtype=np.int64),
            np.array([one.time for _, one in rows], dtype=np.float64),
        )


@dataclass(frozen=True)
class Detection:
    """An object that a detector found.

    Args:
        box: left, top, right, bottom in pixels of the annotated video.
        score: that it will be touched next, 0-1.
        noun: number of its class.
    """

    box: Box
    score: float
    noun: int


def read_interactions(path: str | Path) -> Annotations:
    """Read Ego4D's annotations.

    Args:
        path: the file.

    Raises:
        ManifestError: if it cannot be read, or a moment is not as documented.
    """
    entries, document = read_annotations(path, FILES["fho_sta"])
    sizes = _sizes(document, path)
    moments = [_moment(entry, sizes, path, f"annotation {number}") for number, entry in enumerate(entries, 1)]
    if not moments:
        raise ManifestError(str(path), None, "it has no annotation", _AGAIN)
    uid, count = Counter(moment.uid for moment in moments).most_common(1)[0]
    if count > 1:
        raise ManifestError(str(path), None, f"the uid {uid} is there {count} times", _AGAIN)
    nouns, verbs = (_names(document, f"{kind}_categories", path) for kind in ("noun", "verb"))
    return Annotations(moments, nouns, verbs)


def _moment(entry: Mapping[str, Any], sizes: Mapping[str, Size], path: str | Path, place: str) -> Moment:
    where: dict[str, Any] = {"file": path, "place": place}
    video = text_of(entry, "video_uid", "video_id", **where)
    if video not in sizes:
        cause = f"info.video_metadata has no size of the video {video}, in whose pixels boxes are"
        raise ManifestError(str(path), place, cause, _AGAIN)
    clip = text_of(entry, "clip_uid", **where) if entry.get("clip_uid") is not None else None
    clip_frame = frame_of(entry, "clip_frame", **where) if entry.get("clip_frame") is not None else None
    interactions = None
    if entry.get("objects") is not None:
        objects = list_of(entry, "objects", **where)
        interactions = tuple(_interaction(one, path, f"{place}, object {n}") for n, one in enumerate(objects, 1))
    uid, frame = text_of(entry, "uid", **where), frame_of(entry, "frame", **where)
    return Moment(uid, video, frame, clip, clip_frame, sizes[video], interactions)


def _interaction(entry: Mapping[str, Any], path: str | Path, place: str) -> Interaction:
    where: dict[str, Any] = {"file": path, "place": place}
    noun, verb = (_class_of(entry, f"{kind}_category_id", path, place) for kind in ("noun", "verb"))
    return Interaction(_box(entry, path, place), noun, verb, number_of(entry, "time_to_contact", **where))


def _class_of(entry: Mapping[str, Any], name: str, path: str | Path, place: str) -> int:
    value = number_of(entry, name, file=path, place=place)
    if value < 0 or not value.is_integer():
        cause = f"{name} is {value:g}, expected the number of a class, from 0"
        raise ManifestError(str(path), place, cause, _AGAIN)
    return int(value)


def _box(entry: Mapping[str, Any], path: str | Path, place: str) -> Box:
    value = field_of(entry, "box", file=path, place=place)
    numbers = isinstance(value, list) and all(isinstance(edge, int | float) for edge in value)
    if not numbers or len(value) != 4 or not np.isfinite(np.array(value, dtype=np.float64)).all():
        cause = f"box is {str(value)[:60]}, expected 4 numbers: left, top, right, bottom in pixels"
        raise ManifestError(str(path), place, cause, _AGAIN)
    left, top, right, bottom = map(float, value)
    return left, top, right, bottom


def _sizes(document: Mapping[str, Any], path: str | Path) -> dict[str, Size]:
    info = document.get("info")
    videos = info.get("video_metadata") if isinstance(info, Mapping) else None
    if not isinstance(videos, Mapping):
        cause = "info.video_metadata is missing, which has the sizes of the videos"
        raise ManifestError(str(path), None, cause, _AGAIN)
    sizes: dict[str, Size] = {}
    for video, entry in videos.items():
        place = f"info.video_metadata of {video}"
        if not isinstance(entry, Mapping):
            raise ManifestError(str(path), place, f"it is {entry!r:.40}, expected an object", _AGAIN)
        sides = [number_of(entry, f"frame_{side}", file=path, place=place) for side in ("height", "width")]
        if min(sides) < 1:
            raise ManifestError(str(path), place, f"a side of its frames is {min(sides):g} pixels", _AGAIN)
        sizes[video] = int(sides[0]), int(sides[1])
    return sizes


def _names(document: Mapping[str, Any], key: str, path: str | Path) -> dict[int, str]:
    if document.get(key) is None:
        return {}
    entries = list_of(document, key, file=path, place="the file")
    names: dict[int, str] = {}
    for number, entry in enumerate(entries, 1):
        place = f"{key} {number}"
        names[_class_of(entry, "id", path, place)] = text_of(entry, "name", file=path, place=place)
    return names


def read_detections(path: str | Path, min_score: float = 0.0) -> dict[str, list[Detection]]:
    """Read the boxes of an object detector.

    Args:
        path: the file.
        min_score: least score of a box, 0-1.

    Returns:
        uid of a moment -> its objects, in the order of the file.

    Raises:
        ManifestError: if it cannot be read, or a detection is not as documented.
    """
    document = read_json(Path(path))
    if not isinstance(document, dict):
        raise ManifestError(str(path), None, "it is no object with the uids of moments", _DETECTIONS)
    found: dict[str, list[Detection]] = {}
    for uid, entries in document.items():
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ManifestError(
                str(path), uid, f"it is {str(entries)[:40]!r}, expected a list of objects", _DETECTIONS
            )
        own = [_detection(entry, path, f"{uid}, object {number}") for number, entry in enumerate(entries, 1)]
        found[uid] = [one for one in own if one.score >= min_score]
    return found


def _detection(entry: Mapping[str, Any], path: str | Path, place: str) -> Detection:
    noun = _class_of(entry, "noun_category_id", path, place)
    return Detection(_box(entry, path, place), number_of(entry, "score", file=path, place=place), noun)


def read_predictions(path: str | Path, uids: Sequence[str]) -> InteractionTable:
    """Read answers as the challenge takes them.

    Args:
        path: the file.
        uids: of the moments that must be answered, each by a list, which may be empty; others are left out.

    Raises:
        ManifestError: if it cannot be read, an answer is not as documented, or a moment is missing.
    """
    document = read_json(Path(path))
    results = document.get("results") if isinstance(document, dict) else None
    if not isinstance(results, dict):
        raise ManifestError(str(path), None, "it has no object 'results'", _ANSWERS)
    if missing := [uid for uid in uids if uid not in results]:
        cause = f"{len(missing)} of {len(uids)} moments are missing, such as {missing[0]}"
        raise ManifestError(str(path), None, cause, "Answer all of them; a list may be empty.")
    names: list[str] = []
    rows: list[Interaction] = []
    scores: list[float] = []
    for uid in uids:
        if not isinstance(results[uid], list) or not all(isinstance(entry, dict) for entry in results[uid]):
            cause = f"it is {str(results[uid])[:40]!r}, expected a list of objects"
            raise ManifestError(str(path), uid, cause, _ANSWERS)
        for number, entry in enumerate(results[uid], 1):
            place = f"{uid}, answer {number}"
            names.append(uid)
            rows.append(_interaction(entry, path, place))
            scores.append(number_of(entry, "score", file=path, place=place))
    boxes = np.array([row.box for row in rows], dtype=np.float64).reshape(-1, 4)
    nouns, verbs = (np.array([getattr(row, name) for row in rows], dtype=np.int64) for name in ("noun", "verb"))
    return InteractionTable(names, boxes, nouns, verbs, np.array([row.time for row in rows]), np.array(scores))


def write_predictions(path: str | Path, found: InteractionTable, uids: Sequence[str]) -> None:
    """Write answers as the challenge takes them, atomically.

    Args:
        path: the file.
        found: with scores, and boxes in pixels of the annotated videos.
        uids: of all moments; one without answers has an empty list.

    Raises:
        ValueError: if there are no scores.
    """
    if found.scores is None:
        raise ValueError("The answers have no scores.")
    results: dict[str, list[dict[str, Any]]] = {uid: [] for uid in uids}
    columns = (found.boxes, found.nouns, found.verbs, found.times, found.scores)
    for uid, box, noun, verb, time, score in zip(found.frames, *(column.tolist() for column in columns), strict=True):
        answer = {"box": box, "noun_category_id": noun, "verb_category_id": verb, "time_to_contact": time}
        results[uid].append({**answer, "score": score})
    content = {"version": VERSION, "challenge": CHALLENGE, "results": results}
    atomic_write_text(Path(path), json.dumps(content))
