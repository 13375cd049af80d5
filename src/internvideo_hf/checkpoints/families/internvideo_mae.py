"""Released VideoMAE files: pretrained encoders, classifiers and open-set ones, and models of boxes."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoModelForPreTraining, AutoModelForVideoClassification

from internvideo_hf.auto import auto_class
from internvideo_hf.checkpoints import transformers_videomae
from internvideo_hf.checkpoints.converter import Converter
from internvideo_hf.checkpoints.errors import CheckpointError
from internvideo_hf.checkpoints.matching import ReleasedTest
from internvideo_hf.checkpoints.shapes import count_layers, fill_heads, shape_of
from internvideo_hf.checkpoints.table import Become, Table, flatten, pairs, rename, split_rows
from internvideo_hf.models.internvideo_mae.configuration_internvideo_mae import SIZES, InternVideoMAEConfig

HEADS = {size["hidden_size"]: size["num_attention_heads"] for size in SIZES.values()}
DECODER_HEADS = {size["decoder_hidden_size"]: size["decoder_num_attention_heads"] for size in SIZES.values()}
# The file shows whether there is a layer scale; its initial value is irrelevant after training.
LAYER_SCALE = 0.1
# AVA's actions.
DETECTOR_CLASSES = 80
# Of detectors: the statistics of their frames, and what no tensor tells of the released code.
DETECTOR_SETTINGS = {
    "image_mean": [0.4814576, 0.4546922, 0.4038435],
    "image_std": [0.225] * 3,
    "roi_scale": 1 / 16,  # for patches of 14 pixels too
    "attend_to_padding": True,
    "problem_type": "multi_label_classification",
}
# A detector's head has the names of a classifier's in its file; `normalize` puts this before them.
DETECTOR_PREFIX = "detector."


def _layers(released: str, ours: str) -> Table:
    return {
        f"{released}.attn.qkv.weight": split_rows(*(f"{ours}.self_attn.{part}_proj.weight" for part in "qkv")),
        f"{released}.attn.q_bias": rename(f"{ours}.self_attn.q_proj.bias"),
        f"{released}.attn.v_bias": rename(f"{ours}.self_attn.v_proj.bias"),
        f"{released}.gamma_1": rename(f"{ours}.layer_scale1.factor"),
        f"{released}.gamma_2": rename(f"{ours}.layer_scale2.factor"),
        **pairs(
            {
                f"{released}.norm1": f"{ours}.layer_norm1",
                f"{released}.norm2": f"{ours}.layer_norm2",
                f"{released}.attn.proj": f"{ours}.self_attn.out_proj",
                f"{released}.mlp.fc1": f"{ours}.mlp.fc1",
                f"{released}.mlp.fc2": f"{ours}.mlp.fc2",
            }
        ),
    }


def _encoder(released: str, ours: str = "internvideo_mae.") -> Table:
    return {
        **pairs({f"{released}patch_embed.proj": f"{ours}embeddings", f"{released}norm": f"{ours}layernorm"}),
        **_layers(f"{released}blocks.{{}}", f"{ours}layers.{{}}"),
        f"{released}pos_embed": Become((f"{ours}positions.table",), lambda table: (table[0],)),
    }


CLASSIFIER: Table = {
    **_encoder(""),
    **pairs({"fc_norm": "internvideo_mae.pooler_layernorm", "head": "classifier"}),
}


def _of_map_and_box(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Split the convolution that reads a map and, in each of its cells, a box's feature behind the map's channels."""
    of_map, of_box = weight.tensor_split(2, dim=1)
    return of_map, of_box[:, :, 0, 0]


