"""Giving a new model the weights that its training starts from."""

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModel, CLIPModel
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import logging

from internvideo_hf.auto import FAMILIES
from internvideo_hf.checkpoints.clip import initialize_from_clip
from internvideo_hf.checkpoints.errors import CheckpointError
from internvideo_hf.recipes.labels import ROWS_IN_K710, load_labels, rows_in_k710

logger = logging.get_logger(__name__)


def start_from(model: PreTrainedModel, source: str | Path) -> PreTrainedModel:
    """Fill a model with weights that were trained before.

    All but the head is taken over. The head too, where it has the same classes; and where the source knows
    Kinetics-710 and the model K400, K600 or K700, the rows of the head that these are.

    Args:
        model: as drawn freshly.
        source: the folder of a converted model of the same family, pretrained or a classifier; of a dual encoder for a
            model of its video tower's family, or the other way round, where the tower is all that is taken over; of
            transformers' `CLIPModel`; or a CLIP file in OpenAI's layout.

    What becomes of the head is said in the log.

    Returns:
        The model, or from CLIP another one of the same configuration.

    Raises:
        CheckpointError: if there is no such file or folder, or it is of another family.
        ValueError: if a tensor does not fit.
    """
    source = Path(source)
    if source.is_file():
        return initialize_from_clip(source, model.config)
    if not (source / "config.json").is_file():
        raise CheckpointError(f"{source} is no model's folder (there is no config.json), and no CLIP file.")
    config = AutoConfig.from_pretrained(source)
    if config.model_type == "clip":
        return initialize_from_clip(CLIPModel.from_pretrained(source), model.config)
    if config.model_type != model.config.model_type:
        if _type_of_tower(config) != _type_of_tower(model.config):
            raise CheckpointError(
                f"{source} holds a {config.model_type!r} model, expected {model.config.model_type!r}, or one with the "
                "same kind of video tower."
            )
        _tower(model).load_layer_groups(_tower(AutoModel.from_pretrained(source)))
        logger.warning(f"The video tower is that of {source}; all else is drawn.")
        return model
    names = config.architectures or []
    classes = [kind for kind in FAMILIES[config.model_type].models.values() if kind.__name__ in names]
    trained = (classes[0] if classes else type(model)).from_pretrained(source)
    model.load_layer_groups(trained)
    if type(trained) is not type(model) or not _take_head(model, trained):
        logger.warning(f"The head of {type(model).__name__} is drawn; all else is that of {source}.")
    return model


def _type_of_tower(config: PreTrainedConfig) -> str:
    return getattr(config, "vision_config", config).model_type


def _tower(model: PreTrainedModel) -> PreTrainedModel:
    return getattr(model, "vision_model", model)


@torch.no_grad()
def _take_head(model: PreTrainedModel, trained: PreTrainedModel) -> bool:
    """Take over the head, and say whether its classes could be."""
    names = [name for group, names in model.layer_groups().items() if group.startswith("head") for name in names]
    own, given = model.state_dict(), trained.state_dict()
    rows = _rows_of_classes(model.config.id2label, trained.config.id2label)
    for name in names:
        tensor = given.get(name)
        if tensor is None:
            continue
        if rows is not None and tensor.shape[:1] == (len(trained.config.id2label),):
            tensor = tensor[rows]
        elif rows is None and name.startswith("classifier."):
            continue  # of other classes: it stays as drawn
        if tensor.shape == own[name].shape:
            own[name].copy_(tensor)
    return rows is not None or not hasattr(model, "classifier")


def _rows_of_classes(wanted: dict[int, str], there: dict[int, str]) -> list[int] | None:
    """Where a model's classes stand in another model's head; None where it does not know them."""
    wanted, there = list(wanted.values()), list(there.values())
    if wanted == there:
        return list(range(len(there)))
    numbered = [f"LABEL_{index}" for index in range(710)]  # as many have no other set of ours
    if there in (load_labels("k710"), numbered):
        for name in ROWS_IN_K710:
            if wanted == load_labels(name):
                return rows_in_k710(name)
    return None
