"""ViCLIP (arXiv 2307.06942): CLIP whose image tower attends over space and time at once.

A clip's patches are one long sequence behind one class token; a learned table marks the time beside CLIP's own marks
of place. Differences from CLIP: the temporal table, texts of 32 tokens, cosines that are divided by a temperature
(kept as it is, not as a logarithm, with a floor), and training in which most patches are left out. The original leaves
out 90 % in evaluation too, by default; here evaluation always sees all of them.

Released: B/16 (150 M parameters, 512 shared dimensions) and L/14 (428 M, 768), 8 frames of 224 x 224.
"""

from typing import Any, ClassVar

import torch
from einops import rearrange
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from internvideo_hf.models.common.base import VideoPreTrainedModel, init_weight_with, torch_default_
from internvideo_hf.models.common.classification import VideoClassifier
from internvideo_hf.models.common.deprecation import warn_deprecated
from internvideo_hf.models.common.dual_encoder import DualEncoder, Projection, TextEmbeddings
from internvideo_hf.models.common.hand_prediction import HandPredictionHead
from internvideo_hf.models.common.layers import (
    Attention,
    EncoderLayer,
    PatchConv,
    as_clips,
    drop_path_rates,
    resample_position_grid,
    resample_position_rows,
    select_tokens,
    visible_mask,
)
from internvideo_hf.models.common.narrowing import known, of_type
from internvideo_hf.models.common.open_set import OpenSetHead
from internvideo_hf.models.common.outputs import VideoTextOutput
from internvideo_hf.models.viclip.configuration_viclip import ViCLIPConfig, ViCLIPVisionConfig


