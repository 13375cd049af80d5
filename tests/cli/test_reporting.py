"""Failures of single videos, and the exit codes that they lead to."""

import ast
import json
import os
import shutil
from pathlib import Path

import pytest
import typer
from program import run

from internvideo_hf import VideoDecodeError, cli
from internvideo_hf.cli.reporting import PARTIAL, REFUSED, attempt, print_json, report_failures
from internvideo_hf.utils.files import DiskFullError


def test_failures_are_listed_and_decide_the_exit_code(capsys):
    report_failures([], 2)
    for failures, code in ((["a.mp4: gone"], PARTIAL), (["a.mp4: gone", "b.mp4: gone"], REFUSED)):
        with pytest.raises(typer.Exit) as done:
            report_failures(failures, 2)
        printed = capsys.readouterr()
        assert done.value.exit_code == code and printed.out == ""
        assert printed.err.splitlines() == [f"{len(failures)} of 2 failed:", *(f"  {line}" for line in failures)]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (VideoDecodeError("a.mp4", "it is empty", "Copy it again."), "a.mp4"),
        (ValueError("too short"), "a.mp4: too short"),
        (MemoryError("full"), "a.mp4: full"),
        (MemoryError(), "a.mp4: memory ran out"),
        (IndexError("tuple index out of range"), "a.mp4: IndexError: tuple index out of range"),
        (RecursionError("too deep"), "a.mp4: too deep"),
    ],
)
def test_an_attempt_that_fails_names_the_video(error, message):
    def answer(video):
        raise error

    failures = []
    assert attempt(answer, "a.mp4", failures) is None
    assert len(failures) == 1 and message in failures[0]
    assert attempt(str.upper, "a.mp4", failures) == "A.MP4" and len(failures) == 1


def test_what_concerns_every_video_is_not_taken_for_the_failure_of_one():
    def answer(video):
        raise DiskFullError("no room")

    with pytest.raises(DiskFullError):
        attempt(answer, "a.mp4", [])


NAME = "a\x1b[2J\n\u202eb.mp4"


def test_names_are_printed_escaped(bikes, tmp_path):
    (tmp_path / NAME).write_bytes(b"no video")
    shutil.copy(bikes, tmp_path / f"whole {NAME}")
    scanned = run("scan", tmp_path, "-q", "--jobs", "1")
    assert scanned.stderr.splitlines()[1].startswith(f"  {tmp_path}/a\\x1b[2J\\n\\u202eb.mp4: FFmpeg cannot open it")
    answered = run("classify", "--model", "demo-classifier", tmp_path / f"whole {NAME}", tmp_path / NAME)
    for printed in (scanned, answered):
        assert not {"\x1b", "\u202e"} & {*printed.stdout, *printed.stderr}
    assert answered.stdout.splitlines()[0] == f"{tmp_path}/whole a\\x1b[2J\\n\\u202eb.mp4"


def test_json_holds_names_as_they_are(capsys):
    names = ["\x9b2J\x1b\n\u202e", os.fsdecode(b"caf\xe9"), "é👩‍👧"]
    print_json({"names": names})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"names": names} and "é👩‍👧" in printed
    assert not {"\x9b", "\x1b", "\u202e"} & {*printed}


def test_everything_is_printed_by_these_functions():
    for file in Path(cli.__file__).parent.glob("*.py"):
        calls = [
            ast.unparse(node.func) for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)
        ]
        assert file.name == "reporting.py" or not {"typer.echo", "typer.secho", "print"} & {*calls}, file
