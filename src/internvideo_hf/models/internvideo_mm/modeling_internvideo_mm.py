"""InternVideo-MM (arXiv 2212.03191, section 3.2): one embedding space for videos and sentences.

A UniFormerV2 tower for video and CLIP's text transformer, both started from CLIP and trained further on videos.
Differences from CLIP: the video tower (see `modeling_uniformerv2.py`), a learned embedding for masked words, and a
text feature read at the largest token id, which is the end-of-text token.

Released: B/16 (178 M parameters, 512 shared dimensions) and L/14 (478 M, 768).
"""

import math

import torch
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_utils import PreTrainedModel
from transformers.models.clip.modeling_clip import CLIPTextEmbeddings
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple

from internvideo_hf.models.common.layer_groups import LayerGroups
from internvideo_hf.models.common.losses import contrastive_loss, encode_in_chunks, gathered_contrastive_loss
from internvideo_hf.models.common.outputs import VideoTextOutput
from internvideo_hf.models.internvideo_mm.configuration_internvideo_mm import InternVideoMMConfig
from internvideo_hf.models.uniformerv2.modeling_uniformerv2 import UniFormerV2Model, UniFormerV2PreTrainedModel

MASKED = -1  # the id of a masked word; CLIP's text model takes ids only, so the mask has to travel among them


class InternVideoMMTextEmbeddings(CLIPTextEmbeddings):
    """CLIP's text embeddings, in which ids of `MASKED` get a learned embedding of their own."""

    def __init__(self, config: CLIPTextConfig):
        super().__init__(config)
        self.mask_embedding = nn.Parameter(torch.empty(config.hidden_size))

    def forward(self, input_ids: torch.Tensor, position_ids: torch.Tensor | None = None, **kwargs) -> torch.Tensor:
        embeddings = self.token_embedding(input_ids.clamp(min=0))
        embeddings = torch.where((input_ids == MASKED)[..., None], self.mask_embedding, embeddings)
        return super().forward(position_ids=position_ids, inputs_embeds=embeddings)


class InternVideoMMTextModel(CLIPTextModel):
    """CLIP's text model, whose embeddings know masked words."""

    _no_split_modules = ["InternVideoMMTextEmbeddings", "CLIPEncoderLayer"]

    def __init__(self, config: CLIPTextConfig):
        super().__init__(config)
        self.embeddings = InternVideoMMTextEmbeddings(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, InternVideoMMTextEmbeddings):
            init.normal_(module.mask_embedding, std=self.config.initializer_range)


class InternVideoMMPreTrainedModel(LayerGroups, PreTrainedModel):
    config: InternVideoMMConfig
    base_model_prefix = "internvideo_mm"
    main_input_name = "pixel_values_videos"
    input_modalities = ("video", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    layer_group_rules = {
        **{
            rf"vision_model\.(?:{rule})": f"vision.{group}"
            for rule, group in UniFormerV2PreTrainedModel.layer_group_rules.items()
        },
        r"text_model\.embeddings": "text.embeddings",
        r"text_model\.encoder\.layers\.(\d+)": "text.layers.{}",
        r"text_model\.final_layer_norm": "text.norm",
        r"post_layernorm|visual_projection": "head.vision",
        r"text_projection": "head.text",
        r"logit_scale": "head.scale",
    }
    backbone_groups = ("vision", "text")

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, InternVideoMMModel):
            init.constant_(module.logit_scale, self.config.logit_scale_init_value)
        elif isinstance(module, InternVideoMMProjection):
            init.normal_(module.weight, std=module.in_features**-0.5)


class InternVideoMMProjection(nn.Linear):
    """From a tower's width into the shared space. A class of its own, so that fresh weights find it alone."""


def _projection(width: int, projection_dim: int | None) -> nn.Module:
    return nn.Identity() if projection_dim is None else InternVideoMMProjection(width, projection_dim, bias=False)


