"""Answers as JSON lines, by one worker or several."""

import json
import math
import os
from pathlib import Path

import pytest
from data.executors.here import Here
from inference.answer_work import question
from inference.row_work import two_workers

from internvideo_hf.data.executors.processes import KILLED
from internvideo_hf.data.failures import FailureTable
from internvideo_hf.inference import answering
from internvideo_hf.inference.answering import write_lines
from internvideo_hf.video.errors import VideoDecodeError


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(answering, "SHARD_VIDEOS", 2)


@pytest.fixture
def videos(tmp_path) -> list[str]:
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text("bad" if number == 3 else str(number))
    return [*(str(tmp_path / f"{number}.txt") for number in range(5)), str(tmp_path / "gone.txt")]


def lines_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in out.read_text().splitlines()]


@pytest.mark.parametrize("decodes_apart", [True, False])
def test_lines_are_in_the_order_of_the_list_with_what_failed(mae_folder, videos, tmp_path, decodes_apart):
    out, engine = tmp_path / "new/out.jsonl", Here()
    failures = write_lines(out, videos, question(mae_folder, decodes_apart), engine, quiet=True)
    found = lines_of(out)
    assert [line["video"] for line in found] == videos
    assert [line.get("number") for line in found] == [10, 11, 12, None, 14, None]
    assert failures == [found[3]["error"], found[5]["error"]] and videos[3] in failures[0]
    table = out.with_name("out.jsonl.failures.jsonl")
    assert len(engine.shards) == (3 if decodes_apart else 6) and sorted(out.parent.iterdir()) == [out, table]
    assert [json.loads(row)["video"] for row in table.read_text().splitlines()] == [videos[3], videos[5]]


@pytest.mark.parametrize("decodes_apart", [True, False])
def test_what_kills_its_decoder_is_not_tried_again(mae_folder, videos, tmp_path, decodes_apart):
    out, asked = tmp_path / "out.jsonl", question(mae_folder, decodes_apart)
    with FailureTable.beside(out, "answer") as table:
        table.add(VideoDecodeError(videos[1], KILLED, "Leave it out."))
    engine = Here()
    failures = write_lines(out, videos, asked, engine, quiet=True)
    found = lines_of(out)
    assert [line.get("number") for line in found] == [10, None, 12, None, 14, None] and len(failures) == 3
    assert KILLED in found[1]["error"] and "--retry" in found[1]["error"]
    assert len(engine.shards) == (3 if decodes_apart else 5)
    write_lines(out, videos, asked, Here(), quiet=True, retry=True)
    assert lines_of(out)[1]["number"] == 11
    assert [row["video"] for row in FailureTable.beside(out, "answer")] == [videos[3], videos[5]]


@pytest.mark.parametrize(
    ("decodes_apart", "asked", "of_shards"),
    [(False, None, 3600.0), (False, 7.0, 7.0), (False, math.inf, None), (True, None, None)],
)
def test_a_model_that_decodes_has_a_limit_of_time(mae_folder, videos, tmp_path, decodes_apart, asked, of_shards):
    engine = Here()
    write_lines(tmp_path / "out.jsonl", videos, question(mae_folder, decodes_apart), engine, timeout=asked, quiet=True)
    assert engine.timeout == of_shards and lines_of(tmp_path / "out.jsonl")[0]["number"] == 10


def test_retry_asks_the_shards_that_have_failures_again(mae_folder, videos, tmp_path):
    out = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        write_lines(out, videos, question(mae_folder), Here(stop_at=2), quiet=True)
    again = Here()
    write_lines(out, videos, question(mae_folder), again, quiet=True, retry=True)
    assert [shard.items for shard in again.shards] == [tuple(videos[2:4]), tuple(videos[4:])]


def test_an_interrupted_list_continues_with_its_parts(mae_folder, videos, tmp_path):
    out = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        write_lines(out, videos, question(mae_folder), Here(stop_at=1), quiet=True)
    assert not out.exists() and len(list(tmp_path.glob(".out.jsonl.parts/*"))) == 2
    again = Here()
    write_lines(out, videos, question(mae_folder), again, quiet=True)
    assert len(again.shards) == 1 and len(lines_of(out)) == 6 and not list(tmp_path.glob(".*.parts"))


def test_other_options_and_another_video_are_asked_again(mae_folder, videos, tmp_path):
    out = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        write_lines(out, videos, question(mae_folder), Here(stop_at=2), quiet=True)
    Path(videos[0]).write_text("123")
    engine = Here()
    write_lines(out, videos, question(mae_folder), engine, quiet=True)
    assert len(engine.shards) == 1 and lines_of(out)[0]["number"] == 133
    with pytest.raises(KeyboardInterrupt):
        write_lines(out, videos, question(mae_folder), Here(stop_at=2), quiet=True)
    other = Here()
    write_lines(out, videos, question(mae_folder, plus=20), other, quiet=True)
    assert len(other.shards) == 3 and lines_of(out)[1]["number"] == 21


def test_another_model_in_a_worker_is_refused(mae_folder, videos, tmp_path):
    plan = answering._Plan(question(mae_folder, plus=7), Here(), ("another",), 9.0, 1, os.getcwd())
    with pytest.raises(ValueError, match="Put the same model there on all machines"):
        answering.answer_shard(videos, plan)


@pytest.mark.slow
@pytest.mark.parametrize("decodes_apart", [True, False])
def test_what_kills_a_decoder_or_a_worker_is_a_failure(mae_folder, videos, tmp_path, decodes_apart):
    Path(videos[1]).write_text("666")
    out = tmp_path / "out.jsonl"
    write_lines(out, videos, question(mae_folder, decodes_apart), two_workers(), quiet=True, timeout=60.0)
    found = lines_of(out)
    assert [line.get("number") for line in found] == [10, None, 12, None, 14, None] and KILLED in found[1]["error"]
