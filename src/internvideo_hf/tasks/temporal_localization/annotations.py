"""Annotations of temporal localization: ActivityNet's JSON, THUMOS-14's text files, Ego4D's moments; class scores."""

import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers.utils import logging

from internvideo_hf.data.records import ManifestError, read_json, read_text
from internvideo_hf.tasks.temporal_localization.metrics import SegmentTable
from internvideo_hf.tasks.temporal_localization.moments import is_moments, read_moments

logger = logging.get_logger(__name__)

ONE_CLASS = "action"
"""Label of segments that have no class of their own."""
DUPLICATE_SECONDS = 1e-3  # two segments of a class whose ends differ by no more than this are one
_THUMOS_FILE = re.compile(r"(?P<label>\w+)_(?P<subset>val|test)\.txt")
_THUMOS_SUBSETS = {"val": "validation", "test": "test"}
_LABELS, _LARGEST = {"label", "label_id"}, float(np.finfo(np.float32).max)
_NO_CLASS = "Ambiguous"  # of THUMOS-14: stretches that count neither as an action nor as none


@dataclass(frozen=True)
class VideoAnnotation:
    """The annotated segments of one video.

    Args:
        subset: in lower case, such as "training".
        segments: `(n, 2)` float32, start and end in seconds; none for a video without annotations.
        labels: `(n,)`, class indices.
        duration: of the video in seconds; None if the file does not say.
        fps: frames a second of the video; None if the file does not say.
    """

    subset: str
    segments: NDArray[np.float32]
    labels: NDArray[np.int64]
    duration: float | None = None
    fps: float | None = None


@dataclass(frozen=True)
class Annotations:
    """The annotations of a data set.

    Args:
        videos: id -> its annotation, in the order of the file.
        classes: class index -> name.
    """

    videos: Mapping[str, VideoAnnotation]
    classes: Mapping[int, str]

    def of_subset(self, subset: str) -> dict[str, VideoAnnotation]:
        """Return the videos of a subset.

        Args:
            subset: its name, in capitals or not.

        Raises:
            ValueError: if no video is in it.
        """
        found = {name: video for name, video in self.videos.items() if video.subset == subset.lower()}
        if not found:
            known = ", ".join(sorted({video.subset for video in self.videos.values()}))
            raise ValueError(f"subset={subset!r} holds no videos; the subsets of the annotations are {known}.")
        return found

    def ground_truth(self, subset: str, count_repeats: bool = False) -> SegmentTable:
        """Return the segments of a subset for evaluation.

        Args:
            subset: see `of_subset`.
            count_repeats: keep segments that repeat another one of their class, as Ego4D's evaluation does, which
                merges several annotators; by default each counts once.

        Raises:
            ValueError: if no video is in the subset.
        """
        rows = []
        for name, video in self.of_subset(subset).items():
            own = video.segments, video.labels
            own = own if count_repeats else without_duplicates(*own)
            rows += [(name, segment, label) for segment, label in zip(*own, strict=True)]
        videos, segments, labels = zip(*rows, strict=True) if rows else ((), np.zeros((0, 2)), ())
        return SegmentTable(videos, np.array(segments), np.array(labels))


def read_annotations(path: str | Path, classes: Sequence[str] | None = None) -> Annotations:
    """Read the annotations of a data set.

    Args:
        path: ActivityNet's JSON, also of HACS and FineAction, or of THUMOS-14 in that layout; Ego4D's
            `moments_train.json`, whose clips are the videos; or the folder of THUMOS-14's `CLASS_val.txt` and
            `CLASS_test.txt`.
        classes: names of the classes in the order of their indices. By default the file's own `label_id`, or the names
            in alphabetical order.

    Raises:
        ManifestError: if the file cannot be read, or an annotation is incomplete.
    """
    path = Path(path)
    found = list(_read_thumos(path) if path.is_dir() else _read_json(path))
    names = {label for _, _, rows in found for _, label, _ in rows}
    given = {index: label for _, _, rows in found for _, label, index in rows if index is not None}
    indices: dict[str, int] = {}
    if classes is None and given and all(index is not None for _, _, rows in found for _, _, index in rows):
        _check_one_to_one({(index, label) for _, _, rows in found for _, label, index in rows}, path)
        known: dict[int, str] = given
    else:
        known = dict(enumerate(sorted(names) if classes is None else classes))
        indices = {name: index for index, name in known.items()}
        if unknown := sorted(names - set(indices)):
            cause = f"its class {unknown[0]!r} is not one of the {len(known)} classes that the model knows"
            raise ManifestError(str(path), None, cause, "Delete its segments, or give a model that knows it.")
    videos = {}
    for name, video, rows in found:
        segments = np.array([segment for segment, _, _ in rows], dtype=np.float32).reshape(-1, 2)
        labels = np.array([indices.get(label, index) for _, label, index in rows], dtype=np.int64)
        videos[name] = VideoAnnotation(video.pop("subset"), segments, labels, **video)
    _remark_on_odd(videos.values(), path)
    return Annotations(videos, dict(sorted(known.items())))


