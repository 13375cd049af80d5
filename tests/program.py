"""Running the program `internvideo` in this process."""

import contextlib
import io
import subprocess
import sys
from unittest import mock

from internvideo_hf import cli


def run(*arguments: object) -> subprocess.CompletedProcess:
    """Run the program in this process, which has paid for importing torch already."""
    command = ["internvideo", *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    with mock.patch.object(sys, "argv", command), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
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
