"""The file of the predictor of waypoints, `{"predictor": {"state_dict": ...}}`."""

from collections.abc import Mapping
from typing import Any

import torch

from internvideo_hf.auto import auto_class
from internvideo_hf.checkpoints.converter import Converter
from internvideo_hf.checkpoints.errors import CheckpointError
from internvideo_hf.checkpoints.shapes import count_layers, fill_heads, shape_of
from internvideo_hf.checkpoints.table import LeaveOut, Table, pairs
from internvideo_hf.models.vln_waypoints.configuration_vln_waypoints import VLNWaypointsConfig

LAYERS, FIRST, CELLS = "waypoint_TRM.bert.encoder.layer", "visual_fc_depth.1", "vis_classifier.2"
_IDLE = LeaveOut("never used: the original passes pictures by")


def bert_layer(released: str, ours: str) -> Table:
    """Return lines for a layer of BERT.

    Args:
        released: its name in the file, such as "encoder.layer.{}".
        ours: name of a `PostNormLayer`.
    """
    return pairs(
        {
            **{
                f"{released}.attention.self.{theirs}": f"{ours}.self_attn.{theirs[0]}_proj"
                for theirs in ("query", "key", "value")
            },
            f"{released}.attention.output.dense": f"{ours}.self_attn.out_proj",
            f"{released}.attention.output.LayerNorm": f"{ours}.layer_norm1",
            f"{released}.intermediate.dense": f"{ours}.mlp.fc1",
            f"{released}.output.dense": f"{ours}.mlp.fc2",
            f"{released}.output.LayerNorm": f"{ours}.layer_norm2",
        }
    )


TABLE: Table = {
    **pairs({FIRST: "embedding", "vis_classifier.0": "classifier.dense", CELLS: "classifier.output"}),
    **bert_layer(f"{LAYERS}.{{}}", "layers.{}"),
    "visual_merge.0.*": _IDLE,
    "mergefeats_LayerNorm.*": _IDLE,
}


def recognizes(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Return whether the tensors are those of a predictor of waypoints."""
    return f"{FIRST}.weight" in tensors and any(name.startswith("waypoint_TRM.") for name in tensors)


def config_from(tensors: Mapping[str, torch.Tensor], overrides: Mapping[str, Any]) -> VLNWaypointsConfig:
    """Read the configuration from the shapes.

    Args:
        tensors: of the file.
        overrides: values by the names of `VLNWaypointsConfig`.

    Raises:
        CheckpointError: if a tensor that determines a size is missing, or the heatmap is of another size than the
            public one and `overrides` do not say of which.
    """
    hidden, depth = shape_of(tensors, f"{FIRST}.weight", 2)
    sizes = {
        "depth_size": depth,
        "hidden_size": hidden,
        "intermediate_size": shape_of(tensors, f"{LAYERS}.0.intermediate.dense.weight", 2)[0],
        "num_hidden_layers": count_layers(tensors, LAYERS),
        **overrides,
    }
    fill_heads(sizes, "num_attention_heads", hidden)
    config = VLNWaypointsConfig(**sizes)
    cells = shape_of(tensors, f"{CELLS}.weight", 2)[0]
    if cells != config.num_angles // config.num_views * config.num_distances:
        raise CheckpointError(
            f"{CELLS}.weight scores {cells} places a view, and {config.num_angles} angles of {config.num_views} views "
            f"with {config.num_distances} distances are others. Give num_angles, num_views and num_distances in a "
            "JSON file by --config."
        )
    return config


CONVERTER = Converter(
    recognizes=recognizes,
    normalize=dict,
    table_for=lambda tensors: TABLE,
    model_class=lambda tensors: auto_class("AutoModel"),
    config_from=config_from,
)
