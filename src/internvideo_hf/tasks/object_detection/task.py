"""Object detection in annotated frames, such as the objects whose state changes in Ego4D."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from internvideo_hf.data.records import ManifestError, list_path, read_json
from internvideo_hf.data.samples import Row
from internvideo_hf.inference.objects import ObjectDetector, detector_config
from internvideo_hf.inference.rows import Loader, Read, Work, run_rows
from internvideo_hf.tasks.base import Task
from internvideo_hf.tasks.object_detection.annotations import Frame, read_frames
from internvideo_hf.tasks.object_detection.answers import Answers
from internvideo_hf.tasks.object_detection.frames import FrameFolder
from internvideo_hf.tasks.object_detection.metrics import COLUMNS, MAX_BOXES, Floats, require_coco
from internvideo_hf.tasks.object_detection.settings import boxes_in_pixels, check_frames
from internvideo_hf.tasks.object_detection.training import TASK_TRAINING
from internvideo_hf.tasks.protocol import Evaluation, FrameData, Outcome, Protocol, Run, Samples, model_facts
from internvideo_hf.utils.fingerprints import json_sha256

_ABSENT = -1.0  # score of a row that is no box


def _settings(protocol: Protocol) -> FrameData:
    return protocol.data.frames or FrameData()


def _needs_model(protocol: Protocol) -> bool:
    return _settings(protocol).predictions is None


def _check(protocol: Protocol) -> None:
    check_frames(_settings(protocol))


def _read(protocol: Protocol, data_root: Path, model: str) -> Samples:
    require_coco()  # before the work begins
    if _needs_model(protocol):
        detector_config(model, "--model")
    frames = read_frames(list_path(data_root, protocol.data.list), _settings(protocol))
    return Samples([{"video": frame.name} for frame in frames], np.arange(len(frames)), source=(frames, data_root))


def _run(protocol: Protocol, samples: Samples, run: Run) -> Outcome:
    frames, data_root = samples.source
    data = _settings(protocol)
    causes: dict[int, str] = {}
    if data.predictions is not None:
        facts: dict[str, Any] = {"device": "none", "pixels": {}}
        found = read_predictions(data_root / data.predictions, frames)
    else:
        detector = ObjectDetector(run.model, run.device, protocol.dtype, option="--model")
        counted, classes = counted_classes(detector.model.config, data.object_type)
        facts = {**model_facts(detector.model), "pixels": {}, "classes": classes}
        work = Work(
            partial(_read_frame, folder=data_root / data.folder),
            partial(_boxes, counted=counted),
            Loader(ObjectDetector, run.model, (("dtype", protocol.dtype), ("option", "--model")), "model"),
            blanks={"boxes": _ABSENT},
            file=partial(_file_of, folder=data_root / data.folder),
        )
        rows: list[Row] = [{"video": frame.name, "frame": frame} for frame in frames]
        parts = run.parts_of(detector.model, facts, json_sha256(list(map(asdict, frames))), asdict(data))
        table, causes = run_rows(rows, detector, work, run.settings, parts=parts, description="Frames")
        found = {
            frame.image: boxes[boxes[:, 4] > _ABSENT].numpy()
            for frame, boxes in zip(frames, table["boxes"], strict=True)
        }
    annotated = [frame for frame in frames if frame.boxes is not None]
    facts["frames"] = {"annotated": len(annotated), "objects": sum(len(frame.boxes or ()) for frame in annotated)}
    answers = Answers(frames, found, data.object_type)
    return Outcome(answers.scores(), causes, facts, answers)


def counted_classes(config: Any, object_type: str) -> tuple[list[int] | None, str]:
    """Return which classes of a detector count, and say so in words.

    Args:
        config: of the detector.
        object_type: name of the objects.

    Returns:
        The class of this name; or None for all, of a detector that has no such class.
    """
    classes: Mapping[int, str] = config.id2label
    wanted = [number for number, name in classes.items() if name.strip().casefold() == object_type.casefold()]
    if wanted:
        return wanted, f"the class {classes[wanted[0]]}"
    return None, f"boxes of all {len(classes)} classes, none of which is {object_type}"


def _read_frame(row: Row, folder: Path) -> Any:
    return _source(folder, os.getpid()).read(row["frame"])


def _file_of(row: Row, folder: Path) -> str:
    return str(_source(folder, os.getpid()).file_of(row["frame"]))


@lru_cache(maxsize=1)
def _source(folder: Path, process: int) -> FrameFolder:
    """Return the frames as one process reads them, which keeps a video open from one frame to the next."""
    return FrameFolder(folder)


def _boxes(detector: ObjectDetector, batch: Sequence[Read], counted: Sequence[int] | None) -> dict[str, torch.Tensor]:
    """Return the boxes of frames, `(frames, MAX_BOXES, 5)`."""
    table = torch.full((len(batch), MAX_BOXES, 5), _ABSENT)
    for own, (row, pixels), found in zip(table, batch, detector.find([pixels for _, pixels in batch]), strict=True):
        frame, (height, width) = row["frame"], pixels.shape[:2]
        boxes = boxes_in_pixels(found, counted, frame.width or width, frame.height or height)
        own[: len(boxes)] = boxes
    return {"boxes": table}


def read_predictions(path: Path, frames: Sequence[Frame]) -> dict[int, Floats]:
    """Read boxes in COCO's layout of results.

    Args:
        path: JSON: a list of objects with image_id, bbox (left, top, width, height in pixels) and score; the images
            are numbered as in the list of frames.
        frames: of the list.

    Returns:
        Image -> `(n, 5)`, left, top, width, height and score, the best first, at most `MAX_BOXES`.

    Raises:
        ManifestError: if an entry is incomplete, or is of no frame of the list.
    """
    content = read_json(path)
    if not isinstance(content, list):
        raise ManifestError(str(path), None, f"it holds a {type(content).__name__}", "Expected a list of boxes.")
    known = {frame.image for frame in frames}
    found: dict[int, list[list[float]]] = {}
    for number, row in enumerate(content, 1):
        values = [*row["bbox"], row["score"]] if _is_result(row) else None
        if values is None or not all(type(value) in (int, float) and np.isfinite(value) for value in values):
            advice = "Expected image_id, bbox of four numbers, and score."
            raise ManifestError(str(path), f"box {number}", f"it is {row!r:.80}", advice)
        if row["image_id"] not in known:
            cause = f"its image_id {row['image_id']} is none of the {len(known)} frames"
            raise ManifestError(str(path), f"box {number}", cause, "Number images as the list of frames does.")
        found.setdefault(row["image_id"], []).append(values)
    tables = {image: np.array(rows, dtype=np.float64) for image, rows in found.items()}
    return {image: rows[np.argsort(-rows[:, 4], kind="stable")][:MAX_BOXES] for image, rows in tables.items()}


def _is_result(row: Any) -> bool:
    if not isinstance(row, dict) or not {"image_id", "bbox", "score"} <= row.keys():
        return False
    return isinstance(row["bbox"], list) and len(row["bbox"]) == 4 and isinstance(row["image_id"], int)


def _facts(result: Mapping[str, Any]) -> dict[str, str]:
    data, about = result["settings"]["data"]["frames"] or asdict(FrameData()), result["model"]
    counts = about["frames"]
    facts = {"frames": f"{counts['objects']} objects in {counts['annotated']} annotated frames"}
    return facts | {"boxes": f"of {data['predictions']}" if data["predictions"] is not None else about["classes"]}


TASK = Task(
    "object_detection",
    training=TASK_TRAINING,
    evaluation=Evaluation(
        read=_read,
        run=_run,
        columns=COLUMNS,
        settings=("data.frames",),
        check=_check,
        facts=_facts,
        has_details=True,
        needs_model=_needs_model,
        on_engines=True,
    ),
)
