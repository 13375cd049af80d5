"""Released ViCLIP files, `ViCLIP-*.pth`, files of its training code, and its start from an image CLIP."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, CLIPModel

from internvideo_hf.conversion.errors import CheckpointError
from internvideo_hf.conversion.internvideo_mae import _count, _shape
from internvideo_hf.conversion.internvideo_mm import _layer, _pairs
from internvideo_hf.conversion.loading import load_state_dict
from internvideo_hf.conversion.table import (
    Become,
    LeaveOut,
    Table,
    check_complete,
    convert_state_dict,
    rename,
    transpose,
)
from internvideo_hf.layers import resample_position_grid, resample_position_rows
from internvideo_hf.models.viclip.configuration_viclip import CONTEXT_LENGTH, ViCLIPConfig
from internvideo_hf.models.viclip.modeling_viclip import ViCLIPModel
from internvideo_hf.processing.processing import InternVideoProcessor
from internvideo_hf.processing.tokenizer import build_clip_tokenizer
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor

HEAD_DIM = 64  # of every released tower; the number of heads itself is in no shape

IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

PATCH_KERNEL = "vision_model.embeddings.patch_embedding.weight"
PLACES = "vision_model.embeddings.position_embedding"
TIMES = "vision_model.embeddings.temporal_embedding"
TEXT_PLACES = "text_model.embeddings.position_embedding.weight"

# Both towers, as they stand behind `vision_encoder.` and `text_encoder.` in a released file.
VISION: Table = {
    "class_embedding": rename("vision_model.embeddings.class_embedding"),
    "positional_embedding": rename(PLACES),
    "conv1.weight": rename(PATCH_KERNEL),
    "proj": transpose("visual_projection.weight"),
    **_pairs({"ln_pre": "vision_model.pre_layernorm", "ln_post": "vision_model.post_layernorm"}),
    **_layer("transformer.resblocks.{}", "vision_model.layers.{}"),
}
TEXT: Table = {
    "token_embedding.weight": rename("text_model.embeddings.token_embedding.weight"),
    "positional_embedding": rename(TEXT_PLACES),
    "text_projection": transpose("text_projection.weight"),
    **_pairs({"ln_final": "text_model.final_layer_norm"}),
    **_layer("transformer.resblocks.{}", "text_model.encoder.layers.{}"),
}
TABLE: Table = {
    "temp": rename("temperature"),
    "vision_encoder.temporal_positional_embedding": Become((TIMES,), lambda table: (table[0],)),
    **{f"vision_encoder.{name}": action for name, action in VISION.items()},
    **{f"text_encoder.{name}": action for name, action in TEXT.items()},
}


def recognises(state_dict: Mapping[str, torch.Tensor]) -> bool:
    """Whether the tensors are those of a ViCLIP model."""
    towers = {name.split(".")[0] for name in state_dict}
    ours = ("vision_encoder.class_embedding", "vision_encoder.conv1.weight", "vision_encoder.positional_embedding")
    return {"vision_encoder", "text_encoder"} <= towers and any(name in state_dict for name in ours)


def normalise(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors under the released names, which all files have."""
    return dict(state_dict)


def table_for(state_dict: Mapping[str, torch.Tensor]) -> Table:
    """The key table."""
    return TABLE


def model_class(state_dict: Mapping[str, torch.Tensor]) -> type:
    """The Auto class that the file's model belongs to."""
    return AutoModel


