"""Reports on estimated numbers: counted by hand."""

import csv

import numpy as np
from PIL import Image

from internvideo_hf.tasks.regression.answers import Estimates


def table(path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_report_has_each_video_and_each_number(tmp_path):
    videos = [{"video": f"{name}.mp4"} for name in "abc"]
    labels = np.array([[1.0, 10.0], [2.0, -100], [3.0, 30.0]])
    estimates = np.array([[1.5, 10.0], [2.0, 7.0], [np.nan, np.nan]])
    answers = Estimates(videos, labels, estimates, ["speed", "height"])
    answers.write(tmp_path / "report")
    rows = table(tmp_path / "report/answers.csv")
    assert rows[0] == {
        "video": "a.mp4",
        "start": "",
        "end": "",
        "speed": "1",
        "speed estimated": "1.5",
        "speed error": "0.5",
        "height": "10",
        "height estimated": "10",
        "height error": "0",
    }
    assert (rows[1]["height"], rows[1]["height estimated"], rows[1]["height error"]) == ("", "7", "")
    assert (rows[2]["speed estimated"], rows[2]["speed error"]) == ("unreadable", "")
    numbers = table(tmp_path / "report/per_number.csv")
    assert [(row["number"], row["videos"], row["MAE"]) for row in numbers] == [
        ("speed", "2", "0.25"),
        ("height", "1", "0.0"),
    ]
    assert numbers[1]["Pearson"] == ""
    lines = (tmp_path / "report/summary.txt").read_text().splitlines()
    assert lines[2].split() == ["height", "1", "0.0000", "0.0000", "-", "-"]
    assert lines[lines.index("the largest errors") + 1] == "speed: 1.5 for 1, a.mp4" and len(lines) == 8
    with Image.open(tmp_path / "report/estimates.png") as picture:
        assert picture.width > picture.height


def test_numbers_that_no_video_has_are_left_out(tmp_path):
    labels = np.array([[1.0, -100.0]])
    Estimates([{"video": "a.mp4"}], labels, np.array([[2.0, 3.0]]), ["x", "y"]).write(tmp_path / "report")
    assert [row["number"] for row in table(tmp_path / "report/per_number.csv")] == ["x"]
