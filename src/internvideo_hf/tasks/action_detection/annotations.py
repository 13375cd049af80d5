"""Annotations of action detection: boxes of people in key frames, and what each of them does.

The format is that of AVA, also for your own data: a csv file with a line for each box and action,

    video_id,timestamp,x1,y1,x2,y2,action,person_id

- `video_id`: name of the video's file without suffix.
- `timestamp`: the key frame, in seconds of the video; `902`, `0902` and `902.0` are the same.
- `x1,y1,x2,y2`: left, top, right and bottom edge of the box, as fractions of the frame, 0-1.
- `action`: number of the action, from 1, or its name. Empty for a person who does none of them. A person with several
  actions has a line for each.
- `person_id`: which of the people of the key frame; may be left out. In a file of detections, the score, 0-1.

A first line with these names is skipped, and their columns may then be in any order. A line of a video and a time
alone is a key frame without people. A folder of such files is read as one list, such as AVA and Kinetics together.

Boxes in the layout of COCO are read, too: `{"images": [{"id", "movie", "timestamp", "width", "height"}],
"annotations": [{"image_id", "bbox", "action_ids", "score"}]}`, with left, top, width and height in pixels; and a list
of detections, whose `image_id` are those of such a file.
"""

import csv
import math
import re
import sys
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from internvideo_hf.data.records import ManifestError, read_json, read_text
from internvideo_hf.tasks.action_detection.metrics import BoxTable

MOST_BOXES = 1000
"""Boxes that a key frame may have."""
MIN_DETECTION_SCORE = 0.8
"""Least score of a person's box that a released model looks at."""
MOST_OUTSIDE = 0.5
"""Fraction of the frame by which an edge may lie outside it: beyond, it is taken for pixels, and refused."""
_MOST_CLASSES = 100_000  # of numbered actions; a larger number is no action
_COLUMNS = ("video_id", "timestamp", "x1", "y1", "x2", "y2", "action", "person_id")
_SYNONYMS = {
    "video": "video_id",
    "time": "timestamp",
    "timestamp_seconds": "timestamp",
    "middle_frame_timestamp": "timestamp",
    "action_id": "action",
    "label": "action",
    "person": "person_id",
    "score": "person_id",
}
_PERSON = 1  # category of COCO


class Box(NamedTuple):
    """One person of a key frame.

    Args:
        corners: left, top, right and bottom edge, as fractions of the frame.
        labels: indices of the classes, from 0.
        score: of a detection; 1 for a true box.
    """

    corners: tuple[float, float, float, float]
    labels: tuple[int, ...] = ()
    score: float = 1.0


@dataclass(frozen=True)
class KeyFrame:
    """A key frame and its people.

    Args:
        video: id.
        timestamp: in seconds.
        boxes: its people.
    """

    video: str
    timestamp: float
    boxes: list[Box] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name of the key frame, see `key_frame_name`."""
        return key_frame_name(self.video, self.timestamp)


@dataclass(frozen=True)
class Annotations:
    """Annotated key frames.

    Args:
        key_frames: in the order of the file.
        classes: names of the classes; action k of the file is class k - 1.
        image_ids: of a COCO file, id of an image -> video, timestamp, width, height.
    """

    key_frames: list[KeyFrame]
    classes: list[str]
    image_ids: Mapping[Any, tuple[str, float, float, float]] = field(default_factory=dict)

    def without(self, names: Collection[str]) -> "Annotations":
        """Return the annotations of other key frames.

        Args:
            names: of those to leave out, see `key_frame_name`.
        """
        return replace(self, key_frames=[frame for frame in self.key_frames if frame.name not in names])

    def table(self) -> BoxTable:
        """Return a row for each box and class."""
        rows = [
            (frame.name, box.corners, label, box.score)
            for frame in self.key_frames
            for box in frame.boxes
            for label in box.labels
        ]
        names, corners, labels, scores = zip(*rows, strict=True) if rows else ((), (), (), ())
        return BoxTable(names, np.array(corners), np.array(labels), np.array(scores))


def key_frame_name(video: str, timestamp: float) -> str:
    """Return the name of a key frame, as in files of results: "VIDEO,0902", or "VIDEO,2.500" between two seconds.

    Args:
        video: id.
        timestamp: in seconds.
    """
    return f"{video},{stamp(timestamp)}"


def stamp(timestamp: float) -> str:
    """Return a time as AVA writes it: whole seconds in four digits, others with milliseconds.

    Args:
        timestamp: in seconds.
    """
    rounded = round(timestamp, 3)
    return f"{int(rounded):04d}" if rounded == int(rounded) else f"{rounded:.3f}"


def read_annotations(path: str | Path, classes: Sequence[str] | None = None) -> Annotations:
    """Read annotated key frames.

    Args:
        path: a csv file in AVA's format, a folder of such files, or a JSON file in COCO's layout.
        classes: names of the classes in the order of their numbers. By default the names that the file has, in
            alphabetical order, or "1", "2", ... up to its largest number.

    Raises:
        ManifestError: if a file cannot be read, or a line is invalid.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        rows, image_ids = _json_rows(path)
        found = _collect(rows, classes, detections=False)
        with_people = {frame.name for frame in found.key_frames}
        empty = [KeyFrame(video, time) for video, time, _, _ in image_ids.values()]
        frames = [*found.key_frames, *(frame for frame in empty if frame.name not in with_people)]
        return Annotations(frames, found.classes, image_ids)
    return _collect(_csv_rows(path), classes, detections=False)


