"""Start video models from image CLIP models."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import CLIPModel, CLIPTextConfig
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel

from internvideo_hf.auto import FAMILIES
from internvideo_hf.checkpoints.clip_layout import text_sizes, vision_sizes
from internvideo_hf.checkpoints.errors import CheckpointError
from internvideo_hf.checkpoints.families import internvideo_mm, uniformerv2, viclip
from internvideo_hf.checkpoints.released_file import load_state_dict
from internvideo_hf.checkpoints.shapes import count_layers, shape_of
from internvideo_hf.checkpoints.table import (
    LeaveOut,
    Table,
    check_complete,
    convert_state_dict,
    insert_time,
    pairs,
    rename,
    transpose,
)
from internvideo_hf.models.common.layers import resample_position_grid
from internvideo_hf.models.common.overrides import check_overrides, configuration_errors
from internvideo_hf.models.internvideo_mm.configuration_internvideo_mm import InternVideoMMConfig
from internvideo_hf.models.internvideo_mm.modeling_internvideo_mm import InternVideoMMModel
from internvideo_hf.models.uniformerv2.configuration_uniformerv2 import UniFormerV2Config
from internvideo_hf.models.uniformerv2.modeling_uniformerv2 import UniFormerV2ForVideoClassification
from internvideo_hf.models.viclip.configuration_viclip import CONTEXT_LENGTH, ViCLIPConfig
from internvideo_hf.models.viclip.modeling_viclip import ViCLIPModel
from internvideo_hf.utils.names import check_name, lookup

TOWER = "vision_model."
NEW_IN_TOWER = r"vision_model\.(global_blocks|video_embedding|fusion_gate|layers\.\d+\.local_block)"

_SCALAR = LeaveOut("a size, which the shapes determine too")
_SIZES = {"input_resolution": _SCALAR, "context_length": _SCALAR, "vocab_size": _SCALAR}
_TEXT = LeaveOut("text tower, which a video classifier does not have")
_SPACE = LeaveOut("projection to the space of images and texts")
_TEMPERATURE = LeaveOut("CLIP's temperature; ViCLIP starts from its own")

# OpenAI's layout has the released names; only the ends of the video tower and the patch kernel differ.
OPENAI_TOWER: Table = uniformerv2.tower("visual.") | {
    "visual.conv1.weight": insert_time(f"{TOWER}embeddings.patch_embedding.weight"),
    **_SIZES,
}

TRANSFORMERS_TOWER: Table = {
    "vision_model.embeddings.class_embedding": rename(f"{TOWER}embeddings.class_embedding"),
    "vision_model.embeddings.patch_embedding.weight": insert_time(f"{TOWER}embeddings.patch_embedding.weight"),
    "vision_model.embeddings.position_embedding.weight": rename(f"{TOWER}embeddings.position_embedding"),
    "vision_model.pre_layrnorm.*": rename(f"{TOWER}pre_layernorm.{{}}"),
    "vision_model.encoder.layers.*": rename(f"{TOWER}layers.{{}}"),
}

# Name -> function that inflates an image's patch kernel over frames.
INFLATIONS: dict[str, Callable[[torch.Tensor, int], torch.Tensor]] = {
    "center": lambda kernel, frames: nn.functional.pad(kernel, (0, 0, 0, 0, frames // 2, frames - 1 - frames // 2)),
    "mean": lambda kernel, frames: kernel.expand(-1, -1, frames, -1, -1) / frames,
}


@dataclass(frozen=True)
class Start:
    """How one family starts from CLIP.

    Args:
        model: the model class.
        openai: key table of CLIP in OpenAI's layout.
        transformers: key table of CLIP in transformers' layout.
        new_parts: pattern of the names of tensors that CLIP lacks, which keep their fresh initialization.
        config_from_openai: returns the configuration, from (tensors, overrides).
        config_from_clip: returns the configuration, from (a `CLIPModel`, overrides).
        fit: returns tensors of the model's shapes, from (tensors, the fresh model, a name in `INFLATIONS`).
    """

    model: type[PreTrainedModel]
    openai: Table
    transformers: Table
    new_parts: str
    config_from_openai: Callable[[Mapping[str, torch.Tensor], Mapping[str, Any]], PreTrainedConfig]
    config_from_clip: Callable[[CLIPModel, Mapping[str, Any]], PreTrainedConfig]
    fit: Callable[[dict[str, torch.Tensor], PreTrainedModel, str], dict[str, torch.Tensor]]


def initialize_from_clip(
    clip: str | Path | Mapping[str, torch.Tensor] | CLIPModel,
    into: str | PreTrainedConfig = "internvideo_mm",
    *,
    inflation: str = "center",
    **overrides: Any,
) -> PreTrainedModel:
    """Start a video model from an image CLIP model, as its training did.

    The new parts start with zero output. For one image, the embedding of InternVideo-MM equals CLIP's, up to the
    epsilon of a layer norm; for a clip it is the projection of the frames' mean class token, not the mean of CLIP's
    frame embeddings (reference case `mm_clip_init`). A UniFormerV2 with temporal downsampling starts with the frames
    0, 2, 4, ... only. ViCLIP embeds a clip of one image as CLIP embeds the image; it cuts texts to 32 tokens.

    Args:
        clip: a file or state dict in OpenAI's layout (`visual.conv1.weight`, ..., or the image tower alone, without
            `visual.`), or a transformers `CLIPModel`.
        into: a family, "internvideo_mm", "uniformerv2" (the classifier) or "viclip", with CLIP's sizes; or a
            configuration of one of these, such as `UniFormerV2Config.from_size("base", "motion", num_labels=12)`.
            With a larger `image_size` than CLIP's, the position table is re-sampled.
        inflation: of CLIP's patch kernel if patches span several frames: "center" puts it on the middle frame, "mean"
            an equal part on each.
        overrides: values by the names of the family's configuration, such as
            `vision_config={"global_layers": [8, 9, 10, 11]}`; only if `into` is a name. By default the last four
            layers get global blocks.

    Returns:
        The model in evaluation mode.

    Raises:
        CheckpointError: if the file cannot be read safely, is not a CLIP model, or does not fit.
        ValueError: if the family or an override is unknown, or the configuration contradicts the `CLIPModel`.
    """
    family = into if isinstance(into, str) else into.model_type
    check_name(family, STARTS, "family that starts from CLIP")
    lookup(INFLATIONS, inflation, "inflation")
    start = STARTS[family]
    if overrides and not isinstance(into, str):
        raise ValueError(f"Put {', '.join(overrides)} into the configuration given, or give a family's name instead.")
    check_overrides(overrides, FAMILIES[family].config)
    if isinstance(clip, CLIPModel):
        state_dict, table = clip.state_dict(), start.transformers
        configure = partial(start.config_from_clip, clip)
    else:
        state_dict = _openai_names(dict(clip) if isinstance(clip, Mapping) else load_state_dict(clip))
        table, configure = start.openai, partial(start.config_from_openai, state_dict)
    converted, _ = convert_state_dict(state_dict, table)
    with configuration_errors():
        config = configure(overrides) if isinstance(into, str) else into
        if isinstance(clip, CLIPModel) and config is into:
            _check_agreement(config, configure({}))
        model = start.model(config)
    fresh = {name: value for name, value in model.state_dict().items() if re.match(start.new_parts, name)}
    converted = start.fit(converted, model, inflation)
    check_complete(model, fresh | converted, table, "Give a configuration of this CLIP's sizes, or a family's name.")
    model.load_state_dict(fresh | converted)
    model.eval()
    return model


def _check_agreement(wanted: PreTrainedConfig, clip: PreTrainedConfig) -> None:
    """Refuse a configuration with which CLIP's weights would compute something else, though they have its shapes."""
    for part in ("", *clip.sub_configs_defaults):
        ours, theirs = (getattr(config, part) if part else config for config in (wanted, clip))
        for key in ("num_attention_heads", "hidden_act", "layer_norm_eps"):
            if hasattr(theirs, key) and getattr(ours, key) != getattr(theirs, key):
                raise ValueError(
                    f"{part and part + '.'}{key} is {getattr(ours, key)!r} in the configuration and "
                    f"{getattr(theirs, key)!r} in the CLIP model. Use the latter."
                )