DETECTOR: Table = {
    **_encoder(""),
    **pairs({f"{DETECTOR_PREFIX}head": "classifier"}),
    **{
        f"{DETECTOR_PREFIX}head.{released}.weight": rename(f"classifier.{ours}.weight")
        for released, ours in {
            "conv2": "conv",
            "fc1": "box_features",
            "fc2": "output",
            **{
                f"hr2o.{{}}.{part}": f"relations.{{}}.{name}"
                for part, name in {"conv_q": "query", "conv_k": "key", "conv_v": "value", "conv": "out"}.items()
            },
        }.items()
    },
    **pairs({f"{DETECTOR_PREFIX}head.hr2o.{{}}.norm": "classifier.relations.{}.norm"}),
    f"{DETECTOR_PREFIX}head.conv1.weight": Become(
        ("classifier.map_projection.weight", "classifier.box_projection.weight"), _of_map_and_box
    ),
}


# Of short-term anticipation: the names of its heads, the statistics of its frames and how it cuts out boxes.
ANTICIPATION_HEAD = "ROIHEAD"
ANTICIPATION: Table = {
    **_encoder(""),
    **pairs(
        {f"{ANTICIPATION_HEAD}.verb_projection": "classifier", f"{ANTICIPATION_HEAD}.ttc_projection": "regressor"}
    ),
}
ANTICIPATION_SETTINGS = {"image_mean": [0.45] * 3, "image_std": [0.225] * 3, "roi_aligned": True}
ANTICIPATION_TEST = ReleasedTest(
    data_sets=("Ego4D",),
    processor={
        "sampler_kwargs": {"sampling_rate": 2},
        "size": {"shortest_edge": 256},
        "do_center_crop": False,
    },
    views=None,
    is_stated=True,
)


# MMAction2's names, which only the open-set models have.
OPEN_SET_HEAD = "cls_head.fc_cls"
OPEN_SET: Table = {
    **_encoder(""),
    **pairs({"fc_norm": "internvideo_mae.pooler_layernorm", OPEN_SET_HEAD: "classifier"}),
}
# How the threshold and the unknown videos were scored: the middle clip; the logits of its crops are averaged.
OPEN_SET_TEST = ReleasedTest(
    data_sets=("UCF-101",),
    processor={"sampler": "openset", "resize_rounding": "nearest"},
    views=(1, 3),
    is_stated=True,
)


PRETRAINING: Table = {
    **_encoder("encoder."),
    "encoder_to_decoder.weight": rename("encoder_to_decoder.weight"),
    "mask_token": flatten("decoder.mask_token"),
    **_layers("decoder.blocks.{}", "decoder.layers.{}"),
    **pairs({"decoder.norm": "decoder.layernorm", "decoder.head": "decoder.head"}),
}


def recognizes(state_dict: Mapping[str, torch.Tensor]) -> bool:
    """Return whether the tensors are those of a VideoMAE classifier or pretraining model."""
    return any(re.match(r"(backbone\.|encoder\.)?(patch_embed\.proj|blocks\.\d+\.)", name) for name in state_dict)


