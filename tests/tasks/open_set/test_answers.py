"""The report of an open-set evaluation."""

import csv

import numpy as np

from internvideo_hf.tasks.open_set.answers import Answers

VIDEOS = {
    "known": [{"video": f"k{n}.mp4", "label": n % 2} for n in range(4)],
    "unknown": [{"video": "u0.mp4", "label": -1}, {"video": "u1.mp4", "label": 7, "start": 1.0, "end": 2.0}],
}
ANSWERS = Answers(
    VIDEOS,
    {"known": np.array([0.1, 0.9, 0.2, np.nan]), "unknown": np.array([0.8, 0.3])},
    {"known": np.array([0, 1, 1, -1]), "unknown": np.array([0, 1])},
    0.5,
    ["runs", "jumps"],
)


def test_the_text_counts_what_goes_wrong():
    lines = ANSWERS.text().splitlines()
    assert lines[0] == "known classes that are rejected most" and lines[1].split() == ["1", "of", "2", "jumps"]
    assert lines[3].split() == ["1", "jumps"]


def test_the_table_has_a_line_for_each_video(tmp_path):
    ANSWERS.write(tmp_path / "report")
    with (tmp_path / "report/answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["correct"] for row in rows] == ["1", "0", "0", "0", "1", "0"]
    assert [row["unknown"] for row in rows] == ["0", "1", "0", "", "1", "0"]
    assert rows[3]["predicted"] == "unreadable" and rows[5]["start"] == "1.0" and rows[4]["label"] == ""
    assert (tmp_path / "report/summary.txt").read_text() == f"{ANSWERS.text()}\n"
