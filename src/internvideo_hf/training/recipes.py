"""Recipes: everything that makes a training run, as data. `recipes/**/*.yaml` has one for each released run.

A recipe names its keys strictly: what is unknown is refused with the nearest name. `extends` takes over another
recipe, whose mappings are filled up key by key and whose other values are replaced; a file whose name begins with an
underscore is there to be extended, and is no recipe by itself.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from importlib import resources
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml
from transformers import AutoModel, AutoModelForPreTraining, AutoModelForVideoClassification
from transformers.modeling_utils import PreTrainedModel

from internvideo_hf.auto import FAMILIES, check_overrides, plain_errors_of_settings
from internvideo_hf.training.trainer import VideoTrainingArguments
from internvideo_hf.video.choice import choose

TASKS = {
    "pretraining": AutoModelForPreTraining,
    "classification": AutoModelForVideoClassification,
    "contrastive": AutoModel,
}
"""What is trained for -> the Auto class of the models that are."""


class RecipeError(ValueError):
    """A recipe is not as it should be; the message says where, what was expected, and what to do."""


@dataclass(frozen=True)
class ModelSettings:
    """Which model is trained, and where it starts.

    Args:
        family: a name in `internvideo_hf.auto.FAMILIES`.
        task: "pretraining" (masked), "classification" or "contrastive" (video and text).
        size: the released size by name, such as "base", for families whose configuration has `from_size`.
        kind: of UniFormerV2, "scene" or "motion".
        config: further values of the configuration, nested as in config.json.
        start: what the weights come from: the name of a released checkpoint, "CLIP", or the name of another recipe,
            whose run made them; which folder holds it, a user says by `--start`. None: they are drawn.
        freeze: groups of `layer_groups()` that are not trained, or their beginnings.
        lora: options of peft's `LoraConfig`; then low-rank additions alone are trained, and merged at the end.
        processor: options of the video processor that are other than the family's own, such as `sampler`.
        vocabulary: of a dual encoder, "captions" for a tokenizer that keeps of CLIP's vocabulary what the captions for
            training need, which makes a small model small; None for all of it.
    """

    family: str
    task: str
    size: str | None = None
    kind: str | None = None
    config: dict = field(default_factory=dict)
    start: str | None = None
    freeze: list = field(default_factory=list)
    lora: dict | None = None
    processor: dict = field(default_factory=dict)
    vocabulary: str | None = None


@dataclass(frozen=True)
class ClipSettings:
    """How a clip for training is taken from a video; sizes and statistics of pixels are the processor's.

    Args:
        sampler, sampler_options, view, view_options, num_views, mask: as of `internvideo_hf.data.SampleSettings`.
    """

    sampler: str
    view: str
    sampler_options: dict = field(default_factory=dict)
    view_options: dict = field(default_factory=dict)
    num_views: int = 1
    mask: dict | None = None


@dataclass(frozen=True)
class DataSettings:
    """What is trained on.

    Args:
        clip: how a clip is taken.
        train, validation: lists of videos, or a folder of tar shards, below the data root; no validation where None.
        layout: a name in `internvideo_hf.data.LAYOUTS`, where the list does not tell it.
        labels: classes: the name of a set in `internvideo_hf.recipes.labels`, a text file below the data root with one
            name a line, or how many there are.
        mixup: options of `internvideo_hf.video.mixup.mix_batch`.
        caption_rule: how captions are cleaned, a name in `internvideo_hf.recipes.captions`.
        min_words: captions with fewer are left out.
        equal_captions: which captions of a batch say the same, so that each belongs to the other's video too: those
            of one "text", or of one "label"; None: none does.
        similar_batches: `share`, `after` and `among` of `internvideo_hf.data.batches.SimilarBatchSampler`, which puts
            together captions that the model finds alike; None: batches are drawn.
        on_error: "skip" a video that cannot be read, at most 1 % of them, or "raise".
    """

    clip: ClipSettings
    train: str = "train.csv"
    validation: str | None = "val.csv"
    layout: str | None = None
    labels: str | int | None = None
    mixup: dict | None = None
    caption_rule: str | None = None
    min_words: int = 1
    equal_captions: str | None = None
    similar_batches: dict | None = None
    on_error: str = "skip"


@dataclass(frozen=True)
class Expected:
    """What the original reports of this run.

    Args:
        metric: such as "top-1", in percent.
        value: the number; None where none was published.
        protocol: such as "5 clips x 3 crops".
        note: what else there is to say, such as another number of the paper.
    """

    metric: str
    value: float | None = None
    protocol: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class Recipe:
    """A training run as data.

    Args:
        title: one line.
        source: where the numbers come from.
        model, data: see there.
        training: options of `VideoTrainingArguments` by name.
        batch_size: videos that one step of the optimizer sees, over all devices. Fewer devices accumulate.
        expected: what the original reports.
        devices: GPUs that the original used.
        notes: where paper and script disagree, and what else to know.
    """

    title: str
    source: list
    model: ModelSettings
    data: DataSettings
    training: dict
    batch_size: int
    expected: Expected | None = None
    devices: int | None = None
    notes: list = field(default_factory=list)


def recipe_names() -> list[str]:
    """Names of all recipes of the package, such as "videomae/finetune_base_k400"."""
    return sorted(name for name in _files() if not name.rpartition("/")[2].startswith("_"))


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe, and change values of it.

    Args:
        name: one of `recipe_names()`, or the path of a file that ends in .yaml.
        overrides: such as "training.learning_rate=1e-4" or "data.mixup=null"; the value is read as YAML.

    Raises:
        RecipeError: if there is no such recipe, or a key or value of it or of an override is wrong.
    """
    content = read_recipe(name)
    for override in overrides:
        _override(content, override)
    return parse_recipe(content, str(name))


