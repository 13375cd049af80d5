"""Annotations of Ego4D's future hand prediction, and the predictions file of its challenge.

The files are fho_hands_train.json, fho_hands_val.json and fho_hands_test_unannotated.json, in version 1 or 2: `clips`,
each with `clip_id`, `clip_uid`, `video_uid` and `frames`, of which each is an action with the moments of `HAND_TIMES`.
A moment has its `frame` in the whole video, its `clip_frame` in the exported clip, and, but for the test set, `boxes`:
`[{"left_hand": [x, y]}, {"right_hand": [x, y]}]`, the centers of those hands that are seen, in pixels of the video as
it was annotated, that is in its full resolution. Layout: EGO4D/docs, annotations-schemas, and the loader in
EGO4D/forecasting.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from internvideo_hf.data.ego4d import FILES, field_of, frame_of, list_of, read_annotations
from internvideo_hf.data.records import ManifestError, are_numbers, read_json
from internvideo_hf.models.common.hand_prediction import HAND_TIMES
from internvideo_hf.tasks.hand_prediction.metrics import HANDS, POINTS_SHAPE
from internvideo_hf.utils.files import atomic_write_text
from internvideo_hf.utils.names import with_article

Floats = NDArray[np.float64]
NUM_COORDINATES = math.prod(POINTS_SHAPE)
_ADVICE = "Correct the entry, or download the file again."


@dataclass(frozen=True)
class HandClip:
    """An action whose hands are to be predicted from the video before its first moment, pre_45.

    Args:
        name: `CLIP_FRAME`, by which the challenge knows it: the id of the clip, and the last frame before pre_45.
        clip: id of the exported clip; None where the file names none.
        video: id of the whole video; None where the file names none.
        frame: index of the pre_45 frame in the whole video.
        clip_frame: the same in the exported clip; None where the file does not say.
        points: x and y of the left and the right hand at each time, `(20,)` as the model's numbers; 0 where unknown.
        known: which of them are annotated, bool, `(20,)`.
    """

    name: str
    clip: str | None
    video: str | None
    frame: int
    clip_frame: int | None
    points: Floats
    known: NDArray[np.bool_]


def read_hands(path: str | Path, *, as_published: bool = False) -> list[HandClip]:
    """Read an annotation file of future hand prediction.

    The original reads any list behind the first five keys of the document; this reads `clips`, wherever it stands. Of
    a hand that a moment lists several times, the last one counts, as there.

    Args:
        path: such as annotations/fho_hands_train.json.
        as_published: skip moments of two fields, as the original does, which so leaves out those of the test set; a
            moment without `boxes` has no known hand in any case.

    Returns:
        The actions in their order, without annotated hands too.

    Raises:
        ManifestError: if the file cannot be read, or an entry is not as it should be; names the entry.
    """
    found = []
    for number, clip in enumerate(read_annotations(path, FILES["fho_hands"])[0], 1):
        about: dict[str, Any] = {"file": path, "place": f"clips {number}"}
        clip_id = field_of(clip, "clip_id", **about)
        if type(clip_id) not in (int, str):
            cause = f"clip_id is {str(clip_id)[:60]}, expected a number or text"
            raise ManifestError(str(path), about["place"], cause, _ADVICE)
        for action, moments in enumerate(list_of(clip, "frames", **about), 1):
            about["place"] = place = f"clips {number} (clip_id {clip_id}), frames {action}"
            first = field_of(moments, HAND_TIMES[0], **about)
            if not isinstance(first, Mapping):
                raise ManifestError(str(path), place, f"{HAND_TIMES[0]} is {first!r}, expected an object", _ADVICE)
            frame = frame_of(first, "frame", **about)
            in_clip = None if first.get("clip_frame") is None else frame_of(first, "clip_frame", **about)
            points, known = _points(moments, path, place, as_published)
            ids = clip.get("clip_uid"), clip.get("video_uid")
            found.append(HandClip(f"{clip_id}_{frame - 1}", *ids, frame, in_clip, points, known))
    if not found:
        raise ManifestError(str(path), None, "no clip has frames", "Download the file again: earlier ones had none.")
    return found


def _points(
    moments: Mapping[str, Any], path: str | Path, place: str, as_published: bool
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return coordinates and which of them are known, `(20,)` each."""
    points, known = np.zeros(POINTS_SHAPE), np.zeros(POINTS_SHAPE, bool)
    for time, name in enumerate(HAND_TIMES):
        moment = moments.get(name)
        if moment is None or (as_published and isinstance(moment, Mapping) and len(moment) == 2):
            continue
        boxes = moment.get("boxes", ()) if isinstance(moment, Mapping) else None
        if not isinstance(boxes, list | tuple) or not all(isinstance(box, Mapping) for box in boxes):
            raise ManifestError(str(path), f"{place}, {name}", "expected an object with the list 'boxes'", _ADVICE)
        for box in boxes:
            for hand, side in enumerate(HANDS):
                if (point := box.get(f"{side}_hand")) is None:
                    continue
                if not are_numbers(point, 2):
                    cause = f"{side}_hand is {str(point)[:60]}, expected two finite numbers, x and y in pixels"
                    raise ManifestError(str(path), f"{place}, {name}", cause, _ADVICE)
                points[time, hand], known[time, hand] = point, True
    return points.ravel(), known.ravel()


def read_predictions(path: str | Path, views: int = 1) -> dict[str, Floats]:
    """Read a predictions file: an object of `CLIP_FRAME` -> 20 numbers, see `HandClip`.

    Args:
        path: a JSON file.
        views: whose sum the numbers are. The file that the baseline's tool writes has the sum of 30, by which its
            evaluation divides.

    Raises:
        ManifestError: if it cannot be read, or an entry is not as it should be; names the entry.
    """
    content = read_json(Path(path))
    advice = "Write 20 numbers for each clip: left x, left y, right x, right y at each of five times."
    if not isinstance(content, Mapping) or not content:
        cause = f"it is {with_article(type(content).__name__)}, expected an object of clips and their numbers"
        raise ManifestError(str(path), None, cause, advice)
    for name, numbers in content.items():
        if not are_numbers(numbers, NUM_COORDINATES):
            raise ManifestError(str(path), name, f"expected {NUM_COORDINATES} finite numbers", advice)
    return {name: np.array(numbers, np.float64) / views for name, numbers in content.items()}


def write_predictions(path: str | Path, names: Sequence[str], predictions: NDArray[Any]) -> None:
    """Write a predictions file, atomically; see `read_predictions`.

    Args:
        path: a JSON file.
        names: of the clips.
        predictions: `(clips, 20)`, the mean over views; clips with NaN are left out.
    """
    rows = np.asarray(predictions, np.float64)
    content = {name: row.tolist() for name, row in zip(names, rows, strict=True) if np.isfinite(row).all()}
    atomic_write_text(Path(path), f"{json.dumps(content)}\n")
