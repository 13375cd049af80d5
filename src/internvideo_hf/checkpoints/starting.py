"""Start a training from weights that were trained before."""

import re
from collections import Counter
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, CLIPModel
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import logging

from internvideo_hf.auto import FAMILIES
from internvideo_hf.checkpoints.clip import initialize_from_clip
from internvideo_hf.checkpoints.errors import CheckpointError
from internvideo_hf.checkpoints.heads import rows_of_classes
from internvideo_hf.models.common.layer_groups import LayerGroups
from internvideo_hf.utils.names import with_article
from internvideo_hf.utils.pretrained import load_pretrained

logger = logging.get_logger(__name__)


def start_from(model: PreTrainedModel, source: str | Path) -> PreTrainedModel:
    """Load weights that were trained before into a model.

    Everything but the head is loaded; a decoder that the trained model lacks stays random. The head is loaded too if
    it has the same classes; from a Kinetics-710 head, a model of K400, K600 or K700 gets the rows of its classes. From
    a model with another kind of head, the norm of the encoder's tokens is loaded if it has one: a pretrained VideoMAE
    does, a classifier that averages its tokens does not. The log says what stays random.

    Args:
        model: freshly initialized.
        source: one of: the folder of a converted model of the same family, pretrained or a classifier; the folder of a
            dual encoder for a model of its video tower's family, or the reverse, of which only the tower is loaded;
            the folder of transformers' `CLIPModel`; a CLIP file in OpenAI's layout.

    Returns:
        The model, or from CLIP another one of the same configuration.

    Raises:
        CheckpointError: if there is no such file or folder, or it is of another family.
        ValueError: if a tensor does not fit.
    """
    source = Path(source)
    if source.is_file():
        return _of_class(model, initialize_from_clip(source, model.config), source)
    if not (source / "config.json").is_file():
        raise CheckpointError(
            f"{source} is neither a model's folder (it has no config.json), nor a CLIP file, nor a released name."
        )
    config = load_pretrained(AutoConfig, source)
    if config.model_type == "clip":
        return _of_class(model, initialize_from_clip(load_pretrained(CLIPModel, source), model.config), source)
    if config.model_type != model.config.model_type:
        if tower_type(config) != tower_type(model.config):
            raise CheckpointError(
                f"{source} holds {with_article(repr(config.model_type))} model, expected "
                f"{model.config.model_type!r}, or one with the same kind of video tower."
            )
        _tower(model).load_layer_groups(_tower(load_pretrained(AutoModel, source)))
        logger.warning(f"Loaded the video tower of {source}; everything else is initialized randomly.")
        return model
    assert isinstance(model, LayerGroups)  # as every model of this package
    names = config.architectures or []
    classes = [kind for kind in FAMILIES[config.model_type].models.values() if kind.__name__ in names]
    return _take_over(model, load_pretrained(classes[0] if classes else type(model), source), source)


def _of_class(model: PreTrainedModel, trained: PreTrainedModel, source: Path) -> PreTrainedModel:
    """Return the trained model, or the given one with its weights where their classes differ."""
    return trained if type(trained) is type(model) else _take_over(model, trained, source)


def _take_over(model: PreTrainedModel, trained: PreTrainedModel, source: Path) -> PreTrainedModel:
    """Load all that two models of one family share, and say what stays random."""
    assert isinstance(model, LayerGroups) and isinstance(trained, LayerGroups)  # as every model of this package
    _check_depths(model, trained, source)
    groups = [group for group in model.layer_groups() if group.split(".")[0] != "head"]
    given = {group.split(".")[0] for group in trained.layer_groups()}
    backbone = {group.split(".")[0] for group in model.backbone_groups}
    new = {group.split(".")[0] for group in groups} - given - backbone
    model.load_layer_groups(trained, *(group for group in groups if group.split(".")[0] not in new))
    if new:
        logger.warning(f"{source} has no {' and no '.join(sorted(new))}, which is initialized randomly.")
    # A dual encoder and the model that adds a decoder to it have the same head.
    related = isinstance(trained, type(model)) or isinstance(model, type(trained))
    is_loaded = _load_head(model, trained) if related else _load_norms(model, trained)
    if not is_loaded:
        logger.warning(f"Loaded {source}; the head of {type(model).__name__} is initialized randomly.")
    return model


def _check_depths(model: LayerGroups, trained: LayerGroups, source: Path) -> None:
    """Refuse to leave out the upper layers of a stack.

    Raises:
        CheckpointError: if the trained model has more layers.
    """
    ours, theirs = (Counter(re.sub(r"\d+$", "", group) for group in part.layer_groups()) for part in (model, trained))
    for stack in ours:
        if stack.endswith("layers.") and theirs[stack] > ours[stack]:
            raise CheckpointError(
                f"{source} has {theirs[stack]} {stack.removesuffix('.').replace('.', ' ')}, and the model "
                f"{ours[stack]}. Give the model as many."
            )


def tower_type(config: PreTrainedConfig) -> str:
    """Return the family of a model's video tower, or of the model itself if it has no towers."""
    return str(getattr(config, "vision_config", config).model_type)


def _tower(model: PreTrainedModel) -> LayerGroups:
    tower = getattr(model, "vision_model", model)
    assert isinstance(tower, LayerGroups)
    return tower


@torch.no_grad()
def _load_norms(model: LayerGroups, trained: LayerGroups) -> bool:
    """Load the norms between encoder and head that both models have, and return that the head itself is not loaded."""
    own, given = model.state_dict(), trained.state_dict()
    for name in _names_of_head(model):
        tensor = next((given[key] for key in model.names_in(trained, name) if key in given), None)
        is_norm = isinstance(model.get_submodule(name.rpartition(".")[0]), nn.LayerNorm)
        if is_norm and tensor is not None and tensor.shape == own[name].shape and not name.startswith("classifier."):
            own[name].copy_(tensor)
    return False


def _names_of_head(model: LayerGroups) -> list[str]:
    return [name for group, names in model.layer_groups().items() if group.startswith("head") for name in names]


@torch.no_grad()
def _load_head(model: LayerGroups, trained: LayerGroups) -> bool:
    """Load the head, and return whether the trained one has its classes."""
    names = _names_of_head(model)
    own, given = model.state_dict(), trained.state_dict()
    wanted, known = (list((loaded.config.id2label or {}).values()) for loaded in (model, trained))
    rows = rows_of_classes(wanted, known)
    for name in names:
        tensor = given.get(name)
        if tensor is None:
            continue
        if rows is not None and tensor.shape[:1] == (len(known),):
            tensor = tensor[rows]
        elif rows is None and name.startswith("classifier."):
            continue  # of other classes: it stays random
        if tensor.shape == own[name].shape:
            own[name].copy_(tensor)
    is_there = all(name in given for name in names)  # action detectors have one of several heads
    return is_there and (rows is not None or not hasattr(model, "classifier"))
