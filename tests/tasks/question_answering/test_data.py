"""Lists of open questions: published layouts give the intended rows."""

import json

import pytest

from internvideo_hf.data.records import ManifestError
from internvideo_hf.tasks.question_answering.data import read_answers, read_questions


def test_msrvtt(tmp_path):
    (tmp_path / "all").mkdir()
    (tmp_path / "all/video7.mp4").write_bytes(b"x")
    row = {"video_id": "video7", "question": "who sings?", "answer": "a man"}
    (tmp_path / "qa.jsonl").write_text(f"{json.dumps(row)}\n")
    found = list(read_questions(tmp_path / "qa.jsonl", tmp_path, "msrvtt"))
    assert found == [{"video": str(tmp_path / "all/video7.mp4"), "question": "who sings?", "answer": "a man"}]


def test_answers_come_in_the_order_of_their_numbers(tmp_path):
    (tmp_path / "ans2label.json").write_text('{"talk": 1, "sing": 0}')
    (tmp_path / "answer_set.txt").write_text("sing\ntalk\n")
    for name in ("ans2label.json", "answer_set.txt"):
        assert read_answers(tmp_path / name) == ["sing", "talk"]
    (tmp_path / "gaps.json").write_text('{"talk": 2, "sing": 0}')
    with pytest.raises(ManifestError, match="no list of answers"):
        read_answers(tmp_path / "gaps.json")
