"""Average precision of boxes as COCO computes it, by pycocotools."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from internvideo_hf.tasks.object_detection.annotations import Frame

Floats = NDArray[np.floating[Any]]
MAX_BOXES = 100
"""Boxes of a frame that count, the best ones."""
CATEGORY = 1
COLUMNS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR@100")
"""Names of the scores: AP over overlaps of 0.5-0.95, at 0.5 and 0.75, of small, medium and large objects; recall."""
_PLACES = (0, 1, 2, 3, 4, 5, 8)  # of these in pycocotools' statistics
MISSING = "Metrics of boxes come with the extra [detection]: pip install 'internvideo-hf[detection]'"


def require_coco() -> tuple[Any, Any]:
    """Return the classes `COCO` and `COCOeval` of pycocotools, and say how to install it if it is missing."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise ImportError(MISSING) from error
    return COCO, COCOeval


def coco_document(frames: Sequence[Frame], object_type: str) -> dict[str, Any]:
    """Return annotated frames in COCO's layout.

    Args:
        frames: those that are annotated count.
        object_type: name of the category.
    """
    frames = [frame for frame in frames if frame.boxes is not None]
    boxes = [(frame.image, box) for frame in frames for box in frame.boxes or ()]
    return {
        "images": [
            {"id": frame.image, "file_name": frame.file or frame.name, "width": frame.width, "height": frame.height}
            for frame in frames
        ],
        # An annotation of the id 0 counts as none in pycocotools.
        "annotations": [
            {"id": number, "image_id": image, "category_id": CATEGORY, "bbox": list(box), "area": box[2] * box[3]}
            | {"iscrowd": 0}
            for number, (image, box) in enumerate(boxes, 1)
        ],
        "categories": [{"id": CATEGORY, "name": object_type}],
    }


def coco_results(found: Mapping[int, Floats]) -> list[dict[str, Any]]:
    """Return boxes in COCO's layout of results.

    Args:
        found: image -> left, top, width, height in pixels and score, `(n, 5)`.
    """
    return [
        {
            "image_id": image,
            "category_id": CATEGORY,
            "bbox": [float(value) for value in row[:4]],
            "score": float(row[4]),
        }
        for image, rows in found.items()
        for row in rows
    ]


def coco_scores(frames: Sequence[Frame], found: Mapping[int, Floats]) -> dict[str, float]:
    """Return COCO's scores of boxes of one class, in percent.

    Args:
        frames: ground truth; frames that are not annotated are left out.
        found: image -> left, top, width, height in pixels and score, `(n, 5)`.

    Returns:
        By `COLUMNS`; without those of sizes that no object has, and empty without any true object.

    Raises:
        ImportError: if pycocotools is not installed.
    """
    kind, evaluation = require_coco()
    document = coco_document(frames, "object")
    if not document["annotations"]:
        return {}
    images = {entry["id"] for entry in document["images"]}
    results = coco_results({image: rows for image, rows in found.items() if image in images})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = kind()
        truth.dataset = document
        truth.createIndex()
        if results:
            run = evaluation(truth, truth.loadRes(results), "bbox")
            run.evaluate()
            run.accumulate()
            run.summarize()
            stats = [float(run.stats[place]) for place in _PLACES]
        else:  # which pycocotools does not take
            stats = [0.0, 0.0, 0.0, -1.0, -1.0, -1.0, 0.0]
    return {name: 100 * value for name, value in zip(COLUMNS, stats, strict=True) if value >= 0}
