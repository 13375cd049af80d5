"""Lists of answers, and the classes of the heads that score them."""

import pytest

from internvideo_hf.data.answers import answers_of, name_classes, read_answers
from internvideo_hf.data.records import ManifestError


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ans2label.json", '{"talk": 1, "sing": 0, "a red dog": 2}'),
        ("list.json", '["sing", "talk", "a red dog"]'),
        ("answer_set.txt", "sing\ntalk\na red dog\n"),
        ("windows.txt", "\ufeffsing\r\ntalk \r\na red dog"),
    ],
)
def test_answers_come_in_the_order_of_their_numbers(tmp_path, name, content):
    (tmp_path / name).write_text(content, newline="")
    assert read_answers(tmp_path / name) == ["sing", "talk", "a red dog"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"talk": 2, "sing": 0}', "not a list of answers"),
        ('{"talk": 0, "sing": 0}', "not a list of answers"),
        ('{"talk": "1", "sing": 0}', "not a list of answers"),
        ('{"talk": true, "sing": 0}', "not a list of answers"),
        ("{}", "not a list of answers"),
        ("7", "not a list of answers"),
        ('"sing"', "not a list of answers"),
        ("", "cannot be read"),
        ('["sing", 3]', "not a list of answers"),
        ('["sing"', "cannot be read"),
        ('["sing", "talk", "sing "]', "it has sing twice"),
    ],
)
def test_what_is_no_list_of_answers_is_refused(tmp_path, content, words):
    (tmp_path / "answers.json").write_text(content)
    with pytest.raises(ManifestError, match=words) as refused:
        read_answers(tmp_path / "answers.json")
    assert str(tmp_path / "answers.json") in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [("", "not a list of answers"), ("sing\n\ntalk\n", "not a list of answers"), ("a\nb\na\n", "it has a twice")],
)
def test_what_is_no_list_of_lines_is_refused(tmp_path, content, words):
    (tmp_path / "answers.txt").write_text(content)
    with pytest.raises(ManifestError, match=words):
        read_answers(tmp_path / "answers.txt")


def test_a_missing_or_binary_list_is_refused(tmp_path):
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    for name in ("none.json", "binary.txt"):
        with pytest.raises(ManifestError, match=f"{name}: it cannot be read"):
            read_answers(tmp_path / name)


def test_the_last_of_one_class_more_is_the_background(tmp_path):
    assert name_classes(["sing", "talk"], 2) == ["sing", "talk"]
    assert name_classes(["sing", "talk"], 3) == ["sing", "talk", "background"]
    for classes in (1, 4):
        with pytest.raises(ValueError, match=rf"has 2 answers, expected {classes - 1} or {classes}: the head has"):
            name_classes(["sing", "talk"], classes)


def test_the_background_is_no_answer():
    assert answers_of(["sing", "talk", "background"]) == ["sing", "talk"]
    assert answers_of(["sing", "background", "talk"]) == ["sing", "background", "talk"]
    assert answers_of(["answer 0"]) == ["answer 0"]