def read_recipe(name: str | Path) -> dict[str, Any]:
    """Read a recipe's content with all that it extends filled in; see `load_recipe`."""
    content = _parse(*_find(str(name)))
    if "extends" in content:
        base = str(content.pop("extends"))
        if base.startswith("."):  # beside a file of the user's
            base = str((Path(name).parent / base).resolve())
        content = _fill_up(read_recipe(base), content)
    return content


def parse_recipe(content: Mapping[str, Any], name: str = "recipe") -> Recipe:
    """Check the content of a recipe and make it one.

    Raises:
        RecipeError: if a key is unknown or missing, or a value of the wrong kind.
    """
    recipe = _build(Recipe, content, name, "")
    if recipe.model.task not in TASKS:
        raise RecipeError(f"{name}: model.task is {recipe.model.task!r}, expected one of {', '.join(TASKS)}.")
    if recipe.data.equal_captions not in (None, "text", "label"):
        raise RecipeError(f"{name}: data.equal_captions is {recipe.data.equal_captions!r}, expected text or label.")
    if recipe.model.vocabulary not in (None, "captions"):
        raise RecipeError(f"{name}: model.vocabulary is {recipe.model.vocabulary!r}, expected captions, or null.")
    if recipe.model.task != "contrastive" and (recipe.model.vocabulary or recipe.data.similar_batches):
        raise RecipeError(f"{name}: model.vocabulary and data.similar_batches are for the task contrastive alone.")
    for key in recipe.data.similar_batches or {}:
        _check_known(key, {"share", "after", "among"}, name, "data.similar_batches.")
    if recipe.data.similar_batches and recipe.training.get("save_strategy", "epoch") not in ("epoch", "no"):
        # The order of an epoch hangs on the weights at its beginning, which a checkpoint out of its middle lacks.
        raise RecipeError(f"{name}: with data.similar_batches, training.save_strategy must be epoch, or no.")
    if recipe.batch_size < 1:
        raise RecipeError(f"{name}: batch_size is {recipe.batch_size}, expected at least 1.")
    hints = _training_hints()
    for key, value in recipe.training.items():
        _check_known(key, hints, name, "training.")
        _check_kind(value, hints[key], name, f"training.{key}")
    return recipe


def build_model(
    recipe: Recipe, labels: Sequence[str] | int | None = None, vocabulary_size: int | None = None
) -> PreTrainedModel:
    """Make a recipe's model with freshly drawn weights; on the meta device inside `with torch.device("meta")`.

    Args:
        labels: of a classifier, the names of its classes, or how many there are.
        vocabulary_size: tokens of a dual encoder's tokenizer, where it is not all of CLIP's.

    Raises:
        ValueError: if the settings make no model.
    """
    settings, family = recipe.model, choose(FAMILIES, recipe.model.family, "model.family")
    auto_class = TASKS[settings.task]
    if auto_class not in family.models or (settings.task == "contrastive" and family.processor is None):
        raise RecipeError(f"{settings.family} has no model for {settings.task}.")
    check_overrides(settings.config, family.config, "model.config.")
    values = dict(settings.config)
    if isinstance(labels, int):
        values["num_labels"] = labels
    elif labels is not None:
        values["id2label"] = dict(enumerate(labels))
        values["label2id"] = {name: index for index, name in enumerate(labels)}
    if vocabulary_size is not None:
        size = {
            "vocab_size": vocabulary_size,
            "bos_token_id": vocabulary_size - 2,
            "eos_token_id": vocabulary_size - 1,
        }
        values["text_config"] = values.get("text_config", {}) | size
    with plain_errors_of_settings():
        if settings.size is None:
            config = family.config(**values)
        else:
            config = family.config.from_size(settings.size, *filter(None, [settings.kind]), **values)
        return family.models[auto_class](config)


