"""What a model answered: accuracies, kinds of questions, mistakes, and the files of a report."""

import csv

import numpy as np

from internvideo_hf.tasks.question_answering.answers import OF_KNOWN, Answers, both_accuracies

ROWS = [
    ("a.mp4", "What is it?", "dog"),  # right
    ("a.mp4", "what, then?", "cat"),  # taken for a dog
    ("b.mp4", "who sings?", "man"),  # taken for a dog
    ("b.mp4", "who runs?", "nobody"),  # outside the list
    ("c.mp4", "what is it?", "dog"),  # unreadable
]
ANSWERS = Answers(
    questions=[dict(zip(("video", "question", "answer"), row, strict=True)) for row in ROWS],
    labels=np.array([0, 1, 2, -100, 0]),
    best=np.array([[0, 1], [0, 1], [0, 2], [2, 1], [-1, -1]]),
    scores=np.array([[0.7, 0.2], [0.6, 0.4], [0.5, 0.3], [0.9, 0.1], [np.nan, np.nan]]),
    classes=["dog", "cat", "man"],
)


def test_answers_are_counted_both_ways():
    assert ANSWERS.right.tolist() == [True, False, False, False, False]
    assert both_accuracies(ANSWERS.right, ANSWERS.labels != -100) == {"top-1": 20.0, OF_KNOWN: 25.0}
    assert both_accuracies(np.array([False]), np.array([False])) == {"top-1": 0.0}


def test_kinds_of_questions_and_mistakes_are_counted():
    what, who = ANSWERS.by_kind()
    assert (what["kind"], what["questions"], round(what["top-1"], 2), round(what[OF_KNOWN], 2)) == (
        *("what", 3),
        *(33.33, 33.33),
    )
    assert (who["kind"], who["questions"], who["top-1"], who[OF_KNOWN]) == ("who", 2, 0.0, 0.0)
    assert ANSWERS.mistakes() == [("cat", "dog", 1), ("man", "dog", 1), ("nobody", "man", 1)]
    assert "what                 3   33.33" in ANSWERS.text() and "nobody: man (1)" in ANSWERS.text()


def test_a_report_has_a_line_for_each_question(tmp_path):
    ANSWERS.write(tmp_path / "report")
    with (tmp_path / "report/answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["correct"] for row in rows] == ["1", "0", "0", "0", "0"]
    assert [row["given"] for row in rows] == ["dog", "dog", "dog", "man", ""]
    assert [row["known"] for row in rows] == ["1", "1", "1", "0", "1"]
    assert rows[0]["best"] == "dog 0.7000; cat 0.2000" and rows[4]["best"] == "unreadable"
    assert {file.name for file in (tmp_path / "report").iterdir()} == {
        *("answers.csv", "by_kind.csv", "mistakes.csv", "summary.txt")
    }