def normalize(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors under the released names, without the training code's `backbone.` before the encoder's.

    From a classifier's file, `encoder.` is removed too, as the released loader does. The head of AVA's detector gets
    another name than a classifier's, see `as_detector`.
    """
    if is_pretraining(state_dict):
        return {re.sub(r"^backbone\.", "encoder.", name): tensor for name, tensor in state_dict.items()}
    tensors = {re.sub(r"^(backbone|encoder)\.", "", name): tensor for name, tensor in state_dict.items()}
    return as_detector(tensors) if _is_released_detector(tensors) else tensors


def is_pretraining(state_dict: Mapping[str, torch.Tensor]) -> bool:
    """Return whether the file is a pretraining model, with a decoder."""
    return any(name.startswith(("decoder.", "encoder_to_decoder.", "mask_token")) for name in state_dict)


def _is_released_detector(state_dict: Mapping[str, torch.Tensor]) -> bool:
    """Return whether a file that has not said so is an action detector: by AVA's classes, or by ACAR's head.

    The detector normalizes tokens and pools boxes of them; no classifier of as many classes was released.
    """
    head = state_dict.get("head.weight")
    is_ava = head is not None and head.shape[:1] == (DETECTOR_CLASSES,) and "norm.weight" in state_dict
    return is_ava or any(name.startswith("head.hr2o.") for name in state_dict)


def is_detector(state_dict: Mapping[str, torch.Tensor]) -> bool:
    """Return whether the tensors, as `normalize` or `as_detector` return them, are an action detector's."""
    return any(name.startswith(DETECTOR_PREFIX) for name in state_dict)


def as_detector(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors of an action detector, with another name for its head than a classifier's.

    Args:
        state_dict: as `normalize` returns it.

    Raises:
        CheckpointError: if the file has no head, or that of a classifier.
    """
    if is_detector(state_dict):
        return dict(state_dict)
    if not any(name.startswith("head.") for name in state_dict) or "norm.weight" not in state_dict:
        raise CheckpointError(
            "The file is no action detector: it lacks a head, or the encoder's last norm (norm.weight). Convert it as "
            "what it is, and start the training of a detector from that folder."
        )
    return {
        f"{DETECTOR_PREFIX}{name}" if name.startswith("head.") else name: tensor for name, tensor in state_dict.items()
    }


def is_open_set(state_dict: Mapping[str, torch.Tensor]) -> bool:
    """Return whether the file is an open-set classifier, as MMAction2 saves it."""
    return any(name.startswith(f"{OPEN_SET_HEAD}.") for name in state_dict)


def is_anticipation(state_dict: Mapping[str, torch.Tensor]) -> bool:
    """Return whether the file is a model of short-term anticipation, as its training code saves it."""
    return any(name.startswith(f"{ANTICIPATION_HEAD}.") for name in state_dict)


def model_class(state_dict: Mapping[str, torch.Tensor]) -> type:
    """Return the Auto class of the file's model."""
    if is_anticipation(state_dict):
        anticipation: type = auto_class("AutoModelForShortTermAnticipation")
        return anticipation
    if is_detector(state_dict):
        detector: type = auto_class("AutoModelForVideoActionDetection")
        return detector
    if is_open_set(state_dict):
        open_set: type = auto_class("AutoModelForOpenSetClassification")
        return open_set
    return AutoModelForPreTraining if is_pretraining(state_dict) else AutoModelForVideoClassification


def table_for(state_dict: Mapping[str, torch.Tensor]) -> Table:
    """Return the key table of the file's model."""
    if is_anticipation(state_dict):
        return ANTICIPATION
    if is_detector(state_dict):
        return DETECTOR
    if is_open_set(state_dict):
        return OPEN_SET
    return PRETRAINING if is_pretraining(state_dict) else CLASSIFIER


def config_from(state_dict: Mapping[str, torch.Tensor], overrides: Mapping[str, Any]) -> InternVideoMAEConfig:
    """Read the configuration from the shapes; frames and pixels, which no shape contains, default to 16 and 224.

    A classifier for other frames and pixels re-samples the table of these two, as the released loader does, unless
    `position_num_frames` and `position_image_size` are overridden as well. An open-set classifier defaults to 32
    frames, and has the table of its own frames and pixels.

    Args:
        state_dict: as `normalize` returns it.
        overrides: values by the names of `InternVideoMAEConfig`.

    Raises:
        CheckpointError: if a tensor that determines a size is missing or has another number of axes.
    """
    pretraining = is_pretraining(state_dict)
    prefix = "encoder." if pretraining else ""
    width, channels, tubelet_size, patch_size, _ = shape_of(state_dict, f"{prefix}patch_embed.proj.weight", 5)
    sizes: dict[str, Any] = {
        "hidden_size": width,
        "num_channels": channels,
        "tubelet_size": tubelet_size,
        "patch_size": patch_size,
        "num_hidden_layers": count_layers(state_dict, f"{prefix}blocks"),
        "intermediate_size": shape_of(state_dict, f"{prefix}blocks.0.mlp.fc1.weight", 2)[0],
        # One of these tensors is enough: if the file lacks another one, the error names that one.
        "qkv_bias": any(name.endswith((".attn.q_bias", ".attn.v_bias")) for name in state_dict),
        "layer_scale_init_value": LAYER_SCALE
        if any(name.endswith((".gamma_1", ".gamma_2")) for name in state_dict)
        else 0.0,
        "position_embedding_type": "learned" if f"{prefix}pos_embed" in state_dict else "sinusoidal",
        "use_mean_pooling": any(name.startswith("fc_norm.") for name in state_dict),
    }
    if pretraining:
        decoder_width = shape_of(state_dict, "encoder_to_decoder.weight", 2)[0]
        sizes |= {
            "decoder_hidden_size": decoder_width,
            "decoder_num_hidden_layers": count_layers(state_dict, "decoder.blocks"),
            "decoder_intermediate_size": shape_of(state_dict, "decoder.blocks.0.mlp.fc1.weight", 2)[0],
        }
    else:
        of_objects = is_anticipation(state_dict)
        layer = f"{ANTICIPATION_HEAD}.verb_projection" if of_objects else _head_layer(state_dict)
        sizes["num_labels"] = shape_of(state_dict, f"{layer}.weight", 2)[0]
        if of_objects:
            sizes |= ANTICIPATION_SETTINGS
        if is_detector(state_dict):
            sizes |= DETECTOR_SETTINGS | {"detection_head": "acar" if _is_acar(state_dict) else "linear"}
        own_table = {"num_frames": 32, "classifier_dropout": 0.5}
        sizes |= own_table if is_open_set(state_dict) else {"position_image_size": 224, "position_num_frames": 16}
    if f"{prefix}pos_embed" in state_dict:
        sizes |= _learned_grid(shape_of(state_dict, f"{prefix}pos_embed", 3)[1], sizes | dict(overrides))
    sizes |= overrides
    fill_heads(sizes, "num_attention_heads", width=width, released=HEADS)
    if pretraining:
        fill_heads(sizes, "decoder_num_attention_heads", width=decoder_width, released=DECODER_HEADS)
    return InternVideoMAEConfig(**sizes)


def _is_acar(state_dict: Mapping[str, torch.Tensor]) -> bool:
    return any(name.startswith(f"{DETECTOR_PREFIX}head.hr2o.") for name in state_dict)


def _head_layer(state_dict: Mapping[str, torch.Tensor]) -> str | None:
    """Return the name of the linear layer that scores classes of videos or people, None where there is none."""
    if is_pretraining(state_dict) or is_anticipation(state_dict):
        return None
    if is_detector(state_dict):
        return f"{DETECTOR_PREFIX}head.fc2" if _is_acar(state_dict) else f"{DETECTOR_PREFIX}head"
    return OPEN_SET_HEAD if is_open_set(state_dict) else "head"


def _learned_grid(rows: int, sizes: Mapping[str, Any]) -> dict[str, int]:
    """Return the settings of the clip that a learned table is for: square, with the model's number of frames."""
    frames = sizes.get("num_frames", InternVideoMAEConfig.num_frames)
    side = int((rows // (frames // sizes["tubelet_size"])) ** 0.5) * sizes["patch_size"]
    return {"image_size": side, "position_image_size": side, "position_num_frames": frames}


def _test(state_dict: Mapping[str, torch.Tensor]) -> ReleasedTest | None:
    if is_anticipation(state_dict):
        return ANTICIPATION_TEST
    return OPEN_SET_TEST if is_open_set(state_dict) else None


CONVERTER = Converter(
    recognizes=recognizes,
    normalize=normalize,
    table_for=table_for,
    model_class=model_class,
    config_from=config_from,
    head_layer=_head_layer,
    as_task={"action_detection": as_detector},
    test=_test,
    exports={"transformers-videomae": transformers_videomae.export},
)
