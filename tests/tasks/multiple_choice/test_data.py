"""Multiple-choice questions: published lists give the intended rows, and errors name their place."""

import json

import pytest

from internvideo_hf.data.records import ManifestError
from internvideo_hf.tasks.multiple_choice.data import read_questions

OPTIONS = ["a man", "a dog", "a cat", "a car", "a tree"]
LSMDC = "\t".join(["0001_Film_00.00.51.926", "1", "2", "3", "4", *OPTIONS, "2"]) + "\n"
LSMDC += "\t".join(["0002_Film_00.01.00.000", "1", "2", "3", "4", *OPTIONS[::-1], "5"]) + "\n"


def questions(folder, name, content, layout, **options):
    (folder / name).write_text(content)
    return list(read_questions(folder / name, folder, layout, **options))


def test_msrvtt(tmp_path):
    (tmp_path / "all").mkdir()
    (tmp_path / "all/video7.mp4").write_bytes(b"x")
    row = {"clip_name": "video7", "options": OPTIONS, "answer": 0}
    found = questions(tmp_path, "msrvtt_mc_test.jsonl", json.dumps(row) + "\n", "msrvtt")
    assert found == [{"video": str(tmp_path / "all/video7.mp4"), "options": OPTIONS, "answer": 0}]


def test_lsmdc(tmp_path):
    for name in ("0001_Film_00.00.51.926", "0002_Film_00.01.00.000"):
        (tmp_path / f"{name}.avi").write_bytes(b"x")
    found = questions(tmp_path, "mc.csv", LSMDC, "lsmdc")
    assert [(row["options"][row["answer"]], row["answer"]) for row in found] == [("a dog", 1), ("a man", 4)]
    left = questions(tmp_path, "mc.csv", LSMDC, "lsmdc", leave_out=["0001_Film_00.00.51.926"])
    assert left == found[1:]


@pytest.mark.parametrize(
    ("content", "layout", "words"),
    [
        ('{"clip_name": "a", "options": ["x", "y"]}\n', "msrvtt", "line 1: answer is missing"),
        ('{"clip_name": "a", "options": ["x", "y"], "answer": 2}\n', "msrvtt", "answer is 2.*one of 2 options"),
        ('{"clip_name": "a", "options": "x", "answer": 0}\n', "msrvtt", "options are 'x'"),
        ('{"clip_name": "a", "options": ["x", "y"], "answer": 0}\n', "msrvtt", "holds no video a"),
        ('{"clip_name": "a", "options": ["x", "y"], "answer": 0}\n', "lsmdc", "not a line of text"),
    ],
)
def test_mistakes_are_named(tmp_path, content, layout, words):
    with pytest.raises(ManifestError, match=words):
        questions(tmp_path, "mc.jsonl", content, layout)


def test_short_lines_and_unknown_layouts(tmp_path):
    with pytest.raises(ManifestError, match="3 fields"):
        questions(tmp_path, "mc.csv", "a\tb\tc\n", "lsmdc")
    with pytest.raises(ValueError, match="layout: got 'tgif'"):
        questions(tmp_path, "mc.csv", LSMDC, "tgif")
