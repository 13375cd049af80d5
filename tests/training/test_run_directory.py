"""The run directory: settings, versions, log, free space."""

import importlib.metadata
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import yaml
from training.recipes import CLASSIFICATION

from internvideo_hf.training import run_directory
from internvideo_hf.training.recipes import RecipeError, parse_recipe
from internvideo_hf.training.run_directory import RunLog, check_recipe, check_room, write_settings


def recipe(**training):
    return parse_recipe({**CLASSIFICATION, "training": CLASSIFICATION["training"] | training})


def test_same_settings_resume_and_others_are_named(tmp_path):
    write_settings(tmp_path, recipe(), "weights", devices=2)
    check_recipe(tmp_path, recipe(learning_rate=1.0), None)  # no checkpoint yet
    (tmp_path / "checkpoint-1").mkdir()
    check_recipe(tmp_path, recipe(), "weights")
    check_recipe(tmp_path, replace(recipe(), title="Another", notes=["another"]), "weights")
    with pytest.raises(RecipeError, match=r"--start-from weights, now none; training.learning_rate .*, now 1.0\)"):
        check_recipe(tmp_path, recipe(learning_rate=1.0), None)
    (tmp_path / "versions.json").unlink()
    with pytest.raises(RecipeError, match="checkpoints but no recipe.yaml or versions.json"):
        check_recipe(tmp_path, recipe(), "weights")


def test_settings_say_what_was_run_and_with_what(tmp_path):
    write_settings(tmp_path, recipe(), "weights", devices=2)
    saved = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    assert parse_recipe(saved) == recipe()
    versions = json.loads((tmp_path / "versions.json").read_text())
    assert (versions["start_from"], versions["devices"]) == ("weights", 2)
    assert versions["torch"] == importlib.metadata.version("torch")


@pytest.mark.parametrize(("ema", "checkpoints", "needed"), [(False, 1, 56), (True, 2, 96)])
def test_room_is_that_of_all_checkpoints_and_one_more(ema, checkpoints, needed, tmp_path, monkeypatch):
    # Five weights of 4 bytes, one of them trained: 20 + 8 bytes a checkpoint, 20 + 12 with an average.
    model = torch.nn.Linear(4, 1)
    model.weight.requires_grad_(False)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=needed))
    check_room(tmp_path / "run", model, ema, checkpoints)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=needed - 1))
    with pytest.raises(OSError, match="training.save_total_limit"):
        check_room(tmp_path / "run", model, ema, checkpoints)
    # A run that resumes overwrites the checkpoints it has.
    (tmp_path / "run/checkpoint-1").mkdir()
    (tmp_path / "run/checkpoint-1/file").write_bytes(b"x")
    check_room(tmp_path / "run", model, ema, checkpoints)


def test_a_file_is_no_run_directory(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(FileExistsError, match="Give a directory"):
        check_room(tmp_path / "run", torch.nn.Linear(1, 1), False, 1)


def test_log_drops_what_an_interrupted_run_logged_after_its_checkpoint(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    state = SimpleNamespace(is_world_process_zero=True, log_history=[{"step": 1}])
    log = RunLog(tmp_path)
    log.on_train_begin(None, state, None)
    state.log_history.append({"step": 2, "loss": 0.5})
    log.on_log(None, state, None)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines == [{"step": 1}, {"step": 2, "loss": 0.5}]
    log.on_save(None, state, None)
    assert (tmp_path / "curves.png").is_file()


def test_curves_are_plotted_again_after_a_while_and_at_the_end(tmp_path, monkeypatch):
    plotted = []
    monkeypatch.setattr(run_directory, "draw_curves", lambda history, path: plotted.append(history[-1]["step"]))
    state = SimpleNamespace(is_world_process_zero=True, log_history=[])
    log = RunLog(tmp_path)
    for step, seconds in ((1, 1000), (2, 1020), (3, 1031)):
        monkeypatch.setattr(run_directory, "time", SimpleNamespace(monotonic=lambda seconds=seconds: seconds))
        state.log_history.append({"step": step})
        log.on_save(None, state, None)
    log.on_train_end(None, state, None)
    assert plotted == [1, 3, 3]


def test_other_processes_write_nothing(tmp_path):
    state = SimpleNamespace(is_world_process_zero=False, log_history=[{"step": 1, "loss": 1.0}])
    log = RunLog(tmp_path)
    log.on_train_begin(None, state, None)
    log.on_log(None, state, None)
    log.on_save(None, state, None)
    assert not list(tmp_path.iterdir())
