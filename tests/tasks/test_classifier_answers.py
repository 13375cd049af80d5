"""Answers of a classifier: counted by hand, written as tables and pictures."""

import csv

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix
from video.clips import write_video

from internvideo_hf.tasks.classifier_answers import Answers, draw_confusions

NAN = [np.nan] * 3
SCORES = [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.05, 0.95, 0.0], NAN, [0.3, 0.1, 0.6]]
LABELS = [0, 0, 2, 2, 1, 0]
CLASSES = ["run", "jump, high", "sit"]


@pytest.fixture
def answers(tmp_path) -> Answers:
    write_video(tmp_path / "a.mp4", num_frames=10)
    videos = [{"video": str(tmp_path / "a.mp4"), "start": None, "end": None} for _ in SCORES]
    videos[3] |= {"start": 0.1, "end": 0.2}
    videos[4] = {"video": str(tmp_path / "gone.mp4")}
    return Answers(videos, np.array(LABELS), np.array(SCORES), CLASSES)


def read(path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_predictions_and_confusions(answers):
    assert answers.predicted.tolist() == [0, 1, 2, 1, -1, 2]
    known = answers.predicted >= 0
    expected = confusion_matrix(np.array(LABELS)[known], answers.predicted[known], labels=[0, 1, 2])
    assert answers.confusions().tolist() == expected.tolist()


def test_each_class_has_its_accuracy_and_what_it_is_taken_for(answers):
    rows = {row["class"]: row for row in answers.per_class()}
    assert rows["run"]["videos"] == 3 and rows["run"]["top-1"] == pytest.approx(100 / 3)
    assert rows["run"]["taken for"] == "jump, high (1)"
    assert rows["jump, high"] == {"class": "jump, high", "videos": 1, "top-1": 0, "top-5": 0, "taken for": ""}
    assert rows["sit"]["top-1"] == 50 and rows["sit"]["top-5"] == 100


def test_the_most_confident_mistake_comes_first(answers):
    assert answers.worst() == [3, 1, 5] and answers.worst(1) == [3]


def test_the_report_is_tables_and_pictures(answers, tmp_path):
    folder = tmp_path / "report"
    answers.write(folder)
    names = ["answers.csv", "confusion.csv", "confusion.png", "mistakes.png", "per_class.csv", "summary.txt"]
    assert sorted(path.name for path in folder.iterdir()) == names
    rows = read(folder / "answers.csv")
    assert [row["correct"] for row in rows] == list("101000")
    assert rows[3] | {"video": ""} == {
        "video": "",
        "start": "0.1",
        "end": "0.2",
        "label": "sit",
        "predicted": "jump, high",
        "score": "0.950000",
        "correct": "0",
        "rank of label": "3",
        "top-5": "jump, high 0.9500; run 0.0500; sit 0.0000",
    }
    assert rows[4]["top-5"] == "unreadable" and rows[4]["predicted"] == ""
    table = read(folder / "confusion.csv")
    assert [list(row.values())[1:] for row in table] == [["1", "1", "1"], ["0", "0", "0"], ["0", "1", "1"]]
    with Image.open(folder / "mistakes.png") as sheet:
        assert sheet.width > 3 * 256 and len(set(sheet.convert("L").tobytes())) > 50
    summary = (folder / "summary.txt").read_text().splitlines()
    assert summary[0].split() == ["class", "videos", "top-1", "top-5", "most", "often", "taken", "for"]
    assert summary[1].startswith("jump, high") and summary[2].endswith("jump, high (1)")
    answers.write(folder)  # again
    assert len(list(folder.iterdir())) == 6


def test_without_mistakes_there_is_no_sheet(tmp_path):
    Answers([{"video": "a.mp4"}], np.array([0]), np.array([[0.9, 0.1]]), ["x", "y"]).write(tmp_path / "report")
    assert not (tmp_path / "report/mistakes.png").exists()


def test_of_many_classes_the_worst_are_listed():
    labels = np.arange(30)
    scores = np.eye(30)
    scores[7] = scores[8]
    text = Answers([{"video": "a"}] * 30, labels, scores, [f"c{n}" for n in range(30)]).text().splitlines()
    assert len(text) == 12 and text[1].startswith("c7 ") and text[1].endswith("c8 (1)")
    assert text[-1] == "... and 20 classes with a higher top-1"


def test_a_matrix_of_many_classes_is_drawn_without_names(tmp_path):
    draw_confusions(np.eye(100, dtype=int), [f"c{n}" for n in range(100)], tmp_path / "many.png")
    with Image.open(tmp_path / "many.png") as picture:
        assert 1000 < picture.width < 2000
