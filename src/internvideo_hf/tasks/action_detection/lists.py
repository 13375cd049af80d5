"""Lists of key frames as recipes and protocols name them: annotations, detections, classes, and their videos."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from transformers.utils import logging

from internvideo_hf.data.records import ManifestError, require_datasets
from internvideo_hf.data.samples import Row
from internvideo_hf.recipes.labels import read_classes
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.action_detection.annotations import (
    Annotations,
    KeyFrame,
    key_frame_name,
    read_annotations,
    read_detections,
    read_key_frames,
    read_label_map,
)
from internvideo_hf.tasks.action_detection.metrics import BoxTable
from internvideo_hf.tasks.action_detection.videos import VideoFolder
from internvideo_hf.tasks.protocol import BoxData

if TYPE_CHECKING:
    import datasets

logger = logging.get_logger(__name__)


def read_training_rows(
    path: Path,
    data_root: Path,
    *,
    boxes: BoxData,
    labels: str | int | None = None,
    classes: list[str] | None = None,
    layout: str | None = None,
    skip_missing: bool = False,
) -> "tuple[datasets.Dataset, list[str]]":
    """Read annotations for training or validation.

    Args:
        path: see `annotations.read_annotations`.
        data_root: folder of the list of excluded key frames, and of a file of classes.
        boxes: settings of the recipe.
        labels: name of a set of classes, a file with their names, or their number; None for those of the annotations.
        classes: the classes of the training list, for a validation list.
        layout: must be None.
        skip_missing: unused; videos are looked for later.

    Returns:
        A row for each key frame with people, see `rows_of`; and the names of the classes.

    Raises:
        ManifestError: if the annotations are invalid, or have no people.
        RecipeError: if the layout is set, or the classes are unknown.
    """
    if layout is not None:
        raise RecipeError("data.layout changes nothing in action_detection. Leave it out.")
    names = classes
    if names is None and labels is not None:
        by_number = isinstance(labels, int)
        names = list(map(str, range(1, int(labels) + 1))) if by_number else read_classes(str(labels), data_root)
    excluded = read_excluded(boxes.train_excluded if classes is None else boxes.excluded, data_root)
    annotations = read_annotations(path, names).without(excluded)
    rows = rows_of(annotations.key_frames)
    if not rows:
        raise ManifestError(str(path), None, "it has no key frame with people", "Write a line for each of them.")
    return require_datasets().Dataset.from_list(rows), annotations.classes


def rows_of(key_frames: Sequence[KeyFrame]) -> list[dict[str, Any]]:
    """Return a row for each key frame with people.

    Args:
        key_frames: of annotations or of a detector.

    Returns:
        `video`, `timestamp`, `boxes` as fractions of the frame, `labels` of each, and their `scores`.
    """
    return [
        {
            "video": frame.video,
            "timestamp": float(frame.timestamp),
            "boxes": [list(box.corners) for box in frame.boxes],
            "labels": [list(box.labels) for box in frame.boxes],
            "scores": [box.score for box in frame.boxes],
        }
        for frame in key_frames
        if frame.boxes
    ]


def truth_of(rows: Sequence[Row]) -> BoxTable:
    """Return the true boxes and actions of rows.

    Args:
        rows: see `rows_of`.
    """
    found = [
        (key_frame_name(row["video"], row["timestamp"]), box, label)
        for row in rows
        for box, labels in zip(row["boxes"], row["labels"], strict=True)
        for label in labels
    ]
    names, boxes, labels = zip(*found, strict=True) if found else ((), (), ())
    return BoxTable(names, np.array(boxes), np.array(labels))


def found_in(
    rows: Sequence[Row], numbers: NDArray[np.int64], places: NDArray[np.int64], scores: NDArray[np.floating[Any]]
) -> BoxTable:
    """Return what a model found in rows: a row for each box and class, with the box as it was given.

    Args:
        rows: see `rows_of`.
        numbers: `(n,)`, the row of each scored box.
        places: `(n,)`, its place in the row.
        scores: `(n, classes)`, probabilities, which are multiplied by the score of the box.
    """
    count = scores.shape[1]
    names, boxes, people = np.empty(len(numbers), dtype=object), np.zeros((len(numbers), 4)), np.zeros(len(numbers))
    known: dict[int, tuple[str, Row]] = {}
    for place, (number, box) in enumerate(zip(numbers.tolist(), places.tolist(), strict=True)):
        if number not in known:
            known = {number: (key_frame_name(rows[number]["video"], rows[number]["timestamp"]), rows[number])}
        names[place], row = known[number]
        boxes[place], people[place] = row["boxes"][box], row["scores"][box]
    return BoxTable(
        np.repeat(names, count),
        np.repeat(boxes, count, axis=0),
        np.tile(np.arange(count), len(numbers)),
        (scores * people[:, None]).ravel(),
    )


def with_files(rows: Any, videos: VideoFolder, folder: Path, skip_missing: bool) -> Any:
    """Return the rows whose video has a file.

    Args:
        rows: a `datasets.Dataset` of `read_training_rows`.
        videos: the files.
        folder: of these, for messages.
        skip_missing: warn of the others only.

    Raises:
        ManifestError: if some have none, unless they are skipped; or all.
    """
    places = list(zip(rows["video"], rows["timestamp"], strict=True))
    has_file = [videos.find(*place) is not None for place in places]
    if all(has_file):
        return rows
    cause = f"{has_file.count(False)} of {len(rows)} key frames have no video, the first is "
    cause += key_frame_name(*places[has_file.index(False)])
    if not skip_missing or not any(has_file):
        raise ManifestError(str(folder), None, cause, "Get them, set data.boxes.folder, or set data.missing=skip.")
    logger.warning(f"{folder}: {cause}; they are left out.")
    return rows.select(np.flatnonzero(has_file))


def read_excluded(excluded: str | None, data_root: Path) -> set[str]:
    """Return the names of excluded key frames.

    Args:
        excluded: file below the data root; None for none.
        data_root: its folder.
    """
    return set() if excluded is None else read_key_frames(data_root / excluded)


def scored_classes(data: BoxData, classes: Sequence[str], data_root: Path) -> list[int]:
    """Return the indices of the classes that are scored.

    Args:
        data: settings.
        classes: names of the model's classes.
        data_root: folder of a label map.

    Raises:
        RecipeError: if an action is not one of the classes.
    """
    if data.actions is None:
        return list(range(len(classes)))
    numbers = list(read_label_map(data_root / data.actions)) if isinstance(data.actions, str) else data.actions
    if wrong := [number for number in numbers if not 1 <= number <= len(classes)]:
        raise RecipeError(f"data.boxes.actions has {wrong[0]}, expected numbers from 1 to {len(classes)}.")
    return sorted({number - 1 for number in numbers})


@dataclass(frozen=True)
class EvaluationList:
    """What an evaluation reads.

    Args:
        rows: key frames with the boxes to score, see `rows_of`; none where a file has the answers.
        truth: ground truth.
        classes: names of all classes.
        scored: indices of those that are scored.
        excluded: names of key frames that are left out.
    """

    rows: list[dict[str, Any]]
    truth: BoxTable
    classes: list[str]
    scored: list[int]
    excluded: set[str]


def read_evaluation_list(path: Path, data_root: Path, data: BoxData, classes: Sequence[str] | None) -> EvaluationList:
    """Read the annotations of an evaluation, and the boxes of a detector if there are some.

    Args:
        path: of the annotations.
        data_root: folder of the other files.
        data: settings of the protocol.
        classes: names of the classes; None for those of the annotations.

    Raises:
        ManifestError: if a file is invalid, or there is nothing to score.
        RecipeError: if an action is not one of the classes.
    """
    excluded = read_excluded(data.excluded, data_root)
    read: Annotations = read_annotations(path, classes)
    annotations = read.without(excluded)
    frames = annotations.key_frames
    if data.detections is not None:
        found = read_detections(data_root / data.detections, data.min_score, read)
        frames = replace(annotations, key_frames=found).without(excluded).key_frames
    rows = rows_of(frames)
    if not rows and data.predictions is None:
        raise ManifestError(
            str(path if data.detections is None else data_root / data.detections),
            None,
            "no box is left to score",
            "Lower data.boxes.min_score, or check the excluded key frames.",
        )
    scored = scored_classes(data, annotations.classes, data_root)
    return EvaluationList(rows, annotations.table(), annotations.classes, scored, excluded)
