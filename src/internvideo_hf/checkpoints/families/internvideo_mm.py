"""Released InternVideo-MM files: `InternVideo-MM-*.ckpt`, and `pytorch_model.bin` of the retrieval fine-tunes."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import AutoModel, AutoModelForMultimodalLM, AutoModelForVisualQuestionAnswering

from internvideo_hf.checkpoints.clip_layout import layer, text_sizes
from internvideo_hf.checkpoints.converter import Converter
from internvideo_hf.checkpoints.errors import CheckpointError
from internvideo_hf.checkpoints.families.uniformerv2 import tower, tower_sizes
from internvideo_hf.checkpoints.shapes import count_layers, fill_heads, shape_of
from internvideo_hf.checkpoints.table import (
    LeaveOut,
    Table,
    flatten,
    pairs,
    rename,
    split_rows,
    split_sizes,
    transpose,
)
from internvideo_hf.models.internvideo_mm.configuration_internvideo_mm import (
    InternVideoMMConfig,
    InternVideoMMDecoderConfig,
)

PREFIX = "clip."
PARTS = ("vision_config", "text_config", "decoder_config")

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

DECODER = "caption_decoder."
ANSWERS = "vqa_classifier."
# Modules of the training class beside the towers: first part of the name -> what it is.
OUTSIDE = {
    "caption_decoder": "the caption decoder, which the dual encoder does not use",
    "vqa_classifier": "the question-answering head, which the dual encoder does not use",
    "rank_output": "the multiple-choice head, which no model uses",
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


def towers(state_dict: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the tensors of the towers alone; name -> reason, of the others."""
    inside = {name: tensor for name, tensor in state_dict.items() if name.startswith(PREFIX)}
    left_out = {name: _why_outside(name) for name in state_dict if name not in inside}
    return inside, left_out


def _why_outside(name: str) -> str:
    return OUTSIDE.get(name.split(".")[0], "outside the two towers")


def table_for(state_dict: Mapping[str, torch.Tensor]) -> Table:
    """Return the key table: towers, then decoder and answer head where the file has them.

    In these the table is exact: an unknown name is an error. Tensors beside them are left out.
    """
    decodes, answers = _has_decoder(state_dict), _has_answers(state_dict)
    parts = (PREFIX, *((DECODER,) if decodes else ()), *((ANSWERS,) if answers else ()))
    outside = {name: LeaveOut(_why_outside(name)) for name in state_dict if not name.startswith(parts)}
    decoder = decoder_table(_fused_rows(state_dict)) if decodes else {}
    return TABLE | decoder | (ANSWER_HEAD if answers else {}) | outside


def _has_decoder(state_dict: Mapping[str, torch.Tensor]) -> bool:
    return any(name.startswith(f"{DECODER}multimodal_layers.") for name in state_dict)


def _has_answers(state_dict: Mapping[str, torch.Tensor]) -> bool:
    """Return whether there is an answer head that reads the decoder, as those of all released files do."""
    return _has_decoder(state_dict) and any(name.startswith(f"{ANSWERS}5.") for name in state_dict)


def answer_layer(state_dict: Mapping[str, torch.Tensor]) -> str | None:
    """Return the name of the layer that scores answers, or None for a file without an answer head."""
    return f"{ANSWERS}5" if _has_answers(state_dict) else None


ANSWER_HEAD: Table = pairs(
    {
        f"{ANSWERS}1": "classifier.fc1",
        f"{ANSWERS}2": "classifier.layer_norm",
        f"{ANSWERS}5": "classifier.fc2",
    }
)
INV_FREQ = f"{DECODER}multimodal_layers.{{}}.0.fn.rotary_emb.inv_freq"


def decoder_table(fused_rows: Sequence[int]) -> Table:
    """Return the lines of the caption decoder.

    Args:
        fused_rows: rows of queries, keys, values, values of the MLP and its gates in the fused projection.
    """
    released, ours = f"{DECODER}multimodal_layers.{{}}", "caption_decoder.layers.{}"
    own, cross, pool = f"{released}.0.fn", f"{released}.1.fn", f"{DECODER}visual_attn_pooler"
    pooler = "caption_decoder.pooler"
    fused = [f"{ours}.self_attn.{part}_proj.weight" for part in "qkv"]
    fused += [f"{ours}.self_mlp.{part}_proj.weight" for part in ("up", "gate")]
    norms = {
        f"{pool}.norm": f"{pooler}.query_layer_norm",
        f"{pool}.context_norm": f"{pooler}.context_layer_norm",
        f"{own}.norm": f"{ours}.self_layer_norm",
        f"{cross}.norm": f"{ours}.cross_layer_norm",
    }
    layer_norms = {
        f"{DECODER}visual_pooler_norm": f"{pooler}.layer_norm",
        f"{DECODER}text_norm": "caption_decoder.text_layer_norm",
        f"{DECODER}predictor.0": "caption_head.layer_norm1",
        f"{DECODER}predictor.1": "caption_head.fc1",
        f"{DECODER}predictor.3": "caption_head.layer_norm2",
        f"{DECODER}predictor.4": "caption_head.fc2",
    }
    matrices = {
        f"{pool}.to_q": f"{pooler}.attention.q_proj",
        f"{pool}.to_out": f"{pooler}.attention.out_proj",
        f"{own}.attn_out": f"{ours}.self_attn.out_proj",
        f"{own}.ff_out.1": f"{ours}.self_mlp.down_proj",
        f"{cross}.to_q": f"{ours}.cross_attn.q_proj",
        f"{cross}.to_out": f"{ours}.cross_attn.out_proj",
        f"{cross}.ff.2": f"{ours}.cross_mlp.down_proj",
    }
    return {
        f"{DECODER}visual_queries": rename(f"{pooler}.queries"),
        **{f"{name}.gamma": rename(f"{to}.weight") for name, to in norms.items()},
        **{f"{name}.beta": rename(f"{to}.bias") for name, to in norms.items()},
        **pairs(layer_norms),
        **{f"{name}.weight": rename(f"{to}.weight") for name, to in matrices.items()},
        f"{pool}.to_kv.weight": split_rows(*(f"{pooler}.attention.{part}_proj.weight" for part in "kv")),
        f"{own}.fused_attn_ff_proj.weight": split_sizes(fused_rows, *fused),
        f"{cross}.to_kv.weight": split_rows(*(f"{ours}.cross_attn.{part}_proj.weight" for part in "kv")),
        f"{cross}.ff.0.weight": split_rows(*(f"{ours}.cross_mlp.{part}_proj.weight" for part in ("up", "gate"))),
        INV_FREQ: LeaveOut("buffer of rotary frequencies, which the model computes"),
    }