def read_detections(
    path: str | Path, min_score: float = MIN_DETECTION_SCORE, images: Annotations | None = None
) -> list[KeyFrame]:
    """Read people's boxes that a detector found; key frames without any are left out.

    Args:
        path: as of `read_annotations`, with scores; or a JSON list of detections.
        min_score: boxes with lower scores are left out.
        images: the annotations whose `image_id` a list of detections uses.

    Raises:
        ManifestError: if a file cannot be read, or a line is invalid.
    """
    path = Path(path)
    is_json = path.suffix.lower() == ".json"
    rows = _json_rows(path, {} if images is None else images.image_ids)[0] if is_json else _csv_rows(path)
    frames = _collect(rows, None, detections=True).key_frames
    kept = [
        KeyFrame(frame.video, frame.timestamp, [box for box in frame.boxes if box.score >= min_score])
        for frame in frames
    ]
    return [frame for frame in kept if frame.boxes]


def read_boxes(path: str | Path) -> list[KeyFrame]:
    """Read boxes of people, true ones or those of a detector, whatever they do.

    Args:
        path: as of `read_annotations`, whose last column may have scores: it has if one of them is not a whole number.

    Raises:
        ManifestError: if a file cannot be read, or a line is invalid.
    """
    path = Path(path)
    rows = list(_json_rows(path)[0] if path.suffix.lower() == ".json" else _csv_rows(path))
    has_scores = any(row.last is not None and not row.last.isdecimal() for row in rows)
    people = (row if has_scores else row._replace(last="1") for row in rows)
    return _collect(iter(people), None, detections=True).key_frames


def read_predictions(path: str | Path, classes: Sequence[str] | None = None) -> BoxTable:
    """Read labeled boxes with scores, such as those that `internvideo evaluate` writes.

    Args:
        path: csv in AVA's format, the score in the last column.
        classes: names of the classes in the order of their numbers, if the file has names.

    Returns:
        A row for each line; labels are indices from 0.

    Raises:
        ManifestError: if the file cannot be read, or a line is invalid.
    """
    path = Path(path)
    index_of = {name: index for index, name in enumerate(classes or ())}
    names: list[str] = []
    corners, labels, scores = array("d"), array("q"), array("d")  # lists would take ten times the memory
    for row in _csv_rows(path):
        if row.corners is None or not row.action:
            raise row.error("it has no box or no action", "A prediction has both.")
        _check_fractions(row, row.corners)
        if row.last is None:
            raise row.error("it has no score", "Write it behind the action.")
        names.append(sys.intern(key_frame_name(row.video, row.timestamp)))  # millions of rows share them
        corners.extend(row.corners)
        labels.append(_index_of(row, row.action, index_of))
        scores.append(row.score())
    return BoxTable(names, np.array(corners), np.array(labels), np.array(scores))


def read_key_frames(path: str | Path) -> set[str]:
    """Read names of key frames, such as the excluded ones of AVA.

    Args:
        path: csv of `video_id,timestamp`.

    Raises:
        ManifestError: if the file cannot be read, or a line is invalid.
    """
    return {key_frame_name(row.video, row.timestamp) for row in _csv_rows(Path(path))}


def read_label_map(path: str | Path) -> dict[int, str]:
    """Read a label map of AVA, which names the actions that are scored.

    Args:
        path: protobuf text of `item { name: "..." id: N }`, or of `label { name: "..." label_id: N }`.

    Returns:
        Number of an action, from 1 -> its name.

    Raises:
        ManifestError: if the file cannot be read, or names none.
    """
    path = Path(path)
    found = {}
    for entry in re.findall(r"\{([^{}]*)\}", read_text(path)):
        name, number = re.search(r'name:\s*"((?:[^"\\]|\\.)*)"', entry), re.search(r"\b(?:label_)?id:\s*(\d+)", entry)
        if name and number:
            found[int(number[1])] = re.sub(r"\\(.)", r"\1", name[1])
    if not found:
        raise ManifestError(str(path), None, "it names no actions", 'Expected item { name: "bend" id: 1 }.')
    return found


# ---- rows -----------------------------------------------------------------------------------------------------------


