"""Answers to sentences: scores, constant answers beside them, a report."""

import csv
import json

import numpy as np
import pytest

from internvideo_hf.tasks.temporal_grounding.answers import Answers
from internvideo_hf.tasks.temporal_grounding.queries import Query

QUERIES = [Query("one", "a", 0, 10), Query("one", "b", 10, 20), Query("two", "a", 5, 10), Query("two", "c")]
FIRST = np.array([[0.0, 8.0, 0.9], [1.0, 2.0, 0.1]])
FOUND = [FIRST, np.array([[0.0, 20.0, 0.5]]), None, np.array([[0.0, 1.0, 1.0]])]
RULE = {"thresholds": [0.3, 0.5], "ranks": [1, 5]}


def test_queries_without_an_answer_count_as_wrong_unless_as_published():
    own = Answers(QUERIES, FOUND, **RULE).scores()
    at_03, at_05 = pytest.approx(200 / 3), pytest.approx(100 / 3)
    assert own == {"R1@0.3": at_03, "R1@0.5": at_05, "R5@0.3": at_03, "R5@0.5": at_05, "mIoU": pytest.approx(130 / 3)}
    assert Answers(QUERIES, FOUND, as_published=True, **RULE).scores()["R1@0.5"] == 50
    unknown = Answers(QUERIES[3:], FOUND[3:], **RULE)
    assert unknown.scores() == {} and "nothing is scored" in unknown.text()


def test_constant_answers_stand_beside():
    answers = Answers(QUERIES, FOUND, durations=[20.0, 20.0, 10.0, 10.0], **RULE)
    whole, constant = answers.constants().values()
    # Overlaps of the whole video are all 0.5; its second half is the stretch of two queries.
    assert (whole["R1@0.3"], whole["R1@0.5"], whole["mIoU"]) == (100, 0, pytest.approx(50))
    assert list(answers.constants())[1] == "50% to 100% of it" and constant["R1@0.5"] == pytest.approx(200 / 3)
    assert "whole video" in answers.text() and "1 without an answer" in answers.text()
    assert Answers(QUERIES, FOUND, **RULE).constants() == {}


def test_a_report_has_every_answer(tmp_path):
    Answers(QUERIES, FOUND, **RULE).write(tmp_path / "report")
    with (tmp_path / "report/answers.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 4 and lines[0]["overlap"] == "0.8000" and lines[3]["true_start"] == ""
    predictions = json.loads((tmp_path / "report/predictions.json").read_text())
    assert [len(entry["predicted_times"]) for entry in predictions["results"]] == [2, 1, 0, 1]
    assert "R5@0.5" in (tmp_path / "report/summary.txt").read_text()
    Answers(QUERIES[:1], [None], **RULE).write(tmp_path / "empty")
    assert (tmp_path / "empty/answers.csv").is_file()
