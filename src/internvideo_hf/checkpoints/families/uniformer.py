"""UniFormer files: of Ego4D's verbs and hands (`{"model": ...}`), and of Kinetics."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoModelForVideoClassification

from internvideo_hf.auto import auto_class
from internvideo_hf.checkpoints.converter import Converter
from internvideo_hf.checkpoints.shapes import count_layers, same_width, shape_of
from internvideo_hf.checkpoints.table import Table, pairs, rename, split_rows
from internvideo_hf.models.common.hand_prediction import HAND_LABELS
from internvideo_hf.models.uniformer.configuration_uniformer import NUM_STAGES, UniFormerConfig
from internvideo_hf.models.uniformer.modeling_uniformer import FIRST_ATTENDING

HEAD, PREFIX = "head", "uniformer."
STEM = "patch_embed1.proj.weight"
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def _batch_norm(released: str, ours: str) -> Table:
    return pairs({released: ours}) | {f"{released}.{name}": rename(f"{ours}.{name}") for name in STATISTICS}


def _patch_embedding(released: str, ours: str) -> Table:
    return pairs({f"{released}.proj": f"{ours}.projection", f"{released}.norm": f"{ours}.layer_norm"})


def _conv_layer(released: str, ours: str) -> Table:
    names = {
        "pos_embed": "position_conv",
        "conv1": "value_conv",
        "attn": "neighbor_conv",
        "conv2": "out_conv",
        "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2",
    }
    return (
        pairs({f"{released}.{theirs}": f"{ours}.{name}" for theirs, name in names.items()})
        | _batch_norm(f"{released}.norm1", f"{ours}.batch_norm1")
        | _batch_norm(f"{released}.norm2", f"{ours}.batch_norm2")
    )


def _attention_layer(released: str, ours: str) -> Table:
    names = {
        "pos_embed": "position_conv",
        "norm1": "layer_norm1",
        "attn.proj": "self_attn.out_proj",
        "norm2": "layer_norm2",
        "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2",
    }
    fused = {
        f"{released}.attn.qkv.{kind}": split_rows(*(f"{ours}.self_attn.{part}_proj.{kind}" for part in "qkv"))
        for kind in ("weight", "bias")
    }
    return pairs({f"{released}.{theirs}": f"{ours}.{name}" for theirs, name in names.items()}) | fused


def depths_of(tensors: Mapping[str, torch.Tensor]) -> list[int]:
    """Return the layers of each stage.

    Args:
        tensors: of a file.
    """
    return [count_layers(tensors, f"blocks{stage}") for stage in range(1, NUM_STAGES + 1)]


def table_of(depths: list[int]) -> Table:
    """Return the table of files with these layers, which we number through all stages.

    Args:
        depths: layers of each stage.
    """
    table: Table = _batch_norm("norm", f"{PREFIX}batch_norm") | pairs({HEAD: "classifier"})
    number = 0
    for stage, depth in enumerate(depths):
        start = f"{PREFIX}layers.{number}.patch_embedding" if stage else f"{PREFIX}embeddings"
        table |= _patch_embedding(f"patch_embed{stage + 1}", start)
        layer = _conv_layer if stage < FIRST_ATTENDING else _attention_layer
        for place in range(depth):
            table |= layer(f"blocks{stage + 1}.{place}", f"{PREFIX}layers.{number}")
            number += 1
    return table


def recognizes(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Return whether the tensors are those of a UniFormer of videos."""
    stem = tensors.get(STEM)
    of_images = stem is not None and stem.ndim == 4
    return any(re.match(r"blocks[1-4]\.\d+\.pos_embed\.", name) for name in tensors) and not of_images


def config_from(tensors: Mapping[str, torch.Tensor], overrides: Mapping[str, Any]) -> UniFormerConfig:
    """Read the configuration from the shapes; `overrides` or the released models' values supply the rest.

    Args:
        tensors: of a file.
        overrides: values by the names of `UniFormerConfig`. By default heads are 64 wide. Files of 20 outputs predict
            hands, from 8 frames of 320 pixels.

    Raises:
        CheckpointError: if a tensor that determines a size is missing, has another number of axes, or contradicts
            another.
    """
    widths = [shape_of(tensors, f"patch_embed{stage}.proj.weight", 5)[0] for stage in range(1, NUM_STAGES + 1)]
    inner, channels = shape_of(tensors, "blocks1.0.mlp.fc1.weight", 5)[:2]
    same_width("blocks1.0.mlp.fc1.weight", channels, STEM, widths[0])
    labels = shape_of(tensors, f"{HEAD}.weight", 2)[0]
    sizes: dict[str, Any] = {
        "hidden_sizes": widths,
        "depths": depths_of(tensors),
        "mlp_ratio": inner / channels,
        "num_channels": shape_of(tensors, STEM, 5)[1],
        "num_labels": labels,
    }
    if _predicts_hands(tensors):
        del sizes["num_labels"]
        # The released loader moves no target with the picture.
        hands = {"id2label": dict(enumerate(HAND_LABELS)), "points_of_video": True}
        sizes |= {**hands, "num_frames": 8, "image_size": 320}
    return UniFormerConfig(**{**sizes, **overrides})


def _predicts_hands(tensors: Mapping[str, torch.Tensor]) -> bool:
    return f"{HEAD}.weight" in tensors and len(tensors[f"{HEAD}.weight"]) == len(HAND_LABELS)


def _model_class(tensors: Mapping[str, torch.Tensor]) -> type:
    hands: type = auto_class("AutoModelForHandPrediction")
    return hands if _predicts_hands(tensors) else AutoModelForVideoClassification


CONVERTER = Converter(
    recognizes=recognizes,
    normalize=dict,
    table_for=lambda tensors: table_of(depths_of(tensors)),
    model_class=_model_class,
    config_from=config_from,
    head_layer=lambda tensors: None if _predicts_hands(tensors) else HEAD,
)