class _Row(NamedTuple):
    """A line of a csv file, or a box of a JSON file."""

    file: str
    place: str
    video: str
    timestamp: float
    corners: tuple[float, float, float, float] | None
    action: str
    last: str | None  # number of the person, or score

    def error(self, cause: str, advice: str) -> ManifestError:
        return ManifestError(self.file, self.place, cause, advice)

    def score(self) -> float:
        try:
            score = float(self.last or "nan")
        except ValueError:
            score = math.nan
        if not 0 <= score <= 1:
            raise self.error(f"its score is {self.last!r}", "Expected a number from 0 to 1.")
        return score


def _collect(rows: Iterator[_Row], classes: Sequence[str] | None, *, detections: bool) -> Annotations:
    """Put the rows of a key frame, and those of a person, together."""
    frames: dict[tuple[str, str], tuple[_Row, dict[Any, tuple[_Row, list[str]]]]] = {}
    for row in rows:
        _, people = frames.setdefault((row.video, stamp(row.timestamp)), (row, {}))
        if row.corners is None:
            continue
        corners = _clipped(row, row.corners)
        person = (corners, None if detections else row.last)
        if person not in people and len(people) == MOST_BOXES:
            raise row.error(
                f"{key_frame_name(row.video, row.timestamp)} has more than {MOST_BOXES} boxes",
                "Keep those with the highest scores.",
            )
        people.setdefault(person, (row, []))[1].append(row.action)
    given = {action: row for _, people in frames.values() for row, actions in people.values() for action in actions}
    given.pop("", None)
    names = [] if detections else _classes(given) if classes is None else list(classes)
    index_of = {name: index for index, name in enumerate(names)}
    indices = {} if detections else {action: _index_of(row, action, index_of) for action, row in given.items()}
    found = [
        KeyFrame(
            first.video,
            first.timestamp,
            [
                Box(
                    person[0],
                    tuple(sorted({indices[action] for action in actions if action in indices})),
                    row.score() if detections else 1.0,
                )
                for person, (row, actions) in people.items()
            ],
        )
        for first, people in frames.values()
    ]
    return Annotations(found, names)


def _classes(given: Mapping[str, _Row]) -> list[str]:
    named = [action for action in given if math.isnan(_number(action))]
    if named and len(named) == len(given):
        return sorted(given)
    for action, row in given.items():
        if not action.isdecimal() or int(action) > _MOST_CLASSES:
            raise row.error(
                f"its action is {action!r}",
                f"Expected whole numbers from 1 to {_MOST_CLASSES} on all lines, or names on all.",
            )
    return [str(number) for number in range(1, max(map(int, given), default=0) + 1)]


def _index_of(row: _Row, action: str, index_of: Mapping[str, int]) -> int:
    """Return the class of an action's name, or of its number from 1."""
    if action in index_of:
        return index_of[action]
    if action.isdecimal() and 1 <= int(action) and (not index_of or int(action) <= len(index_of)):
        return int(action) - 1
    known = f"the name of a class, or its number from 1 to {len(index_of)}" if index_of else "a number from 1"
    raise row.error(f"its action is {action!r}", f"Expected {known}.")


