"""Files that ActionFormer's training writes, `epoch_*.pth.tar`; InternVideo released none, but its settings.

Evaluation takes the averaged weights, `state_dict_ema`. No file holds the running number of positive positions: it
starts again from `init_loss_normalizer`.
"""

from collections.abc import Mapping
from typing import Any

import torch

from internvideo_hf.auto import auto_class
from internvideo_hf.checkpoints.converter import Converter
from internvideo_hf.checkpoints.errors import CheckpointError
from internvideo_hf.checkpoints.shapes import count_layers, shape_of
from internvideo_hf.checkpoints.table import Become, Table, drop_kernel, flatten, rename
from internvideo_hf.models.actionformer.configuration_actionformer import DATA_SETS, ActionFormerConfig
from internvideo_hf.utils.names import lookup

EMBEDDING, STEM, BRANCH, NORMS = "backbone.embd", "backbone.stem", "backbone.branch", "neck.fpn_norms"
FIRST, CLASSIFIER = f"{EMBEDDING}.0.conv.weight", "cls_head.cls_head.conv.weight"
# Settings that no tensor has a trace of, and that InternVideo's heads do not share.
UNSEEN = ("attention_windows", "max_sequence_length", "use_absolute_positions")


def convolution(released: str, ours: str) -> Table:
    """Return lines for a masked convolution."""
    return {f"{released}.conv.{kind}": rename(f"{ours}.{kind}") for kind in ("weight", "bias")}


def norm(released: str, ours: str) -> Table:
    """Return lines for a layer norm, whose tensors are `(1, channels, 1)` in files."""
    return {f"{released}.{kind}": flatten(f"{ours}.{kind}") for kind in ("weight", "bias")}


def linear(released: str, ours: str) -> Table:
    """Return lines for a convolution over one position, a linear layer of ours."""
    return {f"{released}.weight": drop_kernel(f"{ours}.weight"), f"{released}.bias": rename(f"{ours}.bias")}


def convolutions(released: str, ours: str) -> Table:
    """Return lines for the convolutions of a head with their norms."""
    return {
        **convolution(f"{released}.head.{{}}", f"{ours}.layers.convs.{{}}"),
        **norm(f"{released}.norm.{{}}", f"{ours}.layers.norms.{{}}"),
    }


def layer(released: str, ours: str) -> Table:
    """Return lines for a transformer layer."""
    lines: Table = {
        **norm(f"{released}.ln1", f"{ours}.layer_norm1"),
        **norm(f"{released}.ln2", f"{ours}.layer_norm2"),
        **linear(f"{released}.attn.proj", f"{ours}.self_attn.out_proj"),
        **linear(f"{released}.mlp.0", f"{ours}.mlp.fc1"),
        **linear(f"{released}.mlp.3", f"{ours}.mlp.fc2"),
        f"{released}.drop_path_attn.scale": flatten(f"{ours}.layer_scale1.factor"),
        f"{released}.drop_path_mlp.scale": flatten(f"{ours}.layer_scale2.factor"),
        f"{released}.attn.rel_pe": Become((f"{ours}.self_attn.relative_bias",), lambda bias: (bias[0, 0],)),
    }
    for theirs in ("query", "key", "value"):
        part = f"{ours}.self_attn.{theirs[0]}"
        lines |= convolution(f"{released}.attn.{theirs}_conv", f"{part}_conv")
        lines |= norm(f"{released}.attn.{theirs}_norm", f"{part}_norm")
        lines |= linear(f"{released}.attn.{theirs}", f"{part}_proj")
    return lines


