"""Commands of the pages in docs: each exists with its options, and those that compare with other tools run."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from newcomer import help_of
from program import run

from internvideo_hf.demo.tour import draw_clips, draw_long_video

PAGES = ("hub.md", "peers.md")


def commands_of(page: str) -> list[str]:
    """Return the commands of a page, in blocks and in cells of tables."""
    text = (ROOT / "docs" / page).read_text()
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    return [*lines, *re.findall(r"^\|.*\| `([^`|]+)` \|$", text, re.M)]


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_their_options_exist(page):
    commands = [shlex.split(command) for command in commands_of(page) if command.startswith("internvideo ")]
    assert len(commands) >= 5
    for _, name, *arguments in commands:
        for option in (argument for argument in arguments if argument.startswith("--")):
            assert re.search(rf"{option}\b", help_of(name)), f"internvideo {name} has no {option}"


def test_each_row_of_the_comparison_has_its_command_or_says_no():
    rows = [line for line in (ROOT / "docs/peers.md").read_text().splitlines() if line.startswith("|")]
    rows = [row for row in rows if not re.match(r"\|( \| others|---)", row)]
    assert len(rows) >= 25
    for row in rows:
        name, others, here, check = re.fullmatch(r"\| (.+?) \| (.+?) \| (.+?) \| ?(.*?) ?\|", row).groups()
        assert check or here.startswith("no"), name


RIGHT = {
    'search demo.index "a small red heart"': r"\n\*? *1\. ",
    'search demo.index "a dog in the snow"': "Nothing here matches",
    "zero-shot": r"demo/test/00006.mp4\n *\d+\.\d%  a cross grows",
    "classify demo/": r"\n *\d+\.\d%  grows\n",
    "caption demo/": "a small red [a-z]+ shakes",
    "localize demo/": r"long.mp4\n(  .*%\n){3}",
    "released": "InternVideo-MM-L-14",
    "recipes multi_label": "multi_label",
}
"""Begin of a command -> what it prints, of the clips that `internvideo demo` draws."""


@pytest.mark.slow
def test_the_commands_of_the_comparison_run(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime", reason="needs the extra export")
    monkeypatch.chdir(tmp_path)
    draw_clips(Path("demo"), 12, seed=1)
    draw_long_video(Path("demo"), seed=1)
    first, *others = commands_of("peers.md")
    assert first == "internvideo demo"  # which draws such clips, and is tested elsewhere
    seen = set()
    for command in others:
        program, *arguments = shlex.split(command)
        if program == "python":
            done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
        else:
            done = run(*arguments)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        for start, answer in RIGHT.items():
            if command.startswith(f"internvideo {start}"):
                seen.add(start)
                assert re.search(answer, done.stdout), f"{command}\n{done.stdout}"
        if "--out features" in command:
            shutil.rmtree("features")
    assert seen == set(RIGHT)
