"""Read a released file without running code that it contains."""

import pickle
import re
from collections import OrderedDict
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from internvideo_hf.checkpoints.errors import CheckpointError

# Entries in which training scripts store the weights, by precedence; the averaged ones are those that they evaluate.
WRAPPERS = ("state_dict_ema", "state_dict", "model", "module", "model_state")
# Classes of settings that scripts store beside the weights, dictionaries all of them: read as plain ones, so that
# nothing of theirs runs, and their packages need not be installed.
SETTINGS = ("habitat.config.default.Config", "yacs.config.CfgNode")
# Prefixes of names that data-parallel training and torch.compile add.
PREFIXES = ("module.", "_orig_mod.")


def load_state_dict(path: str | Path, trust_pickle: bool = False) -> dict[str, torch.Tensor]:
    """Read the tensors of a checkpoint file, memory-mapped where its format allows.

    Args:
        path: a `.safetensors` file, or anything that `torch.save` wrote: a bare state dict, or one inside the first of
            `state_dict_ema`, `state_dict`, `model`, `module` and `model_state`, all of them perhaps inside
            `predictor`. Entries that are not tensors are ignored; objects of the classes of `SETTINGS` among them are
            read as plain dictionaries.
        trust_pickle: unpickle without restrictions, which runs any code that the file contains.

    Raises:
        CheckpointError: if the file is missing, damaged, holds no tensors, or needs more than plain tensors and
            numbers without being trusted.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise CheckpointError(f"{path} {what}. Give the path of a checkpoint file.")
    content = _load_safetensors(path) if path.suffix == ".safetensors" else _load_pickle(path, trust_pickle)
    return _unwrap(content, path)


def _load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged or not a safetensors file: {error}. Download it again.") from error


def _load_pickle(path: Path, trust_pickle: bool) -> Any:
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path} is empty. Download it again.")
    # Only the zip format, PyTorch's own since 1.6, can be mapped.
    with path.open("rb") as file:
        mmap = file.read(4) == b"PK\x03\x04"
    plain = torch.serialization.safe_globals([(OrderedDict, name) for name in SETTINGS])
    try:
        with nullcontext() if trust_pickle else plain:
            return torch.load(path, map_location="cpu", weights_only=not trust_pickle, mmap=mmap)
    except pickle.UnpicklingError as error:
        blocked = _blocked_globals(path, error)
        if trust_pickle or not blocked:
            raise CheckpointError(f"{path} is damaged or not a PyTorch checkpoint. Download it again.") from error
        raise CheckpointError(
            f"{path} was refused: loading it would run {', '.join(blocked)}. If you trust its author, pass "
            "--trust-pickle (trust_pickle=True): its code will run with your rights."
        ) from error
    except ImportError as error:
        raise CheckpointError(f"{path} holds objects of a package that is not installed: {error}.") from error
    except Exception as error:  # damaged pickles raise exceptions of any type
        # Some are a number or a key alone, which says nothing.
        reason = f"{type(error).__name__}: {error}".splitlines()[0].removesuffix(": ")
        if "TorchScript" in str(error):
            raise CheckpointError(
                f"{path} was refused: it is a TorchScript archive, which contains code. Use the same model from the "
                "Hub (`CLIPModel.from_pretrained`), or save its state_dict() with torch.save."
            ) from error
        raise CheckpointError(f"{path} is damaged or truncated: {reason}. Download it again.") from error


def _blocked_globals(path: Path, error: pickle.UnpicklingError) -> list[str]:
    try:
        return sorted(set(torch.serialization.get_unsafe_globals_in_checkpoint(path)) - set(SETTINGS))
    except Exception:
        # Only the zip format can be listed; for others, the error names the first.
        return re.findall(r"GLOBAL ([\w.]+)", str(error))


def _unwrap(content: Any, path: Path) -> dict[str, torch.Tensor]:
    if isinstance(content, dict) and isinstance(content.get("predictor"), dict):
        content = content["predictor"]
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    tensors = {}
    if isinstance(content, dict):
        tensors = {str(name): value.detach() for name, value in content.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise CheckpointError(
            f"{path} holds no tensors by name, neither bare nor inside {', '.join(WRAPPERS)}. "
            "Pass the model's file, not the optimizer's."
        )
    while prefix := next((prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors
