"""Released InternVideo-MM files: `InternVideo-MM-*.ckpt`, and `pytorch_model.bin` of the retrieval fine-tunes."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoModel

from internvideo_hf.conversion.errors import CheckpointError
from internvideo_hf.conversion.table import LeaveOut, Table, flatten, rename, split_rows, transpose
from internvideo_hf.models.internvideo_mm.configuration_internvideo_mm import InternVideoMMConfig
from internvideo_hf.processing.processing import InternVideoProcessor
from internvideo_hf.processing.tokenizer import build_clip_tokenizer
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor

PREFIX = "clip."

HEAD_DIM = 64  # of every released tower; the number of heads itself is in no shape


def _attention(released: str, ours: str) -> Table:
    return {
        f"{released}.in_proj_{kind}": split_rows(*(f"{ours}.{part}_proj.{kind}" for part in "qkv"))
        for kind in ("weight", "bias")
    } | {f"{released}.out_proj.{kind}": rename(f"{ours}.out_proj.{kind}") for kind in ("weight", "bias")}


def _pairs(names: Mapping[str, str]) -> Table:
    """Lines for modules that hold a weight and a bias."""
    return {
        f"{released}.{kind}": rename(f"{ours}.{kind}")
        for released, ours in names.items()
        for kind in ("weight", "bias")
    }


def _layer(released: str, ours: str) -> Table:
    return _attention(f"{released}.attn", f"{ours}.self_attn") | _pairs(
        {
            f"{released}.ln_1": f"{ours}.layer_norm1",
            f"{released}.ln_2": f"{ours}.layer_norm2",
            f"{released}.mlp.c_fc": f"{ours}.mlp.fc1",
            f"{released}.mlp.c_proj": f"{ours}.mlp.fc2",
        }
    )


# UniFormerV2's tower, as it stands behind `visual.` here; the mixing weight is called "balance" there.
VISION: Table = {
    "visual.conv1.weight": rename("vision_model.embeddings.patch_embedding.weight"),
    "visual.class_embedding": rename("vision_model.embeddings.class_embedding"),
    "visual.positional_embedding": rename("vision_model.embeddings.position_embedding"),
    "visual.transformer.temporal_cls_token": flatten("vision_model.video_embedding"),
    "visual.transformer.balance": rename("vision_model.fusion_gate"),
    **_layer("visual.transformer.resblocks.{}", "vision_model.layers.{}"),
    **_attention("visual.transformer.dec.{}.attn", "vision_model.global_blocks.{}.cross_attn"),
    **_pairs(
        {
            "visual.ln_pre": "vision_model.pre_layernorm",
            "visual.transformer.dpe.{}": "vision_model.global_blocks.{}.position_conv",
            "visual.transformer.dec.{}.ln_1": "vision_model.global_blocks.{}.layer_norm_query",
            "visual.transformer.dec.{}.ln_3": "vision_model.global_blocks.{}.layer_norm_context",
            "visual.transformer.dec.{}.ln_2": "vision_model.global_blocks.{}.layer_norm_mlp",
            "visual.transformer.dec.{}.mlp.c_fc": "vision_model.global_blocks.{}.mlp.fc1",
            "visual.transformer.dec.{}.mlp.c_proj": "vision_model.global_blocks.{}.mlp.fc2",
        }
    ),
}

TEXT: Table = {
    "token_embedding.weight": rename("text_model.embeddings.token_embedding.weight"),
    "positional_embedding": rename("text_model.embeddings.position_embedding.weight"),
    "text_mask_embedding": flatten("text_model.embeddings.mask_embedding"),
    **_layer("transformer.resblocks.{}", "text_model.encoder.layers.{}"),
    **_pairs({"ln_final": "text_model.final_layer_norm"}),
}

SHARED_SPACE: Table = {
    **_pairs({"visual_ln_post": "post_layernorm"}),
    "visual_proj": transpose("visual_projection.weight"),
    "text_projection": transpose("text_projection.weight"),
    "logit_scale": rename("logit_scale"),
}

TABLE: Table = {PREFIX + name: action for name, action in {**VISION, **TEXT, **SHARED_SPACE}.items()}

# What the training class holds beside the towers, by the first part of the name.
OUTSIDE = {
    "caption_decoder": "the caption decoder, which the dual encoder does not use",
    "vqa_classifier": "the question-answering head, which the dual encoder does not use",
    "rank_output": "the multiple-choice head, which the dual encoder does not use",
}


# What tells the video tower from CLIP's; any one of these, so that a file that lacks one is still recognised.
NEW_IN_VIDEO = r"visual\.transformer\.(temporal_cls_token|balance|dpe\.|dec\.)"


def recognises(state_dict: Mapping[str, torch.Tensor]) -> bool:
    """Whether the tensors are those of an InternVideo-MM model, with or without the training class around it."""
    return any(re.match(rf"({re.escape(PREFIX)})?{NEW_IN_VIDEO}", name) for name in state_dict)


def normalise(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors under the training class's names, also where somebody has taken `clip.` off."""
    if any(name.startswith(PREFIX) for name in state_dict):
        return dict(state_dict)
    return {name if name.split(".")[0] in OUTSIDE else PREFIX + name: tensor for name, tensor in state_dict.items()}


