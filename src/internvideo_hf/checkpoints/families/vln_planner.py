"""Policies of vision-language navigation: `{"state_dict", "config", "optim_state", "iteration"}`.

`config` is an object of Habitat's, which `released_file` reads as plain data. The encoders of pictures, videos and
depth, which the file also holds, are left out: they are frozen, and public themselves.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch

from internvideo_hf.auto import auto_class
from internvideo_hf.checkpoints.converter import Converter
from internvideo_hf.checkpoints.errors import CheckpointError
from internvideo_hf.checkpoints.families.vln_waypoints import bert_layer
from internvideo_hf.checkpoints.shapes import count_layers, fill_heads, same_width, shape_of
from internvideo_hf.checkpoints.table import Become, LeaveOut, Table, pairs, rename
from internvideo_hf.models.vln_planner.configuration_vln_planner import VLNPlannerConfig

PLANNER = "vln_bert"
LANGUAGE, CROSS = f"{PLANNER}.encoder.layer", f"{PLANNER}.encoder.x_layers"
SEEN, HISTORY = f"{PLANNER}.img_embeddings", f"{PLANNER}.hist_embeddings"
PANORAMA = f"{HISTORY}.pano_encoder.layer"
FUSION, CRITIC = "rgb_embedding_projection", "critic.state2value"
XLM_ROBERTA = 250002  # words, of which 1 is padding
STILL_SIZE = VLNPlannerConfig.still_size  # of CLIP ViT-B/32; a shape contains the sum with the videos' alone


def features(released: str, part: str, ours: str) -> Table:
    """Return lines for features that a linear layer and a layer norm turn into tokens."""
    return pairs(
        {f"{released}.{part}_linear": f"{ours}.linear", f"{released}.{part}_layer_norm": f"{ours}.layer_norm"}
    )


def cross_layer(released: str, ours: str) -> Table:
    """Return lines for a layer of LXMERT that uses the weights of attention to the other side for both sides."""
    names = {
        f"{released}.visual_attention.att.{theirs}": f"{ours}.cross_attn.{theirs[0]}_proj"
        for theirs in ("query", "key", "value")
    }
    names |= {
        f"{released}.visual_attention.output.dense": f"{ours}.cross_attn.out_proj",
        f"{released}.visual_attention.output.LayerNorm": f"{ours}.cross_layer_norm",
    }
    lines = pairs(names)
    for side, place in (("lang", "text"), ("visn", "visual")):
        of_layer = bert_layer("*", f"{ours}.{place}")
        replaced = {
            "*.attention.": f"{released}.{side}_self_att.",
            "*.intermediate.": f"{released}.{side}_inter.",
            "*.output.": f"{released}.{side}_output.",
        }
        for name, line in of_layer.items():
            beginning = next(old for old in replaced if name.startswith(old))
            lines[name.replace(beginning, replaced[beginning], 1)] = line
    return lines


TABLE: Table = {
    **{
        f"{PLANNER}.embeddings.{name}.weight": rename(f"embeddings.{name}.weight")
        for name in ("word_embeddings", "position_embeddings", "token_type_embeddings")
    },
    f"{PLANNER}.embeddings.position_ids": LeaveOut("the numbers of the positions"),
    **pairs(
        {
            f"{PLANNER}.embeddings.LayerNorm": "embeddings.layer_norm",
            f"{SEEN}.layer_norm": "observation_embeddings.layer_norm",
            f"{HISTORY}.layer_norm": "history_embeddings.layer_norm",
            f"{PLANNER}.next_action.net.0": "action_head.dense",
            f"{PLANNER}.next_action.net.2": "action_head.layer_norm",
            f"{PLANNER}.next_action.net.4": "action_head.output",
            "rgb_projection": "rgb_projection",
            FUSION: "view_fusion",
            f"{CRITIC}.0": "critic.dense",
            f"{CRITIC}.3": "critic.output",
        }
    ),
    f"{SEEN}.nav_type_embedding.weight": rename("observation_embeddings.nav_type_embeddings.weight"),
    **features(SEEN, "img", "observation_embeddings.rgb"),
    **features(SEEN, "dep", "observation_embeddings.depth"),
    **features(SEEN, "ang", "observation_embeddings.angle"),
    **features(SEEN, "dis", "observation_embeddings.distance"),
    f"{HISTORY}.cls_token": Become(("history_embeddings.cls_embeddings.weight",), lambda token: (token[0],)),
    f"{HISTORY}.type_embedding.weight": rename("history_embeddings.type_embeddings.weight"),
    f"{HISTORY}.position_embeddings.weight": rename("history_embeddings.position_embeddings.weight"),
    **features(HISTORY, "img", "history_embeddings.rgb"),
    **features(HISTORY, "ang", "history_embeddings.angle"),
    **features(HISTORY, "pano_img", "history_embeddings.panorama_rgb"),
    **features(HISTORY, "pano_ang", "history_embeddings.panorama_angle"),
    **bert_layer(f"{PANORAMA}.{{}}", "history_embeddings.panorama_layers.{}"),
    **bert_layer(f"{LANGUAGE}.{{}}", "text_layers.{}"),
    **cross_layer(f"{CROSS}.{{}}", "cross_layers.{}"),
    "rgb_encoder.*": LeaveOut("the frozen encoder of videos, InternVideo's VideoMAE, whose own file is public"),
    "clip_encoder.*": LeaveOut("the frozen encoder of stills, openai/clip-vit-base-patch32"),
    "depth_encoder.*": LeaveOut("the frozen encoder of depth, DDPPO's ResNet-50 of habitat-baselines"),
}


def normalize(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors without the prefixes of the policy and of data-parallel training."""
    return {re.sub(r"^net\.(module\.)?", "", name): tensor for name, tensor in tensors.items()}


