"""InternVideo-MM (arXiv 2212.03191, section 3.1): videos and sentences in one space, captions, answers to questions.

A UniFormerV2 tower for video and CLIP's text transformer, both started from CLIP and trained further on videos.
Differences from CLIP: the video tower (see `modeling_uniformerv2.py`), a learned embedding for masked words, and a
text feature read at the largest token id, which is the end-of-text token. Beside the towers, a decoder of captions
(see `decoder_internvideo_mm.py`), trained with them, and a head for questions, fine-tuned behind all three.

Released: B/16 (178 M parameters without the decoder, 512 shared dimensions) and L/14 (478 M, 768).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel
from transformers import initialization as init
from transformers.cache_utils import EncoderDecoderCache
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.clip.modeling_clip import CLIPAttention
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, can_return_tuple

from internvideo_hf.models.common.base import VideoPreTrainedModel
from internvideo_hf.models.common.captions import CaptionGenerationMixin, new_cache
from internvideo_hf.models.common.deprecation import warn_deprecated
from internvideo_hf.models.common.dual_encoder import DualEncoder, Projection, TextEmbeddings, end_of_text
from internvideo_hf.models.common.layers import eager_attention_forward
from internvideo_hf.models.common.losses import IGNORED, known_label_loss, next_token_loss
from internvideo_hf.models.common.narrowing import known, of_type
from internvideo_hf.models.common.outputs import VideoTextOutput
from internvideo_hf.models.internvideo_mm.configuration_internvideo_mm import (
    InternVideoMMConfig,
)
from internvideo_hf.models.internvideo_mm.decoder_internvideo_mm import (
    InternVideoMMAnswerHead,
    InternVideoMMCaptionDecoder,
    InternVideoMMCaptionHead,
)
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


class InternVideoMMTextAttention(CLIPAttention):
    """CLIP's attention, which can go on behind tokens whose keys and values a cache holds."""

    def __init__(self, config: CLIPTextConfig, layer: int):
        super().__init__(config)
        self.layer = layer

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        cache: EncoderDecoderCache | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend; see CLIP's attention.

        Args:
            hidden_states: `(b, n, c)`.
            attention_mask: of transformers' `create_causal_mask`.
            cache: keys and values of earlier tokens; changed in place.
            kwargs: for the attention kernel.
        """
        if cache is None:
            return super().forward(hidden_states, attention_mask, **kwargs)
        split = (*hidden_states.shape[:-1], self.num_heads, self.head_dim)
        query, key, value = (
            layer(hidden_states).view(split).transpose(1, 2) for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        key, value = cache.self_attention_cache.update(key, value, self.layer)
        attend: Callable[..., Any] = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        dropout = self.dropout if self.training else 0.0
        attended, probabilities = attend(
            self, query, key, value, attention_mask, scaling=self.scale, dropout=dropout, **kwargs
        )
        return self.out_proj(attended.flatten(2)), probabilities


class InternVideoMMTextModel(CLIPTextModel):
    """CLIP's text model, whose embeddings know masked words, and whose attention knows a cache."""

    _no_split_modules = ["InternVideoMMTextEmbeddings", "CLIPEncoderLayer"]

    def __init__(self, config: CLIPTextConfig):
        super().__init__(config)
        self.embeddings = InternVideoMMTextEmbeddings(config)
        for number, layer in enumerate(self.encoder.layers):
            layer.self_attn = InternVideoMMTextAttention(config, number)
        self.post_init()

    def _initialize_weights(self, module: nn.Module, is_custom_code: bool = False) -> None:
        # In models of others, transformers passes over modules without own parameters, such as those that initialize
        # the layers of CLIP's text tower.
        super()._initialize_weights(module, is_custom_code=False)

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
        r"caption_decoder\.(?:pooler|text_layer_norm)": "decoder.pooler",
        r"caption_decoder\.layers\.(\d+)": "decoder.layers.{}",
        r"caption_head": "decoder.head",
    }
    backbone_groups = ("vision", "text")

    def frames_step(self) -> int | None:
        """See `VideoPreTrainedModel.frames_step`."""
        return 2 if of_type(self.config.vision_config, UniFormerV2Config).temporal_downsampling else 1

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, InternVideoMMModel | InternVideoMMForQuestionAnswering):
            init.constant_(of_type(module.logit_scale, torch.Tensor), self.config.logit_scale_init_value)

    def _new_caption_decoder(self) -> InternVideoMMCaptionDecoder:
        if self.config.decoder_config is None:
            raise ValueError(
                "The configuration has no decoder_config: this model holds no caption decoder. Load it with "
                "AutoModel, as a dual encoder, or convert the released file that has one."
            )
        text_layers = of_type(self.config.text_config, CLIPTextConfig).num_hidden_layers
        return InternVideoMMCaptionDecoder._from_config(self.config.decoder_config, first_cache_layer=text_layers)

    def _pool_tokens(self, video_tokens: torch.Tensor | None, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        """Pool the video tower's tokens for the caption decoder, `(clips, num_visual_queries, hidden_size)`."""
        decoder, tokens = of_type(self.caption_decoder, InternVideoMMCaptionDecoder), known(video_tokens)
        if decoder.config.mark_positions:
            tower = of_type(self.vision_model, UniFormerV2Model)
            tokens = tower.mark_positions(tokens, *pixel_values_videos.shape[-2:])
        pooled: torch.Tensor = decoder.pooler(tokens)
        return pooled


def _projection(width: int, projection_dim: int | None) -> nn.Module:
    return nn.Identity() if projection_dim is None else Projection(width, projection_dim)


class InternVideoMMModel(DualEncoder, InternVideoMMPreTrainedModel):
    """The InternVideo-MM dual encoder: embeddings of videos and texts, and their similarity.

    It also loads out of the folder of a model that holds more.
    """

    _keys_to_ignore_on_load_unexpected: list[str] | None = [r"^(caption_decoder|caption_head|classifier)\."]

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


@dataclass
class InternVideoMMGenerationOutput(VideoTextOutput):
    """The result of a model of videos and captions; see also `VideoTextOutput`.

    Attributes:
        loss: the sum of the two losses, as far as they were asked for.
        contrastive_loss: of videos and texts.
        caption_loss: cross-entropy of the next token, a mean over the tokens of all texts.
        logits: scores of the next token behind each token, `(texts, tokens, vocab_size)`.
        cache: keys and values of the tokens so far, where one was given or `use_cache` was set.
    """

    contrastive_loss: torch.Tensor | None = None
    caption_loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    cache: EncoderDecoderCache | None = None


class InternVideoMMForConditionalGeneration(InternVideoMMModel, CaptionGenerationMixin):
    """InternVideo-MM with its caption decoder: similarity of videos and texts, and captions."""

    export_kind = "captioner"
    main_input_name = "input_ids"  # of `generate`: what it continues
    _keys_to_ignore_on_load_unexpected = None

    def __init__(self, config: InternVideoMMConfig):
        super().__init__(config)
        self.caption_decoder = self._new_caption_decoder()
        text = of_type(config.text_config, CLIPTextConfig)
        self.caption_head = InternVideoMMCaptionHead(self.caption_decoder.config, text.vocab_size)
        self.post_init()
        known(self.generation_config).max_length = text.max_position_embeddings

    def get_output_embeddings(self) -> nn.Module:
        return self.caption_head.fc2

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.caption_head.fc2 = of_type(new_embeddings, nn.Linear)

    def get_visual_tokens(
        self, pixel_values_videos: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> torch.Tensor:
        """Encode clips for the caption decoder.

        Args:
            pixel_values_videos: normalized frames, `(batch, frames, channels, height, width)`.
            kwargs: for the video tower.

        Returns:
            `(batch, num_visual_queries, hidden_size)`.
        """
        outputs = self.vision_model(pixel_values_videos, return_dict=True, **kwargs)
        return self._pool_tokens(outputs.last_hidden_state, pixel_values_videos)

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        caption_ids: torch.Tensor | None = None,
        return_loss: bool = False,
        visual_tokens: torch.Tensor | None = None,
        cache: EncoderDecoderCache | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Any, ...] | InternVideoMMGenerationOutput:
        """Compare videos with texts, and predict each token of a text from its video and the tokens before.

        Args:
            pixel_values_videos: `(videos, frames, channels, height, width)`.
            input_ids: `(texts, tokens)`; text `i` is that of video `i`.
            attention_mask: `(texts, tokens)`, 0 on padding, which must come last.
            labels: tokens to predict, `(texts, tokens)`, each from those before it; -100 is ignored. By default, with
                `return_loss`, `input_ids` without padding.
            caption_ids: see `DualEncoder.forward`.
            return_loss: add the contrastive and the caption loss.
            visual_tokens: of `get_visual_tokens`, in place of pixels; videos and texts are then not compared.
            cache: keys and values of the tokens before `input_ids`; changed in place.
            use_cache: without `cache`, begin one.
            logits_to_keep: return the scores behind the last so many tokens; 0 for all.
            kwargs: for both towers and the decoder.

        Raises:
            ValueError: if videos and texts differ in number, or neither pixels nor visual tokens are given.
        """
        if visual_tokens is None and pixel_values_videos is None:
            raise ValueError("Got no clips: pass pixel_values_videos, or the visual_tokens of get_visual_tokens.")
        if input_ids is None:
            raise ValueError("Got no text: pass input_ids.")
        if visual_tokens is None and use_cache:
            visual_tokens = self.get_visual_tokens(known(pixel_values_videos))
        if visual_tokens is None:
            videos, texts = (known(pixel_values_videos),), (input_ids, attention_mask)
            outputs = self._compare_and_decode(videos, texts, caption_ids, return_loss, **kwargs)
            if return_loss and labels is None:
                visible = torch.ones_like(input_ids) if attention_mask is None else attention_mask
                labels = input_ids.masked_fill(visible == 0, IGNORED)
        else:
            cache = new_cache() if use_cache and cache is None else cache
            hidden_states = self._decode(input_ids, attention_mask, visual_tokens, cache, **kwargs)
            logits = self.caption_head(hidden_states[:, -logits_to_keep:])
            outputs = InternVideoMMGenerationOutput(logits=logits, cache=cache)
        if labels is not None:
            outputs.caption_loss = next_token_loss(known(outputs.logits), labels, over_processes=self.training)
            contrastive = outputs.contrastive_loss
            outputs.loss = outputs.caption_loss
            if contrastive is not None:
                outputs.loss = outputs.loss + contrastive.to(outputs.loss.device)  # a device map may divide them
        return outputs

    def _compare_and_decode(
        self,
        video_inputs: tuple[torch.Tensor, ...],
        text_inputs: tuple[torch.Tensor, torch.Tensor | None],
        caption_ids: torch.Tensor | None,
        return_loss: bool,
        **kwargs: Any,
    ) -> InternVideoMMGenerationOutput:
        if self.training and self.grad_cache is not None:
            raise ValueError("grad_cache keeps no tokens for the caption decoder. Set it to None, or accumulate.")
        compared = self._compare(video_inputs, text_inputs, caption_ids, return_loss, **kwargs)
        text_tokens = known(known(compared.text_model_output).last_hidden_state)
        video_tokens = known(known(compared.video_model_output).last_hidden_state)
        videos, texts = video_tokens.shape[0], text_tokens.shape[0]  # not len, which an exporter takes for a constant
        if videos != texts:
            raise ValueError(
                f"Got {videos} videos and {texts} texts, expected one text a video: the decoder "
                "reads each text with its video. To compare all with all, load the dual encoder, by AutoModel."
            )
        mask = self._causal_mask(text_tokens, text_inputs[1], None)
        visual_tokens = self._pool_tokens(video_tokens, video_inputs[0])
        hidden_states = self.caption_decoder(text_tokens, visual_tokens, 0, mask)
        outputs = InternVideoMMGenerationOutput(**compared, logits=self.caption_head(hidden_states))
        outputs.contrastive_loss = outputs.loss
        return outputs

    def _decode(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        visual_tokens: torch.Tensor,
        cache: EncoderDecoderCache | None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Run the text tower and the decoder on the tokens that follow those in the cache."""
        first = 0 if cache is None else cache.get_seq_length()
        longest = of_type(self.config.text_config, CLIPTextConfig).max_position_embeddings
        if first + input_ids.shape[1] > longest:
            raise ValueError(
                f"The text has {first + input_ids.shape[1]} tokens, expected at most {longest}. Generate fewer: "
                "max_new_tokens and the beginning together."
            )
        positions = torch.arange(first, first + input_ids.shape[1], device=input_ids.device)[None]
        mask = self._causal_mask(visual_tokens[:, :1].expand(-1, input_ids.shape[1], -1), attention_mask, cache)
        text_outputs = self.text_model(
            input_ids, attention_mask=mask, position_ids=positions, cache=cache, return_dict=True, **kwargs
        )
        decoded: torch.Tensor = self.caption_decoder(
            text_outputs.last_hidden_state, visual_tokens, first, mask, cache, **kwargs
        )
        return decoded

    def _causal_mask(self, embeddings: torch.Tensor, attention_mask: torch.Tensor | None, cache: Any) -> Any:
        # Made once, before either of the two stacks that it is for adds keys to the cache.
        return create_causal_mask(self.caption_decoder.config, embeddings, attention_mask, cache, layer_idx=0)


@dataclass
class InternVideoMMAnswerOutput(ModelOutput):
    """The result of a model of answers to questions.

    Attributes:
        loss: cross-entropy, a mean over the questions whose answer is in the list.
        logits: scores of the answers, `(questions, num_labels)`.
        video_model_output, text_model_output: of the towers, with hidden states and attentions where asked for.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    video_model_output: BaseModelOutputWithPooling | None = None
    text_model_output: BaseModelOutputWithPooling | None = None


class InternVideoMMForQuestionAnswering(InternVideoMMPreTrainedModel):
    """InternVideo-MM that chooses the answer to a question about a video, from a list.

    The answer is read off the decoder's state at the end of the question, the video's feature and the question's, in
    this order. Towers have no projections, and the decoder has no head. `config.id2label` names the answers.
    """

    input_modalities = ["video", "text"]
    accepts_loss_kwargs = False  # the loss is a mean over the questions of the call
    layer_group_rules = {
        **{
            rule: group
            for rule, group in InternVideoMMPreTrainedModel.layer_group_rules.items()
            if not group.startswith("head")
        },
        r"post_layernorm|logit_scale": "vision.output",
        r"classifier": "head",
    }

    def __init__(self, config: InternVideoMMConfig):
        super().__init__(config)
        vision, text = of_type(config.vision_config, UniFormerV2Config), of_type(config.text_config, CLIPTextConfig)
        self.vision_model = UniFormerV2Model._from_config(vision)
        self.text_model = InternVideoMMTextModel._from_config(text)
        self.post_layernorm = nn.LayerNorm(vision.hidden_size, eps=vision.layer_norm_eps)
        self.caption_decoder = self._new_caption_decoder()
        width = vision.hidden_size + 2 * text.hidden_size
        eps = self.caption_decoder.config.layer_norm_eps
        self.classifier = InternVideoMMAnswerHead(width, known(config.num_labels), config.classifier_dropout, eps)
        # Released files hold it, though without projections nothing reads it.
        self.register_buffer("logit_scale", torch.tensor(float(config.logit_scale_init_value)))
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.text_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.text_model.set_input_embeddings(value)

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Any, ...] | InternVideoMMAnswerOutput:
        """Answer questions.

        Args:
            pixel_values_videos: one clip a question, or one for all, `(clips, frames, channels, height, width)`.
            input_ids: `(questions, tokens)`; the end-of-text token must be the largest id of each row.
            attention_mask: `(questions, tokens)`, 0 on padding. Not needed: padding comes last, which nothing sees.
            labels: number of the right answer, `(questions,)`; -100 where it is not in the list.
            kwargs: for both towers.

        Raises:
            ValueError: if clips and questions differ in number.
        """
        clips = self.vision_model(pixel_values_videos, return_dict=True, **kwargs)
        texts = self.text_model(input_ids, attention_mask=attention_mask, return_dict=True, **kwargs)
        video, text_tokens = self.post_layernorm(clips.pooler_output), texts.last_hidden_state
        videos, questions = video.shape[0], input_ids.shape[0]
        if videos != 1 and videos != questions:
            raise ValueError(
                f"Got {videos} clips and {questions} questions, expected a clip for each, or one for all."
            )
        mask = create_causal_mask(self.caption_decoder.config, text_tokens, attention_mask, None)
        visual_tokens = self._pool_tokens(clips.last_hidden_state, pixel_values_videos).expand(questions, -1, -1)
        decoded = self.caption_decoder(text_tokens, visual_tokens, 0, mask)
        parts = [end_of_text(decoded, input_ids), video.expand(questions, -1), end_of_text(text_tokens, input_ids)]
        # A device map may divide them.
        logits = self.classifier(torch.cat([part.to(decoded.device) for part in parts], dim=-1))
        loss = None if labels is None else known_label_loss(logits, labels, over_processes=self.training)
        return InternVideoMMAnswerOutput(loss, logits, clips, texts)


__all__ = [
    "InternVideoMMForConditionalGeneration",
    "InternVideoMMForQuestionAnswering",
    "InternVideoMMModel",
    "InternVideoMMPreTrainedModel",
]
