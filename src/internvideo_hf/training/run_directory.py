"""The folder of a training run: what it was told, on what it ran, what it logged, and whether there is room."""

import errno
import importlib.metadata
import json
import platform
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn
from transformers import TrainerCallback

from internvideo_hf.training.curves import draw_curves
from internvideo_hf.training.recipes import Recipe, RecipeError, parse_recipe
from internvideo_hf.utils.files import atomic_write_text

RECIPE, VERSIONS, LOG, CURVES, FINAL = "recipe.yaml", "versions.json", "log.jsonl", "curves.png", "final"

_PACKAGES = ("internvideo_hf", "torch", "torchvision", "transformers", "accelerate", "datasets", "peft", "deepspeed")


def check_room(folder: Path, model: nn.Module, ema: bool, checkpoints: int) -> None:
    """Refuse a folder that cannot be written, or a disk without room for the checkpoints, before the first step.

    Args:
        folder: of the run; made if it is not there.
        model: its weights, and for each trained one two numbers of the optimizer and the average, are what is kept.
        checkpoints: kept at a time; one more is there while it is written.

    Raises:
        OSError: saying what is missing.
    """
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file. Give the name of a folder by --output-dir.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(
            f"{folder} cannot be written ({error.strerror}). Give another folder by --output-dir."
        ) from error
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    needed = (weights + (12 if ema else 8) * trained) * (checkpoints + 1)
    there = sum(file.stat().st_size for file in folder.glob("checkpoint-*/**/*") if file.is_file())
    if (free := shutil.disk_usage(folder).free) < needed - there:
        raise OSError(
            errno.ENOSPC,
            f"{folder} has {free / 1e6:,.0f} MB free, and {checkpoints + 1} checkpoints need {needed / 1e6:,.0f} MB. "
            "Make room, give another folder by --output-dir, or keep fewer by training.save_total_limit",
        )


def check_recipe(folder: Path, recipe: Recipe, start: str | None) -> None:
    """Refuse to go on with a run of another recipe, or from another start.

    Raises:
        RecipeError: if the folder holds checkpoints of one, saying what differs, or of a run that nothing tells of.
    """
    if not list(folder.glob("checkpoint-*")) and not (folder / FINAL).is_dir():
        return
    if not (folder / RECIPE).is_file() or not (folder / VERSIONS).is_file():
        raise RecipeError(f"{folder} holds checkpoints of a run that it does not tell of. Give another --output-dir.")
    # Parsed, so that keys of earlier versions and settings that they did not have yet compare as they are meant.
    kept = yaml.safe_load((folder / RECIPE).read_text(encoding="utf-8"))
    before = _plain(parse_recipe(kept, str(folder / RECIPE)))
    before["--start-from"] = json.loads((folder / VERSIONS).read_text(encoding="utf-8"))["start_from"]
    if changed := sorted(_differences(before, {**_plain(recipe), "--start-from": start})):
        raise RecipeError(
            f"{folder} holds a run of another recipe: {', '.join(changed[:5])} differ. Give the same again to go on, "
            "or another --output-dir to start anew."
        )


def write_settings(folder: Path, recipe: Recipe, start: str | None, devices: int) -> None:
    """Write the recipe, the versions and the command into the folder of a run."""
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
    """Keeps `log.jsonl`, an entry a line, and the picture of it, in the folder of a run."""

    def __init__(self, folder: Path):
        self.folder = folder

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:  # what a stopped run logged behind its checkpoint is done again
            atomic_write_text(self.folder / LOG, "".join(json.dumps(entry) + "\n" for entry in state.log_history))

    def on_log(self, args, state, control, **kwargs):
        if state.is_world_process_zero and state.log_history:
            with (self.folder / LOG).open("a", encoding="utf-8") as file:
                file.write(json.dumps(state.log_history[-1]) + "\n")

    def on_save(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            draw_curves(state.log_history, self.folder / CURVES)

    def on_train_end(self, args, state, control, **kwargs):
        self.on_save(args, state, control)


def _plain(recipe: Recipe) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(recipe)))


def _differences(before: Any, now: Any, place: str = "") -> list[str]:
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return [] if before == now else [place]
    return [
        found
        for key in before.keys() | now.keys()
        for found in _differences(before.get(key), now.get(key), f"{place}.{key}".lstrip("."))
    ]
