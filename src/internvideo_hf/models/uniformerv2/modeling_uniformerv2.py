"""UniFormerV2 (arXiv 2211.09552), the video encoder of InternVideo's classifiers and of InternVideo-MM.

An image ViT (CLIP's) runs on every frame alone. Beside it goes one token for the whole clip: after each of the last
layers a global block lets it attend to all tokens of all frames, whose places in space and time a depth-wise 3-D
convolution marks. At the end a learned gate mixes it with the mean of the frames' class tokens.

Released widths: B/16 768 x 12 layers, L/14 1024 x 24 layers; global blocks behind the last four.
"""

import torch
from einops import rearrange, reduce
from torch import nn
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_utils import PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from internvideo_hf.layers import MLP, Attention, EncoderLayer, as_clips, resample_position_grid
from internvideo_hf.models.uniformerv2.configuration_uniformerv2 import UniFormerV2Config


class UniFormerV2Embeddings(nn.Module):
    """Patches of every frame as tokens, a class token before them, positions in the frame added."""

    def __init__(self, config: UniFormerV2Config):
        super().__init__()
        self.config = config
        self.class_embedding = nn.Parameter(torch.empty(config.hidden_size))
        self.patch_embedding = nn.Conv3d(
            config.num_channels,
            config.hidden_size,
            kernel_size=(1, config.patch_size, config.patch_size),
            stride=(1, config.patch_size, config.patch_size),
            bias=False,
        )
        num_patches = (config.image_size // config.patch_size) ** 2
        self.position_embedding = nn.Parameter(torch.empty(1 + num_patches, config.hidden_size))

    def forward(self, pixel_values_videos: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int, int]]:
        """
        Returns:
            Tokens `(b * t, 1 + h * w, c)`, and the grid `(t, h, w)`.
        """
        pixels = rearrange(pixel_values_videos.to(self.patch_embedding.weight.dtype), "b t c h w -> b c t h w")
        patches = self.patch_embedding(pixels)
        grid = tuple(patches.shape[2:])
        patches = rearrange(patches, "b c t h w -> (b t) (h w) c")
        position_of_class, positions = self.position_embedding[:1], self.position_embedding[1:]
        patches = patches + resample_position_grid(positions, *grid[1:])
        class_tokens = (self.class_embedding + position_of_class).expand(patches.shape[0], 1, -1)
        return torch.cat([class_tokens, patches], dim=1), grid


class UniFormerV2Layer(EncoderLayer):
    """A layer of the trunk: the tokens of one frame attend to each other."""


