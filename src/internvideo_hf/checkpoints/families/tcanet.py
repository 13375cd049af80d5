"""Files of TCANet's public training code; InternVideo released none."""

from collections.abc import Mapping
from typing import Any

import torch

from internvideo_hf.auto import auto_class
from internvideo_hf.checkpoints.converter import Converter
from internvideo_hf.checkpoints.errors import CheckpointError
from internvideo_hf.checkpoints.shapes import count_layers, shape_of
from internvideo_hf.checkpoints.table import LeaveOut, Table, pairs, split_rows
from internvideo_hf.models.tcanet.configuration_tcanet import TCANetConfig
from internvideo_hf.models.tcanet.modeling_tcanet import window_mask

LAYERS, MASK = "lgtes", "lgtes.{}.self_atten.mask_matrix"
ATTENTION = "lgtes.{}.self_atten.scale_attention"
_MASK = LeaveOut("the windows of local attention, which attention_window determines")


def _stage(number: int) -> Table:
    released, ours = f"tbr{number + 1}", f"stages.{number}"
    names = {
        f"{released}.reg1xw.reg_1d_o.0": f"{ours}.segment.hidden",
        f"{released}.reg1xw.reg_1d_o.2": f"{ours}.segment.output",
    }
    for index, place in enumerate((0, 2)):
        names[f"{released}.reg1xw.reg_1d_b.{place}"] = f"{ours}.segment.layers.convs.{index}"
        for side in ("start", "end"):
            names[f"{released}.reg1se.{side}_reg_conv.{place}"] = f"{ours}.{side}.layers.convs.{index}"
    for side in ("start", "end"):
        names[f"{released}.reg1se.{side}_reg_conv.4"] = f"{ours}.{side}.output"
    return pairs(names)


def table_for(tensors: Mapping[str, torch.Tensor]) -> Table:
    """Return the table of a file: its stages are numbered from 1.

    Args:
        tensors: of the file.
    """
    layer = "tcanet.layers.{}"
    table: Table = {
        **pairs(
            {
                "x_1d_b_f.0": "tcanet.embeddings.convs.0",
                "x_1d_b_f.2": "tcanet.embeddings.convs.1",
                f"{ATTENTION}.out_proj": f"{layer}.self_attn.out_proj",
                f"{LAYERS}.{{}}.linear1": f"{layer}.mlp.fc1",
                f"{LAYERS}.{{}}.linear2": f"{layer}.mlp.fc2",
                f"{LAYERS}.{{}}.norm1": f"{layer}.layer_norm1",
                f"{LAYERS}.{{}}.norm2": f"{layer}.layer_norm2",
            }
        ),
        f"{ATTENTION}.in_proj_weight": split_rows(*(f"{layer}.self_attn.{part}_proj.weight" for part in "qkv")),
        f"{ATTENTION}.in_proj_bias": split_rows(*(f"{layer}.self_attn.{part}_proj.bias" for part in "qkv")),
        MASK: _MASK,
    }
    for number in range(_count_stages(tensors)):
        table |= _stage(number)
    return table


def recognizes(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Return whether the tensors are those of a TCANet."""
    return any(name.startswith("x_1d_b_f.") for name in tensors) and any(name.startswith("tbr1.") for name in tensors)


def _count_stages(tensors: Mapping[str, torch.Tensor]) -> int:
    numbers = (name.removeprefix("tbr").partition(".")[0] for name in tensors if name.startswith("tbr"))
    return max((int(number) for number in numbers if number.isdigit()), default=0)


def config_from(tensors: Mapping[str, torch.Tensor], overrides: Mapping[str, Any]) -> TCANetConfig:
    """Read the configuration from the shapes, and the windows from the stored mask.

    Args:
        tensors: of the file.
        overrides: values by the names of `TCANetConfig`.

    Raises:
        CheckpointError: if a tensor that determines a size is missing, a mask is not one of windows, or nothing
            determines the time between features or the thresholds of the stages.
    """
    hidden, group_size, _ = shape_of(tensors, "x_1d_b_f.2.weight", 3)
    groups, heads, positions = hidden // group_size, *shape_of(tensors, MASK.format(0), 4)[1:3]
    start, end = (4 * shape_of(tensors, f"tbr1.reg1se.{side}_reg_conv.4.weight", 3)[2] for side in ("start", "end"))
    stages = _count_stages(tensors)
    if stages != len(TCANetConfig().iou_thresholds) and "iou_thresholds" not in overrides:
        raise CheckpointError(
            f"The file has {stages} stages, expected {len(TCANetConfig().iou_thresholds)}. Give iou_thresholds, one "
            "for each, in a JSON file by --config."
        )
    features = groups * shape_of(tensors, "x_1d_b_f.0.weight", 3)[1]
    if features != TCANetConfig.feature_size and "step_seconds" not in overrides:
        raise CheckpointError(
            f"The file is for features of {features} channels, not the public {TCANetConfig.feature_size}, and no "
            "shape contains the time between them. Give step_seconds in a JSON file by --config."
        )
    layers = count_layers(tensors, LAYERS)
    sizes = {
        "feature_size": features,
        "hidden_size": hidden,
        "intermediate_size": shape_of(tensors, f"{LAYERS}.0.linear1.weight", 2)[0],
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_sequence_length": positions,
        "boundary_hidden_size": shape_of(tensors, "tbr1.reg1se.start_reg_conv.0.weight", 3)[0],
        "num_start_samples": start,
        "num_end_samples": end,
        "num_action_samples": 4 * shape_of(tensors, "tbr1.reg1xw.reg_1d_o.0.weight", 3)[2] - start - end,
        "num_groups": groups,
        **_window(tensors, layers),
    }
    return TCANetConfig(**{**sizes, **overrides})


def _window(tensors: Mapping[str, torch.Tensor], layers: int) -> dict[str, int]:
    """Return the size of the windows that the masks of all layers show; nothing where no mask is in memory."""
    masks = {name: tensors[name] for name in (MASK.format(layer) for layer in range(layers)) if name in tensors}
    found: dict[str, int] = {}
    for name, mask in masks.items():
        if mask.device.type == "meta":
            continue
        positions = mask.shape[-1]
        window = int((mask[0, 0, positions // 2] == 0).sum())
        expected = window_mask(torch.zeros(1, positions, 1), mask.shape[1], max(window, 1)) < 0
        if not torch.equal(mask.bool(), expected) or found.setdefault("attention_window", window) != window:
            raise CheckpointError(
                f"{name} does not hide all but a window of each position from the first half of the heads, expected "
                "the same windows in all layers. Is the file damaged?"
            )
    return found


CONVERTER = Converter(
    recognizes=recognizes,
    normalize=dict,
    table_for=table_for,
    model_class=lambda tensors: auto_class("AutoModelForTemporalLocalization"),
    config_from=config_from,
)
