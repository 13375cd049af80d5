"""Answers of hand prediction as tables and as the challenge's file."""

import csv
import json

import numpy as np
import pytest

from internvideo_hf.tasks.hand_prediction.answers import Answers


def answers() -> Answers:
    predictions = np.zeros((3, 20))
    labels = np.zeros((3, 20))
    labels[0, :2] = 3, 4  # left at pre_45: 5 away
    labels[0, 18:] = 8, 6  # right at the contact: 10 away
    labels[1, 16:18] = 0, 20  # left at the contact
    predictions[2] = np.nan  # unreadable
    labels[2, :2] = 1, 1
    return Answers(["1_5", "1_9", "2_7"], predictions, labels)


def test_scores_and_moments_are_those_of_the_known_points():
    found = answers()
    assert found.scores() == pytest.approx(
        {"left M.Disp": 12.5, "right M.Disp": 10, "left C.Disp": 20, "right C.Disp": 10}
    )
    rows = found.by_moment()
    assert [row["moment"] for row in rows] == ["pre_45", "pre_30", "pre_15", "pre_frame", "contact_frame"]
    assert rows[0]["left displacement"] == 5 and rows[0]["left clips"] == 1 and rows[0]["right clips"] == 0
    assert rows[4]["left displacement"] == 20 and rows[4]["right displacement"] == 10
    lines = found.text().splitlines()
    assert lines[1].split() == ["pre_45", "5.00", "1", "-", "0"]
    assert [line.split() for line in lines[-2:]] == [["20.00", "1_9"], ["7.50", "1_5"]]


def test_a_report_holds_every_clip_and_the_challenge_s_file(tmp_path):
    answers().write(tmp_path / "report")
    rows = list(csv.DictReader((tmp_path / "report/answers.csv").open()))
    assert [row["clip"] for row in rows] == ["1_5", "1_9", "2_7"]
    assert rows[0]["displacement"] == "7.500" and rows[0]["pre_45 left y"] == "4.00"
    assert rows[0]["pre_45 right x"] == "" and rows[0]["pre_45 right x predicted"] == "0.00"
    assert rows[2]["pre_45 left x predicted"] == "unreadable" and rows[2]["displacement"] == ""
    assert json.loads((tmp_path / "report/predictions.json").read_text()) == {"1_5": [0.0] * 20, "1_9": [0.0] * 20}
    assert (tmp_path / "report/summary.txt").read_text() == f"{answers().text()}\n"
    assert len(list(csv.DictReader((tmp_path / "report/by_moment.csv").open()))) == 5


def test_clips_without_annotations_have_predictions_and_no_scores(tmp_path):
    found = Answers(["1_5"], np.ones((1, 20)), np.zeros((1, 20)))
    assert found.scores() == {}
    found.write(tmp_path / "report")
    assert json.loads((tmp_path / "report/predictions.json").read_text()) == {"1_5": [1.0] * 20}
