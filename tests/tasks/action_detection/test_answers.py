"""What is written of an evaluation, read back by our reader and by a plain one."""

import csv

import numpy as np
import pytest

from internvideo_hf.tasks.action_detection.annotations import read_predictions
from internvideo_hf.tasks.action_detection.answers import Answers, write_predictions
from internvideo_hf.tasks.action_detection.metrics import BoxTable

WHOLE, LEFT = [0.0, 0, 1, 1], [0.0, 0, 0.5, 1]
TRUTH = BoxTable(["a,0001", "a,0001", "b,2.500"], [WHOLE, LEFT, WHOLE], [0, 1, 3])
FOUND = BoxTable(["a,0001", "a,0001", "b,2.500"], [WHOLE, WHOLE, LEFT], [0, 0, 3], [0.9, 0.123456, 0.5])


def answers(**changes) -> Answers:
    return Answers(**{"found": FOUND, "truth": TRUTH, "classes": ["bow", "eat", "lie", "run"]} | changes)


def test_the_mean_is_over_scored_classes_with_truth():
    assert answers(scored=[0, 1, 2, 3]).scores()["mAP"] == pytest.approx(100 * (1 + 0 + 1) / 3)
    assert answers(scored=[1, 2]).scores() == {"mAP": 0}
    assert answers(scored=[0, 3], min_overlap=0.6).scores()["mAP"] == pytest.approx(50)


def test_classes_are_listed_by_falling_precision():
    assert answers(scored=[0, 1, 2, 3]).by_class() == [
        {"class": "bow", "boxes": 1, "found": 2, "AP": 100},
        {"class": "run", "boxes": 1, "found": 1, "AP": 100},
        {"class": "eat", "boxes": 1, "found": 0, "AP": 0},
    ]


def test_text_names_the_best_and_the_worst_of_many_classes():
    names = [f"class {number}" for number in range(30)]
    truth = BoxTable(["a"] * 30, [WHOLE] * 30, np.arange(30))
    text = answers(truth=truth, classes=names, scored=range(30)).text()
    assert len(text.splitlines()) == 22 and text.endswith("The 10 best and the 10 worst of 30 classes.")


def test_files_hold_what_was_found(tmp_path):
    answers(scored=[0, 1, 2, 3]).write(tmp_path / "report")
    assert {file.name for file in (tmp_path / "report").iterdir()} == {"answers.csv", "detections.csv", "summary.txt"}
    rows = list(csv.reader((tmp_path / "report/detections.csv").open()))
    assert rows == [
        ["a", "0001", "0.00000", "0.00000", "1.00000", "1.00000", "1", "0.90000"],
        ["a", "0001", "0.00000", "0.00000", "1.00000", "1.00000", "1", "0.12346"],
        ["b", "2.500", "0.00000", "0.00000", "0.50000", "1.00000", "4", "0.50000"],
    ]
    back = read_predictions(tmp_path / "report/detections.csv")
    assert back.key_frames.tolist() == np.asarray(FOUND.key_frames).tolist()
    assert (back.labels.tolist(), back.boxes.tolist()) == (FOUND.labels.tolist(), FOUND.boxes.tolist())


def test_names_of_videos_may_hold_commas_and_boxes_are_cut(tmp_path):
    write_predictions(tmp_path / "out.csv", BoxTable(["a, b,0001"], [[-0.1, 0, 1.5, 1]], [0], [1.0]))
    back = read_predictions(tmp_path / "out.csv")
    assert (back.key_frames.tolist(), back.boxes.tolist()) == (["a, b,0001"], [[0, 0, 1, 1]])


def test_true_boxes_are_no_predictions(tmp_path):
    with pytest.raises(ValueError, match="no scores"):
        write_predictions(tmp_path / "out.csv", TRUTH)
    assert not list(tmp_path.iterdir())
