"""What a detector found, as tables and as files in COCO's layout."""

import csv
import json

import numpy as np
import pytest

from internvideo_hf.tasks.object_detection.annotations import Frame
from internvideo_hf.tasks.object_detection.answers import Answers

FRAMES = [
    Frame(1, "v", "pre_frame", 7, boxes=((0.0, 0.0, 40.0, 40.0),), width=100, height=100),
    Frame(2, "v", "pnr_frame", 9, boxes=(), width=100, height=100),
    Frame(3, "v", "pnr_frame", 12, boxes=((0.0, 0.0, 40.0, 40.0),), width=100, height=100),
]
FOUND = {1: np.array([[0, 0, 40, 20, 0.75]]), 3: np.array([[0, 0, 40, 40, 0.5], [9, 9, 9, 9, 0.25]])}


def test_a_report_has_every_frame_and_what_coco_evaluates(tmp_path):
    pytest.importorskip("pycocotools", reason="the extra [detection] is not installed")
    answers = Answers(FRAMES, FOUND, "object_of_change")
    answers.write(tmp_path / "report")
    lines = list(csv.DictReader((tmp_path / "report/answers.csv").open()))
    assert [(line["frame"], line["objects"], line["found"], line["overlap"]) for line in lines] == [
        ("7", "1", "1", "0.5000"),
        ("9", "0", "0", ""),
        ("12", "1", "2", "1.0000"),
    ]
    pre, pnr = answers.by_moment()
    assert (pre["moment"], pre["frames"], pre["AP"], pre["AP75"]) == ("pre_frame", 1, pytest.approx(10), 0)
    assert (pnr["moment"], pnr["objects"], pnr["AP"]) == ("pnr_frame", 1, pytest.approx(100))
    assert "pnr_frame" in (tmp_path / "report/summary.txt").read_text()
    assert len(json.loads((tmp_path / "report/detections.json").read_text())) == 3
    assert len(json.loads((tmp_path / "report/images.json").read_text())["images"]) == 3
