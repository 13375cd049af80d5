"""Image CLIP models as the start of the dual encoders of video and text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPModel

from internvideo_hf.conversion.convert import check_overrides
from internvideo_hf.conversion.errors import CheckpointError
from internvideo_hf.conversion.internvideo_mm import PREFIX, SHARED_SPACE, TEXT, VISION, config_from, count_layers
from internvideo_hf.conversion.loading import load_state_dict
from internvideo_hf.conversion.table import (
    LeaveOut,
    Table,
    check_complete,
    convert_state_dict,
    insert_time,
    rename,
    transpose,
)
from internvideo_hf.models.internvideo_mm.configuration_internvideo_mm import InternVideoMMConfig
from internvideo_hf.models.internvideo_mm.modeling_internvideo_mm import InternVideoMMModel

_SCALAR = LeaveOut("a size, which the shapes tell too")

# OpenAI's layout has the trunk's own names; only the ends of the video tower and the patch kernel differ.
OPENAI: Table = {
    **VISION,
    **TEXT,
    **SHARED_SPACE,
    "visual.conv1.weight": insert_time("vision_model.embeddings.patch_embedding.weight"),
    "visual.proj": transpose("visual_projection.weight"),
    "visual.ln_post.*": rename("post_layernorm.{}"),
    "input_resolution": _SCALAR,
    "context_length": _SCALAR,
    "vocab_size": _SCALAR,
}

TRANSFORMERS: Table = {
    "vision_model.embeddings.class_embedding": rename("vision_model.embeddings.class_embedding"),
    "vision_model.embeddings.patch_embedding.weight": insert_time("vision_model.embeddings.patch_embedding.weight"),
    "vision_model.embeddings.position_embedding.weight": rename("vision_model.embeddings.position_embedding"),
    "vision_model.pre_layrnorm.*": rename("vision_model.pre_layernorm.{}"),
    "vision_model.encoder.layers.*": rename("vision_model.layers.{}"),
    "vision_model.post_layernorm.*": rename("post_layernorm.{}"),
    "text_model.*": rename("text_model.{}"),
    "visual_projection.weight": rename("visual_projection.weight"),
    "text_projection.weight": rename("text_projection.weight"),
    "logit_scale": rename("logit_scale"),
}

# What InternVideo-MM adds to CLIP, and therefore keeps as freshly initialised.
NEW_PARTS = (
    "vision_model.global_blocks.",
    "vision_model.video_embedding",
    "vision_model.fusion_gate",
    "text_model.embeddings.mask_embedding",
)


def initialize_from_clip(
    clip: str | Path | Mapping[str, torch.Tensor] | CLIPModel, **overrides: Any
) -> InternVideoMMModel:
    """Start an InternVideo-MM model from an image CLIP model, as its training did.

    The new parts start silent. For one image the embedding is CLIP's own, up to the epsilon of a layer norm; for a
    clip it is the projection of the frames' mean class token, which is not the mean of CLIP's frame embeddings
    (reference case `mm_clip_init`).

    Args:
        clip: a file or state dict in OpenAI's layout (`visual.conv1.weight`, ...), or a transformers `CLIPModel`.
        overrides: values by the names of `InternVideoMMConfig`, as in
            `vision_config={"global_layers": [8, 9, 10, 11]}`. The last four layers get global blocks by default.

    Returns:
        The model in evaluation mode.

    Raises:
        CheckpointError: if the file cannot be read safely, is no CLIP model, or does not fit.
        ValueError: if an override is unknown.
    """
    check_overrides(overrides, InternVideoMMConfig)
    if isinstance(clip, CLIPModel):
        state_dict, table, config = clip.state_dict(), TRANSFORMERS, _config_from_clip_model(clip, overrides)
    else:
        state_dict = dict(clip) if isinstance(clip, Mapping) else load_state_dict(clip)
        table, config = OPENAI, _config_from_openai(state_dict, overrides)
    converted, _ = convert_state_dict(state_dict, table)
    model = InternVideoMMModel(config)
    fresh = {name: value for name, value in model.state_dict().items() if name.startswith(NEW_PARTS)}
    check_complete(model, fresh | converted, table)
    model.load_state_dict(fresh | converted)
    return model.eval()


def _config_from_openai(state_dict: Mapping[str, torch.Tensor], overrides: dict[str, Any]) -> InternVideoMMConfig:
    if "visual.proj" not in state_dict or "visual.conv1.weight" not in state_dict:
        raise CheckpointError(
            "This is no CLIP vision transformer in OpenAI's layout: visual.proj or visual.conv1.weight is missing. "
            f"Its first names are {', '.join(list(state_dict)[:4])}."
        )
    sizes = {PREFIX + name: tensor for name, tensor in state_dict.items()}
    sizes[PREFIX + "visual.conv1.weight"] = state_dict["visual.conv1.weight"].unsqueeze(2)
    sizes[PREFIX + "visual_proj"] = state_dict["visual.proj"]
    layers = count_layers(sizes, "visual.transformer.resblocks")
    return config_from(sizes, _with_last_layers(overrides, layers))


def _config_from_clip_model(clip: CLIPModel, overrides: dict[str, Any]) -> InternVideoMMConfig:
    vision, text = clip.config.vision_config, clip.config.text_config
    overrides = _with_last_layers(overrides, vision.num_hidden_layers)
    shared = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size")
    shared += ("patch_size", "num_channels", "hidden_act", "layer_norm_eps")
    return InternVideoMMConfig(
        **{
            "projection_dim": clip.config.projection_dim,
            **overrides,
            "vision_config": {
                **{key: getattr(vision, key) for key in shared},
                "num_global_attention_heads": vision.num_attention_heads,
                **overrides["vision_config"],
            },
            "text_config": {**text.to_dict(), **overrides.get("text_config", {})},
        }
    )


def _with_last_layers(overrides: dict[str, Any], layers: int) -> dict[str, Any]:
    last_four = list(range(max(0, layers - 4), layers))
    return {**overrides, "vision_config": {"global_layers": last_four, **overrides.get("vision_config", {})}}
