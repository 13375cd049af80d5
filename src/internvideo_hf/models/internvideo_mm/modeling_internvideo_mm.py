"""InternVideo-MM (arXiv 2212.03191, section 3.2): one embedding space for videos and sentences.

A UniFormerV2 tower for video and CLIP's text transformer, both started from CLIP and trained further on videos.
Differences from CLIP: the video tower (see `modeling_uniformerv2.py`), a learned embedding for masked words, and a
text feature read at the largest token id, which is the end-of-text token.

Released: B/16 (178 M parameters, 512 shared dimensions) and L/14 (478 M, 768).
"""

import math
from typing import Any

import torch
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple

from internvideo_hf.models.common.base import VideoPreTrainedModel
from internvideo_hf.models.common.deprecation import warn_deprecated
from internvideo_hf.models.common.dual_encoder import DualEncoder, Projection, TextEmbeddings
from internvideo_hf.models.common.narrowing import of_type
from internvideo_hf.models.internvideo_mm.configuration_internvideo_mm import InternVideoMMConfig
from internvideo_hf.models.uniformerv2.configuration_uniformerv2 import UniFormerV2Config
from internvideo_hf.models.uniformerv2.modeling_uniformerv2 import UniFormerV2Model, UniFormerV2PreTrainedModel

MASKED = -1  # the id of a masked word; CLIP's text model takes ids only, so the mask has to travel among them


class InternVideoMMTextEmbeddings(TextEmbeddings):
    """CLIP's text embeddings, in which ids of `MASKED` get a learned embedding of their own."""

    def __init__(self, config: CLIPTextConfig):
        super().__init__(config)
        self.mask_embedding = nn.Parameter(torch.empty(config.hidden_size))

    def forward(  # type: ignore[override]  # takes ids alone, and any integers
        self, input_ids: torch.Tensor, position_ids: torch.LongTensor | None = None, **kwargs: Any
    ) -> torch.Tensor:
        embeddings = self.token_embedding(input_ids.clamp(min=0))
        masked = (input_ids == MASKED).to(embeddings.device)
        embeddings = torch.where(masked[..., None], self.mask_embedding.to(embeddings.device), embeddings)
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


class InternVideoMMPreTrainedModel(VideoPreTrainedModel):
    config: InternVideoMMConfig
    base_model_prefix = "internvideo_mm"
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


def _projection(width: int, projection_dim: int | None) -> nn.Module:
    return nn.Identity() if projection_dim is None else Projection(width, projection_dim)


class InternVideoMMModel(DualEncoder, InternVideoMMPreTrainedModel):
    """The InternVideo-MM dual encoder: embeddings of videos and texts, and their similarity."""

    def __init__(self, config: InternVideoMMConfig):
        super().__init__(config)
        vision, text = of_type(config.vision_config, UniFormerV2Config), of_type(config.text_config, CLIPTextConfig)
        self.vision_model = UniFormerV2Model._from_config(vision)
        self.text_model = InternVideoMMTextModel._from_config(text)
        self.post_layernorm = nn.LayerNorm(vision.hidden_size, eps=vision.layer_norm_eps)
        self.visual_projection = _projection(vision.hidden_size, config.projection_dim)
        self.text_projection = _projection(text.hidden_size, config.projection_dim)
        self.logit_scale = nn.Parameter(torch.empty(()))
        self.post_init()

    @can_return_tuple
    def get_text_features(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        bool_masked_pos: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Any, ...] | BaseModelOutputWithPooling:
        """Embed texts; see `DualEncoder.get_text_features`.

        Args:
            input_ids: see there.
            attention_mask: see there.
            bool_masked_pos: `(batch, tokens)`, True on words to hide behind the mask embedding.
            kwargs: for the text tower.
        """
        visible = input_ids if bool_masked_pos is None else input_ids.masked_fill(bool_masked_pos, MASKED)
        return self._embed_texts(visible, input_ids, attention_mask, **kwargs)

    def _project_video(self, pooled: torch.Tensor | None) -> torch.Tensor:
        return super()._project_video(self.post_layernorm(pooled))

    def cosine_scale(self) -> torch.Tensor:
        return self.logit_scale.exp()

    def clamp_logit_scale(self) -> None:
        """Call `clamp_temperature`; a deprecated name."""
        warn_deprecated("clamp_logit_scale is deprecated: call clamp_temperature.")
        self.clamp_temperature()

    @torch.no_grad()
    def clamp_temperature(self) -> None:
        """Bring the learned factor back into 1 to 100."""
        self.logit_scale.clamp_(0, math.log(100))


__all__ = ["InternVideoMMModel", "InternVideoMMPreTrainedModel"]