class UniFormerV2GlobalBlock(GradientCheckpointingLayer):
    """The clip's token attends to all tokens of all frames (the paper's global UniBlock)."""

    def __init__(self, config: UniFormerV2Config):
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.position_conv = nn.Conv3d(width, width, kernel_size=3, padding=1, groups=width)
        self.layer_norm_query = nn.LayerNorm(width, eps=eps)
        self.layer_norm_context = nn.LayerNorm(width, eps=eps)
        self.cross_attn = Attention(config, width, config.num_global_attention_heads)
        self.layer_norm_mlp = nn.LayerNorm(width, eps=eps)
        self.mlp = MLP(width, config.intermediate_size, config.hidden_act, dropout=config.global_dropout)
        # How `_init_weights` draws them. It cannot tell from this block: where only some tensors are missing from a
        # checkpoint, transformers calls it for the modules that hold them, and the block itself holds none.
        attention = self.cross_attn
        for layer in (attention.q_proj, attention.k_proj, attention.v_proj, self.mlp.fc1):
            layer.draw_weight = init.xavier_uniform_
        for layer in (attention.out_proj, self.mlp.fc2):
            layer.draw_weight = init.zeros_

    def forward(
        self, video_token: torch.Tensor, frame_tokens: torch.Tensor, grid: tuple[int, int, int], **kwargs
    ) -> torch.Tensor:
        """
        Args:
            video_token: `(b, 1, c)`.
            frame_tokens: tokens of a trunk layer, `(b * t, 1 + h * w, c)`; they are read, not changed.
            grid: `(t, h, w)`.
        """
        context = self.layer_norm_context(self._with_positions(frame_tokens, grid))
        video_token = video_token + self.cross_attn(self.layer_norm_query(video_token), context, **kwargs)[0]
        return video_token + self.mlp(self.layer_norm_mlp(video_token))

    def _with_positions(self, frame_tokens: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
        frames, height, width = grid
        class_tokens = rearrange(frame_tokens[:, :1], "(b t) 1 c -> b t c", t=frames)
        volume = rearrange(frame_tokens[:, 1:], "(b t) (h w) c -> b c t h w", t=frames, h=height, w=width)
        patches = rearrange(volume + self.position_conv(volume), "b c t h w -> b (t h w) c")
        return torch.cat([class_tokens, patches], dim=1)


class UniFormerV2PreTrainedModel(PreTrainedModel):
    config: UniFormerV2Config
    base_model_prefix = "vision_model"  # its name in every model that holds it, out of whose folder it loads
    main_input_name = "pixel_values_videos"
    input_modalities = ("video",)
    supports_gradient_checkpointing = True
    _no_split_modules = ["UniFormerV2Embeddings", "UniFormerV2Layer", "UniFormerV2GlobalBlock"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Draw fresh weights so that global blocks start silent and an image ViT's weights keep their answers."""
        super()._init_weights(module)
        std = self.config.initializer_range
        if isinstance(module, UniFormerV2Embeddings):
            init.normal_(module.class_embedding, std=std)
            init.normal_(module.position_embedding, std=std)
        elif isinstance(module, UniFormerV2Model):
            init.zeros_(module.video_embedding)
            init.zeros_(module.fusion_gate)
        elif hasattr(module, "draw_weight"):
            module.draw_weight(module.weight)


class UniFormerV2Model(UniFormerV2PreTrainedModel):
    """The UniFormerV2 video encoder without a head; also loads out of the folder of an InternVideo-MM model."""

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
        self.layers = nn.ModuleList([UniFormerV2Layer(config) for _ in range(config.num_hidden_layers)])
        self.global_blocks = nn.ModuleList([UniFormerV2GlobalBlock(config) for _ in config.global_layers])
        self.video_embedding = nn.Parameter(torch.empty(config.hidden_size))
        self.fusion_gate = nn.Parameter(torch.empty(config.hidden_size))
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.patch_embedding

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self, pixel_values_videos: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> BaseModelOutputWithPooling:
        """Encode clips.

        Args:
            pixel_values_videos: normalised frames, `(batch, frames, channels, height, width)`; a single image
                `(batch, channels, height, width)` counts as a clip of one frame.

        Returns:
            `last_hidden_state`: the trunk's tokens, `(batch, frames * (1 + patches), hidden_size)`, frame by frame,
            each frame's class token first. `pooler_output`: one vector a clip, `(batch, hidden_size)`.
            `hidden_states`, where asked for: `(batch * frames, 1 + patches, hidden_size)` each.

        Raises:
            ValueError: if the axes are not those above, or a side is not a multiple of the patch size.
        """
        pixel_values_videos = as_clips(pixel_values_videos, self.config.num_channels, self.config.patch_size)
        hidden_states, grid = self.embeddings(pixel_values_videos)
        hidden_states = self.pre_layernorm(hidden_states)
        batch_size, frames = pixel_values_videos.shape[:2]
        video_token = self.video_embedding.expand(batch_size, 1, -1)

        block_after = dict(zip(self.config.global_layers, self.global_blocks, strict=True))
        for index, layer in enumerate(self.layers):
            hidden_states = layer(hidden_states, **kwargs)
            if index in block_after:
                video_token = block_after[index](video_token, hidden_states, grid, **kwargs)

        frame_mean = reduce(hidden_states[:, 0], "(b t) c -> b c", "mean", t=frames)
        gate = self.fusion_gate.sigmoid()
        return BaseModelOutputWithPooling(
            last_hidden_state=rearrange(hidden_states, "(b t) n c -> b (t n) c", t=frames),
            pooler_output=(1 - gate) * video_token[:, 0] + gate * frame_mean,
        )


__all__ = ["UniFormerV2Model", "UniFormerV2PreTrainedModel"]
