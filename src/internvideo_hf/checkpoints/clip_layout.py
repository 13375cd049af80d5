"""The layout of OpenAI's CLIP, which many released files share: lines of key tables, and sizes."""

from collections.abc import Mapping
from typing import Any

import torch

from internvideo_hf.checkpoints.shapes import count_layers, same_width, shape_of
from internvideo_hf.checkpoints.table import Table, pairs, split_rows


def attention(released: str, ours: str) -> Table:
    """Return lines for torch's `MultiheadAttention`, which stacks queries, keys and values."""
    return {
        f"{released}.in_proj_{kind}": split_rows(*(f"{ours}.{part}_proj.{kind}" for part in "qkv"))
        for kind in ("weight", "bias")
    } | pairs({f"{released}.out_proj": f"{ours}.out_proj"})


def layer(released: str, ours: str) -> Table:
    """Return lines for a transformer layer, such as `visual.transformer.resblocks.{}`."""
    return attention(f"{released}.attn", f"{ours}.self_attn") | pairs(
        {
            f"{released}.ln_1": f"{ours}.layer_norm1",
            f"{released}.ln_2": f"{ours}.layer_norm2",
            f"{released}.mlp.c_fc": f"{ours}.mlp.fc1",
            f"{released}.mlp.c_proj": f"{ours}.mlp.fc2",
        }
    )


def vision_sizes(state_dict: Mapping[str, torch.Tensor], prefix: str) -> dict[str, Any]:
    """Return the sizes of a video tower whose names begin with `prefix`; its patch kernel has five axes."""
    width, channels, tubelet_size, patch_size, _ = shape_of(state_dict, f"{prefix}conv1.weight", 5)
    positions, columns = shape_of(state_dict, f"{prefix}positional_embedding", 2)
    same_width(f"{prefix}conv1.weight", width, f"{prefix}positional_embedding", columns)
    return {
        "hidden_size": width,
        "num_channels": channels,
        "tubelet_size": tubelet_size,
        "patch_size": patch_size,
        "image_size": round((positions - 1) ** 0.5) * patch_size,
        **_layer_sizes(state_dict, prefix),
    }


def text_sizes(state_dict: Mapping[str, torch.Tensor], prefix: str) -> dict[str, Any]:
    """Return the sizes of a text tower whose names begin with `prefix`."""
    vocab_size, width = shape_of(state_dict, f"{prefix}token_embedding.weight", 2)
    positions, columns = shape_of(state_dict, f"{prefix}positional_embedding", 2)
    same_width(f"{prefix}token_embedding.weight", width, f"{prefix}positional_embedding", columns)
    return {
        "vocab_size": vocab_size,
        "hidden_size": width,
        "max_position_embeddings": positions,
        "bos_token_id": vocab_size - 2,
        "eos_token_id": vocab_size - 1,
        "pad_token_id": 0,
        **_layer_sizes(state_dict, prefix),
    }


def _layer_sizes(state_dict: Mapping[str, torch.Tensor], prefix: str) -> dict[str, int]:
    layers = f"{prefix}transformer.resblocks"
    return {
        "num_hidden_layers": count_layers(state_dict, layers),
        "intermediate_size": shape_of(state_dict, f"{layers}.0.mlp.c_fc.weight", 2)[0],
    }
