"""Released ViCLIP files, `ViCLIP-*.pth`, and those that its training code writes."""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoModel, CLIPTextConfig

from internvideo_hf.checkpoints.clip_layout import layer, text_sizes, vision_sizes
from internvideo_hf.checkpoints.converter import Converter
from internvideo_hf.checkpoints.shapes import fill_heads, shape_of
from internvideo_hf.checkpoints.table import Become, Table, pairs, rename, transpose
from internvideo_hf.models.common.layers import resample_position_grid, resample_position_rows
from internvideo_hf.models.viclip.configuration_viclip import ViCLIPConfig, ViCLIPVisionConfig

PATCH_KERNEL = "vision_model.embeddings.patch_embedding.weight"
SPATIAL_POSITIONS = "vision_model.embeddings.position_embedding"
TEMPORAL_POSITIONS = "vision_model.embeddings.temporal_embedding"
TEXT_POSITIONS = "text_model.embeddings.position_embedding.weight"

# Both towers, as they stand behind `vision_encoder.` and `text_encoder.` in a released file.
VISION: Table = {
    "class_embedding": rename("vision_model.embeddings.class_embedding"),
    "positional_embedding": rename(SPATIAL_POSITIONS),
    "conv1.weight": rename(PATCH_KERNEL),
    "proj": transpose("visual_projection.weight"),
    **pairs({"ln_pre": "vision_model.pre_layernorm", "ln_post": "vision_model.post_layernorm"}),
    **layer("transformer.resblocks.{}", "vision_model.layers.{}"),
}
TEXT: Table = {
    "token_embedding.weight": rename("text_model.embeddings.token_embedding.weight"),
    "positional_embedding": rename(TEXT_POSITIONS),
    "text_projection": transpose("text_projection.weight"),
    **pairs({"ln_final": "text_model.final_layer_norm"}),
    **layer("transformer.resblocks.{}", "text_model.encoder.layers.{}"),
}
TABLE: Table = {
    "temp": rename("temperature"),
    "vision_encoder.temporal_positional_embedding": Become((TEMPORAL_POSITIONS,), lambda table: (table[0],)),
    **{f"vision_encoder.{name}": action for name, action in VISION.items()},
    **{f"text_encoder.{name}": action for name, action in TEXT.items()},
}


def recognizes(state_dict: Mapping[str, torch.Tensor]) -> bool:
    """Return whether the tensors are those of a ViCLIP model."""
    towers = {name.split(".")[0] for name in state_dict}
    ours = ("vision_encoder.class_embedding", "vision_encoder.conv1.weight", "vision_encoder.positional_embedding")
    return {"vision_encoder", "text_encoder"} <= towers and any(name in state_dict for name in ours)


def config_from(state_dict: Mapping[str, torch.Tensor], overrides: Mapping[str, Any]) -> ViCLIPConfig:
    """Read the configuration from the shapes; `overrides` or the released models' values supply the rest.

    Args:
        state_dict: tensors of a released file.
        overrides: values by the names of `ViCLIPConfig`; those inside `vision_config` and `text_config` replace
            single values. By default heads are 64 wide. `num_frames`, `image_size` and `max_position_embeddings` may
            differ from the file's: `fit` re-samples the tables.

    Raises:
        CheckpointError: if a tensor that determines a size is missing or has another number of axes.
    """
    vision, text = vision_sizes(state_dict, "vision_encoder."), text_sizes(state_dict, "text_encoder.")
    times = shape_of(state_dict, "vision_encoder.temporal_positional_embedding", 3)[1]
    vision["num_frames"] = times * vision["tubelet_size"]
    return config_of(vision, text, shape_of(state_dict, "text_encoder.text_projection", 2)[1], overrides)


def config_of(
    vision: Mapping[str, Any], text: Mapping[str, Any], projection_dim: int, overrides: Mapping[str, Any]
) -> ViCLIPConfig:
    """Build the configuration from sizes, replaced by the user's values.

    Args:
        vision: sizes of the video tower.
        text: sizes of the text tower.
        projection_dim: length of an embedding.
        overrides: as of `config_from`.

    Raises:
        CheckpointError: if nothing determines the number of heads.
    """
    parts = {
        "vision_config": {**vision, **overrides.get("vision_config", {})},
        "text_config": {**text, **overrides.get("text_config", {})},
    }
    for sizes in parts.values():
        fill_heads(sizes, "num_attention_heads", sizes["hidden_size"])
    return ViCLIPConfig(**{"projection_dim": projection_dim, **overrides, **parts})


def fit(converted: Mapping[str, torch.Tensor], config: ViCLIPConfig) -> dict[str, torch.Tensor]:
    """Re-sample the position tables of a file for a model of other lengths.

    Temporal and text positions are re-sampled as by the training code's loader (linearly if they get more, cut if they
    get fewer); positions in a frame bicubically, as in its start from CLIP.
    """
    vision: ViCLIPVisionConfig = config.vision_config  # type: ignore[assignment]  # a dict only before __init__
    text: CLIPTextConfig = config.text_config  # type: ignore[assignment]
    fitted = dict(converted)
    lengths = {
        TEMPORAL_POSITIONS: vision.num_frames // vision.tubelet_size,
        TEXT_POSITIONS: text.max_position_embeddings,
    }
    for name, length in lengths.items():
        if length < 1:
            raise ValueError(f"{name}: got a length of {length}, expected 1 or more frames or tokens.")
        if name in fitted and fitted[name].ndim == 2 and fitted[name].shape[0] != length:
            fitted[name] = resample_position_rows(fitted[name], length)
    table, side = fitted.get(SPATIAL_POSITIONS), vision.image_size // vision.patch_size
    if table is not None and table.ndim == 2 and table.shape[0] != 1 + side**2:
        fitted[SPATIAL_POSITIONS] = torch.cat([table[:1], resample_position_grid(table[1:], side, side)])
    return fitted


CONVERTER = Converter(
    recognizes=recognizes,
    normalize=dict,
    table_for=lambda tensors: TABLE,
    model_class=lambda tensors: AutoModel,
    config_from=config_from,
    fit=fit,
)
