"""Export our VideoMAE models to transformers' own `VideoMAE...` classes, for use without this package."""

from collections.abc import Mapping

import torch
from transformers import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification, VideoMAEVideoProcessor
from transformers.utils.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from internvideo_hf.checkpoints.table import Become, Table, check_complete, convert_state_dict, rename
from internvideo_hf.models.internvideo_mae.configuration_internvideo_mae import InternVideoMAEConfig


def _layers(ours: str, theirs: str) -> Table:
    modules = {
        "layer_norm1": "layernorm_before",
        "self_attn.q_proj": "attention.attention.query",
        "self_attn.k_proj": "attention.attention.key",
        "self_attn.v_proj": "attention.attention.value",
        "self_attn.out_proj": "attention.output.dense",
        "layer_norm2": "layernorm_after",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }
    return {f"{ours}.{{}}.{name}.*": rename(f"{theirs}.{{}}.{module}.{{}}") for name, module in modules.items()}


TABLE: Table = {
    "internvideo_mae.embeddings.*": rename("videomae.embeddings.patch_embeddings.projection.{}"),
    **_layers("internvideo_mae.layers", "videomae.encoder.layer"),
    "internvideo_mae.layernorm.*": rename("videomae.layernorm.{}"),
    "internvideo_mae.pooler_layernorm.*": rename("fc_norm.{}"),
    "classifier.*": rename("classifier.{}"),
    "encoder_to_decoder.*": rename("encoder_to_decoder.{}"),
    "decoder.mask_token": Become(("mask_token",), lambda token: (token[None, None],)),
    **_layers("decoder.layers", "decoder.decoder_layers"),
    "decoder.layernorm.*": rename("decoder.norm.{}"),
    "decoder.head.*": rename("decoder.head.{}"),
}

SHARED = (
    "hidden_size num_hidden_layers num_attention_heads intermediate_size image_size num_frames patch_size",
    "tubelet_size num_channels hidden_act layer_norm_eps initializer_range use_mean_pooling norm_pix_loss",
    "decoder_hidden_size decoder_num_hidden_layers decoder_num_attention_heads decoder_intermediate_size",
)


def export(
    config: InternVideoMAEConfig, state_dict: Mapping[str, torch.Tensor]
) -> tuple[torch.nn.Module, dict[str, torch.Tensor], VideoMAEVideoProcessor]:
    """Export our configuration and tensors.

    Their epsilon of the last layer norm before the classifier, and before the decoder's head, is fixed at 1e-5; ours
    is 1e-6. For tokens of about unit variance this changes a logit by some millionths.

    Returns:
        The model, its tensors by name, and the processor. The processor samples frames over the whole video, not at
        the released fixed stride, and resizes with antialiasing, so that its pixels differ a little.

    Raises:
        ValueError: if transformers' classes cannot compute this model.
    """
    is_pretraining = "decoder.mask_token" in state_dict
    pixels = (list(config.image_mean), list(config.image_std))
    own_grid = (config.position_image_size, config.position_num_frames) == (config.image_size, config.num_frames)
    obstacles = {
        "its position table is re-sampled from another clip size": not own_grid,
        "its position table is learned": config.position_embedding_type == "learned",
        "its layers have a layer scale": bool(config.layer_scale_init_value),
        "its reconstruction undoes another normalization than ImageNet's": is_pretraining
        and pixels != (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
    }
    if reasons := [reason for reason, holds in obstacles.items() if holds]:
        raise ValueError(f"transformers' VideoMAE cannot compute this model: {' and '.join(reasons)}.")
    stock = VideoMAEConfig(
        **{name: getattr(config, name) for line in SHARED for name in line.split()},
        qv_bias=config.qkv_bias,
        attention_probs_dropout_prob=config.attention_dropout,
        id2label=config.id2label,
        label2id=config.label2id,
    )
    converted, _ = convert_state_dict(state_dict, TABLE)
    with torch.device("meta"):
        model = (VideoMAEForPreTraining if is_pretraining else VideoMAEForVideoClassification)(stock)
    check_complete(model, converted, TABLE)
    model.load_state_dict(converted, assign=True)
    processor = VideoMAEVideoProcessor(
        do_sample_frames=True,
        num_frames=config.num_frames,
        size={"shortest_edge": config.image_size},
        crop_size={"height": config.image_size, "width": config.image_size},
        image_mean=list(config.image_mean),
        image_std=list(config.image_std),
    )
    return model, converted, processor
