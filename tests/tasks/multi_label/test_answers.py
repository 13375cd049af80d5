"""Reports on several labels of a video, and on several heads: counted by hand."""

import csv

import numpy as np
import pytest

from internvideo_hf.tasks.multi_label.answers import HeadAnswers, LabelSets

VIDEOS = [{"video": f"{name}.mp4"} for name in "abcd"]
NAN = np.nan


def table(path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_each_class_has_its_average_precision(tmp_path):
    labels = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 0], [1, 0, 0]])
    scores = np.array([[0.9, 0.1, 0.4], [0.5, 0.2, 0.6], [0.4, 0.3, 0.5], [NAN, NAN, NAN]])
    answers = LabelSets(VIDEOS, labels, scores, ["run", "jump", "sit"])
    # run: right at ranks 1 and 3, and a video that no one could read: (1/1 + 2/3) / 3. sit: ranks 1 and 3 of 2.
    assert answers.per_class() == [
        {"class": "run", "videos": 3, "AP": pytest.approx(100 * 5 / 9)},
        {"class": "sit", "videos": 2, "AP": pytest.approx(100 * 5 / 6)},
    ]
    answers.write(tmp_path / "report")
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == [
        "answers.csv",
        "per_class.csv",
        "summary.txt",
    ]
    rows = table(tmp_path / "report/answers.csv")
    assert rows[0]["labels"] == "run|sit" and rows[0]["scores of labels"] == "0.900000|0.400000"
    assert rows[0]["top-5"] == "run 0.9000; sit 0.4000; jump 0.1000"
    assert rows[3]["top-5"] == "unreadable" and rows[3]["scores of labels"] == ""
    lines = (tmp_path / "report/summary.txt").read_text().splitlines()
    assert [line.split() for line in lines[1:]] == [["run", "3", "55.56"], ["sit", "2", "83.33"]]


def test_of_many_classes_the_lowest_are_listed():
    names = [f"c{number}" for number in range(30)]
    answers = LabelSets([VIDEOS[0]] * 30, np.eye(30, dtype=int), np.eye(30), names)
    assert answers.text().splitlines()[-1] == "... and 10 classes with a higher AP"


def test_each_head_has_the_report_of_a_classifier(tmp_path):
    heads = {"verb": ["cut", "wash"], "noun/thing": ["onion", "knife"], "tool": ["pan"]}
    labels = np.array([[0, 1, -100], [1, -100, -100], [1, 0, -100], [0, 0, -100]])
    scores = np.array([[0.7, 0.3, 0.2, 0.8, 1], [0.6, 0.4, 0.5, 0.5, 1], [0.1, 0.9, 0.6, 0.4, 1], [NAN] * 5])
    answers = HeadAnswers(VIDEOS, labels, scores, heads)
    assert list(answers.of_heads) == ["verb", "noun/thing"]
    assert answers.of_heads["verb"].predicted.tolist() == [0, 0, 1, -1]
    assert [row["video"] for row in answers.of_heads["noun/thing"].videos] == ["a.mp4", "c.mp4", "d.mp4"]
    answers.write(tmp_path / "report")
    names = sorted(path.name for path in (tmp_path / "report").iterdir())
    assert names == ["1-verb", "2-noun_thing", "answers.csv", "summary.txt"]
    assert (tmp_path / "report/1-verb/confusion.png").is_file()
    rows = table(tmp_path / "report/answers.csv")
    assert rows[1] == {
        "video": "b.mp4",
        "start": "",
        "end": "",
        "verb": "wash",
        "verb predicted": "cut",
        "verb score": "0.600000",
        "noun/thing": "",
        "noun/thing predicted": "onion",
        "noun/thing score": "0.500000",
        "tool": "",
        "tool predicted": "pan",
        "tool score": "1.000000",
        "all correct": "",
    }
    two = HeadAnswers(VIDEOS, labels[:, :2], scores[:, :4], {name: heads[name] for name in ("verb", "noun/thing")})
    two.write(tmp_path / "report")
    assert [row["all correct"] for row in table(tmp_path / "report/answers.csv")] == ["1", "", "1", "0"]
    text = (tmp_path / "report/summary.txt").read_text()
    assert text.startswith("verb\n") and "\n\nnoun/thing\n" in text
