"""Lists of questions and answers: published layouts give the intended rows, and errors name their place."""

import json
from pathlib import Path

import pytest

from internvideo_hf.data.records import ManifestError
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.question_answering.data import (
    frequent_answers,
    read_questions,
    read_training_rows,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "all").mkdir()
    for name in ("video7.mp4", "-4wsuPCjDBc_5_15.avi", "tumblr_nk172.gif"):
        (tmp_path / "all" / name).write_bytes(b"x")
    return tmp_path


def questions(root: Path, name: str, content: str, layout: str | None = None, **options) -> list[tuple]:
    (root / name).write_text(content)
    rows = read_questions(root / name, root, layout, **options)
    return [(Path(row["video"]).relative_to(root).as_posix(), row["question"], row["answer"]) for row in rows]


def lines(*rows: dict) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


ABOUT = {"question": "what is it?", "answer": "wave"}


@pytest.mark.parametrize("layout", ["msrvtt", None])
def test_msrvtt(root, layout):
    rows = lines({"video_id": "video7", **ABOUT, "id": 158581, "category_id": 14})
    assert questions(root, "msrvtt_qa_test.jsonl", rows, layout) == [("all/video7.mp4", "what is it?", "wave")]


def test_msvd_is_one_line_with_a_list_of_numbers_that_a_file_names(root):
    (root / "msvd_youtube_mapping.txt").write_text("other_1_2 vid1\n-4wsuPCjDBc_5_15 vid1301\n")
    rows = [
        {"id": 0, "video_id": 1301, **ABOUT},
        {"id": 1, "video_id": "vid1301", "question": "who?", "answer": "man"},
    ]
    found = questions(root, "msvd_test_qa_encode.json", json.dumps(rows), "msvd")
    video = "all/-4wsuPCjDBc_5_15.avi"
    assert found == [(video, "what is it?", "wave"), (video, "who?", "man")]
    (root / "msvd_youtube_mapping.txt").unlink()
    with pytest.raises(ManifestError, match="holds no video 1301"):
        questions(root, "msvd_test_qa_encode.json", json.dumps(rows[:1]), "msvd")
    named = [{"video_id": "-4wsuPCjDBc_5_15", **ABOUT}]
    assert questions(root, "named.json", json.dumps(named), "msvd") == [(video, "what is it?", "wave")]


@pytest.mark.parametrize("layout", ["tgif", None])
def test_tgif(root, layout):
    rows = lines({"gif_name": "tumblr_nk172", **ABOUT})
    assert questions(root, "frameqa_test.jsonl", rows, layout) == [("all/tumblr_nk172.gif", "what is it?", "wave")]


def test_your_own_lists_have_paths(root):
    rows = 'video,question,answer\nall/video7.mp4,"red, or blue?", red\n'
    assert questions(root, "mine.csv", rows) == [("all/video7.mp4", "red, or blue?", "red")]


def test_videos_without_a_file(root, caplog):
    rows = lines({"video_id": "gone", **ABOUT}, {"video_id": "video7", **ABOUT})
    with pytest.raises(ManifestError, match="line 1: .* holds no video gone"):
        questions(root, "a.jsonl", rows)
    assert [row[0] for row in questions(root, "a.jsonl", rows, check_files=False)] == ["gone.mp4", "all/video7.mp4"]
    assert [row[0] for row in questions(root, "a.jsonl", rows, skip_missing=True)] == ["all/video7.mp4"]


@pytest.mark.parametrize(
    ("row", "layout", "words"),
    [
        ({"video_id": "video7", "question": "what?"}, "msrvtt", "line 1: answer is missing"),
        ({"video_id": "video7", "question": " ", "answer": "x"}, "msrvtt", "a text is empty"),
        ({"video_id": "video7", **ABOUT}, "tgif", "gif_name is missing"),
        ({"clip": "video7", **ABOUT}, None, "nothing says which video is meant"),
    ],
)
def test_mistakes_are_named(root, row, layout, words):
    with pytest.raises(ManifestError, match=words):
        questions(root, "a.jsonl", lines(row), layout)


def test_frequent_answers_come_first_and_equal_ones_by_the_alphabet():
    answers = ["b", "c", "a", "c", "a", "d"]
    assert frequent_answers(answers) == ["a", "c", "b", "d"]
    assert frequent_answers(answers, 3) == ["a", "c", "b"]


def test_rows_for_training_and_validation(root):
    rows = [
        {"video_id": "video7", "question": f"{number}?", "answer": answer} for number, answer in enumerate("bbacb")
    ]
    (root / "a.jsonl").write_text(lines(*rows))
    (root / "answers.txt").write_text("c\nb\n")
    found, classes = read_training_rows(root / "a.jsonl", root, labels="answers.txt")
    assert (
        classes == ["c", "b"] and found["label"][:] == [1, 1, 0, 1] and found["caption"][:] == ["0?", "1?", "3?", "4?"]
    )
    assert read_training_rows(root / "a.jsonl", root)[1] == ["b", "a", "c"]
    assert read_training_rows(root / "a.jsonl", root, labels=2)[1] == ["b", "a"]
    checked, _ = read_training_rows(root / "a.jsonl", root, classes=["c", "b"])
    assert checked["label"][:] == [1, 1, -100, 0, 1]
    with pytest.raises(RecipeError, match="There are 1 answers"):
        read_training_rows(root / "a.jsonl", root, labels=1)
    with pytest.raises(RecipeError, match="None of the answers of .* such as 'x'"):
        read_training_rows(root / "a.jsonl", root, classes=["x", "y"])
