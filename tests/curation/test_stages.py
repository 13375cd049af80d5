"""Stages: rows in order, failures apart, parts that resume, shards that kill their worker."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import dying
import pytest

from internvideo_hf.curation.stages import StageReport, Table, name_of, read_lines, run_stage
from internvideo_hf.data.executors.processes import map_unordered
from internvideo_hf.data.record_files import write_records
from internvideo_hf.utils.files import DiskFullError
from internvideo_hf.video.errors import VideoDecodeError


@dataclass(frozen=True)
class Double:
    """Gives each number twice; notes each call in a file; fails, raises or dies at some."""

    log: Path
    version: int = 1
    dies: bool = False
    name: str = "double"
    rows_per_shard: int = 3
    runs_model: bool = False

    @property
    def settings(self):
        return {"version": self.version}

    def on_device(self, device):
        return self

    def load(self):
        pass

    def run(self, rows):
        with self.log.open("a") as file:
            file.write(f"{[row['n'] for row in rows]}\n")
        outcomes = []
        for row in rows:
            if row["n"] == 4:
                if self.dies:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise RuntimeError("four")
            if row["n"] == 7:
                outcomes.append(VideoDecodeError("7.mp4", "it is damaged", "Leave it out."))
            else:
                outcomes += [row, {**row, "copy": self.version}]
        return outcomes

    def files(self, row):
        return [self.log.with_name("gone")] if row["n"] == 9 and self.log.with_name("check").exists() else []


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "in.jsonl"
    return Table(path, write_records(path, [{"n": n, "video": f"{n}.mp4"} for n in range(10)]), "list")


def calls(stage):
    text = stage.log.read_text() if stage.log.exists() else ""
    stage.log.unlink(missing_ok=True)
    return text.splitlines()


ALL = [0, 0, 1, 1, 2, 2, 3, 3, 5, 5, 6, 6, 8, 8, 9, 9]


def test_rows_and_failures_are_committed_in_order(table, tmp_path):
    stage, done = Double(tmp_path / "log"), []
    out, report = run_stage(stage, table, tmp_path, on_rows=done.append)
    assert [row["n"] for row in out] == ALL and out.rows == 16
    assert report == StageReport("double", 10, 16, 2)
    once = {"stage": "double", "attempts": 1}
    assert list(read_lines(tmp_path / "failures/double.jsonl")) == [
        {"video": "4.mp4", "cause": "four", "advice": "Check the file, or leave it out.", **once},
        {"video": "7.mp4", "cause": "it is damaged", "advice": "Leave it out.", **once},
    ]
    # The shard that raised was done again row by row.
    assert calls(stage) == ["[0, 1, 2]", "[3, 4, 5]", "[3]", "[4]", "[5]", "[6, 7, 8]", "[9]"]
    assert done == [0, 3, 3, 3, 1]


def test_what_is_done_is_not_done_again(table, tmp_path):
    stage = Double(tmp_path / "log")
    first, _ = run_stage(stage, table, tmp_path)
    content = first.path.read_bytes()
    calls(stage)
    assert run_stage(stage, table, tmp_path)[0].path.read_bytes() == content and calls(stage) == []
    # Those with failures on request, and those whose files are gone.
    run_stage(stage, table, tmp_path, retry=True)
    assert calls(stage) == ["[3, 4, 5]", "[3]", "[4]", "[5]", "[6, 7, 8]"]
    assert [row["attempts"] for row in read_lines(tmp_path / "failures/double.jsonl")] == [2, 2]
    (tmp_path / "check").touch()
    run_stage(stage, table, tmp_path)
    assert calls(stage) == ["[9]"]
    # A longer list costs its new rows, other settings and another lineage all.
    (tmp_path / "check").unlink()
    with table.path.open("a") as file:
        file.write('{"n": 10, "video": "10.mp4"}\n')
    run_stage(stage, table, tmp_path)
    assert calls(stage) == ["[9, 10]"]
    run_stage(Double(stage.log, version=2), table, tmp_path)
    assert len(calls(stage)) == 7
    run_stage(stage, Table(table.path, 11, "another list"), tmp_path)
    assert len(calls(stage)) == 7


@pytest.mark.slow
def test_a_row_that_kills_its_worker_is_found_and_the_rest_is_the_same(table, tmp_path):
    one, _ = run_stage(Double(tmp_path / "log"), table, tmp_path / "one") if (tmp_path / "one").mkdir() is None else 0
    (tmp_path / "two").mkdir()
    two, report = run_stage(Double(tmp_path / "log", dies=True), table, tmp_path / "two", jobs=2)
    assert two.path.read_bytes() == one.path.read_bytes() and report.failures == 2
    assert "killed its process" in (tmp_path / "two/failures/double.jsonl").read_text()


class Here:
    """An engine in this process, which notes what it was asked to run."""

    workers, decoders = 2, 3

    def __init__(self):
        self.asked = []

    def map_ordered(self, task, items, workers, name_of=str, *, timeout=None):
        self.asked.append((workers, len(items), timeout))
        return map_unordered(task, items, 1, name_of)

    def device(self):
        return "cpu"

    def executor(self):
        return self


@pytest.mark.parametrize(("runs_model", "workers"), [(False, 6), (True, 2)])
def test_an_engine_makes_the_same_parts(table, tmp_path, runs_model, workers):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    stage, engine = Double(tmp_path / "log", runs_model=runs_model), Here()
    run_stage(stage, table, tmp_path / "one")
    run_stage(stage, table, tmp_path / "two", engine=engine, timeout=5)
    one, two = (
        {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*.jsonl")}
        for folder in (tmp_path / "one", tmp_path / "two")
    )
    assert one == two and len(one) == 6
    assert engine.asked == [(workers, 4, 15), (workers, 3, 5)]  # shards, then the rows of the one that raised


def test_a_model_that_a_worker_cannot_load_ends_the_run(table, tmp_path, monkeypatch):
    monkeypatch.setattr(Double, "load", lambda stage: open("/no/model"))
    with pytest.raises(FileNotFoundError, match="/no/model"):
        run_stage(Double(tmp_path / "log", runs_model=True), table, tmp_path, engine=Here())


def test_a_killed_run_goes_on(table, tmp_path):
    stage = Double(tmp_path / "log")
    run_stage(stage, table, tmp_path / "whole") if (tmp_path / "whole").mkdir() is None else 0
    calls(stage)
    (tmp_path / "out").mkdir()
    work = lambda: run_stage(stage, table, tmp_path / "out")  # noqa: E731
    assert dying.run(work, kill_before="stages/double.jsonl") == dying.KILLED
    assert len(calls(stage)) == 7 and dying.run(work) == 0 and calls(stage) == []
    assert (tmp_path / "out/stages/double.jsonl").read_bytes() == (tmp_path / "whole/stages/double.jsonl").read_bytes()
    assert not [file for file in (tmp_path / "out").rglob(".*")]


def test_a_full_disk_ends_the_run(table, tmp_path, monkeypatch):
    def full(self, rows):
        raise DiskFullError("no room")

    monkeypatch.setattr(Double, "run", full)
    with pytest.raises(DiskFullError):
        run_stage(Double(tmp_path / "log"), table, tmp_path)


def test_rows_are_named_by_what_they_have():
    assert name_of({"clip": "c.mp4", "video": "v.mp4"}) == "c.mp4"
    assert name_of({"video": None, "url": "https://x"}) == "https://x" and name_of({"source": "s"}) == "s"
