"""Recipes: all settings of a training run as data. `recipes/**/*.yaml` has one for each released run.

Reading is strict, see `internvideo_hf.recipes.reading`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any, get_type_hints

from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel

from internvideo_hf.auto import FAMILIES, auto_class
from internvideo_hf.data.collation import EQUAL_CAPTIONS
from internvideo_hf.data.dataset import ON_ERROR
from internvideo_hf.data.samples import PIXELS
from internvideo_hf.models.common.overrides import check_overrides, configuration_errors
from internvideo_hf.recipes.reading import TRAININGS, RecipeError, build, check_kind, check_known, fill_up
from internvideo_hf.tasks import training_tasks
from internvideo_hf.tasks.base import Training
from internvideo_hf.tasks.protocol import BoxData, FeatureData, FrameData, HandData, InteractionData, QueryData
from internvideo_hf.training.trainer import VideoTrainingArguments
from internvideo_hf.utils.names import check_name, lookup
from internvideo_hf.video.mixup import mix_batch


@dataclass(frozen=True)
class ModelSettings:
    """The model and its initial weights.

    Args:
        family: a name in `internvideo_hf.auto.FAMILIES`; "transformers" for a task that trains models of transformers.
        task: "pretraining" (masked), "classification", "open_set", "contrastive" (video and text), "captioning" (that
            and captions), "question_answering", "multi_label" (several labels of a video), "regression" (numbers
            of a video), "temporal_localization" (features of videos), "temporal_grounding" (features of videos and
            sentences), "action_detection", "short_term_anticipation" (objects that are touched next) or
            "object_detection" (annotated frames).
        size: the released size by name, such as "base", for families whose configuration has `from_size`.
        kind: variant within a size, such as "scene" or "motion", for families whose `from_size` takes one.
        config: further values of the configuration, nested as in config.json.
        start: source of the initial weights: the name of a released checkpoint, "CLIP", or the name of another recipe.
            The user gives its directory by `--start-from`. None: random weights.
        freeze: groups of `layer_groups()` that are not trained, or prefixes of their names.
        lora: options of peft's `LoraConfig`; only the LoRA weights are trained, and merged at the end. Grouped
            convolutions (UniFormerV2's `temporal_conv` and `position_conv`) are refused: peft does not merge them.
        processor: options of the video processor that differ from the family's, such as `sampler`.
        config_of_start: use the configuration and the processor of the start, if it has them; `config` and `processor`
            change values of them.
        classes_of_start: with `config_of_start`, start from a model of the family alone, and keep its classes. False:
            the classes are those of the data, and a start without a configuration of the family has the recipe's size.
        vocabulary: of a dual encoder, "captions" for a tokenizer with the part of CLIP's vocabulary that the training
            captions need, which makes a small model smaller; None for the full vocabulary.
    """

    family: str
    task: str
    size: str | None = None
    kind: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    start: str | None = None
    freeze: list[str] = field(default_factory=list)
    lora: dict[str, Any] | None = None
    processor: dict[str, Any] = field(default_factory=dict)
    config_of_start: bool = False
    classes_of_start: bool = True
    vocabulary: str | None = None


@dataclass(frozen=True)
class ClipSettings:
    """Sampling and augmentation of clips for training; sizes and statistics of pixels are the processor's.

    Args:
        sampler, sampler_options, view, view_options, num_views, mask: see `internvideo_hf.data.SampleSettings`.
        inputs: for a model with several inputs, the settings that differ for an input other than the first, by the
            prefix of its name, e.g. `{"depth": {"sampler": ...}}` for "depth_pixel_values_videos".
    """

    sampler: str
    view: str
    sampler_options: dict[str, Any] = field(default_factory=dict)
    view_options: dict[str, Any] = field(default_factory=dict)
    num_views: int = 1
    mask: dict[str, Any] | None = None
    inputs: dict[str, Any] = field(default_factory=dict)

    def of_input(self, name: str) -> "ClipSettings":
        """Return the settings of one input of a model.

        Args:
            name: full name of the input.
        """
        return replace(self, inputs={}, **self.inputs.get(input_prefix(name), {}))


def input_prefix(name: str) -> str:
    """Return the prefix of an input's name before "_pixel_values_videos"; "" for the first input.

    Args:
        name: full name of the input.
    """
    return name.removesuffix(PIXELS).removesuffix("_")


@dataclass(frozen=True)
class ImageSettings:
    """Images with captions, which training alternates with the videos: a step of videos, then a step of images.

    Args:
        train: list of images and captions, below the data root.
        clip: augmentation of images; each is a clip of one frame.
        per_video: images of a step, as a multiple of `batch_size`.
    """

    train: str
    clip: ClipSettings
    per_video: int = 1


@dataclass(frozen=True)
class DataSettings:
    """The training and validation data.

    Args:
        clip: sampling and augmentation of clips; None for tasks on features, sentences, boxes or hands.
        train: list of videos, or a directory of tar shards, below the data root.
        validation: the same; None for no validation.
        train_videos: list of the ids of the videos to keep of `train`, below the data root, as caption data sets have
            it; None for all.
        validation_videos: the same for `validation`.
        layout: a name in `internvideo_hf.data.LAYOUTS`; None to detect it.
        labels: classes: the name of a set in `internvideo_hf.recipes.labels`, a text file below the data root with one
            name a line, or their number. Of question answering, a file of answers, see
            `internvideo_hf.data.answers.read_answers`, or how many of the most frequent answers of the training list;
            None for all of them. Of regression, a text file with the name of each number, or how many there are.
        heads: of the task "multi_label", name of each head -> its classes, as of `labels`, such as
            `{verb: verbs.txt, noun: nouns.txt}`; the `labels` of a row are one of each, or stand in columns by these
            names. None for one set of classes.
        mixup: options of `internvideo_hf.video.mixup.mix_batch`.
        caption_rule: how captions are cleaned, a name in `internvideo_hf.recipes.captions`.
        min_words: minimum number of words of a caption; shorter ones are dropped.
        equal_captions: captions of a batch that count as equal, each a positive of the other's video: those with the
            same "text" or the same "label"; None for none.
        similar_batches: `share`, `after`, `among` and `rows` of
            `internvideo_hf.data.hard_negatives.HardNegativeBatchSampler`; None for random batches.
        images: images with captions to train on by turns; None for videos alone.
        features: features of the videos, for tasks on features.
        queries: sentences about the videos, and the features of both, for temporal grounding.
        boxes: videos with boxes in key frames, for action detection.
        interactions: moments before objects are touched, for short-term anticipation.
        frames: annotated frames, for object detection.
        hands: videos with hands at moments to come, for hand prediction.
        trunk_cache: cache of the outputs of a frozen backbone: `folder`, below the data root, and `views`, the number
            of different clips of a video. None for no cache.
        missing: "skip" rows of lists whose video has no file, however many, or "raise".
        on_error: "skip" unreadable videos, at most 1 % of them, or "raise".
    """

    clip: ClipSettings | None = None
    train: str = "train.csv"
    validation: str | None = "val.csv"
    train_videos: str | None = None
    validation_videos: str | None = None
    layout: str | None = None
    labels: str | int | None = None
    heads: dict[str, str] | None = None
    mixup: dict[str, Any] | None = None
    caption_rule: str | None = None
    min_words: int = 1
    equal_captions: str | None = None
    similar_batches: dict[str, Any] | None = None
    images: ImageSettings | None = None
    features: FeatureData | None = None
    queries: QueryData | None = None
    boxes: BoxData | None = None
    interactions: InteractionData | None = None
    frames: FrameData | None = None
    hands: HandData | None = None
    trunk_cache: dict[str, Any] | None = None
    missing: str = "raise"
    on_error: str = "skip"


@dataclass(frozen=True)
class Expected:
    """The published result of a run.

    Args:
        metric: such as "top-1", in percent.
        value: the number; None if none was published.
        protocol: such as "5 clips x 3 crops".
        note: a remark, such as another number in the paper.
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
        model: see `ModelSettings`.
        data: see `DataSettings`.
        training: options of `VideoTrainingArguments` by name.
        batch_size: videos of an optimizer step, over all devices; fewer devices accumulate batches.
        expected: the published result.
        devices: GPUs that the original used.
        notes: remarks, such as where paper and script disagree.
    """

    title: str
    source: list[str]
    model: ModelSettings
    data: DataSettings
    training: dict[str, Any]
    batch_size: int
    expected: Expected | None = None
    devices: int | None = None
    notes: list[str] = field(default_factory=list)


TRANSFORMERS = "transformers"
"""Family in recipes of tasks that train models of transformers."""


def recipe_names() -> list[str]:
    """Return the names of all recipes of the package, such as "videomae/finetune_base_k400"."""
    return TRAININGS.names()


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe with overrides.

    Args:
        name: one of `recipe_names()`, or the path of a file that ends in .yaml.
        overrides: e.g. "training.learning_rate=1e-4" or "data.mixup=null"; values are YAML.

    Raises:
        RecipeError: if there is no such recipe, or a key or value is invalid.
    """
    return parse_recipe(TRAININGS.read(name, overrides), str(name))


def parse_recipe(content: Mapping[str, Any], name: str = "recipe") -> Recipe:
    """Check the content of a recipe and build it.

    Args:
        content: settings by name.
        name: of the recipe, for messages.

    Raises:
        RecipeError: if a key is unknown or missing, or a value has the wrong type.
    """
    recipe = build(Recipe, with_present_keys(content), name)
    task = training_task(recipe.model.task, f"{name}: model.task")
    if recipe.data.equal_captions is not None:
        check_name(recipe.data.equal_captions, EQUAL_CAPTIONS, f"{name}: data.equal_captions", RecipeError)
    if recipe.model.vocabulary is not None:
        check_name(recipe.model.vocabulary, ("captions",), f"{name}: model.vocabulary", RecipeError)
    if not task.compares_batch and (recipe.model.vocabulary or recipe.data.similar_batches):
        tasks = " or ".join(name for name, training in training_tasks().items() if training.compares_batch)
        raise RecipeError(f"{name}: model.vocabulary and data.similar_batches are for the task {tasks} alone.")
    if not task.takes_grad_cache and recipe.training.get("grad_cache") is not None:
        tasks = " or ".join(name for name, training in training_tasks().items() if training.takes_grad_cache)
        raise RecipeError(f"{name}: training.grad_cache is for the task {tasks} alone.")
    if recipe.data.images is not None:
        _check_images(recipe, task, name)
    for key in recipe.data.similar_batches or {}:
        check_known(key, ("share", "after", "among", "rows"), name, "data.similar_batches.")
    if recipe.data.similar_batches and recipe.training.get("save_strategy", "epoch") not in ("epoch", "no"):
        # The order of an epoch depends on the weights at its start, which a checkpoint within it lacks.
        raise RecipeError(f"{name}: with data.similar_batches, training.save_strategy must be epoch, or no.")
    check_name(recipe.data.on_error, ON_ERROR, f"{name}: data.on_error", RecipeError)
    check_name(recipe.data.missing, ON_ERROR, f"{name}: data.missing", RecipeError)
    for key in recipe.data.mixup or {}:
        check_known(key, signature(mix_batch).parameters, name, "data.mixup.")
    if recipe.batch_size < 1 or recipe.training.get("per_device_train_batch_size", 1) < 1:
        raise RecipeError(f"{name}: batch_size and training.per_device_train_batch_size must be at least 1.")
    if recipe.data.heads is not None and recipe.model.task != "multi_label":
        raise RecipeError(f"{name}: data.heads is for the task multi_label alone.")
    for head, file in (recipe.data.heads or {}).items():
        if not isinstance(file, str):
            raise RecipeError(
                f"{name}: data.heads has {head}: {file}, expected a head and the file of its classes, such as "
                "{verb: verbs.txt}, with a space behind the colon."
            )
    _check_kind_of_data(recipe, task, name)
    if (task.load is not None) != (recipe.model.family == TRANSFORMERS):
        expected = TRANSFORMERS if task.load is not None else "a family of this package"
        raise RecipeError(
            f"{name}: model.family is {recipe.model.family}, expected {expected} for the task {recipe.model.task}."
        )
    if recipe.data.clip is not None:
        _check_inputs(recipe, recipe.data.clip, name)
    hints = _training_hints()
    for key, value in recipe.training.items():
        check_known(key, hints, name, "training.")
        check_kind(value, hints[key], name, f"training.{key}")
    return recipe


def _check_images(recipe: Recipe, task: Training, name: str) -> None:
    """Check the settings of images that are trained on by turns with videos."""
    images = recipe.data.images
    assert images is not None
    if task.column != "caption":
        tasks = " or ".join(name for name, training in training_tasks().items() if training.column == "caption")
        raise RecipeError(f"{name}: data.images is for the task {tasks} alone.")
    if recipe.data.similar_batches:
        raise RecipeError(f"{name}: data.images and data.similar_batches both order the rows. Set one to null.")
    if images.per_video < 1 or images.clip.num_views > 1 or images.clip.mask or images.clip.inputs:
        raise RecipeError(
            f"{name}: data.images.per_video must be at least 1, and data.images.clip has no num_views, mask or inputs."
        )


def with_present_keys(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's content with the keys of earlier versions renamed.

    Args:
        content: settings by name.
    """
    content, data = dict(content), content.get("data")
    if isinstance(data, Mapping) and isinstance(clip := data.get("clip"), Mapping) and "uniformerv2" in clip:
        clip = dict(clip)  # with the key of version 0.1
        if given := clip.pop("uniformerv2"):
            clip["inputs"] = fill_up({"uniformerv2": given}, clip.get("inputs", {}))
        content["data"] = {**data, "clip": clip}
    return content


def _check_kind_of_data(recipe: Recipe, task: Training, name: str) -> None:
    """Check that a task has the section of data that it is trained on, and no other."""
    data = recipe.data
    if getattr(data, task.section) is None:
        raise RecipeError(f"{name}: data.{task.section} must be given.")
    sections = ("clip", "features", "queries", "boxes", "interactions", "frames", "hands")
    others = [section for section in sections if section != task.section]
    for key in (*others, *(() if task.section == "clip" else ("mixup", "images", "trunk_cache", "similar_batches"))):
        if getattr(data, key) is not None:
            raise RecipeError(f"{name}: data.{key} changes nothing in {recipe.model.task}. Leave it out.")


def _check_inputs(recipe: Recipe, clip: ClipSettings, name: str) -> None:
    """Check the settings that depend on the number of the model's inputs."""
    data = recipe.data
    processors = {family: value.video_processor for family, value in FAMILIES.items()}
    inputs = {family: kind.model_input_names[1:] for family, kind in processors.items() if kind is not None}
    others = inputs.get(recipe.model.family, ())
    if not others and (clip.inputs or data.trunk_cache):
        families = " or ".join(family for family, names in inputs.items() if names)
        raise RecipeError(f"{name}: data.clip.inputs and data.trunk_cache are for the family {families} alone.")
    if others and (data.mixup or clip.num_views > 1 or clip.mask):
        raise RecipeError(
            f"{name}: data.mixup, data.clip.num_views and data.clip.mask are not for {recipe.model.family}, which has "
            "several inputs."
        )
    for key, options in clip.inputs.items():
        check_known(key, list(map(input_prefix, others)), name, "data.clip.inputs.")
        check_kind(options, dict, name, f"data.clip.inputs.{key}")
        for option in options:
            known = ("sampler", "sampler_options", "view", "view_options")
            check_known(option, known, name, f"data.clip.inputs.{key}.")
    if data.trunk_cache is not None:
        for key in data.trunk_cache:
            check_known(key, ("folder", "views"), name, "data.trunk_cache.")
        views = data.trunk_cache.get("views", 1)
        if not isinstance(data.trunk_cache.get("folder"), str) or type(views) is not int or views < 1:
            raise RecipeError(
                f"{name}: data.trunk_cache is {data.trunk_cache}, expected folder: a path, and views: 1 or more."
            )


def training_task(name: str, where: str = "model.task") -> Training:
    """Return the training of a task.

    Args:
        name: a key of `internvideo_hf.tasks.training_tasks()`.
        where: its key in the recipe, for messages.

    Raises:
        RecipeError: if there is no such task, or it has no training.
    """
    return lookup(training_tasks(), name, where, RecipeError)


def find_model_class(settings: ModelSettings) -> type[PreTrainedModel]:
    """Return the class of a recipe's model.

    Args:
        settings: the model of the recipe.

    Raises:
        RecipeError: if the family has no model for the task.
    """
    task = training_task(settings.task)
    if task.load is not None:
        raise RecipeError(f"{settings.task} trains models of transformers, which start from a folder or the Hub.")
    family = lookup(FAMILIES, settings.family, "model.family")
    model_class = family.models.get(auto_class(task.auto_class))
    if model_class is None or (task.needs_text and family.processor is None):
        raise RecipeError(f"{settings.family} has no model for {settings.task}.")
    return model_class


def build_model(
    settings: ModelSettings,
    labels: Sequence[str] | Mapping[str, list[str]] | int | None = None,
    vocabulary_size: int | None = None,
    start_config: PreTrainedConfig | None = None,
) -> PreTrainedModel:
    """Make a recipe's model with random weights; on the meta device inside `with torch.device("meta")`.

    Args:
        settings: the model of the recipe.
        labels: of a classifier, the names of its classes, or their number; of several heads, by their names.
        vocabulary_size: tokens of a dual encoder's tokenizer, if it is not CLIP's.
        start_config: configuration that the recipe's values change, instead of that of size and kind.

    Raises:
        ValueError: if the configuration is invalid.
    """
    model_class = find_model_class(settings)
    family = FAMILIES[settings.family]
    check_overrides(settings.config, family.config, "model.config.")
    values = dict(settings.config)
    if isinstance(labels, int):
        values["num_labels"] = labels
    elif isinstance(labels, Mapping):
        values["label_heads"] = dict(labels)
    elif labels is not None:
        values["id2label"] = dict(enumerate(labels))
        values["label2id"] = {name: index for index, name in enumerate(labels)}
    if (problem_type := training_task(settings.task).problem_type) is not None and "label_heads" not in values:
        values.setdefault("problem_type", problem_type)
    if vocabulary_size is not None:
        size = {
            "vocab_size": vocabulary_size,
            "bos_token_id": vocabulary_size - 2,
            "eos_token_id": vocabulary_size - 1,
        }
        values["text_config"] = values.get("text_config", {}) | size
    with configuration_errors():
        if start_config is not None:
            base = start_config.to_dict()
            if labels is not None:  # whose names would be merged with those of the start
                of_start = ("id2label", "label2id", "label_heads")
                base = {name: value for name, value in base.items() if name not in of_start}
            if not settings.classes_of_start:
                base.pop("problem_type", None)
            config = family.config.from_dict(fill_up(base, values))
        elif settings.size is None:
            config = family.config(**values)
        else:
            config = family.config.from_size(settings.size, *filter(None, [settings.kind]), **values)
        return model_class(config)


# Options that the run sets; not allowed in recipes.
_OF_THE_RUN = {"output_dir", "local_rank", "do_train", "do_eval", "do_predict", "resume_from_checkpoint", "report_to"}
_OF_THE_RUN |= {"remove_unused_columns", "gradient_accumulation_steps", "deepspeed", "fsdp"}
_OF_THE_RUN |= {"fsdp_config", "accelerator_config", "push_to_hub", "hub_token"}


@cache
def _training_hints() -> dict[str, Any]:
    hints = get_type_hints(VideoTrainingArguments)
    names = {entry.name for entry in fields(VideoTrainingArguments) if entry.init} - _OF_THE_RUN
    return {name: hints[name] for name in names}
