"""A newcomer at the shell and in Python, who knows what README, the pages on jobs, and `--help` say."""

import contextlib
import functools
import io
import re
import subprocess
import sys

from conftest import ROOT
from program import run


def run_outside(*arguments: object) -> subprocess.CompletedProcess:
    """Run the program as a shell does."""
    return subprocess.run(
        [sys.executable, "-m", "internvideo_hf", *map(str, arguments)], capture_output=True, text=True
    )


@functools.cache
def help_of(command: str) -> str:
    return run(command, "--help").stdout


class Newcomer:
    """Runs commands and snippets, each of whose options or names stands in what a newcomer reads.

    Args:
        outside: in processes of their own, as a newcomer does; else in this one, which is quicker.
    """

    def __init__(self, outside: bool = False):
        self.outside = outside
        pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs/howto").glob("*.md")]
        self.pages = "".join(page.read_text() for page in pages)

    def say(self, *command: object, code: int = 0) -> str:
        """Run a command, each option of which its `--help` lists, and return what it prints."""
        name, *arguments = map(str, command)
        assert f"internvideo {name}" in self.pages
        for option in (argument for argument in arguments if argument.startswith("--")):
            assert re.search(rf"{option}\b", help_of(name)), f"internvideo {name} --help does not say {option}"
        done = (run_outside if self.outside else run)(name, *arguments)
        assert done.returncode == code, done.stderr
        return done.stdout

    def python(self, code: str) -> str:
        """Run a snippet, each name of this package in which a page says, and return what it prints."""
        for name in re.findall(r"internvideo_hf\.(\w+)|pipeline\(\"([\w-]+)\"", code):
            assert "".join(name) in self.pages, f"no page says {name}"
        if self.outside:
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            return done.stdout
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "snippet", "exec"), {"__name__": "__main__"})
        return printed.getvalue()
