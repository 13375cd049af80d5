"""Reports of navigation: a line for each episode, and predictions for the challenge."""

import csv
import json
from dataclasses import replace

from tasks.navigation.walks import LOST, STRAIGHT

from internvideo_hf.tasks.navigation.answers import Answers


def test_a_report_has_each_episode_and_its_predictions(tmp_path):
    answers = Answers([STRAIGHT, LOST])
    answers.write(tmp_path / "report")
    with (tmp_path / "report/answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["episode"] for row in rows] == ["lost", "straight"] and float(rows[0]["NE"]) == 5
    assert set(json.loads((tmp_path / "report/predictions.json").read_text())) == {"lost", "straight"}
    assert (tmp_path / "report/summary.txt").read_text() == f"{answers.text()}\n"
    assert answers.scores()["SR"] == 50


def test_paths_without_headings_make_no_predictions(tmp_path):
    Answers([STRAIGHT, replace(LOST, headings=None)]).write(tmp_path / "report")
    assert not (tmp_path / "report/predictions.json").exists()


def test_the_text_shows_the_worst():
    many = [replace(STRAIGHT, episode=f"e{number}", stopped=number > 0) for number in range(12)]
    lines = Answers(many).text().splitlines()
    assert lines[1].startswith("e0 ") and len(lines) == 12 and lines[-1].endswith("of 12 episodes.")