def _decoder_widths(state_dict: Mapping[str, torch.Tensor]) -> tuple[int, int, int, int]:
    """Return the width of a decoder, that of a head, that inside an MLP, and the number of visual queries."""
    first = f"{DECODER}multimodal_layers.0"
    queries, width = shape_of(state_dict, f"{DECODER}visual_queries", 2)
    head_dim = shape_of(state_dict, f"{first}.1.fn.to_kv.weight", 2)[0] // 2
    inner = shape_of(state_dict, f"{first}.0.fn.ff_out.1.weight", 2)[1]
    return width, head_dim, inner, queries


def _fused_rows(state_dict: Mapping[str, torch.Tensor]) -> list[int]:
    width, head_dim, inner, _ = _decoder_widths(state_dict)
    return [width, head_dim, head_dim, inner, inner]


def _decoder_config(state_dict: Mapping[str, torch.Tensor], overrides: Mapping[str, Any]) -> dict[str, Any]:
    width, head_dim, inner, queries = _decoder_widths(state_dict)
    if head_dim == 0 or width % head_dim:
        raise CheckpointError(f"The decoder is {width} wide, with heads of {head_dim}. Is the file damaged?")
    layers = count_layers(state_dict, f"{DECODER}multimodal_layers")
    if (wanted := overrides.get("num_hidden_layers", layers)) != layers:
        raise CheckpointError(
            f"The file's decoder has {layers} layers, got decoder_config.num_hidden_layers={wanted}. Leave it out: no "
            "layer can be cut or added."
        )
    for number in range(layers):
        _check_frequencies(state_dict, INV_FREQ.format(number), head_dim)
    return {
        "hidden_size": width,
        "encoder_hidden_size": shape_of(state_dict, f"{DECODER}visual_attn_pooler.to_kv.weight", 2)[1],
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": width // head_dim,
        "num_visual_queries": queries,
    } | dict(overrides)


def _check_frequencies(state_dict: Mapping[str, torch.Tensor], name: str, head_dim: int) -> None:
    if name not in state_dict or state_dict[name].is_meta:
        return
    theta = InternVideoMMDecoderConfig.rope_theta
    expected = theta ** -(torch.arange(0, head_dim, 2).float() / head_dim)
    found = state_dict[name].float()
    if found.shape != expected.shape or not torch.allclose(found, expected, rtol=1e-2):  # files of half precision
        raise CheckpointError(f"{name} holds other frequencies than rotary positions of base {theta:.0f}.")


def model_class(state_dict: Mapping[str, torch.Tensor]) -> type:
    """Return the Auto class of the file's model."""
    if _has_answers(state_dict):
        return AutoModelForVisualQuestionAnswering
    return AutoModelForMultimodalLM if _has_decoder(state_dict) else AutoModel


def config_from(state_dict: Mapping[str, torch.Tensor], overrides: Mapping[str, Any]) -> InternVideoMMConfig:
    """Read the configuration from the shapes; `overrides` or the released models' values supply the rest.

    Args:
        state_dict: as `normalize` returns it.
        overrides: values by the names of `InternVideoMMConfig`; those inside `vision_config` and `text_config`
            replace single values. By default heads are 64 wide, and the last layers feed the global blocks.

    Raises:
        CheckpointError: if a tensor that determines a size is missing, has another number of axes, or contradicts
            another, or `overrides` ask for another depth of the decoder.
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
    if _has_decoder(state_dict):
        found["decoder_config"] = _decoder_config(state_dict, overrides.get("decoder_config", {}))
    if (layer := answer_layer(state_dict)) is not None:
        found["num_labels"] = shape_of(state_dict, f"{layer}.weight", 2)[0]
    return InternVideoMMConfig(**found | {key: value for key, value in overrides.items() if key not in PARTS})


CONVERTER = Converter(
    recognizes=recognizes,
    normalize=normalize,
    table_for=table_for,
    model_class=model_class,
    config_from=config_from,
    answer_layer=answer_layer,
    towers=towers,
)
