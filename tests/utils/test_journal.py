"""Resumable work in parts."""

import torch

from internvideo_hf.utils import journal
from internvideo_hf.utils.journal import Journal, Stopwatch, delete_parts


def test_a_second_journal_continues_where_the_first_was_abandoned(tmp_path):
    first = Journal(tmp_path / "parts", seconds=0.0)
    first.append({"x": torch.tensor([1.0, 2.0])})
    first.append({"x": torch.tensor([3.0])}, {"c.mp4": "damaged"})
    unwritten = Journal(tmp_path / "parts", seconds=1e9)
    unwritten.append({"x": torch.tensor([9.0])})  # dies before it is written
    second = Journal(tmp_path / "parts", seconds=1e9)
    assert len(second) == 3 and second.notes == {"c.mp4": "damaged"}
    second.append({"x": torch.tensor([4.0])})
    second.write()
    assert second.tensors()["x"].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert sorted(file.name for file in (tmp_path / "parts").iterdir()) == [
        "000000000.safetensors",
        "000000002.json",
        "000000002.safetensors",
        "000000003.safetensors",
    ]
    delete_parts(tmp_path / "parts")
    assert not (tmp_path / "parts").exists()
    delete_parts(None)


def test_notes_without_their_rows_do_not_count(tmp_path):
    """A kill between the two writes leaves the notes alone; their rows come again."""
    first = Journal(tmp_path, seconds=0.0)
    first.append({"x": torch.tensor([1.0])}, {"a.mp4": "damaged"})
    (tmp_path / "000000001.json").write_text('{"b.mp4": "damaged", "c.mp4": "damaged"}')
    second = Journal(tmp_path, seconds=0.0)
    assert len(second) == 1 and second.notes == {"a.mp4": "damaged"}
    second.append({"x": torch.tensor([2.0])}, {"b.mp4": "damaged"})
    assert Journal(tmp_path).notes == {"a.mp4": "damaged", "b.mp4": "damaged"}


def test_without_a_directory_rows_stay_in_memory():
    rows = Journal(None, seconds=0.0)
    rows.append({"x": torch.zeros(2, 3)})
    rows.write()
    assert len(rows) == 2 and rows.tensors()["x"].shape == (2, 3)


def test_a_stopwatch_is_due_once_an_interval(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(journal.time, "monotonic", lambda: now[0])
    stopwatch = Stopwatch(20.0)
    answers = []
    for now[0] in (19.9, 20.0, 20.1, 40.0):
        answers.append(stopwatch.is_due())
    assert answers == [False, True, False, True]
