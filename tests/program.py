"""Running the program `internvideo` in this process."""

import contextlib
import functools
import io
import subprocess
import sys
from unittest import mock

import typer

from internvideo_hf import cli

command_of = functools.cache(typer.main.get_command)  # which typer makes anew for every call of the program


def run(*arguments: object) -> subprocess.CompletedProcess:
    """Run the program in this process, which has paid for importing torch already."""
    command = ["internvideo", *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(typer.main, "get_command", command_of))
        stack.enter_context(mock.patch.object(sys, "argv", command))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        try:
            cli.main()
            code = 0
        except SystemExit as done:
            code = done.code or 0
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())


def assert_refused(result: subprocess.CompletedProcess, *words: str) -> None:
    """Check that the program refused in one message with these words, and without a traceback."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr
