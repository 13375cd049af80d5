"""What a training starts from: found, and refused if it does not suit the recipe, before lists are read."""

from pathlib import Path

from transformers import AutoConfig
from transformers.configuration_utils import PreTrainedConfig

from internvideo_hf.auto import FAMILIES
from internvideo_hf.checkpoints.errors import CheckpointError
from internvideo_hf.checkpoints.model_names import DEMO_MODELS, resolve_known
from internvideo_hf.checkpoints.starting import tower_type
from internvideo_hf.models.common.configuration import names_of_heads
from internvideo_hf.models.common.loading import classes_of
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.training.recipes import ModelSettings, load_recipe, recipe_names
from internvideo_hf.utils.names import with_article
from internvideo_hf.utils.pretrained import check_model_folder, load_pretrained

RANDOM = "random"
"""The start that means random weights."""


def find_start(start: str | Path | None, of_recipe: str | None = None) -> str | None:
    """Return where initial weights are: "random", a CLIP file or folder, or what any model's name stands for.

    Args:
        start: the value of `--start-from`.
        of_recipe: what the recipe starts from; taken without `start` if it is a bundled model.

    Raises:
        CheckpointError: if a released file cannot be downloaded.
    """
    if start is None and of_recipe in DEMO_MODELS:
        start = of_recipe
    return None if start is None else resolve_known(start)


def config_of_start(settings: ModelSettings, start: str | None) -> PreTrainedConfig | None:
    """Check what a training starts from, and return the configuration that it takes over.

    Args:
        settings: the model of the recipe.
        start: from `find_start`.

    Returns:
        The configuration of the start, or of its video tower, for a recipe with `config_of_start`; None for other
        recipes, random weights and CLIP.

    Raises:
        RecipeError: if a start is missing, or of a family that the recipe cannot start from.
        CheckpointError: if the start is not a model.
    """
    if start is None and settings.start is not None:
        raise RecipeError(
            f"This recipe starts from {settings.start}. Give its directory by --start-from (`internvideo convert` or "
            "`internvideo fuse` writes it; for CLIP, CLIP's own directory or file), a released name, "
            "or --start-from random for random weights."
        )
    if start is None or start == RANDOM:
        return None
    check_model_folder(start)
    itself = settings.config_of_start and settings.classes_of_start  # nothing else will do
    if not (Path(start) / "config.json").is_file():
        if itself:
            raise CheckpointError(f"{start} is not a model directory: it has no config.json.")
        return None  # a file of CLIP
    config: PreTrainedConfig = load_pretrained(AutoConfig, start)
    wanted = settings.family if itself else tower_type(FAMILIES[settings.family].config())
    if (config.model_type if itself else tower_type(config)) != wanted and (itself or config.model_type != "clip"):
        raise RecipeError(_other_family(settings, start, config))
    if not settings.config_of_start:
        return None
    tower: PreTrainedConfig = getattr(config, "vision_config", config)
    return next((part for part in (config, tower) if part.model_type == settings.family), None)


def _other_family(settings: ModelSettings, start: str, config: PreTrainedConfig) -> str:
    message = (
        f"{start} holds {with_article(repr(config.model_type))} model, expected {settings.family!r}: "
        f"{settings.start or 'the family of the recipe'}."
    )
    for name in recipe_names():
        if name.endswith("/finetune_base") and load_recipe(name).model.family == config.model_type:
            return f"{message} To fine-tune it: `internvideo train {name} --start-from {start}`."
    return message


def same_classes(
    labels: list[str] | dict[str, list[str]] | int | None, config: PreTrainedConfig, start: str | None
) -> list[str] | dict[str, list[str]]:
    """Return the classes of the model that training starts from, which must be the recipe's if it names any.

    Args:
        labels: of the recipe's data.
        config: of the start.
        start: its folder, for messages.

    Raises:
        RecipeError: if they differ.
    """
    classes, heads = classes_of(config), getattr(config, "label_heads", None)
    labels = names_of_heads(labels) if isinstance(labels, dict) else labels
    if isinstance(labels, list) and labels != classes:
        raise RecipeError(
            f"{start} has {len(classes)} classes ({classes[0]}, ...), and data.labels has {len(labels)} "
            f"({labels[0]}, ...). Start from a model of the same classes in the same order, or correct data.labels."
        )
    return heads or classes