def _openai_names(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors under OpenAI's names, also of files that hold the image tower alone.

    Raises:
        CheckpointError: if they hold no vision transformer.
    """
    if "conv1.weight" in state_dict and "class_embedding" in state_dict:
        state_dict = {f"visual.{name}": tensor for name, tensor in state_dict.items()}
    if "visual.class_embedding" not in state_dict or "visual.conv1.weight" not in state_dict:
        raise CheckpointError(
            "The file is not a CLIP vision transformer in OpenAI's layout: visual.class_embedding or "
            f"visual.conv1.weight is missing. Its first tensors are {', '.join(list(state_dict)[:4])}."
        )
    return state_dict


def fit_tower(converted: dict[str, torch.Tensor], model: PreTrainedModel, inflation: str) -> dict[str, torch.Tensor]:
    """Fit CLIP's image tower to a video tower: inflate the patch kernel over time, re-sample the positions."""
    fitted, wanted = dict(converted), model.state_dict()
    kernel, table = f"{TOWER}embeddings.patch_embedding.weight", f"{TOWER}embeddings.position_embedding"
    if kernel in fitted:
        fitted[kernel] = INFLATIONS[inflation](fitted[kernel], wanted[kernel].shape[2])
    if table in fitted and fitted[table].shape != wanted[table].shape:
        side = round((len(wanted[table]) - 1) ** 0.5)
        positions = resample_position_grid(fitted[table][1:], side, side)
        fitted[table] = torch.cat([fitted[table][:1], positions])
    return fitted


def fit_towers(converted: dict[str, torch.Tensor], model: PreTrainedModel, inflation: str) -> dict[str, torch.Tensor]:
    """Fit as `fit_tower` does, and cut the text positions or pad them with zeros, as the original does."""
    fitted, length = fit_tower(converted, model, inflation), model.config.text_config.max_position_embeddings
    if (table := fitted.get(viclip.TEXT_POSITIONS)) is not None and table.ndim == 2:
        fitted[viclip.TEXT_POSITIONS] = nn.functional.pad(table[:length], (0, 0, 0, max(0, length - len(table))))
    return fitted


def _with_image_kernel(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors with a video's patch kernel, from which the sizes are read."""
    if state_dict["visual.conv1.weight"].ndim != 4:
        raise CheckpointError(
            f"visual.conv1.weight has the shape {tuple(state_dict['visual.conv1.weight'].shape)}, expected the "
            "4 axes of an image model's patch kernel."
        )
    return {**state_dict, "visual.conv1.weight": state_dict["visual.conv1.weight"].unsqueeze(2)}


def _with_new_parts(overrides: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """Return the settings of a video tower that CLIP lacks: the last four layers feed global blocks."""
    return {"global_layers": list(range(max(0, layers - 4), layers)), "use_fusion_gate": True, **overrides}


def _tower_of(clip: CLIPModel, overrides: Mapping[str, Any]) -> dict[str, Any]:
    sizes = _sizes_of(clip)
    return sizes | _with_new_parts(overrides, sizes["num_hidden_layers"])


def _sizes_of(clip: CLIPModel) -> dict[str, Any]:
    shared = "hidden_size intermediate_size num_hidden_layers num_attention_heads image_size patch_size num_channels"
    return {key: getattr(clip.config.vision_config, key) for key in f"{shared} hidden_act layer_norm_eps".split()}


def _text_settings(clip: CLIPModel) -> dict[str, Any]:
    text: CLIPTextConfig = clip.config.text_config  # type: ignore[assignment]  # a dict only before __init__
    return dict(text.to_dict())


def _mm_from_openai(state_dict: Mapping[str, torch.Tensor], overrides: Mapping[str, Any]) -> InternVideoMMConfig:
    if "visual.proj" not in state_dict:
        raise CheckpointError(
            "InternVideo-MM starts from a CLIP model with text tower and projections: visual.proj is missing."
        )
    sizes = {internvideo_mm.PREFIX + name: tensor for name, tensor in _with_image_kernel(state_dict).items()}
    sizes[internvideo_mm.PREFIX + "visual_proj"] = state_dict["visual.proj"]
    layers = count_layers(state_dict, "visual.transformer.resblocks")
    vision = _with_new_parts(overrides.get("vision_config", {}), layers)
    return internvideo_mm.config_from(sizes, {**overrides, "vision_config": vision})


def _mm_from_clip(clip: CLIPModel, overrides: Mapping[str, Any]) -> InternVideoMMConfig:
    return InternVideoMMConfig(
        **{
            "projection_dim": clip.config.projection_dim,
            **overrides,
            "vision_config": _tower_of(clip, overrides.get("vision_config", {})),
            "text_config": {**_text_settings(clip), **overrides.get("text_config", {})},
        }
    )


def _classifier_from_openai(state_dict: Mapping[str, torch.Tensor], overrides: Mapping[str, Any]) -> UniFormerV2Config:
    layers = count_layers(state_dict, "visual.transformer.resblocks")
    settings = _with_new_parts(overrides, layers)
    return UniFormerV2Config(**uniformerv2.tower_sizes(_with_image_kernel(state_dict), "visual.", settings))


def _classifier_from_clip(clip: CLIPModel, overrides: Mapping[str, Any]) -> UniFormerV2Config:
    return UniFormerV2Config(**_tower_of(clip, overrides))


def _viclip_from_openai(state_dict: Mapping[str, torch.Tensor], overrides: Mapping[str, Any]) -> ViCLIPConfig:
    vision = vision_sizes(_with_image_kernel(state_dict), "visual.")
    text = text_sizes(state_dict, "") | {"max_position_embeddings": CONTEXT_LENGTH}
    return viclip.config_of(vision, text, shape_of(state_dict, "text_projection", 2)[1], overrides)


def _viclip_from_clip(clip: CLIPModel, overrides: Mapping[str, Any]) -> ViCLIPConfig:
    text = _text_settings(clip) | {"max_position_embeddings": CONTEXT_LENGTH}
    return viclip.config_of(_sizes_of(clip), text, clip.visual_projection.out_features, overrides)


STARTS = {
    "internvideo_mm": Start(
        model=InternVideoMMModel,
        openai=OPENAI_TOWER
        | internvideo_mm.TEXT
        | internvideo_mm.SHARED_SPACE
        | {"visual.proj": transpose("visual_projection.weight")}
        | pairs({"visual.ln_post": "post_layernorm"}),
        transformers=TRANSFORMERS_TOWER
        | pairs({"vision_model.post_layernorm": "post_layernorm"})
        | {
            "text_model.*": rename("text_model.{}"),
            "visual_projection.weight": rename("visual_projection.weight"),
            "text_projection.weight": rename("text_projection.weight"),
            "logit_scale": rename("logit_scale"),
        },
        new_parts=rf"{NEW_IN_TOWER}|text_model\.embeddings\.mask_embedding",
        config_from_openai=_mm_from_openai,
        config_from_clip=_mm_from_clip,
        fit=fit_tower,
    ),
    "uniformerv2": Start(
        model=UniFormerV2ForVideoClassification,
        openai=OPENAI_TOWER
        | dict.fromkeys(internvideo_mm.TEXT, _TEXT)
        | dict.fromkeys(("visual.proj", "visual.ln_post.*", "text_projection", "logit_scale"), _SPACE),
        transformers=TRANSFORMERS_TOWER
        | {"text_model.*": _TEXT}
        | dict.fromkeys(
            ("vision_model.post_layernorm.*", "visual_projection.weight", "text_projection.weight", "logit_scale"),
            _SPACE,
        ),
        new_parts=rf"{NEW_IN_TOWER}|layernorm\.|classifier\.",
        config_from_openai=_classifier_from_openai,
        config_from_clip=_classifier_from_clip,
        fit=fit_tower,
    ),
    "viclip": Start(
        model=ViCLIPModel,
        openai={f"visual.{name}": line for name, line in viclip.VISION.items()}
        | viclip.TEXT
        | _SIZES
        | {"visual.conv1.weight": insert_time(viclip.PATCH_KERNEL), "logit_scale": _TEMPERATURE},
        transformers=TRANSFORMERS_TOWER
        | pairs({"vision_model.post_layernorm": f"{TOWER}post_layernorm"})
        | {
            "text_model.*": rename("text_model.{}"),
            "visual_projection.weight": rename("visual_projection.weight"),
            "text_projection.weight": rename("text_projection.weight"),
            "logit_scale": _TEMPERATURE,
        },
        new_parts=r"vision_model\.embeddings\.temporal_embedding|temperature",
        config_from_openai=_viclip_from_openai,
        config_from_clip=_viclip_from_clip,
        fit=fit_towers,
    ),
}
