"""UniFormer (arXiv 2201.09450): a pyramid whose early layers convolve and whose late layers attend.

A clip passes four stages of ever smaller maps, with 4, 8, 16 and 32 pixels to a cell and two frames to a time step. A
layer marks positions by a depth-wise convolution, mixes cells (its neighborhood of five in each direction in the first
two stages, the entire clip in the last two), and has an MLP. Convolving layers have batch norms, attending ones layer
norms.

Released: B with 5, 8, 20, 7 layers of 64, 128, 320, 512 channels, for Kinetics and for Ego4D's verbs and hands.
"""

from typing import Any

import torch
from einops import rearrange
from torch import nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from internvideo_hf.models.common.base import VideoPreTrainedModel, init_weight_with, torch_default_
from internvideo_hf.models.common.classification import VideoClassifier
from internvideo_hf.models.common.hand_prediction import HandPredictionHead
from internvideo_hf.models.common.layers import MLP, Attention, DropPath, PatchConv, as_clips, drop_path_rates
from internvideo_hf.models.common.narrowing import known
from internvideo_hf.models.common.open_set import OpenSetHead
from internvideo_hf.models.uniformer.configuration_uniformer import UniFormerConfig

FIRST_ATTENDING = 2  # stages before this one convolve


class UniFormerPatchEmbedding(nn.Module):
    """A convolution to a smaller map, and a layer norm over its channels.

    Args:
        in_channels: of pixels, or of the stage before.
        width: channels of the stage.
        kernel: frames, height and width.
        stride: likewise; frames are padded so that none is lost.
    """

    def __init__(self, in_channels: int, width: int, kernel: tuple[int, int, int], stride: tuple[int, int, int]):
        super().__init__()
        self.projection = PatchConv(in_channels, width, kernel, stride, padding=(kernel[0] // 2, 0, 0))
        self.layer_norm = nn.LayerNorm(width)
        init_weight_with(torch_default_, self.projection)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Map `(b, c, t, h, w)` to one of `width` channels."""
        normalized = self.layer_norm(rearrange(self.projection(volume), "b c t h w -> b t h w c"))
        return rearrange(normalized, "b t h w c -> b c t h w").contiguous()


class UniFormerConvMLP(nn.Module):
    """Two convolutions of single cells with an activation."""

    def __init__(self, config: UniFormerConfig, width: int):
        super().__init__()
        inner = int(width * config.mlp_ratio)
        self.fc1 = nn.Conv3d(width, inner, kernel_size=1)
        self.activation = ACT2FN[config.hidden_act]
        self.fc2 = nn.Conv3d(inner, width, kernel_size=1)
        init_weight_with(torch_default_, self.fc1, self.fc2)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        inner = self.activation(self.fc1(volume))
        outer: torch.Tensor = self.fc2(inner)
        return outer


class UniFormerLayer(GradientCheckpointingLayer):
    """What all layers have in common.

    Args:
        config: of the model.
        stage: number of the stage, from 0.
        in_channels: of the stage before, where this layer is the first of its stage and halves height and width; None
            otherwise.
        drop_path: probability that a sample's branch is dropped in training, 0-1.
    """

    def __init__(self, config: UniFormerConfig, stage: int, in_channels: int | None, drop_path: float):
        super().__init__()
        width = config.hidden_sizes[stage]
        self.patch_embedding = None
        if in_channels is not None:
            self.patch_embedding = UniFormerPatchEmbedding(in_channels, width, (1, 2, 2), (1, 2, 2))
        self.position_conv = depthwise(width, 3)
        self.drop_path = DropPath(drop_path)

    def forward(self, volume: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Transform a map.

        Args:
            volume: `(b, c, t, h, w)`.
            kwargs: for the attention kernel.
        """
        if self.patch_embedding is not None:
            volume = self.patch_embedding(volume)
        return self.mix(volume + self.position_conv(volume), **kwargs)

    def mix(self, volume: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Let the cells see each other.

        Args:
            volume: `(b, c, t, h, w)`, with positions.
            kwargs: for the attention kernel.
        """
        raise NotImplementedError


class UniFormerLocalLayer(UniFormerLayer):
    """A layer that convolves; its batch norms' statistics move once a step in `VideoTrainer`, twice a pass with
    gradient checkpointing in other training loops."""

    def __init__(self, config: UniFormerConfig, stage: int, in_channels: int | None, drop_path: float):
        super().__init__(config, stage, in_channels, drop_path)
        width = config.hidden_sizes[stage]
        self.batch_norm1 = nn.BatchNorm3d(width)
        self.value_conv = nn.Conv3d(width, width, kernel_size=1)
        self.neighbor_conv = depthwise(width, 5)
        self.out_conv = nn.Conv3d(width, width, kernel_size=1)
        self.batch_norm2 = nn.BatchNorm3d(width)
        self.mlp = UniFormerConvMLP(config, width)
        init_weight_with(torch_default_, self.value_conv, self.out_conv)

    def mix(self, volume: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        mixed = self.out_conv(self.neighbor_conv(self.value_conv(self.batch_norm1(volume))))
        volume = volume + self.drop_path(mixed)
        branch: torch.Tensor = self.drop_path(self.mlp(self.batch_norm2(volume)))
        return volume + branch


class UniFormerGlobalLayer(UniFormerLayer):
    """A layer in which all cells of a clip attend to each other."""

    def __init__(self, config: UniFormerConfig, stage: int, in_channels: int | None, drop_path: float):
        super().__init__(config, stage, in_channels, drop_path)
        width = config.hidden_sizes[stage]
        self.layer_norm1 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.self_attn = Attention(config, width, width // config.head_dim)
        self.layer_norm2 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp = MLP(width, int(width * config.mlp_ratio), config.hidden_act)

    def mix(self, volume: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        tokens = as_tokens(volume)
        tokens = tokens + self.drop_path(self.self_attn(self.layer_norm1(tokens), **kwargs)[0])
        tokens = tokens + self.drop_path(self.mlp(self.layer_norm2(tokens)))
        return tokens.transpose(1, 2).reshape(volume.shape)


def depthwise(width: int, size: int) -> nn.Conv3d:
    """Return a convolution of each channel by itself, over a cube of cells.

    Args:
        width: channels.
        size: of the cube in frames, height and width; odd.
    """
    convolution = nn.Conv3d(width, width, kernel_size=size, padding=size // 2, groups=width)
    init_weight_with(torch_default_, convolution)
    return convolution


class UniFormerPreTrainedModel(VideoPreTrainedModel):
    config: UniFormerConfig
    base_model_prefix = "uniformer"
    _no_split_modules = ["UniFormerPatchEmbedding", "UniFormerLocalLayer", "UniFormerGlobalLayer"]
    _input_embed_layer = "embeddings"
    layer_group_rules = {
        r"embeddings": "embeddings",
        r"layers\.(\d+)": "layers.{}",
        r"batch_norm": "norm",
        r"classifier": "head",
    }
    backbone_groups = ("embeddings", "layers", "norm")

    def frames_step(self) -> int | None:
        """See `VideoPreTrainedModel.frames_step`."""
        return 2


class UniFormerModel(UniFormerPreTrainedModel):
    """The UniFormer video encoder without a head."""

    export_kind = "encoder"
    _can_record_outputs = {
        "hidden_states": UniFormerLayer,
        "attentions": OutputRecorder(Attention, index=1, layer_name="self_attn"),
    }

    def __init__(self, config: UniFormerConfig):
        super().__init__(config)
        widths = config.hidden_sizes
        self.embeddings = UniFormerPatchEmbedding(config.num_channels, widths[0], (3, 4, 4), (2, 4, 4))
        self.layers = nn.ModuleList()
        rates = drop_path_rates(config.drop_path_rate, config.num_hidden_layers)
        for stage, depth in enumerate(config.depths):
            kind = UniFormerLocalLayer if stage < FIRST_ATTENDING else UniFormerGlobalLayer
            for number in range(depth):
                in_channels = widths[stage - 1] if stage and not number else None
                self.layers.append(kind(config, stage, in_channels, rates[len(self.layers)]))
        # Of cells as rows: for the tokens of a single clip, the backward pass of torch's norm of volumes mixes up
        # layouts on the CPU (2.14), and its gradients are wrong.
        self.batch_norm = nn.BatchNorm1d(widths[-1])
        self.post_init()

    @can_return_tuple
    def forward(
        self, pixel_values_videos: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[Any, ...] | BaseModelOutputWithPooling:
        """Encode clips.

        Args:
            pixel_values_videos: normalized frames, `(batch, frames, channels, height, width)`, height and width
                multiples of 32; a single image `(batch, channels, height, width)` counts as a clip of one frame.
            kwargs: for the layers.

        Returns:
            `last_hidden_state`: the cells of the last map, `(batch, frames / 2 * height / 32 * width / 32,
            hidden_sizes[-1])`, time slowest, then row, then column; half as many time steps as frames, rounded up.
            `pooler_output`: their mean, `(batch, hidden_sizes[-1])`.
            `hidden_states`, where asked for: the cells that enter the first layer and those of each layer,
            `(batch, cells, channels)` with the numbers of its stage; a first layer also halves height and width.
            `attentions`: of the layers of the last two stages, `(batch, heads, cells, cells)`.

        Raises:
            ValueError: if the axes are not those above, or a side is not a multiple of 32.
        """
        outputs = self._encode_clips(pixel_values_videos, return_dict=True, **kwargs)
        if outputs.hidden_states is not None:
            volumes = outputs.hidden_states  # None for layers that were not asked for
            outputs.hidden_states = tuple(None if volume is None else as_tokens(volume) for volume in volumes)
        return outputs

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def _encode_clips(
        self, pixel_values_videos: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> BaseModelOutputWithPooling:
        clips = as_clips(pixel_values_videos, self.config.num_channels, self.config.patch_size)
        volume = self.embeddings(rearrange(clips, "b t c h w -> b c t h w"))
        for layer in self.layers:
            volume = layer(volume, **kwargs)
        tokens = as_tokens(volume)
        tokens = self.batch_norm(tokens.flatten(0, 1)).reshape(tokens.shape)
        return BaseModelOutputWithPooling(last_hidden_state=tokens, pooler_output=tokens.mean(dim=1))


def as_tokens(volume: torch.Tensor) -> torch.Tensor:
    """Return the cells of a map one after the other, `(b, t * h * w, c)`.

    Args:
        volume: `(b, c, t, h, w)`.
    """
    return volume.flatten(2).transpose(1, 2)


class UniFormerForVideoClassification(VideoClassifier, UniFormerPreTrainedModel):
    """The encoder with a linear classifier."""

    encoder_name = "uniformer"

    def __init__(self, config: UniFormerConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.uniformer = UniFormerModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, known(config.num_labels))
        self.post_init()

    def classify(self, outputs: BaseModelOutputWithPooling) -> torch.Tensor:
        return self.classifier(self.dropout(outputs.pooler_output))


class UniFormerForOpenSetClassification(OpenSetHead, UniFormerForVideoClassification):
    """The classifier with evidential loss and uncertainty; its tensors have the same names."""


class UniFormerForHandPrediction(HandPredictionHead, UniFormerForVideoClassification):
    """The encoder with a linear head that predicts points in pixels; its tensors have the classifier's names.

    Released: 20 numbers, Ego4D's two hands at five times, from 8 frames of 320 x 320 pixels. They are pixels of the
    annotated video, not of the clip: the original resized and cropped frames, and left the annotations as they are.
    """


__all__ = [
    "UniFormerForHandPrediction",
    "UniFormerForOpenSetClassification",
    "UniFormerForVideoClassification",
    "UniFormerModel",
    "UniFormerPreTrainedModel",
]