class InternVideoMMModel(InternVideoMMPreTrainedModel):
    """The InternVideo-MM dual encoder: embeddings of videos and texts, and their similarity.

    Attributes:
        grad_cache: pairs that go through the towers at once in training, which changes memory and time, and no
            gradient (`losses.encode_in_chunks`); None for all. The outputs then hold no towers' own outputs.
    """

    grad_cache: int | None = None
    # The loss is a mean over pairs; see "accepts_loss_kwargs" in transformers' Trainer for what this prevents.
    accepts_loss_kwargs = False

    def __init__(self, config: InternVideoMMConfig):
        super().__init__(config)
        vision, text = config.vision_config, config.text_config
        self.vision_model = UniFormerV2Model._from_config(vision)
        self.text_model = InternVideoMMTextModel._from_config(text)
        self.post_layernorm = nn.LayerNorm(vision.hidden_size, eps=vision.layer_norm_eps)
        self.visual_projection = _projection(vision.hidden_size, config.projection_dim)
        self.text_projection = _projection(text.hidden_size, config.projection_dim)
        self.logit_scale = nn.Parameter(torch.empty(()))
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.text_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.text_model.set_input_embeddings(value)

    @can_return_tuple
    def get_video_features(
        self, pixel_values_videos: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple | BaseModelOutputWithPooling:
        """Embed clips.

        Args:
            pixel_values_videos: normalized frames, `(batch, frames, channels, height, width)`, or single images
                `(batch, channels, height, width)`; any number of frames.

        Returns:
            `pooler_output`: the projected embeddings, not normalized, `(batch, projection_dim)`;
            `last_hidden_state`: the video tower's tokens, `(batch, frames * (1 + patches), hidden_size)`.
        """
        outputs = self.vision_model(pixel_values_videos, return_dict=True, **kwargs)
        outputs.pooler_output = self.visual_projection(self.post_layernorm(outputs.pooler_output))
        return outputs

    @can_return_tuple
    def get_text_features(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        bool_masked_pos: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple | BaseModelOutputWithPooling:
        """Embed texts.

        Args:
            input_ids: token ids, `(batch, tokens)`; the end-of-text token must be the largest id of each row.
            attention_mask: `(batch, tokens)`, 0 on padding. Not needed: attention is causal and padding comes last.
            bool_masked_pos: `(batch, tokens)`, True on words to hide behind the mask embedding.

        Returns:
            `pooler_output`: the projected embeddings, not normalized, `(batch, projection_dim)`;
            `last_hidden_state`: `(batch, tokens, hidden_size)`.
        """
        visible = input_ids if bool_masked_pos is None else input_ids.masked_fill(bool_masked_pos, MASKED)
        outputs = self.text_model(visible, attention_mask=attention_mask, return_dict=True, **kwargs)
        # Not the text model's own pooling: that looks for one configured id, which a hidden word may have covered.
        end_of_text = input_ids.to(torch.int).argmax(dim=-1)
        rows = torch.arange(input_ids.shape[0], device=input_ids.device)
        outputs.pooler_output = self.text_projection(outputs.last_hidden_state[rows, end_of_text])
        return outputs

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        caption_ids: torch.Tensor | None = None,
        return_loss: bool = False,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple | VideoTextOutput:
        """Compare every video with every text.

        Args:
            pixel_values_videos: `(videos, frames, channels, height, width)`.
            input_ids: `(texts, tokens)`.
            attention_mask: `(texts, tokens)`, 0 on padding.
            caption_ids: `(texts,)`, whole numbers, equal where captions are the same: each is then a true partner of
                the other's video as well. None: all captions differ.
            return_loss: add the contrastive loss; video `i` must belong to text `i`. In training with several
                processes it is the loss of all their pairs, whose gradient is true in each of them.

        Raises:
            ValueError: if the model has no projections (`projection_dim=None`), as question-answering models.
        """
        if self.config.projection_dim is None:
            raise ValueError(
                "This model has no shared space for video and text (projection_dim=None, as question-answering "
                "checkpoints): use get_video_features and get_text_features, or a checkpoint with projections."
            )
        if self.training:
            self.clamp_logit_scale()
        video_outputs = text_outputs = None
        if self.training and self.grad_cache is not None:
            video = encode_in_chunks(
                lambda pixels: self.get_video_features(pixels, return_dict=True, **kwargs).pooler_output,
                self.grad_cache,
                pixel_values_videos,
            )
            text = encode_in_chunks(
                lambda ids, mask: self.get_text_features(ids, mask, return_dict=True, **kwargs).pooler_output,
                self.grad_cache,
                input_ids,
                attention_mask,
            )
        else:
            video_outputs = self.get_video_features(pixel_values_videos, return_dict=True, **kwargs)
            text_outputs = self.get_text_features(input_ids, attention_mask, return_dict=True, **kwargs)
            video, text = video_outputs.pooler_output, text_outputs.pooler_output
        video_embeds = nn.functional.normalize(video, dim=-1)
        text_embeds = nn.functional.normalize(text, dim=-1)
        factor = self.logit_scale.exp()
        logits_per_video = factor * video_embeds @ text_embeds.T
        loss = None
        if return_loss and self.training:
            loss = gathered_contrastive_loss(video_embeds, text_embeds, factor, caption_ids)
        elif return_loss:
            loss = contrastive_loss(logits_per_video, caption_ids)
        return VideoTextOutput(
            loss=loss,
            logits_per_video=logits_per_video,
            logits_per_text=logits_per_video.T,
            video_embeds=video_embeds,
            text_embeds=text_embeds,
            video_model_output=video_outputs,
            text_model_output=text_outputs,
        )

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Bring the learned factor back into 1 to 100, as training does before each step."""
        self.logit_scale.clamp_(0, math.log(100))


__all__ = ["InternVideoMMModel", "InternVideoMMPreTrainedModel"]