# What the run decides, and no recipe may.
_OF_THE_RUN = {"output_dir", "local_rank", "do_train", "do_eval", "do_predict", "resume_from_checkpoint", "report_to"}
_OF_THE_RUN |= {"remove_unused_columns", "base_batch_size_warning", "gradient_accumulation_steps", "deepspeed", "fsdp"}
_OF_THE_RUN |= {"fsdp_config", "accelerator_config", "push_to_hub", "hub_token"}


@cache
def _training_hints() -> dict[str, Any]:
    hints = get_type_hints(VideoTrainingArguments)
    names = {entry.name for entry in fields(VideoTrainingArguments) if entry.init} - _OF_THE_RUN
    return {name: hints[name] for name in names}


@cache
def _files() -> dict[str, Any]:
    """Name -> file of the package."""
    root, found = resources.files("internvideo_hf.recipes"), {}
    for folder in root.iterdir():
        if folder.is_dir():
            for file in folder.iterdir():
                if file.name.endswith(".yaml"):
                    found[f"{folder.name}/{file.name.removesuffix('.yaml')}"] = file
    return found


def _find(name: str) -> tuple[str, str]:
    """The text of a recipe, and what to call it in messages."""
    if name.endswith(".yaml"):
        try:
            return Path(name).read_text(encoding="utf-8"), name
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{name} cannot be read ({error}). Give the path of a recipe.") from error
    if name not in _files():
        nearest = difflib.get_close_matches(name, recipe_names(), n=3, cutoff=0.4)
        hint = f" Did you mean {' or '.join(nearest)}?" if nearest else ""
        raise RecipeError(f"No recipe {name!r}.{hint} `internvideo recipes` lists all; a path must end in .yaml.")
    return _files()[name].read_text(encoding="utf-8"), name


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-3 is a number, as everyone writes it; YAML 1.1 wants 1.0e-3. A key may stand once."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if doubled := {str(key) for key in keys if keys.count(key) > 1}:
            raise yaml.YAMLError(f"{', '.join(sorted(doubled))} stands there twice")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        content = yaml.load(text, _Loader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise RecipeError(f"{name} is no valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{name} holds {type(content).__name__}, expected settings by name.")
    return content


def _fill_up(base: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    filled = dict(base)
    for key, value in own.items():
        both = isinstance(value, Mapping) and isinstance(filled.get(key), dict)
        filled[key] = _fill_up(filled[key], value) if both else value
    return filled


def _override(content: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise RecipeError(f"{override!r} changes nothing. Write key=value, such as training.learning_rate=1e-4.")
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{override!r}: the value is no valid YAML ({error}).") from error
    *parents, last = path.split(".")
    place = content
    for parent in parents:
        if place.get(parent) is None:
            place[parent] = {}
        place = place[parent]
        if not isinstance(place, dict):
            raise RecipeError(f"{override!r}: {parent} holds no settings by name.")
    place[last] = value


def _check_known(key: Any, known: Mapping[str, Any], name: str, where: str) -> None:
    if key not in known:
        nearest = difflib.get_close_matches(str(key), known, n=1)
        hint = f" Did you mean {where}{nearest[0]}?" if nearest else f" There are {', '.join(sorted(known))}."
        raise RecipeError(f"{name}: {where}{key} is no setting of a recipe.{hint}")


def _build(kind: type, content: Any, name: str, where: str) -> Any:
    if not isinstance(content, Mapping):
        raise RecipeError(f"{name}: {where.rstrip('.')} holds {content!r}, expected settings by name.")
    hints, values = get_type_hints(kind), {}
    for key, value in content.items():
        _check_known(key, hints, name, where)
        part = next(
            (hint for hint in (hints[key], *get_args(hints[key])) if hasattr(hint, "__dataclass_fields__")), None
        )
        if part is not None and value is not None:
            value = _build(part, value, name, f"{where}{key}.")
        else:
            _check_kind(value, hints[key], name, f"{where}{key}")
        values[key] = value
    needed = [entry.name for entry in fields(kind) if entry.default is entry.default_factory is MISSING]
    if missing := [key for key in needed if key not in values]:
        raise RecipeError(f"{name}: {', '.join(where + key for key in missing)} must be given.")
    return kind(**values)


def _check_kind(value: Any, hint: Any, name: str, where: str) -> None:
    """Refuse a value of another kind than a hint's, as far as kinds of YAML go; what else there is, passes."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kinds = tuple(get_origin(kind) or kind for kind in kinds)
    plain = (bool, int, float, str, dict, list, NoneType)
    if not all(kind in plain for kind in kinds):
        kinds = tuple(kind for kind in kinds if kind in plain) or plain
    # Python calls True an int; a recipe does not. A whole number is a fine float.
    fits = type(value) in kinds or (float in kinds and type(value) is int)
    if not fits:
        expected = " or ".join("null" if kind is NoneType else kind.__name__ for kind in kinds)
        raise RecipeError(f"{name}: {where} is {value!r}, expected {expected}.")
