"""What a model localized, as tables and as a file to submit."""

import csv
import json

import numpy as np
import pytest

from internvideo_hf.tasks.temporal_localization.answers import Answers
from internvideo_hf.tasks.temporal_localization.metrics import SegmentTable

TRUTH = SegmentTable(["a", "a", "b"], np.array([[0.0, 10.0], [20.0, 30.0], [0.0, 4.0]]), np.array([0, 3, 3]))
FOUND = SegmentTable(
    ["a", "b", "a"],
    np.array([[0.0, 8.0], [0.0, 4.0], [50.0, 51.0]]),
    np.array([0, 3, 3]),
    np.array([0.9, 0.5, 0.8]),
)
ANSWERS = Answers(FOUND, TRUTH, {0: "jump", 3: "run"}, [0.5, 0.9])


def test_precision_of_each_class_is_that_of_a_count_by_hand():
    best, worst = ANSWERS.by_class()
    # jump: the only segment overlaps by 0.8. run: of two, the second best answer hits one: precision 1/2, recall 1/2.
    assert best == {"class": "jump", "segments": 1, "found": 1, "AP": 50.0, "AP@0.50": 100.0, "AP@0.90": 0.0}
    assert worst == {"class": "run", "segments": 2, "found": 2, "AP": 25.0, "AP@0.50": 25.0, "AP@0.90": 25.0}
    assert ANSWERS.scores() == {"mAP@0.50": 62.5, "mAP@0.90": 12.5, "mAP": 37.5}


def test_a_report_has_every_segment_and_what_activitynet_evaluates(tmp_path):
    ANSWERS.write(tmp_path / "report")
    rows = list(csv.DictReader((tmp_path / "report/answers.csv").open()))
    assert [(row["video"], row["class"], float(row["overlap"])) for row in rows] == [
        ("a", "jump", 0.8),
        ("a", "run", 0.0),
        ("b", "run", 1.0),
    ]
    submitted = json.loads((tmp_path / "report/detections.json").read_text())
    assert submitted["results"]["b"] == [{"label": "run", "score": 0.5, "segment": [0.0, 4.0]}]
    assert "jump" in (tmp_path / "report/summary.txt").read_text()
    assert [row["class"] for row in csv.DictReader((tmp_path / "report/by_class.csv").open())] == ["jump", "run"]


def test_nothing_found_is_a_report_too(tmp_path):
    none = SegmentTable([], np.zeros((0, 2)), np.zeros(0, np.int64), np.zeros(0))
    empty = Answers(none, TRUTH, {}, [0.5])
    empty.write(tmp_path / "report")
    assert empty.scores()["mAP"] == 0 and empty.by_class()[0]["class"] == "0"
    assert empty.detections()["results"] == {} and pytest.approx(0) == empty.by_class()[0]["AP"]