def choose_head(state_dict: Mapping[str, torch.Tensor], head: str) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Refuse to choose classes: the model is told them when it is asked.

    Raises:
        CheckpointError: always.
    """
    raise CheckpointError("A ViCLIP model has no classification head: leave out --head.")


def known_head(state_dict: Mapping[str, torch.Tensor], rows: list[dict[str, Any]]) -> None:
    """No data set: there is no classification head."""


def config_from(state_dict: Mapping[str, torch.Tensor], overrides: Mapping[str, Any]) -> ViCLIPConfig:
    """Read the sizes from the shapes, and what no shape tells from `overrides` or the released models' habits.

    Args:
        state_dict: as `normalise` gives it.
        overrides: values by the names of `ViCLIPConfig`; those inside `vision_config` and `text_config` are laid over
            the ones found. Heads are taken as 64 wide where it says nothing. `num_frames`, `image_size` and
            `max_position_embeddings` may differ from the file's: `fit` re-samples the tables.

    Raises:
        CheckpointError: if a tensor that tells a size is missing, or has another number of axes.
    """
    tubelet_size = _shape(state_dict, "vision_encoder.conv1.weight", 5)[2]
    frames = _shape(state_dict, "vision_encoder.temporal_positional_embedding", 3)[1] * tubelet_size
    vision = {"num_frames": frames, **_vision_sizes(state_dict, "vision_encoder.")}
    text = _text_sizes(state_dict, "text_encoder.")
    return _config(vision, text, _shape(state_dict, "text_encoder.text_projection", 2)[1], overrides)


def _vision_sizes(state_dict: Mapping[str, torch.Tensor], prefix: str, kernel_axes: int = 5) -> dict[str, int]:
    width, channels, *tubelet, patch_size, _ = _shape(state_dict, f"{prefix}conv1.weight", kernel_axes)
    positions = _shape(state_dict, f"{prefix}positional_embedding", 2)[0]
    return {
        "hidden_size": width,
        "intermediate_size": _shape(state_dict, f"{prefix}transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
        "num_hidden_layers": _count(state_dict, f"{prefix}transformer.resblocks."),
        "num_channels": channels,
        "patch_size": patch_size,
        "tubelet_size": tubelet[0] if tubelet else 1,
        "image_size": round((positions - 1) ** 0.5) * patch_size,
    }


def _text_sizes(state_dict: Mapping[str, torch.Tensor], prefix: str) -> dict[str, int]:
    vocab_size, width = _shape(state_dict, f"{prefix}token_embedding.weight", 2)
    return {
        "vocab_size": vocab_size,
        "hidden_size": width,
        "intermediate_size": _shape(state_dict, f"{prefix}transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
        "num_hidden_layers": _count(state_dict, f"{prefix}transformer.resblocks."),
        "max_position_embeddings": _shape(state_dict, f"{prefix}positional_embedding", 2)[0],
        "bos_token_id": vocab_size - 2,
        "eos_token_id": vocab_size - 1,
        "pad_token_id": 0,
    }


def _config(
    vision: dict[str, Any], text: dict[str, Any], projection_dim: int, overrides: Mapping[str, Any]
) -> ViCLIPConfig:
    """The sizes found, with what the user says laid over them."""
    parts = {"vision_config": vision, "text_config": text}
    for name, sizes in parts.items():
        sizes.update(overrides.get(name, {}))
        if "num_attention_heads" not in sizes:
            if sizes["hidden_size"] % HEAD_DIM:
                raise CheckpointError(
                    f"The number of heads is in no shape, and a width of {sizes['hidden_size']} is not a multiple of "
                    f"the released models' {HEAD_DIM} per head. Give num_attention_heads of {name} by --config."
                )
            sizes["num_attention_heads"] = sizes["hidden_size"] // HEAD_DIM
    rest = {key: value for key, value in overrides.items() if key not in parts}
    return ViCLIPConfig(**{**parts, "projection_dim": projection_dim, **rest})


def fit(converted: Mapping[str, torch.Tensor], config: ViCLIPConfig) -> dict[str, torch.Tensor]:
    """Re-sample the position tables of a file for a model of other lengths.

    Times and text positions as the training code's loader does (linearly to more, the first ones of more than
    needed); places in a frame bicubically, as its start from CLIP does.
    """
    vision, fitted = config.vision_config, dict(converted)
    lengths = {
        TIMES: vision.num_frames // vision.tubelet_size,
        TEXT_PLACES: config.text_config.max_position_embeddings,
    }
    for name, length in lengths.items():
        if name in fitted and fitted[name].ndim == 2 and fitted[name].shape[0] != length:
            fitted[name] = resample_position_rows(fitted[name], length)
    return _fit_places(fitted, vision.image_size // vision.patch_size)


def _fit_places(converted: dict[str, torch.Tensor], side: int) -> dict[str, torch.Tensor]:
    table = converted.get(PLACES)
    if table is None or table.ndim != 2 or table.shape[0] == 1 + side**2:
        return converted
    return {**converted, PLACES: torch.cat([table[:1], resample_position_grid(table[1:], side, side)])}


# How a released checkpoint's pixels are made, by name; the first is what conversion saves.


def training_pixels(config: ViCLIPConfig) -> InternVideoVideoProcessor:
    """The evaluation of the training code, which the published scores are of: the middle frame of every eighth of a
    video, the whole frame squeezed to a square, bicubically."""
    return _video_processor(config, sampler="viclip_middle", resize_method="torchvision_bicubic")


def demo_pixels(config: ViCLIPConfig) -> InternVideoVideoProcessor:
    """The inference package's `frames2tensor`: every `length // 8`-th frame from the first, squeezed by OpenCV's
    bilinear. Arrays of frames are taken as BGR, which OpenCV reads; files are read in the right order anyway."""
    return _video_processor(config, sampler="viclip_stride", resize_method="cv2_linear", input_channel_order="bgr")


PROCESSORS: dict[str, Callable[[ViCLIPConfig], InternVideoVideoProcessor]] = {
    "training": training_pixels,
    "demo": demo_pixels,
}


def _video_processor(config: ViCLIPConfig, **options: Any) -> InternVideoVideoProcessor:
    size = config.vision_config.image_size
    return InternVideoVideoProcessor(
        num_frames=config.vision_config.num_frames,
        size={"height": size, "width": size},
        do_center_crop=False,
        # Not CLIP's statistics, although the weights come from CLIP.
        image_mean=IMAGENET_MEAN,
        image_std=IMAGENET_STD,
        **options,
    )


def build_processor(config: ViCLIPConfig, name: str = "training") -> InternVideoProcessor:
    """A processor of video and text, at the model's own frame count, size and text length.

    Args:
        name: whose pixels it makes, a name in `PROCESSORS`.
    """
    tokenizer = build_clip_tokenizer(config.text_config.max_position_embeddings)
    return InternVideoProcessor(PROCESSORS[name](config), tokenizer)


# ---- the start from an image CLIP -----------------------------------------------------------------------------------

_SCALAR = LeaveOut("a size, which the shapes tell too")
_LOGIT_SCALE = LeaveOut("CLIP's temperature; ViCLIP starts from its own")

# OpenAI's layout has the same names behind `visual.`, and the text tower's bare.
OPENAI: Table = {
    **{f"visual.{name}": action for name, action in VISION.items()},
    **TEXT,
    "logit_scale": _LOGIT_SCALE,
    "input_resolution": _SCALAR,
    "context_length": _SCALAR,
    "vocab_size": _SCALAR,
}

TRANSFORMERS: Table = {
    "vision_model.embeddings.class_embedding": rename("vision_model.embeddings.class_embedding"),
    "vision_model.embeddings.patch_embedding.weight": rename(PATCH_KERNEL),
    "vision_model.embeddings.position_embedding.weight": rename(PLACES),
    "vision_model.pre_layrnorm.*": rename("vision_model.pre_layernorm.{}"),
    "vision_model.encoder.layers.*": rename("vision_model.layers.{}"),
    "vision_model.post_layernorm.*": rename("vision_model.post_layernorm.{}"),
    "text_model.*": rename("text_model.{}"),
    "visual_projection.weight": rename("visual_projection.weight"),
    "text_projection.weight": rename("text_projection.weight"),
    "logit_scale": _LOGIT_SCALE,
}

# What ViCLIP adds to CLIP, and therefore keeps as freshly initialised.
NEW_PARTS = (TIMES, "temperature")

# How an image kernel becomes one of several frames, by name.
INFLATIONS: dict[str, Callable[[torch.Tensor, int], torch.Tensor]] = {
    "center": lambda kernel, frames: nn.functional.pad(
        kernel[:, :, None], (0, 0, 0, 0, frames // 2, frames - 1 - frames // 2)
    ),
    "mean": lambda kernel, frames: kernel[:, :, None].expand(-1, -1, frames, -1, -1) / frames,
}


def config_from_openai(state_dict: Mapping[str, torch.Tensor], overrides: Mapping[str, Any]) -> ViCLIPConfig:
    """The sizes of a CLIP file in OpenAI's layout, with ViCLIP's own text length."""
    vision = _vision_sizes(state_dict, "visual.", kernel_axes=4)
    text = _text_sizes(state_dict, "") | {"max_position_embeddings": CONTEXT_LENGTH}
    return _config(vision, text, _shape(state_dict, "text_projection", 2)[1], overrides)


def config_from_clip_model(clip: CLIPModel, overrides: Mapping[str, Any]) -> ViCLIPConfig:
    """The sizes of a transformers model, with ViCLIP's own text length."""
    shared = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size")
    shared += ("patch_size", "num_channels", "hidden_act", "layer_norm_eps")
    vision = {key: getattr(clip.config.vision_config, key) for key in shared}
    text = clip.config.text_config.to_dict() | {"max_position_embeddings": CONTEXT_LENGTH}
    return _config(vision, text, clip.config.projection_dim, overrides)


