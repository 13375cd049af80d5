"""Snippets of a page in Markdown: reading them with their marks, and running them in order."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

from program import command_of, run

from internvideo_hf.cli.app import app

_BLOCK = re.compile(r"(?:^<!-- not run: ([^\n]+?) -->\n\s*)?^```(bash|python)\n(.*?)^```$", re.M | re.S)
_WHOLE_PAGE = re.compile(r"^<!-- nothing here is run: ([^\n]+?) -->$", re.M)


class Snippet(NamedTuple):
    """A block of code of a page.

    Args:
        line: number of its first line in the page, from 1.
        language: "bash" or "python".
        code: its text.
        reason: why it cannot run here, of the mark before it or of the page's; None if it runs.
    """

    line: int
    language: str
    code: str
    reason: str | None


def read_snippets(page: str) -> list[Snippet]:
    """Return the bash and python blocks of a page in order.

    Args:
        page: its text. `<!-- not run: REASON -->` marks the block behind it, `<!-- nothing here is run: REASON -->`
            all blocks.
    """
    whole = _WHOLE_PAGE.search(page)
    return [
        Snippet(page.count("\n", 0, found.start(3)) + 1, found[2], found[3], whole[1] if whole else found[1])
        for found in _BLOCK.finditer(page)
    ]


def run_snippets(path: Path) -> dict[int, str]:
    """Run the snippets of a page in the working directory, one after the other; those in Python share their names.

    Returns:
        What each command printed, by its line of the page.
    """
    printed, names = {}, {"__name__": "__main__"}
    for snippet in read_snippets(path.read_text(encoding="utf-8")):
        if snippet.reason is not None:
            continue
        if snippet.language == "python":
            # The lines of a traceback are those of the page.
            exec(compile("\n" * (snippet.line - 1) + snippet.code, str(path), "exec"), names)
            continue
        for number, line in enumerate(snippet.code.splitlines(), snippet.line):
            printed[number] = _run_command(line, f"{path.name}, line {number}")
    return printed


def parse_command(line: str) -> list[str]:
    """Read a command as the program does, which refuses what it does not know, and run nothing.

    Args:
        line: such as "internvideo doctor --json".

    Returns:
        Its words behind "internvideo".
    """
    every = shlex.split(line, comments=True)[1:]
    command, words = command_of(app), list(every)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    with command.make_context(command.name, words):
        return every


def _run_command(line: str, where: str) -> str:
    words = shlex.split(line, comments=True)
    if not words:
        return ""
    assert words[0] == "internvideo", f"{where}: only internvideo is run here; mark the block with a reason: {line}"
    done = run(*words[1:])
    assert done.returncode == 0, f"{where}: {line}\n{done.stdout}{done.stderr}"
    return done.stdout