def table_for(tensors: Mapping[str, torch.Tensor]) -> Table:
    """Return the table of a file: layers that halve the sequence are numbered behind those that do not.

    Args:
        tensors: of the file.
    """
    stem, branch = count_layers(tensors, STEM), count_layers(tensors, BRANCH)
    numbered = [f"{STEM}.{number}" for number in range(stem)] + [f"{BRANCH}.{number}" for number in range(branch)]
    table: Table = {
        **convolution(f"{EMBEDDING}.{{}}", "actionformer.embeddings.convs.{}"),
        **norm("backbone.embd_norm.{}", "actionformer.embeddings.norms.{}"),
        **norm(f"{NORMS}.{{}}", "neck.norms.{}"),
        "neck.lateral_convs.{}.conv.weight": drop_kernel("neck.laterals.{}.weight"),
        "neck.fpn_convs.{}.conv.weight": rename("neck.convs.{}.weight"),
        **convolutions("cls_head", "classifier"),
        **convolution("cls_head.cls_head", "classifier.output"),
        **convolutions("reg_head", "regressor"),
        **convolution("reg_head.offset_head", "regressor.output"),
        "reg_head.scale.{}.scale": Become(("regressor.scales.{}.factor",), lambda scale: (scale.reshape(1),)),
    }
    for number, released in enumerate(numbered):
        table |= layer(released, f"actionformer.layers.{number}")
    return table


