"""Released UniFormerV2 classifiers (`.pyth`), and the tower that InternVideo-MM shares with them."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoModelForVideoClassification

from internvideo_hf.checkpoints.clip_layout import attention, layer, vision_sizes
from internvideo_hf.checkpoints.converter import Converter
from internvideo_hf.checkpoints.shapes import count_layers, fill_heads, shape_of
from internvideo_hf.checkpoints.table import Become, Table, flatten, pairs, rename
from internvideo_hf.models.uniformerv2.configuration_uniformerv2 import TASKS, UniFormerV2Config

PREFIX = "backbone."
HEAD = PREFIX + "transformer.proj.2"


def tower(released: str, ours: str = "vision_model.") -> Table:
    """Return the lines of the encoder, without the local blocks that only classifiers have.

    Args:
        released: prefix of the released names.
        ours: prefix of our names.
    """
    blocks = f"{released}transformer."
    return {
        f"{released}conv1.weight": rename(f"{ours}embeddings.patch_embedding.weight"),
        f"{released}class_embedding": rename(f"{ours}embeddings.class_embedding"),
        f"{released}positional_embedding": rename(f"{ours}embeddings.position_embedding"),
        f"{blocks}temporal_cls_token": flatten(f"{ours}video_embedding"),
        f"{blocks}balance": rename(f"{ours}fusion_gate"),
        **layer(f"{blocks}resblocks.{{}}", f"{ours}layers.{{}}"),
        **attention(f"{blocks}dec.{{}}.attn", f"{ours}global_blocks.{{}}.cross_attn"),
        **pairs(
            {
                f"{released}ln_pre": f"{ours}pre_layernorm",
                f"{blocks}dpe.{{}}": f"{ours}global_blocks.{{}}.position_conv",
                f"{blocks}dec.{{}}.ln_1": f"{ours}global_blocks.{{}}.layer_norm_query",
                f"{blocks}dec.{{}}.ln_3": f"{ours}global_blocks.{{}}.layer_norm_context",
                f"{blocks}dec.{{}}.ln_2": f"{ours}global_blocks.{{}}.layer_norm_mlp",
                f"{blocks}dec.{{}}.mlp.c_fc": f"{ours}global_blocks.{{}}.mlp.fc1",
                f"{blocks}dec.{{}}.mlp.c_proj": f"{ours}global_blocks.{{}}.mlp.fc2",
            }
        ),
    }


def _local_blocks(released: str, ours: str) -> Table:
    """Return the lines of a batch norm and three convolutions, whose kernels have spatial axes of length 1."""
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    convolutions = {"1": "down_proj", "2": "temporal_conv", "3": "up_proj"}
    return {
        **pairs({f"{released}.0": f"{ours}.batch_norm"}),
        **{f"{released}.0.{name}": rename(f"{ours}.batch_norm.{name}") for name in statistics},
        **{f"{released}.{number}.bias": rename(f"{ours}.{name}.bias") for number, name in convolutions.items()},
        **{
            f"{released}.{number}.weight": Become((f"{ours}.{name}.weight",), _squeeze_space)
            for number, name in convolutions.items()
        },
    }


def _squeeze_space(kernel: torch.Tensor) -> tuple[torch.Tensor]:
    """Reshape `(out, in, time, 1, 1)` to a convolution over time, or to a linear layer if time is 1 too."""
    kernel = kernel.flatten(2)
    return (kernel if kernel.shape[2] > 1 else kernel[:, :, 0],)


TABLE: Table = (
    tower(PREFIX)
    | _local_blocks(f"{PREFIX}transformer.resblocks.{{}}.lmhra{{}}.pos_embed", "vision_model.layers.{}.local_block{}")
    | pairs({PREFIX + "transformer.proj.0": "layernorm", HEAD: "classifier"})
)


def recognizes(state_dict: Mapping[str, torch.Tensor]) -> bool:
    """Return whether the tensors are those of a UniFormerV2 classifier: any tensor that an image ViT lacks decides."""
    new = r"transformer\.(temporal_cls_token|balance|dpe\.|dec\.|proj\.|resblocks\.\d+\.lmhra)"
    return any(re.match(rf"({re.escape(PREFIX)})?{new}", name) for name in state_dict)


def config_from(state_dict: Mapping[str, torch.Tensor], overrides: Mapping[str, Any]) -> UniFormerV2Config:
    """Read the configuration from the shapes; `overrides` or the released models' values supply the rest.

    Args:
        state_dict: as `normalize` returns it.
        overrides: values by the names of `UniFormerV2Config`.

    Raises:
        CheckpointError: if a tensor that determines a size is missing, has another number of axes, or contradicts
            another.
    """
    sizes = tower_sizes(state_dict, PREFIX, overrides)
    if sizes["temporal_downsampling"]:
        sizes.setdefault("num_frames", TASKS["motion"]["num_frames"])
    return UniFormerV2Config(**{"num_labels": shape_of(state_dict, f"{HEAD}.weight", 2)[0], **sizes})


def tower_sizes(state_dict: Mapping[str, torch.Tensor], prefix: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration values of an encoder, with heads 64 wide, whose last layers feed the global blocks.

    Args:
        state_dict: tensors of a released file.
        prefix: of the encoder's names in the file.
        overrides: values that replace them.

    Raises:
        CheckpointError: as `config_from`.
    """
    blocks, sizes = f"{prefix}transformer.", vision_sizes(state_dict, prefix)
    num_global = count_layers(state_dict, f"{blocks}dpe", f"{blocks}dec")
    local = [name for name in state_dict if name.startswith(blocks) and ".lmhra" in name]
    sizes |= {
        "global_layers": list(range(sizes["num_hidden_layers"]))[-num_global:] if num_global else [],
        "temporal_downsampling": sizes.pop("tubelet_size") > 1,
        "use_fusion_gate": f"{blocks}balance" in state_dict,
        "num_local_blocks": 0 if not local else 2 if any(".lmhra2." in name for name in local) else 1,
    }
    if local:
        sizes["local_intermediate_size"] = shape_of(state_dict, f"{blocks}resblocks.0.lmhra1.pos_embed.1.weight", 5)[0]
    sizes |= overrides
    for key in ("num_attention_heads", "num_global_attention_heads"):
        fill_heads(sizes, key, sizes["hidden_size"])
    return sizes


CONVERTER = Converter(
    recognizes=recognizes,
    # Some files lack the prefix.
    normalize=lambda tensors: {PREFIX + name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()},
    table_for=lambda tensors: TABLE,
    model_class=lambda tensors: AutoModelForVideoClassification,
    config_from=config_from,
    head_layer=lambda tensors: HEAD,
)
