"""Loading from folders and Hub repositories that others have made: no code of theirs runs, no other file is read."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from internvideo_hf.utils.loader import is_own_map
from internvideo_hf.utils.names import with_article

_LARGEST_JSON = 64 << 20  # bytes; the index of the largest published models has a few
_MOST_WEIGHTS, _MOST_POSITIONS = 10**11, 10**9
MOST_VIEWS = 10_000
"""The most clips of a video, crops of a frame, and frames of a clip that a processor makes."""
# The first pattern that a name matches gives the least and the most of its number.
_RANGES = (
    (re.compile(r"(.*_)?num_(\w+_)?layers"), 1, 1000),
    (re.compile(r"(.*_)?num_\w*heads"), 1, 1000),
    (re.compile(r"(.*_)?(hidden_size|projection_dim)"), 1, 100_000),
    (re.compile(r"(.*_)?intermediate_size"), 1, 1_000_000),
    (re.compile(r"(.*_)?(image_size|patch_size|tubelet_size|num_frames|num_channels)"), 0, 20_000),
    (re.compile(r"height|width|shortest_edge|longest_edge"), 1, 20_000),
    (re.compile(r"num_(clips|crops|segments)|frame_stride"), 1, MOST_VIEWS),
    (re.compile(r"num_\w*blocks"), 0, 1000),
    (re.compile(r"num_labels|max_position_embeddings"), 0, 1_000_000),
    (re.compile(r"vocab_size"), 0, 10_000_000),
)
_ANY = 10**9
_MEMORY = 10**8  # weights that any machine has room for


def load_pretrained(auto_class: Any, source: str | Path, **options: Any) -> Any:
    """Load a model, configuration, processor or tokenizer of transformers.

    Args:
        auto_class: an Auto class, or the class itself.
        source: a folder, or a name on the Hub.
        options: keywords of its `from_pretrained`.

    Raises:
        ValueError: if the source asks for code of its own or for files elsewhere, or a number in it is out of range.
    """
    check_model_folder(source)
    return auto_class.from_pretrained(source, trust_remote_code=False, **options)


def check_model_folder(source: str | Path) -> None:
    """Refuse a model's folder that names code, files outside, or numbers that no model has.

    Args:
        source: a folder; anything else, such as a name on the Hub, passes.

    Raises:
        ValueError: naming the file, and what is wrong in it.
    """
    folder = Path(source)
    if not folder.is_dir():
        return
    _check_run(folder)
    if (folder / "adapter_config.json").exists():
        raise ValueError(
            f"{folder} holds the adapters of another model (adapter_config.json). Merge them into it by peft's "
            "merge_and_unload, and save that."
        )
    for file in sorted(folder.glob("*config*.json")):
        content = _read_object(file)
        _check_code(content, file)
        if file.name != "tokenizer_config.json":  # where no limit is written as 1e30
            try:
                check_sizes(content)
            except ValueError as error:
                raise ValueError(f"{file}: {error}") from error
    config = _read_object(folder / "config.json")
    if config.get("transformers_weights") is not None:
        _check_name(config["transformers_weights"], folder / "config.json")
    _check_weights(config, folder)
    for file in sorted(folder.glob("*.index.json")):
        for name in set(map(str, shard_names(file))):
            _check_name(name, file)


def _check_run(folder: Path) -> None:
    """Refuse the directory of a training run, which holds a model, but is none."""
    if (folder / "config.json").exists():
        return
    model = folder / "final"
    if (model / "config.json").is_file():
        raise ValueError(f"{folder} is the directory of a training run; its model is {model}. Give that.")
    if any(folder.glob("checkpoint-*")):
        raise ValueError(
            f"{folder} is the directory of a training run that has not ended. Run its command again to end it; its "
            f"model will be {model}."
        )


def shard_names(index: Path) -> list[str]:
    """Return the names of the files of weights that an index of shards lists, once per tensor.

    Args:
        index: such as `model.safetensors.index.json`.

    Raises:
        ValueError: if it is no such index.
    """
    names = _read_object(index).get("weight_map")
    if not isinstance(names, dict):
        raise ValueError(f"{index} has no weight_map, the file of each tensor. Convert or download the model again.")
    return list(names.values())


def check_sizes(values: Mapping[str, Any], where: str = "") -> None:
    """Refuse settings with numbers that no model has, before anything of their size is made.

    Args:
        values: settings by name, nested for parts.
        where: prefix of the names in messages, such as "model.config.".

    Raises:
        ValueError: naming the setting, its value and the range.
    """
    for name, value in values.items():
        if name in ("id2label", "label2id"):
            continue
        if isinstance(value, Mapping):
            check_sizes(value, f"{where}{name}.")
        elif hasattr(value, "to_dict"):  # a sub-configuration
            check_sizes(vars(value), f"{where}{name}.")
        for number in value if isinstance(value, list | tuple) else (value,):
            _check_number(f"{where}{name}", name, number)
    layers, width = _numbers(values, "num_hidden_layers", "hidden_size")
    if 12 * layers * width**2 > _MOST_WEIGHTS:
        raise ValueError(f"{where}num_hidden_layers={layers} of {where}hidden_size={width} are too large for a model.")
    image, patch, frames, tubelet = _numbers(values, "image_size", "patch_size", "num_frames", "tubelet_size")
    if (image / max(patch, 1)) ** 2 * max(frames, 1) / max(tubelet, 1) * max(width, 1) > _MOST_POSITIONS:
        raise ValueError(f"{where}image_size={image} with patch_size={patch} gives too many tokens for a model.")


def _check_number(label: str, name: str, number: Any) -> None:
    if isinstance(number, bool) or not isinstance(number, int | float):
        return
    if isinstance(number, float) and not math.isfinite(number):
        raise ValueError(f"{label}={number} is not a number that can be used.")
    least, most = next((limits for pattern, *limits in _RANGES if pattern.fullmatch(name)), (-_ANY, _ANY))
    if not least <= number <= most:
        raise ValueError(f"{label}={number} is out of range, expected {least} to {most}.")


def _numbers(values: Mapping[str, Any], *names: str) -> list[int]:
    return [value if isinstance(value := values.get(name), int) else 0 for name in names]


def _check_weights(config: Mapping[str, Any], folder: Path) -> None:
    """Refuse settings of a far larger model than the files hold, for which transformers would make random weights."""
    held = sum(file.stat().st_size for pattern in ("*.safetensors", "*.bin") for file in folder.glob(pattern))
    if not held or config.get("adapters_only"):  # whose other weights are elsewhere
        return
    for part in (config, *(value for value in config.values() if isinstance(value, Mapping))):
        layers, width, words = _numbers(part, "num_hidden_layers", "hidden_size", "vocab_size")
        described = 12 * layers * width**2 + words * width
        if described > max(10 * held, _MEMORY):
            raise ValueError(
                f"{folder / 'config.json'} describes {described:,} weights (num_hidden_layers={layers}, "
                f"hidden_size={width}, vocab_size={words}), but the files hold {held:,} bytes. Convert or download "
                "the model again."
            )


def _check_code(content: Any, file: Path) -> None:
    """Refuse settings that make transformers import Python code from a folder or from the Hub."""
    if isinstance(content, list):
        for value in content:
            _check_code(value, file)
    if not isinstance(content, dict):
        return
    for name, value in content.items():
        if name == "auto_map" and is_own_map(content):  # the folder's module is not run here
            continue
        if name in ("auto_map", "custom_pipelines") and value:
            raise ValueError(
                f"{file} names Python code of its own ({name}), which is not run: it could do anything. Convert the "
                "model's released checkpoint by `internvideo convert`, or remove the entry if our classes fit."
            )
        if name.lstrip("_") in ("attn_implementation", "experts_implementation") and "/" in str(value):
            raise ValueError(f"{file} names code on the Hub ({name}: {value}), which is not run. Remove the entry.")
        _check_code(value, file)


def _check_name(name: Any, file: Path) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"[^/\\:\0]+\.(safetensors|bin|safetensors\.index\.json)", name):
        raise ValueError(
            f"{file} names {name!r}, expected a file of weights beside it. Nothing outside of a model's folder is "
            "read. Convert or download it again."
        )


def _read_object(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    if file.stat().st_size > _LARGEST_JSON:
        raise ValueError(f"{file} has {file.stat().st_size} bytes, too many for settings. Download it again.")
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not valid JSON ({error}). Convert or download it again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: expected a JSON object of settings, got {with_article(type(content).__name__)}.")
    return content
