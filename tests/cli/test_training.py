"""`recipes`; `train` is tested in tests/training."""

import re
from importlib import resources
from pathlib import Path

from program import run
from typer.main import get_command

from internvideo_hf.cli.app import app


def test_recipes_are_listed_and_shown():
    listed = run("recipes").stdout
    assert "videomae/finetune_base_k400" in listed
    shown = run("recipes", "videomae/finetune_base_k400").stdout
    assert "layer_decay: 0.75" in shown  # of what it extends


def test_a_protocol_is_shown_with_the_source_of_each_value():
    shown = run("recipes", "retrieval/msrvtt").stdout
    assert "text_length: 77  # from retrieval/_retrieval" in shown
    assert "num_frames: 8  # from retrieval/msrvtt" in shown
    assert ".yaml file" in run("recipes", "--help").stdout


def test_options_that_recipes_name_exist():
    known = {
        option for command in get_command(app).commands.values() for entry in command.params for option in entry.opts
    }
    root = resources.files("internvideo_hf.recipes")
    files = [file for file in Path(str(root)).rglob("*.yaml")]
    named = {option for file in files for option in re.findall(r"--[a-z][a-z-]+", file.read_text(encoding="utf-8"))}
    assert len(files) > 20 and "--start-from" in named
    assert named <= known