def fit_clip(
    converted: Mapping[str, torch.Tensor], config: ViCLIPConfig, inflation: str = "center"
) -> dict[str, torch.Tensor]:
    """Make an image CLIP's tensors those of a model of clips, as the original does.

    The patch kernel is inflated over time, places in a frame are re-sampled bicubically, and text positions are cut
    to the first ones, or filled up with zeros.

    Args:
        inflation: a name in `INFLATIONS`: all of the kernel on the middle frame, or equal parts of it on each.
    """
    vision, length = config.vision_config, config.text_config.max_position_embeddings
    fitted = _fit_places(dict(converted), vision.image_size // vision.patch_size)
    if PATCH_KERNEL in fitted and fitted[PATCH_KERNEL].ndim == 4:
        fitted[PATCH_KERNEL] = INFLATIONS[inflation](fitted[PATCH_KERNEL], vision.tubelet_size)
    if TEXT_PLACES in fitted and fitted[TEXT_PLACES].ndim == 2:
        table = fitted[TEXT_PLACES][:length]
        fitted[TEXT_PLACES] = nn.functional.pad(table, (0, 0, 0, length - table.shape[0]))
    return fitted


def start_from_clip(
    clip: str | Path | Mapping[str, torch.Tensor] | CLIPModel, inflation: str = "center", **overrides: Any
) -> ViCLIPModel:
    if isinstance(clip, CLIPModel):
        state_dict, table, config = clip.state_dict(), TRANSFORMERS, config_from_clip_model(clip, overrides)
    else:
        state_dict = dict(clip) if isinstance(clip, Mapping) else load_state_dict(clip)
        table, config = OPENAI, config_from_openai(state_dict, overrides)
    converted, _ = convert_state_dict(state_dict, table)
    model = ViCLIPModel(config)
    fresh = {name: value for name, value in model.state_dict().items() if name in NEW_PARTS}
    converted = fresh | fit_clip(converted, config, inflation)
    check_complete(model, converted, table)
    model.load_state_dict(converted)
    return model.eval()
