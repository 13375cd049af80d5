"""Adapter of the kind of short-term anticipation's metric."""

import json
from pathlib import Path

import numpy as np
import pytest

from internvideo_hf.tasks.short_term_anticipation.metrics import InteractionTable, Scoring, score
from parity.compare import load_config


def ego4d_sta_metric(folder: Path, tmp_path: Path) -> None:
    config, images = load_config(folder), json.loads((folder / "images.json").read_text())
    scoring = Scoring(
        config.get("iou_threshold", 0.5),
        config.get("ttc_threshold", 0.25),
        config.get("top_k", 5),
        config.get("count_all_classes", False),
    )
    # An image with an empty list of detections counts; one without detections is passed over by the original.
    images = [image for image in images if image.get("pred")]
    found = _table([image["pred"] for image in images], with_scores=True)
    truth = _table([image.get("gt") or {} for image in images])
    ours = score(found, truth, scoring).values
    expected = json.loads((folder / "result.json").read_text())
    order = config.get("order", list(ours))
    assert len(expected) == len(order)
    assert [ours[name] for name in order] == pytest.approx(expected, abs=1e-9)


def _table(images: list[dict], with_scores: bool = False) -> InteractionTable:
    def column(name: str) -> list:
        return [value for image in images for value in image.get(name, ())]

    frames = [str(number) for number, image in enumerate(images) for _ in image.get("boxes", ())]
    boxes = np.array(column("boxes"), dtype=np.float64).reshape(-1, 4)
    scores = np.array(column("scores")) if with_scores else None
    return InteractionTable(frames, boxes, column("nouns"), column("verbs"), column("ttcs"), scores)
