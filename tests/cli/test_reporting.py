"""Failures of single videos, and the exit codes that they lead to."""

import pytest
import typer

from internvideo_hf import VideoDecodeError
from internvideo_hf.cli.reporting import PARTIAL, REFUSED, attempt, report_failures
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
