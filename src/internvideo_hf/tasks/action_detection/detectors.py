"""Boxes of people in key frames: found by a detector of objects, or given."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from internvideo_hf.checkpoints.model_names import resolve_model
from internvideo_hf.data.finding import video_id
from internvideo_hf.data.records import read_json
from internvideo_hf.inference.objects import ObjectDetector, Objects, detector_config
from internvideo_hf.tasks.action_detection.annotations import MOST_BOXES, MOST_OUTSIDE, read_boxes
from internvideo_hf.tasks.boxes import Size, clip, from_fractions, is_nonempty
from internvideo_hf.utils.names import did_you_mean, listed, nearest

THRESHOLD = 0.8
"""Least score of a person, as in the released test."""
PERSON = "person"
"""Name of the class of people in most detectors."""
_LISTED = 20  # classes in a message


class People(NamedTuple):
    """The people in one key frame.

    Args:
        boxes: left, top, right, bottom as fractions of the frame, 0-1, float32, `(n, 4)`.
        scores: that each is a person, 0-1, float32, `(n,)`.
        indices: place of each in the detector's or the user's list, int64, `(n,)`.
    """

    boxes: Tensor
    scores: Tensor
    indices: Tensor

    def select(self, which: Tensor) -> "People":
        """Return some of the people, by a mask or by places."""
        return People(*(column[which] for column in self))

    def inside(self, size: Size) -> "People":
        """Clip the boxes to the frame; leave out those not over a pixel wide and high in it. `indices` tell the rest.

        Args:
            size: of the frame, (height, width) in pixels.
        """
        clipped = self._replace(boxes=self.boxes.clamp(0, 1))
        return clipped.select(is_nonempty(self.in_pixels(size)))

    def in_pixels(self, size: Size) -> Tensor:
        """Return the boxes in pixels of a frame, as `boxes` has them, clipped to it.

        Args:
            size: of the frame, (height, width) in pixels.
        """
        return clip(from_fractions(self.boxes, size), size)


class PersonDetector(ObjectDetector):
    """Finds people by any detector of objects of transformers: DETR, YOLOS, RT-DETR, D-FINE, ...

    Args:
        name: folder of the detector, or its name on the Hub; no code of it runs.
        threshold: least score of a person, 0-1.
        person_class: name of the class of people, in any case.
        device: where it runs; the accelerator if there is one.
        dtype: number type in which it runs, such as "float16"; as saved if None.

    Raises:
        ValueError: if it is not a detector of objects, lacks weights, or has no such class.
    """

    def __init__(
        self,
        name: str | Path,
        threshold: float = THRESHOLD,
        person_class: str = PERSON,
        device: str | torch.device | None = None,
        dtype: str | None = None,
    ):
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold={threshold}, expected a score between 0 and 1 (--min-person-score).")
        self.threshold = threshold
        name = resolve_model(name)
        config: Any = detector_config(name, "--detector")
        self._person = _class_number(name, config.id2label, person_class)
        super().__init__(name, device, dtype)

    def facts(self) -> dict[str, Any]:
        """Return what determines the boxes: the detector's weights, and how it is asked."""
        return {**super().facts(), "threshold": self.threshold, "person": self._person}

    def detect(self, frames: Sequence[NDArray[np.uint8]]) -> list[People]:
        """Find the people in frames, the highest score first; of more than `MOST_BOXES` those of the highest.

        Args:
            frames: uint8 `(height, width, 3)`, RGB.
        """
        found = self.find(frames, self.threshold)
        return [self._people(one, frame.shape[:2]) for one, frame in zip(found, frames, strict=True)]

    def _people(self, found: Objects, size: Size) -> People:
        is_person = found.labels == self._person
        boxes, scores = found.boxes[is_person], found.scores[is_person]
        people = People(boxes, scores, torch.arange(len(boxes))).inside(size)
        kept = people.select(torch.arange(min(len(people.boxes), MOST_BOXES)))
        return kept._replace(indices=torch.arange(len(kept.boxes)))


def _class_number(name: str, classes: Mapping[int, str], person_class: str) -> int:
    for number, label in classes.items():
        if label.strip().casefold() == person_class.strip().casefold():
            return number
    labels = list(classes.values())
    raise ValueError(
        f"{name} has no class {person_class!r}; it detects {listed(labels, _LISTED)}."
        f"{did_you_mean(nearest(person_class, labels))} Name the class of people (--person-class NAME)."
    )


class KeyBoxes(NamedTuple):
    """Boxes that a user gives for one key frame.

    Args:
        time: of the key frame in seconds.
        people: boxes and scores.
    """

    time: float
    people: People