def table_for(state_dict: Mapping[str, torch.Tensor]) -> Table:
    """The key table, with a line for everything outside the towers, whatever the training run put there.

    Inside the towers (`clip.`) the table stays exact: a name that it does not know is an error.
    """
    outside = {name for name in state_dict if not name.startswith(PREFIX)}
    return TABLE | {name: LeaveOut(OUTSIDE.get(name.split(".")[0], "outside the two towers")) for name in outside}


def model_class(state_dict: Mapping[str, torch.Tensor]) -> type:
    """The Auto class that the file's model belongs to."""
    return AutoModel


def choose_head(state_dict: Mapping[str, torch.Tensor], head: str) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Refuse to choose classes: the model is told them when it is asked.

    Raises:
        CheckpointError: always.
    """
    raise CheckpointError("An InternVideo-MM model has no classification head: leave out --head.")


def known_head(state_dict: Mapping[str, torch.Tensor], rows: list[dict[str, Any]]) -> None:
    """No data set: there is no classification head."""


def config_from(state_dict: Mapping[str, torch.Tensor], overrides: Mapping[str, Any]) -> InternVideoMMConfig:
    """Read the sizes from the shapes, and what no shape tells from `overrides` or the released models' habits.

    Args:
        state_dict: as `normalise` gives it.
        overrides: values by the names of `InternVideoMMConfig`; those inside `vision_config` and `text_config`
            are laid over the ones found. Heads are taken as 64 wide, and the last layers as those that feed the
            global blocks, where it says nothing.

    Raises:
        CheckpointError: if a tensor that tells a size is missing, has another number of axes, or contradicts another.
    """

    def shape(name: str) -> tuple[int, ...]:
        if PREFIX + name not in state_dict:
            raise CheckpointError(f"The file lacks {PREFIX + name}. Is the download whole?")
        return tuple(state_dict[PREFIX + name].shape)

    def rows_and_columns(name: str) -> tuple[int, ...]:
        return _axes(shape(name), 2, name)

    width, channels, _, patch_size, _ = _axes(shape("visual.conv1.weight"), 5, "visual.conv1.weight")
    positions, columns = rows_and_columns("visual.positional_embedding")
    _same_width("visual.conv1.weight", width, "visual.positional_embedding", columns)
    layers = count_layers(state_dict, "visual.transformer.resblocks")
    global_blocks = count_layers(state_dict, "visual.transformer.dpe", "visual.transformer.dec")
    vocab_size, text_width = rows_and_columns("token_embedding.weight")
    context_length, columns = rows_and_columns("positional_embedding")
    _same_width("token_embedding.weight", text_width, "positional_embedding", columns)
    # Question-answering files have no projections: their heads read the towers directly.
    projected = PREFIX + "visual_proj" in state_dict or PREFIX + "text_projection" in state_dict

    vision = {
        "hidden_size": width,
        "intermediate_size": rows_and_columns("visual.transformer.resblocks.0.mlp.c_fc.weight")[0],
        "num_hidden_layers": layers,
        "global_layers": list(range(layers))[-global_blocks:] if global_blocks else [],
        "num_channels": channels,
        "patch_size": patch_size,
        "image_size": round((positions - 1) ** 0.5) * patch_size,
        **overrides.get("vision_config", {}),
    }
    text = {
        "vocab_size": vocab_size,
        "hidden_size": text_width,
        "intermediate_size": rows_and_columns("transformer.resblocks.0.mlp.c_fc.weight")[0],
        "num_hidden_layers": count_layers(state_dict, "transformer.resblocks"),
        "max_position_embeddings": context_length,
        "bos_token_id": vocab_size - 2,
        "eos_token_id": vocab_size - 1,
        "pad_token_id": 0,
        **overrides.get("text_config", {}),
    }
    _fill_heads(vision, "num_attention_heads", "num_global_attention_heads")
    _fill_heads(text, "num_attention_heads")
    rest = {key: value for key, value in overrides.items() if key not in ("vision_config", "text_config")}
    projection_dim = rows_and_columns("text_projection")[1] if projected else None
    return InternVideoMMConfig(
        **{"vision_config": vision, "text_config": text, "projection_dim": projection_dim, **rest}
    )


def count_layers(state_dict: Mapping[str, torch.Tensor], *lists: str) -> int:
    """One more than the largest index into module lists, such as `visual.transformer.resblocks`.

    Any tensor of a layer counts, so that one with a missing tensor is still counted.

    Raises:
        CheckpointError: if an index is larger than the file has tensors, which would be a model without end.
    """
    pattern = re.compile(rf"{re.escape(PREFIX)}({'|'.join(map(re.escape, lists))})\.(\d+)\.")
    layers = 0
    for name in state_dict:
        if match := pattern.match(name):
            layers = max(layers, 1 + int(match[2]))
            if layers > len(state_dict):
                raise CheckpointError(f"{name} counts more layers than the file holds tensors. Is it damaged?")
    return layers


def build_processor(config: InternVideoMMConfig) -> InternVideoProcessor:
    """The processor of the released evaluation, at the model's own frame count and size.

    Frames are resized to a short side of 8/7 of the crop, as 256 is of 224.
    """
    size = config.vision_config.image_size
    return InternVideoProcessor(
        InternVideoVideoProcessor(
            num_frames=config.vision_config.num_frames,
            size={"shortest_edge": size * 256 // 224},
            crop_size={"height": size, "width": size},
        ),
        build_clip_tokenizer(config.text_config.max_position_embeddings),
    )


def _axes(shape: tuple[int, ...], count: int, name: str) -> tuple[int, ...]:
    if len(shape) != count:
        raise CheckpointError(f"{PREFIX + name} has the shape {shape}, expected {count} axes.")
    return shape


def _same_width(name: str, width: int, other: str, other_width: int) -> None:
    """One tensor alone would tell a wrong size for all others to be measured by, if it is the damaged one."""
    if width != other_width:
        raise CheckpointError(
            f"{PREFIX + name} is {width} wide and {PREFIX + other} {other_width}; the two are expected to agree. "
            "Is the file whole?"
        )


def _fill_heads(sizes: dict[str, Any], *keys: str) -> None:
    """Set what is not set yet to the released models' habit of 64 channels a head."""
    for key in keys:
        if key in sizes:
            continue
        if sizes["hidden_size"] % HEAD_DIM:
            raise CheckpointError(
                f"The number of heads is in no shape, and a width of {sizes['hidden_size']} is not a multiple of the "
                f"released models' {HEAD_DIM} per head. Give {key} in a JSON file by --config."
            )
        sizes[key] = sizes["hidden_size"] // HEAD_DIM