def recognizes(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Return whether the tensors are those of an ActionFormer."""
    return FIRST in tensors and any(name.startswith("cls_head.cls_head.") for name in tensors)


def config_from(tensors: Mapping[str, torch.Tensor], overrides: Mapping[str, Any]) -> ActionFormerConfig:
    """Read the configuration from the shapes; `overrides` or the settings of InternVideo's heads supply the rest.

    Args:
        tensors: of the file.
        overrides: values by the names of `ActionFormerConfig`.

    Raises:
        CheckpointError: if a tensor that determines a size is missing, or nothing determines the windows.
    """
    sizes = _sizes(tensors)
    known = ("feature_size", "hidden_size", "num_labels")
    fitting = [settings for settings in DATA_SETS.values() if all(settings[name] == sizes[name] for name in known)]
    if not fitting and (missing := [name for name in UNSEEN if name not in overrides]):
        raise CheckpointError(
            f"A head on {sizes['feature_size']} channels with a width of {sizes['hidden_size']} and "
            f"{sizes['num_labels']} classes is none of InternVideo's, and no shape contains {', '.join(missing)}. "
            "Give them in a JSON file by --config."
        )
    return ActionFormerConfig(**{**(fitting[0] if fitting else {}), **sizes, **overrides})


def _sizes(tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    hidden, features, kernel = shape_of(tensors, FIRST, 3)
    labels, _, head_kernel = shape_of(tensors, CLASSIFIER, 3)
    hidden_convs = count_layers(tensors, "cls_head.head")
    is_fpn = any(name.startswith("neck.lateral_convs.") for name in tensors)
    neck = shape_of(tensors, "neck.lateral_convs.0.conv.weight", 3)[0] if is_fpn else hidden
    head = shape_of(tensors, "cls_head.head.0.conv.weight", 3)[0] if hidden_convs else neck
    return {
        "feature_size": features,
        "hidden_size": hidden,
        "intermediate_size": shape_of(tensors, f"{STEM}.0.mlp.0.weight", 3)[0],
        "num_embedding_layers": count_layers(tensors, EMBEDDING),
        "embedding_kernel_size": kernel,
        "use_embedding_norm": any(name.startswith("backbone.embd_norm.") for name in tensors),
        "num_stem_layers": count_layers(tensors, STEM),
        "num_levels": 1 + count_layers(tensors, BRANCH),
        "use_relative_positions": any(name.endswith(".attn.rel_pe") for name in tensors),
        "neck_type": "fpn" if is_fpn else "identity",
        "neck_hidden_size": neck,
        "use_neck_norm": any(name.startswith(f"{NORMS}.") for name in tensors),
        "head_hidden_size": head,
        "num_head_layers": 1 + hidden_convs,
        "head_kernel_size": head_kernel,
        "use_head_norm": any(name.startswith("cls_head.norm.") for name in tensors),
        "layer_scale_init_value": 1e-4 if any(name.endswith("drop_path_attn.scale") for name in tensors) else 0.0,
        "num_labels": labels,
    }


def fit(converted: Mapping[str, torch.Tensor], config: ActionFormerConfig) -> dict[str, torch.Tensor]:
    """Add the running number of positive positions, which no file holds."""
    return {**converted, "loss_normalizer": torch.tensor(float(config.init_loss_normalizer))}


# Our name of a setting -> that of the original code.
MODEL = {
    "feature_size": "input_dim",
    "num_labels": "num_classes",
    "hidden_size": "embd_dim",
    "num_attention_heads": "n_head",
    "embedding_kernel_size": "embd_kernel_size",
    "use_embedding_norm": "embd_with_ln",
    "attention_windows": "n_mha_win_size",
    "use_absolute_positions": "use_abs_pe",
    "use_relative_positions": "use_rel_pe",
    "max_sequence_length": "max_seq_len",
    "neck_type": "fpn_type",
    "neck_hidden_size": "fpn_dim",
    "use_neck_norm": "fpn_with_ln",
    "head_hidden_size": "head_dim",
    "num_head_layers": "head_num_layers",
    "head_kernel_size": "head_kernel_size",
    "use_head_norm": "head_with_ln",
    "regression_ranges": "regression_range",
}
TRAINING = {
    "class_prior": "cls_prior_prob",
    "label_smoothing": "label_smoothing",
    "loss_weight": "loss_weight",
    "init_loss_normalizer": "init_loss_norm",
    "hidden_dropout": "dropout",
}
SELECTION = {"min_score": "pre_nms_thresh", "max_candidates": "pre_nms_topk", "min_length": "duration_thresh"}
SUPPRESSION = {
    "class_wise": "multiclass_nms",
    "sigma": "nms_sigma",
    "iou_threshold": "iou_threshold",
    "min_score": "min_score",
    "max_segments": "max_seg_num",
    "voting_threshold": "voting_thresh",
}
METHODS = {"soft": "gaussian", "hard": "hard", "none": "none"}


def settings_of(original: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of `ActionFormerConfig` for settings of the original code.

    Args:
        original: its `model` section, with `train_cfg` and `test_cfg` if there are.

    Raises:
        ValueError: if it asks for what no model of ours has.
    """
    train, test = original.get("train_cfg", {}), original.get("test_cfg", {})
    is_ours = original.get("backbone_type", "convTransformer") == "convTransformer"
    if not is_ours or original.get("scale_factor", 2) != 2 or train.get("head_empty_cls"):
        raise ValueError("Expected the backbone_type convTransformer, a scale_factor of 2 and no head_empty_cls.")

    def taken(names: Mapping[str, str], section: Mapping[str, Any]) -> dict[str, Any]:
        return {ours: section[theirs] for ours, theirs in names.items() if theirs in section}

    arch, drop_path = original["backbone_arch"], train.get("droppath", 0.1)
    has_radius = train.get("center_sample", "radius") == "radius"
    method = {"method": lookup(METHODS, test["nms_method"], "nms_method")} if "nms_method" in test else {}
    return {
        **dict(zip(("num_embedding_layers", "num_stem_layers"), arch, strict=False)),
        "num_levels": 1 + arch[2],
        "drop_path_rate": drop_path,
        "layer_scale_init_value": 1e-4 if drop_path > 0 else 0.0,  # without drop path, the original leaves it out
        "center_sampling_radius": train.get("center_sample_radius", 1.5) if has_radius else None,
        **taken(MODEL, original),
        **taken(TRAINING, train),
        "selection": taken(SELECTION, test),
        "suppression": method | taken(SUPPRESSION, test),
    }


CONVERTER = Converter(
    recognizes=recognizes,
    normalize=dict,
    table_for=table_for,
    model_class=lambda tensors: auto_class("AutoModelForTemporalLocalization"),
    config_from=config_from,
    fit=fit,
)
