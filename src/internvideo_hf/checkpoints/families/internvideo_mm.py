"""Released InternVideo-MM files: `InternVideo-MM-*.ckpt`, and `pytorch_model.bin` of the retrieval fine-tunes."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoModel

from internvideo_hf.checkpoints.clip_layout import layer, text_sizes
from internvideo_hf.checkpoints.converter import Converter
from internvideo_hf.checkpoints.families.uniformerv2 import tower, tower_sizes
from internvideo_hf.checkpoints.shapes import fill_heads, shape_of
from internvideo_hf.checkpoints.table import LeaveOut, Table, flatten, pairs, rename, transpose
from internvideo_hf.models.internvideo_mm.configuration_internvideo_mm import InternVideoMMConfig

PREFIX = "clip."
PARTS = ("vision_config", "text_config")

VISION: Table = tower("visual.")

TEXT: Table = {
    "token_embedding.weight": rename("text_model.embeddings.token_embedding.weight"),
    "positional_embedding": rename("text_model.embeddings.position_embedding.weight"),
    "text_mask_embedding": flatten("text_model.embeddings.mask_embedding"),
    **layer("transformer.resblocks.{}", "text_model.encoder.layers.{}"),
    **pairs({"ln_final": "text_model.final_layer_norm"}),
}

SHARED_SPACE: Table = {
    **pairs({"visual_ln_post": "post_layernorm"}),
    "visual_proj": transpose("visual_projection.weight"),
    "text_projection": transpose("text_projection.weight"),
    "logit_scale": rename("logit_scale"),
}

TABLE: Table = {PREFIX + name: action for name, action in {**VISION, **TEXT, **SHARED_SPACE}.items()}

# Modules of the training class beside the towers: first part of the name -> why they are left out.
OUTSIDE = {
    "caption_decoder": "the caption decoder, which the dual encoder does not use",
    "vqa_classifier": "the question-answering head, which the dual encoder does not use",
    "rank_output": "the multiple-choice head, which the dual encoder does not use",
}

# Tensors that CLIP's tower lacks; any one identifies a file, so that one that lacks another is still recognized.
NEW_IN_VIDEO = r"visual\.transformer\.(temporal_cls_token|balance|dpe\.|dec\.)"


def recognizes(state_dict: Mapping[str, torch.Tensor]) -> bool:
    """Return whether the tensors are those of an InternVideo-MM model, with or without the training class."""
    return any(re.match(rf"({re.escape(PREFIX)})?{NEW_IN_VIDEO}", name) for name in state_dict)


def normalize(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors under the training class's names, also of files without its `clip.`."""
    if any(name.startswith(PREFIX) for name in state_dict):
        return dict(state_dict)
    return {name if name.split(".")[0] in OUTSIDE else PREFIX + name: tensor for name, tensor in state_dict.items()}


def table_for(state_dict: Mapping[str, torch.Tensor]) -> Table:
    """Return the key table, with a line for each tensor outside the towers.

    Inside the towers (`clip.`) the table stays exact: an unknown name is an error.
    """
    outside = {name for name in state_dict if not name.startswith(PREFIX)}
    return TABLE | {name: LeaveOut(OUTSIDE.get(name.split(".")[0], "outside the two towers")) for name in outside}


def config_from(state_dict: Mapping[str, torch.Tensor], overrides: Mapping[str, Any]) -> InternVideoMMConfig:
    """Read the configuration from the shapes; `overrides` or the released models' values supply the rest.

    Args:
        state_dict: as `normalize` returns it.
        overrides: values by the names of `InternVideoMMConfig`; those inside `vision_config` and `text_config`
            replace single values. By default heads are 64 wide, and the last layers feed the global blocks.

    Raises:
        CheckpointError: if a tensor that determines a size is missing, has another number of axes, or contradicts
            another.
    """
    # Every released model has the gate: a file without it is damaged, not a classifier that needs none.
    vision = {"use_fusion_gate": True, **overrides.get("vision_config", {})}
    vision = tower_sizes(state_dict, PREFIX + "visual.", vision)
    # Question-answering files have no projections: their heads read the towers directly.
    projected = PREFIX + "visual_proj" in state_dict or PREFIX + "text_projection" in state_dict
    text = {**text_sizes(state_dict, PREFIX), **overrides.get("text_config", {})}
    fill_heads(text, "num_attention_heads", text["hidden_size"])
    found = {
        "vision_config": vision,
        "text_config": text,
        "projection_dim": shape_of(state_dict, PREFIX + "text_projection", 2)[1] if projected else None,
    }
    return InternVideoMMConfig(**found | {key: value for key, value in overrides.items() if key not in PARTS})


CONVERTER = Converter(
    recognizes=recognizes,
    normalize=normalize,
    table_for=table_for,
    model_class=lambda tensors: AutoModel,
    config_from=config_from,
)