def _check_one_to_one(pairs: set[tuple[int | None, str]], path: Path) -> None:
    """Refuse numbers of several classes, and classes of several numbers."""
    for place, word in ((0, "label_id"), (1, "label")):
        seen: dict[Any, set[Any]] = {}
        for pair in pairs:
            seen.setdefault(pair[place], set()).add(pair[1 - place])
        for value, others in sorted(seen.items()):
            if len(others) > 1:
                cause = f"its {word} {value!r} goes with {' and '.join(repr(other) for other in sorted(others))}"
                raise ManifestError(str(path), None, cause, "Give every class one number, or leave label_id out.")


def _remark_on_odd(videos: Iterable[VideoAnnotation], path: Path) -> None:
    """Warn of segments that nothing can be found for; they count, as in the released evaluator."""
    empty = sum(int((video.segments[:, 1] <= video.segments[:, 0]).sum()) for video in videos)
    behind = sum(int((video.segments[:, 0] >= video.duration).sum()) for video in videos if video.duration)
    odd = [f"{empty} end where they begin, or before" * bool(empty), f"{behind} begin behind the video" * bool(behind)]
    if any(odd):
        logger.warning(f"{path}: of the segments, {' and '.join(filter(None, odd))}; nothing can be found for them.")


def without_duplicates(
    segments: NDArray[np.float32], labels: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return segments without those that repeat an earlier one of the same class, within a millisecond.

    Args:
        segments: `(n, 2)` in seconds.
        labels: `(n,)`.
    """
    kept: list[int] = []
    for row, (segment, label) in enumerate(zip(segments.astype(np.float64), labels, strict=True)):
        same = [other for other in kept if labels[other] == label]
        if not (np.abs(segments[same] - segment) <= DUPLICATE_SECONDS).all(axis=1).any():
            kept.append(row)
    return segments[kept], labels[kept]


def read_class_scores(path: str | Path) -> dict[str, NDArray[np.float64]]:
    """Read the scores that a video classifier gave whole videos.

    Args:
        path: JSON `{id: [score of each class]}`, alone or in "results"; a list may hold one list of the scores.

    Returns:
        Id -> `(classes,)`.

    Raises:
        ManifestError: if the file cannot be read, or the scores of a video are not one row of numbers.
    """
    path = Path(path)
    content = load_json(path)
    found = content.get("results", content)
    if not isinstance(found, dict):
        raise ManifestError(str(path), None, "its scores are no object", "Expected scores by id of the video.")
    scores = {}
    for name, row in found.items():
        if isinstance(row, list) and len(row) == 1 and isinstance(row[0], list):
            row = row[0]
        if not isinstance(row, list) or not row or not all(map(is_number, row)):
            raise ManifestError(str(path), name, "its scores are not one row of numbers", "Give one for each class.")
        scores[name] = np.array(row, dtype=np.float64)
    return scores


def to_results(segments: Iterable[tuple[str, str, float, Sequence[float]]]) -> dict[str, Any]:
    """Return segments in the layout of ActivityNet's results.

    Args:
        segments: of each the id of its video, its label, its score, and start and end in seconds.
    """
    results: dict[str, list[dict[str, Any]]] = {}
    for video, label, score, segment in segments:
        entry = {"label": label, "score": float(score), "segment": [float(time) for time in segment]}
        results.setdefault(video, []).append(entry)
    return {"version": "VERSION 1.3", "results": results, "external_data": {}}


# Of one video: id; subset, duration, fps; and for each segment its ends, the name of its class, and its index.
_Row = tuple[tuple[float, float], str, int | None]
_Video = tuple[str, dict[str, Any], list[_Row]]


def _read_json(path: Path) -> Iterator[_Video]:
    content = load_json(path)
    if is_moments(content):
        yield from read_moments(content, path)
        return
    database = content.get("database")
    if not isinstance(database, dict) or not database:
        raise ManifestError(
            str(path), None, "it has no videos in 'database'", "Expected ActivityNet's layout or Ego4D's moments."
        )
    for name, entry in database.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("subset"), str):
            raise ManifestError(str(path), name, "it names no subset", "Expected training, validation or testing.")
        facts: dict[str, Any] = {"subset": entry["subset"].lower()}
        for key in ("duration", "fps"):
            value = entry.get(key)
            if value is not None and not (is_number(value) and value > 0):
                raise ManifestError(
                    str(path), name, f"its {key} is {reprlib.repr(value)}", "Expected a number above 0."
                )
            facts[key] = value
        rows = entry.get("annotations") or []
        if not isinstance(rows, list):
            raise ManifestError(str(path), name, "its annotations are no list", "Expected one entry for each segment.")
        yield name, facts, [_json_row(row, f"{name}, annotation {number}", path) for number, row in enumerate(rows, 1)]


def _json_row(row: Any, place: str, path: Path) -> _Row:
    if not isinstance(row, dict) or "segment" not in row or not _LABELS & row.keys():
        raise ManifestError(str(path), place, "it lacks a segment or a label", "Add them, or delete it.")
    segment, index = row["segment"], row.get("label_id")
    if not isinstance(segment, list) or len(segment) != 2 or not all(map(is_number, segment)):
        raise ManifestError(
            str(path), place, f"its segment is {reprlib.repr(segment)}", "Expected start and end in seconds."
        )
    if index is not None and (isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < 2**31):
        raise ManifestError(str(path), place, f"its label_id is {reprlib.repr(index)}", "Expected a number from 0.")
    label = row.get("label", index)
    if isinstance(label, bool) or not isinstance(label, str | int):
        raise ManifestError(str(path), place, f"its label is {reprlib.repr(label)}", "Expected the name of a class.")
    return (segment[0], segment[1]), str(label), index


def _read_thumos(folder: Path) -> Iterator[_Video]:
    files = {file: match for file in sorted(folder.iterdir()) if (match := _THUMOS_FILE.fullmatch(file.name))}
    if not files:
        raise ManifestError(
            str(folder), None, "it holds no CLASS_val.txt or CLASS_test.txt", "Give the folder of THUMOS-14's files."
        )
    videos: dict[str, tuple[dict[str, Any], list[_Row]]] = {}
    for file, match in files.items():
        if match["label"] == _NO_CLASS:
            continue
        for number, line in enumerate(read_text(file).splitlines(), 1):
            fields = line.split()
            if not fields:
                continue
            try:
                name, start, end = fields[0], *map(float, fields[1:])
                if not (is_number(start) and is_number(end)):
                    raise ValueError
            except ValueError:
                raise ManifestError(
                    str(file), f"line {number}", f"it is {line!r}", "Expected a video, a start and an end in seconds."
                ) from None
            facts, rows = videos.setdefault(name, ({"subset": _THUMOS_SUBSETS[match["subset"]]}, []))
            rows.append(((start, end), match["label"], None))
    for name, (facts, rows) in sorted(videos.items()):
        yield name, facts, rows


def load_json(path: Path, kinds: tuple[type, ...] = (dict,)) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        kinds: what it may hold.

    Raises:
        ManifestError: if it cannot be read, or holds something else.
    """
    content = read_json(path)
    if not isinstance(content, kinds):
        raise ManifestError(str(path), None, f"it holds a {type(content).__name__}", "Expected an object.")
    return content


def is_number(value: Any) -> bool:
    """Return whether a value is a number that float32 can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST
