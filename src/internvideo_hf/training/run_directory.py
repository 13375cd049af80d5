"""The run directory: settings, versions, logs, free-space check."""

import errno
import importlib.metadata
import json
import math
import platform
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState

from internvideo_hf.recipes.reading import RecipeError, load_yaml
from internvideo_hf.training.curves import draw_curves
from internvideo_hf.training.recipes import Recipe, parse_recipe
from internvideo_hf.training.trainer import COMPLETE
from internvideo_hf.utils.files import atomic_write_text, remove_leftovers
from internvideo_hf.utils.settings import changed_settings

ANSWERS = "answers"  # of the final model to the validation list
SECONDS_BETWEEN_PLOTS = 30
RECIPE, VERSIONS, LOG, CURVES, FINAL = "recipe.yaml", "versions.json", "log.jsonl", "curves.png", "final"

_REMARKS: dict[str, Any] = {"title": "", "source": [], "notes": [], "expected": None}
_PACKAGES = ("internvideo_hf", "torch", "torchvision", "transformers", "accelerate", "datasets", "peft", "deepspeed")


def check_room(folder: Path, model: nn.Module, ema: bool, checkpoints: int) -> None:
    """Check that the run directory is writable and the disk has space for the checkpoints.

    Args:
        folder: run directory; created if missing.
        model: a checkpoint has its weights and, for each trained weight, two numbers of the optimizer.
        ema: whether a checkpoint also has the average of the trained weights.
        checkpoints: number kept; writing needs one more.

    Raises:
        OSError: if the directory is not writable, or the disk is too full.
    """
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file. Give a directory by --output-dir.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(
            f"{folder} is not writable ({error.strerror}). Give another directory by --output-dir."
        ) from error
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    needed = (weights + (12 if ema else 8) * trained) * (checkpoints + 1)
    used = sum(file.stat().st_size for file in folder.glob("checkpoint-*/**/*") if file.is_file())
    if (free := shutil.disk_usage(folder).free) < needed - used:
        raise OSError(
            errno.ENOSPC,
            f"{folder} has {free / 1e6:,.0f} MB free, and {checkpoints + 1} checkpoints need {needed / 1e6:,.0f} MB. "
            "Free space, give another directory by --output-dir, or keep fewer by training.save_total_limit",
        )


def remove_unfinished(folder: Path) -> None:
    """Delete what a killed run left unfinished: checkpoints without their mark, and temporary files.

    Args:
        folder: a run directory that `check_recipe` accepts, locked.
    """
    for checkpoint in folder.glob("checkpoint-*"):
        if checkpoint.is_dir() and not (checkpoint / COMPLETE).exists():
            shutil.rmtree(checkpoint)
    remove_leftovers(folder)


def check_recipe(folder: Path, recipe: Recipe, start: str | None) -> None:
    """Check that a run directory is empty, or that of the same recipe and start.

    Args:
        folder: run directory.
        recipe: recipe of this run.
        start: initial weights of this run.

    Raises:
        RecipeError: if the directory holds a run of other settings, or of unknown ones. Title, source, notes and
            expected result are not settings.
    """
    if not list(folder.glob("checkpoint-*")) and not (folder / FINAL).is_dir():
        return
    if not (folder / RECIPE).is_file() or not (folder / VERSIONS).is_file():
        raise RecipeError(f"{folder} contains checkpoints but no {RECIPE} or {VERSIONS}. Give another --output-dir.")
    # Parsed, so that keys of earlier versions and settings that they lack compare by meaning.
    saved = load_yaml((folder / RECIPE).read_text(encoding="utf-8"), str(folder / RECIPE), yaml.SafeLoader)
    before, now = (_plain(replace(one, **_REMARKS)) for one in (parse_recipe(saved, str(folder / RECIPE)), recipe))
    before["--start-from"] = json.loads((folder / VERSIONS).read_text(encoding="utf-8"))["start_from"]
    if changes := changed_settings(before, {**now, "--start-from": start}):
        raise RecipeError(
            f"{folder} holds a run of another recipe ({changes}). Give the same settings to resume, or another "
            "--output-dir for a new run."
        )


def write_settings(folder: Path, recipe: Recipe, start: str | None, devices: int) -> None:
    """Write the recipe, the versions and the command into a run directory.

    Args:
        folder: run directory.
        recipe: recipe of the run.
        start: initial weights of the run.
        devices: number of processes.
    """
    atomic_write_text(folder / RECIPE, yaml.safe_dump(_plain(recipe), sort_keys=False, allow_unicode=True))
    versions: dict[str, Any] = {"command": sys.argv, "start_from": start, "devices": devices}
    versions["python"] = platform.python_version()
    versions["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu"
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name.replace("_", "-"))
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    atomic_write_text(folder / VERSIONS, json.dumps(versions, indent=2) + "\n")


class RunLog(TrainerCallback):
    """Writes `log.jsonl`, one entry a line, and its plot into the run directory."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._plotted = -math.inf

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero:  # drops entries after the checkpoint of an interrupted run
            atomic_write_text(self.folder / LOG, "".join(json.dumps(entry) + "\n" for entry in state.log_history))

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero and state.log_history:
            with (self.folder / LOG).open("a", encoding="utf-8") as file:
                file.write(json.dumps(state.log_history[-1]) + "\n")

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if time.monotonic() - self._plotted >= SECONDS_BETWEEN_PLOTS:  # a plot takes longer than some checkpoints
            self.on_train_end(args, state, control)

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            draw_curves(state.log_history, self.folder / CURVES)
            self._plotted = time.monotonic()


def _plain(recipe: Recipe) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(recipe)))