def parse_boxes(rows: Any, where: str = "boxes") -> list[KeyBoxes]:
    """Return the boxes of one video's key frames, in the order of time.

    Args:
        rows: for each key frame `{"time": seconds, "boxes": [[left, top, right, bottom], ...], "scores": [...]}`:
            boxes as fractions of the frame, at most `MOST_BOXES`; scores 0-1, all 1 where left out.
        where: name in messages.

    Raises:
        ValueError: naming the key frame and the box, if one is invalid. A box may reach beyond the frame.
    """
    if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
        raise ValueError(f'{where}: expected a list of {{"time": 3.0, "boxes": [[0.1, 0.2, 0.4, 0.9]]}}.')
    found: list[KeyBoxes] = []
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping) or "time" not in row or "boxes" not in row:
            raise ValueError(f'{where}: entry {number} is {row!r:.80}, expected {{"time": ..., "boxes": [...]}}.')
        if unknown := set(row) - {"time", "boxes", "scores"}:
            raise ValueError(f"{where}: entry {number} has {', '.join(map(str, sorted(unknown)))}, which is unknown.")
        time = _number(row["time"])
        if not 0 <= time < math.inf:
            raise ValueError(f"{where}: entry {number} has time {row['time']!r}, expected seconds from 0 on.")
        found.append(KeyBoxes(time, _given_people(row["boxes"], row.get("scores"), f"{where} at {time:g} s")))
    found.sort(key=lambda one: one.time)
    for one, after in pairwise(found):
        if one.time == after.time:
            raise ValueError(f"{where}: {one.time:g} s is there twice. Put the boxes of a key frame into one list.")
    return found


def _given_people(boxes: Any, scores: Any, where: str) -> People:
    try:
        table = np.asarray(boxes, dtype=np.float64).reshape(-1, 4) if len(boxes) else np.zeros((0, 4))
        given = np.ones(len(table)) if scores is None else np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: expected lists of 4 numbers, left, top, right, bottom ({error}).") from error
    if len(table) != len(boxes) or given.shape != (len(table),):
        raise ValueError(f"{where}: expected 4 numbers for each of {len(boxes)} boxes, and a score for each or none.")
    if len(table) > MOST_BOXES:
        raise ValueError(f"{where}: {len(table)} boxes, expected at most {MOST_BOXES}. Keep those of people.")
    for number, (box, score) in enumerate(zip(table.tolist(), given.tolist(), strict=True)):
        problem = ""
        if not all(map(math.isfinite, box)):
            problem = "expected numbers"
        elif min(box) < -MOST_OUTSIDE or max(box) > 1 + MOST_OUTSIDE:
            problem = "expected fractions of the frame: divide pixels by its width and height"
        elif box[2] < box[0] or box[3] < box[1]:
            problem = "expected left, top, right, bottom, of which right and bottom are the larger"
        elif not 0 <= score <= 1:  # nor NaN
            problem = f"its score is {score}, expected 0 to 1"
        if problem:
            raise ValueError(f"{where}: box {number} is {box}; {problem}.")
    return People(torch.from_numpy(table).float(), torch.from_numpy(given).float(), torch.arange(len(table)))


def _number(value: Any) -> float:
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return math.nan


class GivenBoxes:
    """Boxes of people that a user gives, for the key frames of one video or of several.

    Args:
        source: a list for one video, see `parse_boxes`; a mapping from the file name of a video without its ending to
            such a list; or a file: JSON of either, csv in AVA's format, or JSON in COCO's layout.

    Raises:
        ManifestError: if a file cannot be read, or a line in it is invalid.
        ValueError: if a box is invalid.
    """

    def __init__(self, source: Any):
        self._of_any: list[KeyBoxes] | None = None
        self._by_video: dict[str, list[KeyBoxes]] = {}
        self._where = str(source) if isinstance(source, str | Path) else "boxes"
        content = _read_boxes(Path(source)) if isinstance(source, str | Path) else source
        if isinstance(content, Mapping):
            named = {str(video): rows for video, rows in content.items()}
            self._by_video = {video: parse_boxes(rows, f"{self._where}, {video}") for video, rows in named.items()}
        else:
            self._of_any = parse_boxes(content, self._where)

    def check_videos(self, count: int) -> None:
        """Refuse several videos where the boxes are of one.

        Args:
            count: number of videos.

        Raises:
            ValueError: if they would get the same boxes.
        """
        if self._of_any is not None and count > 1:
            raise ValueError(
                f"{self._where} has the boxes of one video, and there are {count}. Name the video of each list: "
                '{"match": [...], "talk": [...]}.'
            )

    def of(self, video: Any, name: str | None = None) -> list[KeyBoxes]:
        """Return the boxes of a video.

        Args:
            video: its path or address; anything else where the boxes are of one video.
            name: under which the boxes are; the video's file name without its ending if None.

        Raises:
            ValueError: if there are none.
        """
        if self._of_any is not None:
            return self._of_any
        if name is None:
            name = video_id(str(video)) if isinstance(video, str | Path) else ""
        if name not in self._by_video:
            known = list(self._by_video)
            others = f", but of {listed(known, 3)}" if known else ", nor of any other video"
            raise ValueError(
                f"{self._where} has no boxes of {name or 'a video without a name'}{others}."
                f"{did_you_mean(nearest(name, known))}"
            )
        return self._by_video[name]


def _read_boxes(path: Path) -> Any:
    """Return a file's boxes as `GivenBoxes` takes them."""
    if path.suffix.lower() == ".json":
        content = read_json(path)
        if not (isinstance(content, Mapping) and "images" in content and "annotations" in content):
            return content
    found: dict[str, list[dict[str, Any]]] = {}
    for frame in read_boxes(path):
        boxes, scores = [box.corners for box in frame.boxes], [box.score for box in frame.boxes]
        found.setdefault(frame.video, []).append({"time": frame.timestamp, "boxes": boxes, "scores": scores})
    return found