class ViCLIPVisionEmbeddings(nn.Module):
    """Patches of a clip as tokens, with their places in the frame and in time added."""

    def __init__(self, config: ViCLIPVisionConfig):
        super().__init__()
        tubelet = (config.tubelet_size, config.patch_size, config.patch_size)
        num_patches = (config.image_size // config.patch_size) ** 2
        self.class_embedding = nn.Parameter(torch.empty(config.hidden_size))
        self.patch_embedding = PatchConv(
            config.num_channels, config.hidden_size, kernel_size=tubelet, stride=tubelet, bias=False
        )
        # By the pixels of a patch. For released sizes this is about `initializer_range`, which goes by the width: in a
        # narrow model the patches would drown the positions.
        init_weight_with(torch_default_, self.patch_embedding)
        self.position_embedding = nn.Parameter(torch.empty(1 + num_patches, config.hidden_size))
        self.temporal_embedding = nn.Parameter(torch.empty(config.num_frames // tubelet[0], config.hidden_size))

    def forward(self, pixel_values_videos: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed clips.

        Returns:
            The class token `(b, 1, c)`; the patches `(b, h * w * t, c)`, all times of a place together.
        """
        patches = self.patch_embedding(rearrange(pixel_values_videos, "b t c h w -> b c t h w"))
        frames, height, width = patches.shape[2:]
        positions, times = self.position_embedding.to(patches.device), self._times(frames).to(patches.device)
        places = resample_position_grid(positions[1:], height, width)
        patches = rearrange(patches, "b c t h w -> b (h w) t c") + places[:, None] + times
        class_token = (self.class_embedding.to(patches.device) + positions[0]).expand(patches.shape[0], 1, -1)
        return class_token, rearrange(patches, "b n t c -> b (n t) c")

    def _times(self, frames: int) -> torch.Tensor:
        """Fit the temporal table to a number of frames, `(t, c)`: a single image lies in the middle of all times."""
        if frames == 1:
            return self.temporal_embedding.mean(dim=0, keepdim=True)
        return resample_position_rows(self.temporal_embedding, frames)


class ViCLIPVisionLayer(EncoderLayer):
    """A layer of the video tower: all tokens of a clip attend to each other."""


class ViCLIPVisionPreTrainedModel(VideoPreTrainedModel):
    config: ViCLIPVisionConfig
    base_model_prefix = "vision_model"  # its name in every model that holds it, out of whose folder it loads
    _no_split_modules = ["ViCLIPVisionEmbeddings", "ViCLIPVisionLayer"]
    _input_embed_layer = "patch_embedding"
    layer_group_rules = {
        r"embeddings|pre_layernorm": "embeddings",
        r"layers\.(\d+)": "layers.{}",
        r"post_layernorm": "norm",
    }

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize weights; times start alike, so that an image ViT's weights keep their answers."""
        super()._init_weights(module)
        if isinstance(module, ViCLIPVisionEmbeddings):
            init.normal_(module.class_embedding, std=self.config.initializer_range)
            init.normal_(module.position_embedding, std=self.config.initializer_range)
            init.zeros_(module.temporal_embedding)


class ViCLIPVisionModel(ViCLIPVisionPreTrainedModel):
    """ViCLIP's video tower alone; also loads out of the folder of a ViCLIP model or classifier."""

    export_kind = "encoder"
    _keys_to_ignore_on_load_unexpected = [r"^(text_model|text_projection|visual_projection|temperature$|classifier)"]

    _can_record_outputs = {
        "hidden_states": ViCLIPVisionLayer,
        "attentions": OutputRecorder(Attention, index=1, layer_name="self_attn"),
    }

    def __init__(self, config: ViCLIPVisionConfig):
        super().__init__(config)
        self.embeddings = ViCLIPVisionEmbeddings(config)
        self.pre_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        rates = drop_path_rates(config.drop_path_rate, config.num_hidden_layers)
        self.layers = nn.ModuleList([ViCLIPVisionLayer(config, rate) for rate in rates])
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        bool_masked_pos: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """Encode clips.

        Args:
            pixel_values_videos: normalized frames, `(batch, frames, channels, height, width)`; a single image
                `(batch, channels, height, width)` counts as a clip of one frame. Any number of frames: a clip of more
                than the temporal table has interpolates it, one of fewer has its first rows, and one of a single
                frame its mean, as the released code does.
            bool_masked_pos: `(batch, patches)`, True on patches to leave out; the same number in each row. The index
                of a patch is `place * frames + frame`. None leaves out none in evaluation, and in training what
                `config.mask_ratio` asks for, another draw each time.
            kwargs: for the layers.

        Returns:
            `last_hidden_state`: `(batch, 1 + patches left, hidden_size)`, the class token first.
            `pooler_output`: that of the class token, `(batch, hidden_size)`.

        Raises:
            ValueError: if the axes are not those above, or a length is not a multiple of its part of a patch.
        """
        config = self.config
        clips = as_clips(pixel_values_videos, config.num_channels, config.patch_size, config.tubelet_size)
        class_token, patches = self.embeddings(clips)
        if bool_masked_pos is not None:
            patches = select_tokens(patches, visible_mask(bool_masked_pos, patches.shape[:2]))
        elif self.training and config.mask_ratio > 0:
            patches = select_tokens(
                patches, ~draw_mask(patches.shape[0], patches.shape[1], config.mask_ratio).to(patches.device)
            )
        hidden_states = self.pre_layernorm(torch.cat([class_token, patches], dim=1))
        for layer in self.layers:
            hidden_states = layer(hidden_states, **kwargs)
        hidden_states = self.post_layernorm(hidden_states)
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=hidden_states[:, 0])


def draw_mask(clips: int, patches: int, ratio: float) -> torch.Tensor:
    """Draw which patches training leaves out, whatever their place and time.

    The noise is the CPU's, in float32, so that a seed means the same mask on every device (reference case
    `viclip_tiny`).

    Args:
        clips: rows of the mask.
        patches: columns of the mask.
        ratio: fraction to leave out, 0-1, rounded down to whole patches.

    Returns:
        `(clips, patches)`, True on those left out.
    """
    order = torch.rand(clips, patches, dtype=torch.float32, device="cpu").argsort(dim=1)
    mask = torch.zeros(clips, patches, dtype=torch.bool, device="cpu")
    return mask.scatter(1, order[:, : int(ratio * patches)], True)


class ViCLIPPreTrainedModel(VideoPreTrainedModel):
    config: ViCLIPConfig
    base_model_prefix = "viclip"
    layer_group_rules = {
        r"vision_model\.(?:embeddings|pre_layernorm)": "vision.embeddings",
        r"vision_model\.layers\.(\d+)": "vision.layers.{}",
        r"vision_model\.post_layernorm": "vision.norm",
        r"text_model\.embeddings": "text.embeddings",
        r"text_model\.encoder\.layers\.(\d+)": "text.layers.{}",
        r"text_model\.final_layer_norm": "text.norm",
        r"visual_projection": "head.vision",
        r"text_projection": "head.text",
        r"temperature": "head.scale",
        r"classifier": "head",
    }
    backbone_groups: ClassVar[tuple[str, ...]] = ("vision", "text")

    @classmethod
    def is_custom_code(cls) -> bool:
        # In models of others, transformers passes over modules without own parameters, such as those that initialize
        # the layers of CLIP's text tower.
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ViCLIPModel):
            init.constant_(module.temperature, self.config.temperature_init_value)


class ViCLIPModel(DualEncoder, ViCLIPPreTrainedModel):
    """The ViCLIP dual encoder: embeddings of videos and texts, and their similarity."""

    def __init__(self, config: ViCLIPConfig):
        super().__init__(config)
        vision = of_type(config.vision_config, ViCLIPVisionConfig)
        text = of_type(config.text_config, CLIPTextConfig)
        self.vision_model = ViCLIPVisionModel._from_config(vision)
        self.text_model = CLIPTextModel._from_config(text)
        self.text_model.embeddings = TextEmbeddings(text)
        self.visual_projection = Projection(vision.hidden_size, config.projection_dim)
        self.text_projection = Projection(text.hidden_size, config.projection_dim)
        self.temperature = nn.Parameter(torch.empty(()))
        self.post_init()

    @property
    def logit_scale(self) -> torch.Tensor:
        """The logarithm of the factor on the cosines, which is how CLIP keeps it and pipelines ask for it."""
        return torch.as_tensor(self.cosine_scale()).log()

    def cosine_scale(self) -> torch.Tensor | float:
        """Return one over the temperature, or the fixed scale that evaluation asks for."""
        if self.config.inference_scale is not None and not self.training:
            return float(self.config.inference_scale)
        if self.training:
            return 1 / self.temperature  # not below its floor: see `clamp_temperature`
        return 1 / self.temperature.clamp(min=self.config.temperature_min)

    @can_return_tuple
    def get_video_features(
        self,
        pixel_values_videos: torch.Tensor,
        bool_masked_pos: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Any, ...] | BaseModelOutputWithPooling:
        """Embed clips; see `DualEncoder.get_video_features`.

        Args:
            pixel_values_videos: see there.
            bool_masked_pos: `(batch, patches)`, True on patches to leave out; see `ViCLIPVisionModel`.
            kwargs: for the video tower.
        """
        return self._embed_videos(pixel_values_videos, bool_masked_pos, **kwargs)

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        caption_ids: torch.Tensor | None = None,
        bool_masked_pos: torch.Tensor | None = None,
        return_loss: bool = False,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Any, ...] | VideoTextOutput:
        """Compare every video with every text; see `DualEncoder.forward`.

        Args:
            pixel_values_videos: see there.
            input_ids: see there.
            attention_mask: see there.
            caption_ids: see there.
            bool_masked_pos: `(videos, patches)`, True on patches to leave out; see `ViCLIPVisionModel`.
            return_loss: see there.
            kwargs: for both towers.
        """
        videos, texts = (pixel_values_videos, bool_masked_pos), (input_ids, attention_mask)
        return self._compare(videos, texts, caption_ids, return_loss, **kwargs)

    @torch.no_grad()
    def clamp_temperature(self) -> None:
        """Lift the temperature to its floor, if a step of the optimizer has taken it below.

        The parameter is changed, as in the original: a floor that only the forward saw would stop its gradient, and
        it would never leave the floor again.
        """
        self.temperature.clamp_(min=self.config.temperature_min)

    def raise_temperature(self) -> None:
        """Call `clamp_temperature`; a deprecated name."""
        warn_deprecated("raise_temperature is deprecated: call clamp_temperature.")
        self.clamp_temperature()


class ViCLIPForVideoClassification(VideoClassifier, ViCLIPPreTrainedModel):
    """ViCLIP's video tower with a linear classifier on its class token, for fine-tuning.

    The original published fine-tuned scores, but neither the code nor the heads: this one is new. A ViCLIP folder
    loads into it, with a fresh classifier.
    """

    backbone_groups = ("vision",)
    _keys_to_ignore_on_load_unexpected = [r"^(text_model|text_projection|visual_projection|temperature$)"]

    def __init__(self, config: ViCLIPConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        vision = of_type(config.vision_config, ViCLIPVisionConfig)
        self.vision_model = ViCLIPVisionModel._from_config(vision)
        self.classifier = nn.Linear(vision.hidden_size, known(config.num_labels))
        self.post_init()

    def classify(self, outputs: BaseModelOutputWithPooling) -> torch.Tensor:
        return self.classifier(outputs.pooler_output)


class ViCLIPForOpenSetClassification(OpenSetHead, ViCLIPForVideoClassification):
    """The classifier with evidential loss and uncertainty; its tensors have the same names."""


class ViCLIPForHandPrediction(HandPredictionHead, ViCLIPForVideoClassification):
    """The encoder with a linear head that predicts points in pixels; its tensors have the classifier's names."""


__all__ = [
    "ViCLIPForHandPrediction",
    "ViCLIPForOpenSetClassification",
    "ViCLIPForVideoClassification",
    "ViCLIPModel",
    "ViCLIPPreTrainedModel",
    "ViCLIPVisionModel",
    "ViCLIPVisionPreTrainedModel",
]
