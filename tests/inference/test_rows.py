"""Rows of a list through a model, by one process and by several workers."""

import dataclasses
import os

import pytest
import torch
from data.executors.here import Here
from inference.row_work import Adder, several, two_workers, work

from internvideo_hf.data.executors.processes import KILLED
from internvideo_hf.data.failures import FailureTable, TooManyFailuresError
from internvideo_hf.inference import rows as module
from internvideo_hf.inference.rows import run_rows, video_name
from internvideo_hf.inference.runner import RunSettings
from internvideo_hf.video.errors import VideoDecodeError

HERE = RunSettings(batch_size=3, workers=0, max_damaged=0.5, quiet=True)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(module, "SHARD_ROWS", 7)  # shards of 6 rows


@pytest.fixture
def folder(tmp_path):
    """Return a folder that stands for a model's."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    return tmp_path / "model"


def rows_of(tmp_path, numbers):
    rows = []
    for place, number in enumerate(numbers):
        path = tmp_path / f"{place}.txt"
        path.write_text(str(number))
        rows.append({"video": str(path)})
    return rows


def run(rows, folder, parts=None, mark=None, **changes):
    settings = dataclasses.replace(HERE, **changes)
    return run_rows(rows, Adder(str(folder), number=100), work(folder, mark), settings, parts=parts)


def equal(found, expected):
    (tables, causes), (others, reasons) = found, expected
    assert causes == reasons and tables.keys() == others.keys()
    for name, table in tables.items():
        assert table.dtype == others[name].dtype and torch.equal(table.nan_to_num(-7), others[name].nan_to_num(-7))


NUMBERS = [-4, -1, -2, 8, 2, 4, 3, 13, 5, -9, 6, 10, 1, 0, 7, 9]


def test_answers_are_in_the_order_of_the_rows_with_blanks(tmp_path, folder):
    rows = rows_of(tmp_path, NUMBERS)
    found, causes = run(rows, folder)
    assert found["sum"][3:9].tolist() == [108, 102, 104, 103, 113, 105]
    assert found["sum"][:3].isnan().all() and found["at_once"][:3].tolist() == [-1, -1, -1]
    assert found["at_once"][3:].tolist() == [3, 3, 3, 3, 3, 3, -1, 2, 2, 2, 1, 2, 1]  # those of one shape
    assert sorted(causes) == [0, 1, 2, 9] and "-4 is negative" in causes[0] and rows[0]["video"] in causes[0]


def test_an_engine_answers_the_same_from_batches_of_the_same_rows(tmp_path, folder):
    rows, engine = rows_of(tmp_path, NUMBERS), Here()
    equal(run(rows, folder, tmp_path / "parts", engine=engine), run(rows, folder))
    assert len(engine.shards) == 3


def test_an_interrupted_engine_continues_and_a_changed_video_is_read_again(tmp_path, folder):
    rows = rows_of(tmp_path, NUMBERS)
    with pytest.raises(KeyboardInterrupt):
        run(rows, folder, tmp_path / "parts", engine=Here(stop_at=2))
    second = Here()
    equal(run(rows, folder, tmp_path / "parts", engine=second), run(rows, folder))
    assert len(second.shards) == 0  # the third was written before the interruption
    (tmp_path / "15.txt").write_text("1234")
    third = Here()
    found, _ = run(rows, folder, tmp_path / "parts", engine=third)
    assert len(third.shards) == 1 and found["sum"][15] == 1334


@pytest.mark.parametrize("engine", [None, Here()])
def test_what_kills_its_decoder_is_not_tried_again(tmp_path, folder, engine):
    rows = rows_of(tmp_path, NUMBERS)
    expected = run(rows, folder)
    with FailureTable(tmp_path / "failures.jsonl", "evaluate") as table:
        table.add(VideoDecodeError(rows[4]["video"], KILLED, "Leave it out."))
    with FailureTable(tmp_path / "failures.jsonl", "evaluate") as table:
        found, causes = run(rows, folder, tmp_path / "parts", engine=engine, failures=table)
    assert KILLED in causes[4] and "--retry" in causes[4] and sorted(causes) == [0, 1, 2, 4, 9]
    assert found["sum"][4].isnan() and found["sum"][5:9].tolist() == expected[0]["sum"][5:9].tolist()
    listed = list(FailureTable(tmp_path / "failures.jsonl", "evaluate"))
    assert [row["video"] for row in listed] == sorted(rows[number]["video"] for number in causes)
    assert all(row["attempts"] == 1 for row in listed)
    with FailureTable(tmp_path / "failures.jsonl", "evaluate", retry=True) as table:
        equal(run(rows, folder, tmp_path / "parts", engine=engine, failures=table), expected)
    assert len(list(FailureTable(tmp_path / "failures.jsonl", "evaluate"))) == 4


@pytest.mark.parametrize("engine", [None, Here()])
def test_rows_of_one_file_are_read_together_and_have_several_answers(tmp_path, folder, engine):
    rows = rows_of(tmp_path, [1, 2, 3])
    listed = [{**rows[place], "add": [*range(place + number)]} for place in range(3) for number in (1, 2, 3, 2)]
    together = several(folder)
    found, causes = run_rows(
        listed, Adder(str(folder)), together, dataclasses.replace(HERE, engine=engine), parts=tmp_path / "parts"
    )
    # Batches are of three rows: the first file is read with the first three, and once more with the fourth.
    assert found["sum"][:8].tolist() == [1, 1, 2, 1, 2, 3, 1, 2]
    assert found["reads"][:8].tolist() == [3, 3, 3, 3, 3, 3, 1, 1]
    assert sorted(causes) == [4, 6] and "the first of several" in causes[4]
    assert found["sum"][8:10].isnan().all() and found["sum"][10:13].tolist() == [2, 3, 4]


def test_too_many_unreadable_rows_end_the_run_of_an_engine(tmp_path, folder):
    rows = rows_of(tmp_path, NUMBERS)
    with pytest.raises(TooManyFailuresError, match="3 of the first 6 videos are unreadable; of all 16"):
        run(rows, folder, tmp_path / "parts", engine=Here(), max_damaged=0.1)


def test_an_engine_needs_a_folder_and_the_same_model(tmp_path, folder):
    rows = rows_of(tmp_path, [1])
    with pytest.raises(ValueError, match="--out"):
        run(rows, folder, engine=Here())
    plan = module._Plan(work(folder), Here(), 3, 9.0, 1, os.getcwd(), "another")
    with pytest.raises(ValueError, match="Put the same model there on all machines"):
        module.answer_shard(rows, plan)


def test_paths_of_a_list_start_where_the_run_does(tmp_path, folder, monkeypatch):
    rows_of(tmp_path, [3])
    monkeypatch.chdir("/")
    plan = module._Plan(work(folder), Here(), 3, 9.0, 1, str(tmp_path), work(folder).loader.revision(Adder("")))
    assert module.answer_shard([{"video": "0.txt"}], plan).tensors["sum"].tolist() == [103]


def test_a_clip_is_named_with_its_seconds():
    assert video_name({"video": "a.mp4"}) == "a.mp4"
    assert video_name({"video": "a.mp4", "start": 1.5, "end": 20.0}) == "a.mp4 1.5-20 s"


@pytest.mark.slow
def test_two_workers_survive_what_kills_or_hangs_decoders_and_workers(tmp_path, folder):
    rows = rows_of(tmp_path, NUMBERS)
    expected = run(rows, folder)
    mark = tmp_path / "mark"
    equal(run(rows, folder, tmp_path / "parts", mark, engine=two_workers()), expected)
    assert mark.exists()
    poisoned = rows_of(tmp_path, [666 if number == 8 else 777 if number == 6 else number for number in NUMBERS])
    found, causes = run(poisoned, folder, tmp_path / "parts", engine=two_workers(), timeout=5.0)
    assert KILLED in causes[3] and "did not finish within 5 seconds" in causes[10]
    assert sorted(causes) == [0, 1, 2, 3, 9, 10]
    readable = [row for row in range(len(rows)) if row not in causes]
    assert found["sum"][readable].tolist() == expected[0]["sum"][readable].tolist()
