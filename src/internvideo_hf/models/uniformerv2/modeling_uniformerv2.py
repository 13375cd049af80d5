"""UniFormerV2 (arXiv 2211.09552), the video encoder of InternVideo's classifiers and of InternVideo-MM.

An image ViT (CLIP's) runs on every frame alone. Beside it goes one token for the whole clip: after each of the last
layers a global block lets it attend to all tokens of all frames, whose places in space and time a depth-wise 3-D
convolution marks. At the end a learned gate mixes it with the mean of the frames' class tokens. Classifiers of motion
also have local blocks, temporal convolutions inside the layers of the backbone, and patches that span three frames.

Released: B/16 768 x 12 layers, L/14 1024 x 24; global blocks behind the last four (of motion: the last two thirds).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange, reduce
from torch import nn
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from internvideo_hf.models.common.base import VideoPreTrainedModel, init_weight_with, torch_default_
from internvideo_hf.models.common.classification import VideoClassifier
from internvideo_hf.models.common.deprecation import warn_deprecated
from internvideo_hf.models.common.hand_prediction import HandPredictionHead
from internvideo_hf.models.common.kernels import project
from internvideo_hf.models.common.layers import (
    MLP,
    Attention,
    DropPath,
    EncoderLayer,
    PatchConv,
    as_clips,
    drop_path_rates,
    resample_position_grid,
)
from internvideo_hf.models.common.narrowing import known, of_type
from internvideo_hf.models.common.open_set import OpenSetHead
from internvideo_hf.models.uniformerv2.configuration_uniformerv2 import UniFormerV2Config


@dataclass
class UniFormerV2FramesOutput(ModelOutput):
    """The backbone's result, without the clip's token.

    Attributes:
        contexts: what each global block reads: the class tokens of all frames, then all patches with their places
            marked, `(batch, frames * (1 + patches), hidden_size)`.
        class_token: the mean of the frames' class tokens behind the last layer, `(batch, hidden_size)`.
        hidden_states, attentions: of the backbone, where asked for.
    """

    contexts: tuple[torch.Tensor, ...] | None = None
    class_token: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class UniFormerV2Embeddings(nn.Module):
    """Patches of every frame as tokens, a class token before them, positions in the frame added.

    With temporal downsampling a patch spans three frames, around every second one.
    """

    def __init__(self, config: UniFormerV2Config):
        super().__init__()
        self.config = config
        frames, stride = (3, 2) if config.temporal_downsampling else (1, 1)
        self.class_embedding = nn.Parameter(torch.empty(config.hidden_size))
        self.patch_embedding = PatchConv(
            config.num_channels,
            config.hidden_size,
            kernel_size=(frames, config.patch_size, config.patch_size),
            stride=(stride, config.patch_size, config.patch_size),
            padding=(frames // 2, 0, 0),
            bias=False,
        )
        # By the pixels of a patch. For released sizes this is about `initializer_range`, which goes by the width: in a
        # narrow model the patches would drown the positions.
        init_weight_with(torch_default_, self.patch_embedding)
        num_patches = (config.image_size // config.patch_size) ** 2
        self.position_embedding = nn.Parameter(torch.empty(1 + num_patches, config.hidden_size))

    def forward(self, pixel_values_videos: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int, int]]:
        """Embed clips.

        Returns:
            Tokens `(b * t, 1 + h * w, c)`, and the grid `(t, h, w)`.
        """
        patches = self.patch_embedding(rearrange(pixel_values_videos, "b t c h w -> b c t h w"))
        frames, height, width = patches.shape[2:]
        patches = rearrange(patches, "b c t h w -> (b t) (h w) c")
        position_embedding = self.position_embedding.to(patches.device)
        position_of_class, positions = position_embedding[:1], position_embedding[1:]
        patches = patches + resample_position_grid(positions, height, width)
        class_embedding = self.class_embedding.to(patches.device)
        class_tokens = (class_embedding + position_of_class).expand(patches.shape[0], 1, -1)
        return torch.cat([class_tokens, patches], dim=1), (frames, height, width)


class UniFormerV2TemporalConv(nn.Conv1d):
    """A depth-wise convolution over three frames, of tokens whose channels come last."""

    def __init__(self, width: int):
        super().__init__(width, width, kernel_size=3, padding=1, groups=width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Convolve.

        Args:
            tokens: `(b, t, n, c)`.
        """
        # By shifted sums, since a convolution wants time last, and moving it there costs more than convolving.
        frames = tokens.shape[1]
        padded = nn.functional.pad(tokens, (0, 0, 0, 0, 1, 1))
        before, same, after = self.weight[:, 0].unbind(dim=1)
        mixed = padded[:, :frames] * before
        mixed = mixed + padded[:, 1 : 1 + frames] * same
        mixed = mixed + padded[:, 2 : 2 + frames] * after
        return known(self.bias) + mixed