def _clipped(row: _Row, corners: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """Cut a box at the frame's border; refuse one that has no area there."""
    _check_fractions(row, corners)
    left, top, right, bottom = corners
    if left >= right or top >= bottom:
        raise row.error(
            f"its box {_shown(corners)} has no area", "Expected left, top, right, bottom; delete the line otherwise."
        )
    left, top, right, bottom = (min(max(edge, 0.0), 1.0) for edge in corners)
    if left >= right or top >= bottom:
        raise row.error(f"its box {_shown(corners)} lies outside the frame", "Delete the line.")
    return left, top, right, bottom


def _check_fractions(row: _Row, corners: Sequence[float]) -> None:
    if not all(-MOST_OUTSIDE <= edge <= 1 + MOST_OUTSIDE for edge in corners):
        raise row.error(f"its box is {_shown(corners)}", "Expected edges as fractions of the frame, 0-1.")


def _shown(corners: Sequence[float]) -> str:
    return ", ".join(f"{edge:g}" for edge in corners)


# ---- csv ------------------------------------------------------------------------------------------------------------


def _csv_rows(path: Path) -> Iterator[_Row]:
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    if not files:
        raise ManifestError(str(path), None, "it holds no csv files", "Give the annotations, or their folder.")
    for file in files:
        yield from _rows_of(file)


def _rows_of(file: Path) -> Iterator[_Row]:
    order: list[int] | None = None  # place of each of `_COLUMNS` where the file has a header
    reader = csv.reader(read_text(file).splitlines(), strict=True)
    try:
        for fields in reader:
            place, fields = f"line {reader.line_num}", [entry.strip() for entry in fields]
            if not any(fields):
                continue
            if order is None:
                order = _header(str(file), place, fields)
                if order:
                    continue
            if order:
                fields = [fields[at] if 0 <= at < len(fields) else "" for at in order]
            yield _row(str(file), place, fields)
    except csv.Error as error:
        raise ManifestError(
            str(file), f"line {reader.line_num}", f"it is not valid csv ({error})", "Correct the quotes."
        ) from error


def _header(file: str, place: str, fields: Sequence[str]) -> list[int]:
    """Return the place of each column by the names of a first line; empty if it has no names.

    Raises:
        ManifestError: if columns are there twice, or some of a box are missing, or all where there are others.
    """
    names = [_SYNONYMS.get(name.lower(), name.lower()) for name in fields]
    if not {"video_id", "timestamp"} <= set(names):
        return []
    missing = [column for column in _COLUMNS[2:6] if column not in names]
    if len(set(names)) < len(names) or (missing and len(names) > 2):
        raise ManifestError(file, place, f"its columns are {','.join(fields)}", f"Expected {','.join(_COLUMNS)}.")
    return [names.index(column) if column in names else -1 for column in _COLUMNS]


def _row(file: str, place: str, fields: Sequence[str]) -> _Row:
    if not (len(fields) == 2 or 6 <= len(fields) <= len(_COLUMNS)):
        raise ManifestError(file, place, f"it has {len(fields)} fields", f"Expected {','.join(_COLUMNS)}.")
    video, time, *rest = [*fields, *[""] * (len(_COLUMNS) - len(fields))]
    if not video:
        raise ManifestError(file, place, "it names no video", f"Expected {','.join(_COLUMNS)}.")
    timestamp = _number(time)
    if not 0 <= timestamp < math.inf:
        raise ManifestError(file, place, f"its time is {time!r}", "Expected seconds, 0 or more.")
    corners = None
    if any(rest[:4]):
        left, top, right, bottom = (_number(edge) for edge in rest[:4])
        corners = left, top, right, bottom
        if not all(map(math.isfinite, corners)):
            raise ManifestError(
                file, place, f"its box is {', '.join(rest[:4])}", "Expected four numbers: left, top, right, bottom."
            )
    return _Row(file, place, video, timestamp, corners, rest[4], rest[5] or None)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


# ---- COCO -----------------------------------------------------------------------------------------------------------


def _json_rows(
    path: Path, known: Mapping[Any, tuple[str, float, float, float]] | None = None
) -> tuple[Iterator[_Row], Mapping[Any, tuple[str, float, float, float]]]:
    content = read_json(path)
    if isinstance(content, list):
        if not known:
            raise ManifestError(
                str(path), None, "it is a list of detections", "It needs annotations in COCO's layout beside it."
            )
        return _coco_rows(path, content, known), known
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in ("images", "annotations")):
        raise ManifestError(str(path), None, "it has no images and annotations", "Expected the layout of COCO.")
    images = {}
    for number, image in enumerate(content["images"], 1):
        try:
            video, time = str(image["movie"]), float(image["timestamp"])
            images[image["id"]] = video, time, float(image["width"]), float(image["height"])
            if not (0 <= time < math.inf and min(images[image["id"]][2:]) > 0):
                raise ValueError
        except (KeyError, TypeError, ValueError) as error:
            raise ManifestError(
                str(path), f"image {number}", f"it is {image!r}"[:200], "Expected id, movie, timestamp, width, height."
            ) from error
    return _coco_rows(path, content["annotations"], images), images


def _coco_rows(
    path: Path, entries: Sequence[Any], images: Mapping[Any, tuple[str, float, float, float]]
) -> Iterator[_Row]:
    for number, entry in enumerate(entries, 1):
        place = f"annotation {number}"
        try:
            box: NDArray[np.float64] = np.asarray(entry["bbox"], dtype=np.float64).reshape(4)
            image, actions, score = entry["image_id"], entry.get("action_ids") or [""], entry.get("score")
            if not isinstance(actions, list):
                raise TypeError
            is_known = image in images
            if entry.get("category_id", _PERSON) != _PERSON:
                continue
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ManifestError(
                str(path), place, f"it is {entry!r}"[:200], "Expected image_id, bbox, and action_ids or score."
            ) from error
        if not is_known:
            raise ManifestError(str(path), place, f"its image_id is {image!r}", "Expected the id of an image.")
        video, time, width, height = images[image]
        if not np.isfinite(box).all():
            raise ManifestError(str(path), place, f"its bbox is {entry['bbox']}", "Expected four numbers.")
        left, top, right, bottom = (np.concatenate([box[:2], box[:2] + box[2:]]) / ([width, height] * 2)).tolist()
        corners = left, top, right, bottom
        last = None if score is None else str(score)
        yield from (_Row(str(path), place, video, time, corners, str(action), last) for action in actions)
