"""The commands of docs/scale.md are those of the program."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from internvideo_hf.cli.app import app

PAGE = (Path(__file__).parents[2] / "docs/scale.md").read_text()
COMMANDS = re.findall(r"^internvideo (.+)$", PAGE, re.M)


@pytest.mark.parametrize("line", COMMANDS)
def test_options_and_arguments_are_known(line):
    command, words = typer.main.get_command(app), shlex.split(line)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    with command.make_context(command.name, words) as context:  # raises for what it does not know, and runs nothing
        assert context.params


def test_models_of_others_are_named_by_folder_or_repository():
    named = re.findall(r"--(?:captioner|detector|encoder) (\S+)", PAGE)
    assert len(named) > 1 and all("/" in name for name in named)


def test_the_page_has_commands_and_its_link_is_there():
    assert len(COMMANDS) > 12
    assert "## Data at scale\n" in (Path(__file__).parents[2] / "benchmarks/README.md").read_text()
    assert "docs/scale.md" in (Path(__file__).parents[2] / "README.md").read_text()