class UniFormerV2LocalBlock(nn.Module):
    """Mixes a patch with its neighbors in time, at its own place (the paper's local UniBlock).

    Three linear steps: fewer channels, a depth-wise convolution over three frames, all channels again; batch
    normalization before. In training loops other than `VideoTrainer`, the running statistics move with every pass,
    hence twice with gradient checkpointing.
    """

    def __init__(self, config: UniFormerV2Config):
        super().__init__()
        width, inner = config.hidden_size, known(config.local_intermediate_size)
        self.batch_norm = nn.BatchNorm1d(width)
        self.down_proj = nn.Linear(width, inner)
        self.temporal_conv = UniFormerV2TemporalConv(inner)
        self.up_proj = nn.Linear(inner, width)
        # The backbone is an image model's, but these are new, and silent at the start.
        init_weight_with(torch_default_, self.down_proj, self.temporal_conv)
        init_weight_with(init.zeros_, self.up_proj)

    def forward(self, patches: torch.Tensor, frames: int) -> torch.Tensor:
        """Mix the frames of a clip.

        Args:
            patches: `(b * t, n, c)`.
            frames: `t`.
        """
        normalized = self.batch_norm(rearrange(patches, "bt n c -> (bt n) c"))
        narrow = project(self.down_proj, rearrange(normalized, "(bt n) c -> bt n c", bt=patches.shape[0]))
        mixed = self.temporal_conv(rearrange(narrow, "(b t) n c -> b t n c", t=frames))
        return project(self.up_proj, rearrange(mixed, "b t n c -> (b t) n c"))


class UniFormerV2Layer(EncoderLayer):
    """A layer of the backbone: the tokens of one frame attend to each other; local blocks, if any, join the frames.

    Drop path draws once for a clip. The released code draws for a clip in the local blocks, but for a place in the
    frame, over the whole batch, in attention and MLP, where the first axis of its tensors counts tokens.
    """

    def __init__(self, config: UniFormerV2Config, drop_path: float):
        super().__init__(config, drop_path)
        blocks = config.num_local_blocks
        self.local_block1 = UniFormerV2LocalBlock(config) if blocks > 0 else None
        self.local_block2 = UniFormerV2LocalBlock(config) if blocks > 1 else None

    def forward(self, hidden_states: torch.Tensor, frames: int = 1, **kwargs: Any) -> torch.Tensor:
        """Transform the tokens of a clip's frames.

        Args:
            hidden_states: `(b * t, 1 + h * w, c)`.
            frames: `t`.
            kwargs: for the attention kernel.
        """
        hidden_states = self._join_frames(self.local_block1, hidden_states, frames)
        attended = self.self_attn(self.layer_norm1(hidden_states), **kwargs)[0]
        hidden_states = hidden_states + self.drop_path(attended, frames)
        hidden_states = self._join_frames(self.local_block2, hidden_states, frames)
        return hidden_states + self.drop_path(self.mlp(self.layer_norm2(hidden_states)), frames)

    def _join_frames(
        self, block: UniFormerV2LocalBlock | None, hidden_states: torch.Tensor, frames: int
    ) -> torch.Tensor:
        if block is None:
            return hidden_states
        class_tokens, patches = hidden_states[:, :1], hidden_states[:, 1:]
        patches = patches + self.drop_path(block(patches, frames), frames)
        return torch.cat([class_tokens, patches], dim=1)


