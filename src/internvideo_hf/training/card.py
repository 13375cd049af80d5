"""The card of a trained model: what it is, what it has learned from, how well it does, how to use it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.configuration_utils import PreTrainedConfig

from internvideo_hf.checkpoints import cards
from internvideo_hf.data.contents import list_sha256
from internvideo_hf.data.shard_files import shards_of
from internvideo_hf.models.common.loading import classes_of
from internvideo_hf.training.inputs import TrainingData
from internvideo_hf.training.recipes import Recipe
from internvideo_hf.training.start import RANDOM
from internvideo_hf.utils.names import printable

_CLASSES = 100  # that the card names
LICENSE = "Ask the owners of the data, and of the weights that training started from, what the model may be used for."
# Tasks whose models have classes, which their cards name.
_WITH_CLASSES = ("video-classification", "video-action-detection", "video-short-term-anticipation")


@dataclass(frozen=True)
class Origin:
    """What a run was made of.

    Args:
        recipe: the recipe, with all changes.
        name: of the recipe, with the changes, such as "videomae/finetune_base training.max_steps=100".
        start: from `internvideo_hf.training.start.find_start`.
        data: the lists.
    """

    recipe: Recipe
    name: str
    start: str | None
    data: TrainingData


@dataclass(frozen=True)
class Progress:
    """How far a run went.

    Args:
        steps: optimizer steps.
        videos_per_step: of a step, over all devices.
        epochs: passes through the training list.
        history: entries of the Trainer's log.
    """

    steps: int
    videos_per_step: int
    epochs: float
    history: Sequence[Mapping[str, Any]]


def write_card(folder: Path, config: PreTrainedConfig, origin: Origin, progress: Progress) -> None:
    """Write the card of a trained model.

    Args:
        folder: of the model.
        config: of the model.
        origin: what the run was made of.
        progress: how far it went.
    """
    recipe, architecture = origin.recipe, (config.architectures or [config.model_type])[0]
    task = cards.pipeline_tag(config, architecture)
    name, _, changes = origin.name.partition(" ")
    name = Path(name).name if name.endswith(".yaml") else name
    start = "random weights" if origin.start in (None, RANDOM) else Path(str(origin.start)).name
    outputs = "numbers" if config.problem_type == "regression" else "classes"
    classes = origin.data.classes if task in _WITH_CLASSES else None
    sections: dict[str, str | list[str]] = {}
    if classes is not None:
        sections[outputs.capitalize()] = _classes(config)
    sections["Data"] = [_list(setting, path, origin.data, task) for setting, path in origin.data.paths.items()]
    sections["Validation, one view of each video"] = _scores(progress)
    if task is not None:
        sections["Use"] = _use(task)
    about = [
        f"`{_code(name)}`: {recipe.title}",
        f"Changed: `{_code(changes)}`" if changes else "Unchanged",
        f"Source of its numbers: {'; '.join(recipe.source)}",
    ]
    if recipe.expected is not None and recipe.expected.value is not None:
        published = f"{recipe.expected.metric} {recipe.expected.value}"
        about.append(f"Published for its own data, not measured for this model: {published}")
    sections["Recipe"] = about
    sections["License"] = LICENSE
    cards.write_card(
        folder,
        f"{architecture} of {config.num_labels} {outputs}" if classes is not None else f"{architecture} by `{name}`",
        family=config.model_type,
        provenance=f"Trained by internvideo_hf: {progress.steps} steps of {progress.videos_per_step} videos "
        f"({progress.epochs:.4g} epochs), started from {start}. The directory of the run has all settings "
        "(`recipe.yaml`) and the log.",
        pipeline_tag=task,
        sections=sections,
        stock=not type(config).__module__.startswith("internvideo_hf."),
    )


def _classes(config: PreTrainedConfig) -> str:
    names = classes_of(config)
    if names == [f"LABEL_{number}" for number in range(len(names))]:
        return f"{len(names)}, whose names the training list does not say."
    more = f", and {len(names) - _CLASSES} more in `config.json`" if len(names) > _CLASSES else ""
    return f"{len(names)}: {', '.join(f'`{_code(name)}`' for name in names[:_CLASSES])}{more}."


def _list(setting: str, path: Path, data: TrainingData, task: str | None) -> str:
    label, rows = {
        "data.train": ("Training", data.train),
        "data.validation": ("Validation", data.validation),
        "data.images.train": ("Training by turns", data.images),
    }[setting]
    if rows is None or isinstance(rows, Path):
        return f"{label}: tar shards in `{_code(path.name)}`"
    labels = rows["label"][:] if task == "video-classification" else []
    of_class = () if labels and isinstance(labels[0], list) else Counter(labels).values()
    per_class = f", {min(of_class)} to {max(of_class)} of a class" if of_class else ""
    hashed = "of the ends of its shards " if shards_of(path) else "of the names of its files " if path.is_dir() else ""
    kind = "folder" if path.is_dir() else "list"
    with_boxes = "timestamp" in rows.column_names or "true_boxes" in rows.column_names
    what = "clips" if "label" in rows.column_names else "key frames" if with_boxes else "videos"
    what = "frames" if "moment" in rows.column_names else "queries" if "text" in rows.column_names else what
    return (
        f"{label}: {len(rows)} {what} of the {kind} `{_code(path.resolve().name)}`{per_class} (SHA-256 "
        f"{hashed}`{list_sha256(path)}`)"
    )


def _scores(progress: Progress) -> str | list[str]:
    entry = next((entry for entry in reversed(progress.history) if "eval_loss" in entry), None)
    if entry is None:
        return "Not measured."
    names = [key for key in entry if key.startswith("eval_") and not key.endswith(("runtime", "per_second"))]
    scores = [f"{name.removeprefix('eval_')}: {entry[name]:.4g}" for name in names]
    if entry["step"] != progress.steps:
        scores.append(f"These are of step {entry['step']}; the model is of step {progress.steps}.")
    return scores


def _use(task: str) -> str:
    shell = {
        "video-classification": "internvideo classify video.mp4 --model path/to/this/folder",
        "zero-shot-video-classification": "internvideo index videos --model path/to/this/folder --out videos.index",
        "video-to-text": "internvideo caption video.mp4 --model path/to/this/folder",
        "video-question-answering": 'internvideo ask video.mp4 "what does the man do?" --model path/to/this/folder',
        "video-action-detection": "internvideo detect-actions video.mp4 --model path/to/this/folder --detector "
        f"{cards.DETECTOR}",
        "video-short-term-anticipation": "internvideo evaluate ego4d/short_term_anticipation --model "
        "path/to/this/folder --data-root FOLDER",
    }
    return f"{cards.pipeline_snippet(task)}\n\nFrom a shell: `{shell[task]}`."


def _code(name: object) -> str:
    """Return a name of others as it may stand between backticks."""
    return printable(name).replace("`", "'")
