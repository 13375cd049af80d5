"""Reports of short-term anticipation: scores of nouns, the challenge's file, and lists whose truth is not known."""

import json

import numpy as np
import pytest

from internvideo_hf.tasks.short_term_anticipation.answers import Answers
from internvideo_hf.tasks.short_term_anticipation.metrics import SCORES, InteractionTable, Scoring

BOX, FAR = [0, 0, 9, 9], [50, 50, 59, 59]
TRUTH = InteractionTable(["a", "b"], np.array([BOX, BOX]), [0, 4], [0, 0], [1.0, 1.0])
FOUND = InteractionTable(["a", "b", "b"], np.array([BOX, FAR, BOX]), [0, 4, 4], [0, 0, 1], [1, 1, 1], [0.9, 0.8, 0.7])


def test_nouns_are_named_and_the_best_come_first(tmp_path):
    answers = Answers(FOUND, TRUTH, ["a", "b", "c"], {0: "cup"}, Scoring(top_k=1))
    assert list(answers.scores()) == list(SCORES)
    rows = answers.by_noun()
    assert [row["class"] for row in rows] == ["cup", "noun 4"] and [row["AP"] for row in rows] == [100, 0]
    assert rows[1] == {"class": "noun 4", "boxes": 1, "found": 2, "AP noun": 50, "AP noun+verb": 0} | {
        "AP noun+time": 50,
        "AP": 0,
    }
    assert answers.scores()["map_box_noun"] == pytest.approx(np.mean([row["AP noun"] for row in rows]))
    answers.write(tmp_path / "report")
    assert json.loads((tmp_path / "report/submission.json").read_text())["results"]["c"] == []
    assert (tmp_path / "report/answers.csv").read_text().startswith("class,boxes,found,AP noun,")
    assert "cup" in (tmp_path / "report/summary.txt").read_text()


def test_without_the_truth_there_are_answers_and_no_scores(tmp_path):
    answers = Answers(FOUND, None, ["a", "b"], {}, Scoring())
    assert answers.scores() == {} and answers.by_noun()[1] == {"class": "noun 4", "found": 2}
    answers.write(tmp_path / "report")
    assert "3 interactions at 2 moments" in (tmp_path / "report/summary.txt").read_text()
    none = InteractionTable([], np.zeros((0, 4)), [], [], [], np.zeros(0))
    Answers(none, None, ["a"], {}, Scoring()).write(tmp_path / "report")
    assert json.loads((tmp_path / "report/submission.json").read_text())["results"] == {"a": []}
