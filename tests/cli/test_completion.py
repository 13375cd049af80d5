"""Commands, recipes and models are completed in bash, zsh and fish, each of which runs the script that we print."""

import os
import shlex
import shutil
import subprocess
import sys

import pytest

from internvideo_hf.checkpoints.model_names import DEMO_MODELS, released_row
from internvideo_hf.cli.completion import model_names, protocol_names, recipe_names, released_names, training_names
from internvideo_hf.evaluation.protocols import protocol_names as all_protocols
from internvideo_hf.training.recipes import recipe_names as all_recipes

# Shell -> how it completes the words of a line, the last of which is begun, by the script of the variable S. The ends
# of zsh's script need its line editor: their stand-ins print what they are given.
ASK = {
    "bash": 'eval "$S"; COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); '
    '_internvideo_completion internvideo; printf "%s\\n" "${{COMPREPLY[@]}}"',
    "zsh": 'compdef() {{ }}; _arguments() {{ print -r -- "$@" }}; _files() {{ print files }}; eval "$S"; '
    "words=({line}); CURRENT=$#words; _internvideo_completion",
    "fish": 'echo "$S" | source; complete -C {quoted}',
}
LINES = {
    "internvideo lo": "localize",
    "internvideo train videomae/finetune_b": "videomae/finetune_base",
    "internvideo evaluate retrieval/msrv": "retrieval/msrvtt",
    "internvideo classify clip.mp4 --model demo-c": "demo-classifier",
    "internvideo train --gra": "--grad-cache",
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    """Return an environment with the program, and an empty home."""
    folder = tmp_path_factory.mktemp("shell")
    program = folder / "internvideo"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m internvideo_hf "$@"\n')
    program.chmod(0o755)
    return os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder)}


def ask(shell: str, line: str, environment: dict[str, str]) -> str:
    """Return what a shell completes a line to."""
    done = subprocess.run(
        ["internvideo"], env=environment | {"_INTERNVIDEO_COMPLETE": f"source_{shell}"}, capture_output=True, text=True
    )
    plain = {"bash": ["--norc", "--noprofile"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    command = ASK[shell].format(line=line, quoted=shlex.quote(line))
    answered = subprocess.run(
        [shell, *plain, "-c", command], env=environment | {"S": done.stdout}, capture_output=True, text=True
    )
    return answered.stdout


@pytest.mark.slow  # each completion is a process
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_recipes_and_models(shell, environment):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    for line, expected in LINES.items():
        answer = ask(shell, line, environment)
        assert expected in answer and "classification/k400" not in answer, line
    assert ask(shell, "internvideo train videomae/nothing", environment).strip() in ("", "files")


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_installed_for_the_shell_that_asks(shell, environment):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    # A second command keeps the shell from becoming the program.
    done = subprocess.run(
        [shell, "-c", "internvideo --install-completion; true"], env=environment, capture_output=True
    )
    assert f"{shell} completion installed in ".encode() in done.stdout, done.stderr


def test_names_are_those_that_commands_take():
    assert training_names("") == all_recipes()
    assert training_names("demo/mae") == ["demo/mae_finetune", "demo/mae_pretrain"]
    assert set(all_protocols()) <= set(protocol_names("")) and recipe_names("") == training_names("") + protocol_names(
        ""
    )
    assert set(model_names("demo-")) == set(DEMO_MODELS) and model_names("") == []
    assert len(released_names("")) > 50 and all(released_row(name) for name in released_names(""))
    assert not any(" " in name for name in released_names(""))


def test_a_keystroke_does_not_wait_for_torch():
    code = (
        "import sys; from internvideo_hf.cli import app, completion as c; "
        "c.recipe_names('v'); c.model_names('d'); print({'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