class UniFormerV2GlobalBlock(GradientCheckpointingLayer):
    """The clip's token attends to all tokens of all frames (the paper's global UniBlock)."""

    pools_by_attention = True

    def __init__(self, config: UniFormerV2Config, drop_path: float):
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.layer_norm_query = nn.LayerNorm(width, eps=eps)
        self.layer_norm_context = nn.LayerNorm(width, eps=eps)
        self.cross_attn = Attention(config, width, known(config.num_global_attention_heads))
        self.layer_norm_mlp = nn.LayerNorm(width, eps=eps)
        self.mlp = MLP(width, known(config.intermediate_size), config.hidden_act, dropout=config.global_dropout)
        self.drop_path = DropPath(drop_path)
        self.position_conv = nn.Conv3d(width, width, kernel_size=3, padding=1, groups=width)
        attention = self.cross_attn
        init_weight_with(torch_default_, self.position_conv)
        init_weight_with(init.xavier_uniform_, attention.q_proj, attention.k_proj, attention.v_proj, self.mlp.fc1)
        init_weight_with(init.zeros_, attention.out_proj, self.mlp.fc2)

    def forward(
        self,
        video_token: torch.Tensor,
        frame_tokens: torch.Tensor,
        grid: tuple[int, int, int] | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Attend.

        Args:
            video_token: `(b, 1, c)`.
            frame_tokens: tokens of a backbone layer, `(b * t, 1 + h * w, c)`; they are read, not changed.
            grid: `(t, h, w)`; None where `with_positions` has marked their places.
            kwargs: for the attention kernel.
        """
        context = frame_tokens if grid is None else self.with_positions(frame_tokens, grid)
        context = self.layer_norm_context(context)
        attended = self.cross_attn(self.layer_norm_query(video_token), context, **kwargs)[0]
        video_token = video_token + self.drop_path(attended)
        return video_token + self.drop_path(self.mlp(self.layer_norm_mlp(video_token)))

    def with_positions(self, frame_tokens: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
        """Mark the places of tokens in space and time.

        Args:
            frame_tokens: `(b * t, 1 + h * w, c)`.
            grid: `(t, h, w)`.

        Returns:
            All frames of a clip together, `(b, t * (1 + h * w), c)`.
        """
        frames, height, width = grid
        class_tokens = rearrange(frame_tokens[:, :1], "(b t) 1 c -> b t c", t=frames)
        volume = rearrange(frame_tokens[:, 1:], "(b t) (h w) c -> b c t h w", t=frames, h=height, w=width)
        patches = rearrange(volume + self.position_conv(volume).to(volume.device), "b c t h w -> b (t h w) c")
        return torch.cat([class_tokens, patches], dim=1)


class UniFormerV2PreTrainedModel(VideoPreTrainedModel):
    config: UniFormerV2Config
    base_model_prefix = "vision_model"  # its name in every model that holds it, out of whose folder it loads
    _no_split_modules = ["UniFormerV2Embeddings", "UniFormerV2Layer", "UniFormerV2GlobalBlock"]
    _input_embed_layer = "patch_embedding"
    layer_group_rules = {
        r"embeddings|pre_layernorm": "embeddings",
        r"layers\.(\d+)": "layers.{}",
        r"global_blocks\.(\d+)": "global_blocks.{}",
        r"video_embedding|fusion_gate": "fusion",
        r"layernorm|classifier": "head",
    }
    backbone_groups = ("embeddings", "layers")  # what the released "frozen" models leave as CLIP made it

    def frames_step(self) -> int | None:
        """See `VideoPreTrainedModel.frames_step`."""
        return 2 if self.config.temporal_downsampling else 1

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize weights so that global blocks start silent and an image ViT's weights keep their answers."""
        super()._init_weights(module)
        std = self.config.initializer_range
        if isinstance(module, UniFormerV2Embeddings):
            init.normal_(module.class_embedding, std=std)
            init.normal_(module.position_embedding, std=std)
        elif isinstance(module, UniFormerV2Model):
            init.zeros_(module.video_embedding)
            if module.fusion_gate is not None:
                init.zeros_(module.fusion_gate)


class UniFormerV2Model(UniFormerV2PreTrainedModel):
    """The UniFormerV2 video encoder without a head; also loads out of the folder of an InternVideo-MM model."""

    export_kind = "encoder"
    _keys_to_ignore_on_load_unexpected = [
        r"^(text_model|text_projection|visual_projection|post_layernorm|logit_scale)"
    ]

    _can_record_outputs = {
        "hidden_states": UniFormerV2Layer,
        "attentions": OutputRecorder(Attention, index=1, layer_name="self_attn"),
    }

    def __init__(self, config: UniFormerV2Config):
        super().__init__(config)
        self.embeddings = UniFormerV2Embeddings(config)
        self.pre_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        rates = drop_path_rates(config.drop_path_rate, config.num_hidden_layers)
        self.layers = nn.ModuleList([UniFormerV2Layer(config, rate) for rate in rates])
        rates = drop_path_rates(config.global_drop_path_rate, len(config.global_layers))
        self.global_blocks = nn.ModuleList([UniFormerV2GlobalBlock(config, rate) for rate in rates])
        self.video_embedding = nn.Parameter(torch.empty(config.hidden_size))
        self.fusion_gate = nn.Parameter(torch.empty(config.hidden_size)) if config.use_fusion_gate else None
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        frames_output: UniFormerV2FramesOutput | None = None,
        after_block: Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Any, ...] | BaseModelOutputWithPooling:
        """Encode clips.

        Args:
            pixel_values_videos: normalized frames, `(batch, frames, channels, height, width)`; a single image
                `(batch, channels, height, width)` counts as a clip of one frame.
            frames_output: of `encode_frames`, in place of pixels. The result then has no `last_hidden_state`, and the
                same `pooler_output` to the last bit.
            after_block: with `frames_output`, called behind each global block with its number, the clip's token
                `(batch, 1, hidden_size)` and the context that the block read; returns the token to go on with.
            kwargs: for the layers.

        Returns:
            `last_hidden_state`: the backbone's tokens, `(batch, frames * (1 + patches), hidden_size)`, frame by frame,
            each frame's class token first; half as many frames, rounded up, with temporal downsampling.
            `pooler_output`: one vector a clip, `(batch, hidden_size)`.
            `hidden_states`, where asked for: `(batch * frames, 1 + patches, hidden_size)` each.

        Raises:
            ValueError: if the axes are not those above, or a side is not a multiple of the patch size.
        """
        if frames_output is not None:
            return BaseModelOutputWithPooling(pooler_output=self._pool_frames(frames_output, after_block, **kwargs))
        if pixel_values_videos is None:
            raise ValueError("Got no clips: pass pixel_values_videos, or frames_output.")
        return self._encode_clips(pixel_values_videos, return_dict=True, **kwargs)

    # Not around `forward`: what `after_block` runs is recorded by the model that gives it.
    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def _encode_clips(
        self, pixel_values_videos: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> BaseModelOutputWithPooling:
        hidden_states, grid = self.embed(pixel_values_videos)
        frames = grid[0]
        video_token = self.video_embedding.expand(hidden_states.shape[0] // frames, 1, -1)

        block_after = dict(zip(self.config.global_layers, self.global_blocks, strict=True))
        for index, layer in enumerate(self.layers):
            hidden_states = layer(hidden_states, frames, **kwargs)
            if index in block_after:
                video_token = block_after[index](video_token, hidden_states, grid, **kwargs)

        return BaseModelOutputWithPooling(
            last_hidden_state=rearrange(hidden_states, "(b t) n c -> b (t n) c", t=frames),
            pooler_output=self._fuse(video_token[:, 0], mean_class_token(hidden_states, frames)),
        )

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def encode_frames(
        self, pixel_values_videos: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> UniFormerV2FramesOutput:
        """Run the backbone alone, and return what the global blocks read: nothing that depends on the clip's token.

        Args:
            pixel_values_videos: as of `forward`.
            kwargs: for the layers.
        """
        hidden_states, grid = self.embed(pixel_values_videos)
        contexts: list[torch.Tensor] = []
        for index, layer in enumerate(self.layers):
            hidden_states = layer(hidden_states, grid[0], **kwargs)
            if index in self.config.global_layers:
                block = of_type(self.global_blocks[len(contexts)], UniFormerV2GlobalBlock)
                contexts.append(block.with_positions(hidden_states, grid))
        return UniFormerV2FramesOutput(contexts=tuple(contexts), class_token=mean_class_token(hidden_states, grid[0]))

    def embed(self, pixel_values_videos: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int, int]]:
        """Compute the input of the first layer, `(batch * t, 1 + h * w, hidden_size)`, and the grid `(t, h, w)`."""
        pixel_values_videos = as_clips(pixel_values_videos, self.config.num_channels, self.config.patch_size)
        hidden_states, grid = self.embeddings(pixel_values_videos)
        return self.pre_layernorm(hidden_states), grid

    def mark_positions(self, tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Mark the places of a clip's tokens in space and time, as the last global block does before it reads them.

        Args:
            tokens: the `last_hidden_state` of `forward`.
            height: of the frames, in pixels.
            width: of the frames, in pixels.

        Returns:
            Tensor of the same shape.
        """
        grid = height // self.config.patch_size, width // self.config.patch_size
        frames = rearrange(tokens, "b (t n) c -> (b t) n c", n=1 + grid[0] * grid[1])
        block = of_type(self.global_blocks[-1], UniFormerV2GlobalBlock)
        return block.with_positions(frames, (frames.shape[0] // tokens.shape[0], *grid))

    def _pool_frames(
        self,
        frames_output: UniFormerV2FramesOutput,
        after_block: Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor] | None,
        **kwargs: Any,
    ) -> torch.Tensor:
        contexts, class_token = known(frames_output.contexts), known(frames_output.class_token)
        video_token = self.video_embedding.expand(class_token.shape[0], 1, -1)
        for number, (block, context) in enumerate(zip(self.global_blocks, contexts, strict=True)):
            video_token = block(video_token, context, **kwargs)
            if after_block is not None:
                video_token = after_block(number, video_token, context)
        return self._fuse(video_token[:, 0], class_token)

    def _fuse(self, video_token: torch.Tensor, class_token: torch.Tensor) -> torch.Tensor:
        """Mix a clip's token with the mean of its frames' class tokens, `(batch, hidden_size)`."""
        if self.fusion_gate is None:
            return video_token
        gate = self.fusion_gate.to(video_token.device).sigmoid()
        return (1 - gate) * video_token + gate * class_token.to(video_token.device)

    def fuse(self, video_token: torch.Tensor, class_token: torch.Tensor) -> torch.Tensor:
        """Mix a clip's token with the mean of its frames' class tokens; deprecated.

        Args:
            video_token: `(batch, hidden_size)`.
            class_token: `(batch, hidden_size)`.
        """
        warn_deprecated("fuse is deprecated: pass frames_output to the model, whose pooler_output is the mixture.")
        return self._fuse(video_token, class_token)


def mean_class_token(frame_tokens: torch.Tensor, frames: int) -> torch.Tensor:
    """Average the class tokens of a clip's frames, `(b, c)`.

    Args:
        frame_tokens: `(b * t, 1 + h * w, c)`.
        frames: `t`.
    """
    return reduce(frame_tokens[:, 0], "(b t) c -> b c", "mean", t=frames)


class UniFormerV2ForVideoClassification(VideoClassifier, UniFormerV2PreTrainedModel):
    """The encoder with a linear classifier; also loads the encoder out of the folder of an InternVideo-MM model."""

    _keys_to_ignore_on_load_unexpected = [
        r"^(text_model|text_projection|visual_projection|post_layernorm|logit_scale)"
    ]

    def __init__(self, config: UniFormerV2Config):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.vision_model = UniFormerV2Model(config)
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, known(config.num_labels))
        self.post_init()

    def classify(self, outputs: BaseModelOutputWithPooling) -> torch.Tensor:
        return self.classifier(self.dropout(self.layernorm(outputs.pooler_output)))


class UniFormerV2ForOpenSetClassification(OpenSetHead, UniFormerV2ForVideoClassification):
    """The classifier with evidential loss and uncertainty; its tensors have the same names."""


class UniFormerV2ForHandPrediction(HandPredictionHead, UniFormerV2ForVideoClassification):
    """The encoder with a linear head that predicts points in pixels; its tensors have the classifier's names."""


__all__ = [
    "UniFormerV2ForHandPrediction",
    "UniFormerV2ForOpenSetClassification",
    "UniFormerV2ForVideoClassification",
    "UniFormerV2Model",
    "UniFormerV2PreTrainedModel",
]
