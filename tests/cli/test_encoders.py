"""The commands of docs/encoders.md are those of the program, and its Python runs."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import typer

from internvideo_hf.cli.app import app

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/encoders.md").read_text()
COMMANDS = re.findall(r"^internvideo (.+)$", PAGE, re.M)


@pytest.mark.parametrize("line", COMMANDS)
def test_options_and_arguments_are_known(line):
    command, words = typer.main.get_command(app), shlex.split(line)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    with command.make_context(command.name, words) as context:  # raises for what it does not know, and runs nothing
        assert context.params


def test_its_python_runs(drawn, tmp_path, monkeypatch, capsys):
    shutil.copytree(drawn[0] / "test", tmp_path / "clips")
    first = sorted((tmp_path / "clips").glob("*.mp4"))[0]
    monkeypatch.chdir(tmp_path)
    (source,) = re.findall(r"```python\n(.+?)```", PAGE, re.S)
    exec(compile(source, "docs/encoders.md", "exec"), {})
    assert first.name == "00000.mp4"
    assert capsys.readouterr().out.strip().splitlines()[-1] == str(first)


def test_the_page_has_commands_and_its_links_are_there():
    assert len(COMMANDS) > 8
    assert "### Probes on frozen features\n" in (ROOT / "benchmarks/README.md").read_text()
    assert "docs/encoders.md" in (ROOT / "README.md").read_text()