def recognizes(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Return whether the tensors are those of a policy of navigation."""
    return any(re.match(rf"net\.(module\.)?{PLANNER}\.hist_embeddings\.", name) for name in tensors)


def config_from(tensors: Mapping[str, torch.Tensor], overrides: Mapping[str, Any]) -> VLNPlannerConfig:
    """Read the configuration from the shapes.

    Args:
        tensors: of the file.
        overrides: values by the names of `VLNPlannerConfig`.

    Raises:
        CheckpointError: if a tensor that determines a size is missing or damaged.
    """
    words = f"{PLANNER}.embeddings.word_embeddings.weight"
    vocabulary, hidden = shape_of(tensors, words, 2)
    rgb, together = shape_of(tensors, f"{FUSION}.weight", 2)
    _, of_planner = shape_of(tensors, f"{SEEN}.img_linear.weight", 2)
    same_width(f"{FUSION}.weight", rgb, f"{SEEN}.img_linear.weight", of_planner)
    still = overrides.get("still_size", STILL_SIZE)
    if together <= still:
        raise CheckpointError(
            f"{FUSION}.weight takes {together} channels, of which stills are {still}, so that none are left for "
            "videos. Give still_size in a JSON file by --config."
        )
    critic = f"{CRITIC}.0.weight"
    sizes: dict[str, Any] = {
        "vocab_size": vocabulary,
        "pad_token_id": 1 if vocabulary == XLM_ROBERTA else 0,
        "max_position_embeddings": shape_of(tensors, f"{PLANNER}.embeddings.position_embeddings.weight", 2)[0],
        "type_vocab_size": shape_of(tensors, f"{PLANNER}.embeddings.token_type_embeddings.weight", 2)[0],
        "hidden_size": hidden,
        "intermediate_size": shape_of(tensors, f"{LANGUAGE}.0.intermediate.dense.weight", 2)[0],
        "num_hidden_layers": count_layers(tensors, LANGUAGE),
        "num_cross_layers": count_layers(tensors, CROSS),
        "num_panorama_layers": count_layers(tensors, PANORAMA),
        "still_size": still,
        "video_size": together - still,
        "rgb_size": rgb,
        "depth_size": shape_of(tensors, f"{SEEN}.dep_linear.weight", 2)[1],
        "max_history_steps": shape_of(tensors, f"{HISTORY}.position_embeddings.weight", 2)[0],
        "use_critic": critic in tensors,
        "mirrored_video_views": True,
        **({"critic_hidden_size": shape_of(tensors, critic, 2)[0]} if critic in tensors else {}),
        **overrides,
    }
    fill_heads(sizes, "num_attention_heads", hidden)
    return VLNPlannerConfig(**sizes)


CONVERTER = Converter(
    recognizes=recognizes,
    normalize=normalize,
    table_for=lambda tensors: TABLE,
    model_class=lambda tensors: auto_class("AutoModelForNavigation"),
    config_from=config_from,
)
