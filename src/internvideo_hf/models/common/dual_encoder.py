"""Dual encoders of video and text: embeddings, similarities, contrastive loss."""

from functools import partial
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_utils import PreTrainedModel
from transformers.models.clip.modeling_clip import CLIPTextEmbeddings
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple

from internvideo_hf.models.common.base import VideoPreTrainedModel, init_weight_with
from internvideo_hf.models.common.losses import contrastive_loss, encode_in_chunks, gathered_contrastive_loss
from internvideo_hf.models.common.narrowing import known
from internvideo_hf.models.common.outputs import VideoTextOutput

NO_SHARED_SPACE = (
    "This model has no shared space for video and text (projection_dim=None, as question-answering checkpoints), so "
    "it cannot compare them. Use a checkpoint with projections, or get_video_features and get_text_features alone."
)


def end_of_text(tokens: torch.Tensor, input_ids: torch.Tensor) -> torch.Tensor:
    """Return each text's token at its end, which has the largest id of the text.

    Not by one configured id, as CLIP's own pooling: vocabularies differ.

    Args:
        tokens: `(texts, tokens, c)`.
        input_ids: `(texts, tokens)`.

    Returns:
        `(texts, c)`.
    """
    ends = input_ids.to(torch.int).argmax(dim=-1).to(tokens.device)
    rows = torch.arange(input_ids.shape[0], device=tokens.device)  # not len(): exported for any number
    return tokens[rows, ends]


class Projection(nn.Linear):
    """A linear map without bias from a tower's width into the shared space."""

    def __init__(self, width: int, projection_dim: int):
        super().__init__(width, projection_dim, bias=False)
        init_weight_with(partial(init.normal_, std=width**-0.5), self)


class TextEmbeddings(CLIPTextEmbeddings):
    """CLIP's text embeddings, of which a device map may put the two tables on different devices."""

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Embed tokens; see `CLIPTextEmbeddings`.

        Args:
            input_ids: `(b, n)`.
            position_ids: `(b, n)` or `(1, n)`; 0 to `n - 1` if None.
            inputs_embeds: `(b, n, c)`, in place of `input_ids`.
        """
        embeddings: torch.Tensor = self.token_embedding(input_ids) if inputs_embeds is None else inputs_embeds
        length, longest = embeddings.shape[1], self.position_embedding.num_embeddings
        if length > longest:
            raise ValueError(f"Got texts of {length} tokens, expected at most {longest} (max_position_embeddings).")
        position_ids = self.position_ids[:, :length] if position_ids is None else position_ids
        positions: torch.Tensor = self.position_embedding(position_ids)
        return embeddings + positions.to(embeddings.device)


class DualEncoder(VideoPreTrainedModel):
    """Embeddings of videos and texts, and their similarity.

    Attributes:
        grad_cache: pairs that go through the towers at once in training, which changes memory and time, and no
            gradient but through batch norms (`losses.encode_in_chunks`; `batch_norm` of `VideoTrainingArguments`);
            None for all. The outputs then hold no towers' own outputs.
    """

    export_kind: ClassVar[str | None] = "dual_encoder"
    input_modalities = ["video", "text"]
    grad_cache: int | None = None
    # The loss is a mean over pairs; see "accepts_loss_kwargs" in transformers' Trainer for what this prevents.
    accepts_loss_kwargs = False

    vision_model: PreTrainedModel
    text_model: PreTrainedModel
    visual_projection: nn.Module
    text_projection: nn.Module

    def cosine_scale(self) -> torch.Tensor | float:
        """Return the factor on the cosines."""
        raise NotImplementedError

    def clamp_temperature(self) -> None:
        """Bring the learned temperature back into its range, as `forward` does in training."""
        raise NotImplementedError

    def get_input_embeddings(self) -> nn.Module:
        return self.text_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.text_model.set_input_embeddings(value)

    @can_return_tuple  # type: ignore[untyped-decorator]
    def get_video_features(
        self, pixel_values_videos: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[Any, ...] | BaseModelOutputWithPooling:
        """Embed clips.

        Args:
            pixel_values_videos: normalized frames, `(batch, frames, channels, height, width)`, or single images
                `(batch, channels, height, width)`; any number of frames.
            kwargs: for the video tower.

        Returns:
            `pooler_output`: the projected embeddings, not normalized, `(batch, projection_dim)`;
            `last_hidden_state`: the video tower's tokens, `(batch, tokens, hidden_size)`.
        """
        return self._embed_videos(pixel_values_videos, **kwargs)

    @can_return_tuple  # type: ignore[untyped-decorator]
    def get_text_features(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Any, ...] | BaseModelOutputWithPooling:
        """Embed texts.

        Args:
            input_ids: token ids, `(batch, tokens)`, at most as many as `text_config.max_position_embeddings`; the
                end-of-text token must be the largest id of each row. For longer texts, convert with another
                `max_position_embeddings`: the table of positions is re-sampled then, once, since one that depended on
                the longest text of a batch would give a text other embeddings in other company.
            attention_mask: `(batch, tokens)`, 0 on padding. Not needed: attention is causal and padding comes last.
            kwargs: for the text tower.

        Returns:
            `pooler_output`: the projected embeddings, not normalized, `(batch, projection_dim)`;
            `last_hidden_state`: `(batch, tokens, hidden_size)`.
        """
        return self._embed_texts(input_ids, input_ids, attention_mask, **kwargs)

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        caption_ids: torch.Tensor | None = None,
        return_loss: bool = False,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Any, ...] | VideoTextOutput:
        """Compare every video with every text.

        Args:
            pixel_values_videos: `(videos, frames, channels, height, width)`.
            input_ids: `(texts, tokens)`.
            attention_mask: `(texts, tokens)`, 0 on padding.
            caption_ids: `(texts,)`, whole numbers, equal where captions are the same: each is then a true partner of
                the other's video as well. None: all captions differ.
            return_loss: add the contrastive loss; video `i` must belong to text `i`. In training with several
                processes it is the loss of all their pairs, whose gradient is true in each of them.
            kwargs: for both towers.

        Raises:
            ValueError: if the model has no projections (`projection_dim=None`), as question-answering models.
        """
        return self._compare((pixel_values_videos,), (input_ids, attention_mask), caption_ids, return_loss, **kwargs)

    def _embed_videos(self, *inputs: torch.Tensor | None, **kwargs: Any) -> BaseModelOutputWithPooling:
        outputs: BaseModelOutputWithPooling = self.vision_model(*inputs, return_dict=True, **kwargs)
        outputs.pooler_output = self._project_video(outputs.pooler_output)
        return outputs

    def _project_video(self, pooled: torch.Tensor | None) -> torch.Tensor:
        projected: torch.Tensor = self.visual_projection(pooled)
        return projected

    def _embed_texts(
        self, tokens: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor | None, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        """Embed texts of which the tower sees `tokens`; their ends are found in `input_ids`."""
        outputs: BaseModelOutputWithPooling = self.text_model(
            tokens, attention_mask=attention_mask, return_dict=True, **kwargs
        )
        outputs.pooler_output = self.text_projection(end_of_text(known(outputs.last_hidden_state), input_ids))
        return outputs

    def _compare(
        self,
        video_inputs: tuple[torch.Tensor | None, ...],
        text_inputs: tuple[torch.Tensor | None, ...],
        caption_ids: torch.Tensor | None,
        return_loss: bool,
        **kwargs: Any,
    ) -> VideoTextOutput:
        """Compare videos and texts, given the arguments of `get_video_features` and `get_text_features`."""
        if isinstance(self.visual_projection, nn.Identity):
            raise ValueError(NO_SHARED_SPACE)
        if self.training:
            self.clamp_temperature()
        embed_videos = partial(self.get_video_features, return_dict=True, **kwargs)
        embed_texts = partial(self.get_text_features, return_dict=True, **kwargs)
        video_outputs = text_outputs = None
        if self.training and self.grad_cache is not None:
            chunk = self.grad_cache
            video = encode_in_chunks(lambda *inputs: embed_videos(*inputs).pooler_output, chunk, *video_inputs)
            text = encode_in_chunks(lambda *inputs: embed_texts(*inputs).pooler_output, chunk, *text_inputs)
        else:
            video_outputs, text_outputs = embed_videos(*video_inputs), embed_texts(*text_inputs)
            video, text = video_outputs.pooler_output, text_outputs.pooler_output
        video_embeds = nn.functional.normalize(video, dim=-1)
        text_embeds = nn.functional.normalize(text, dim=-1).to(video_embeds.device)
        logit_scale = self.cosine_scale()
        if isinstance(logit_scale, torch.Tensor):
            logit_scale = logit_scale.to(video_embeds.device)
        logits_per_video = logit_scale * video_embeds @ text_embeds.T
        loss = None
        if return_loss and self.training:
            loss = gathered_contrastive_loss(video_embeds, text_embeds, logit_scale, caption_ids)
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


def comparison_problem(model: nn.Module, tokenizer: Any = None) -> str | None:
    """Return why a model cannot score video-text pairs, or None if it can.

    Args:
        model: any model.
        tokenizer: its tokenizer; None where its folder has none.
    """
    for method in ("get_video_features", "get_text_features"):
        if not hasattr(model, method):
            return (
                f"{type(model).__name__} has no {method}: a model of video and text is needed, such as "
                "InternVideoMMModel."
            )
    config: Any = model.config
    if getattr(config, "projection_dim", 1) is None:
        return NO_SHARED_SPACE
    vocabulary = config.text_config.vocab_size
    if tokenizer is not None and len(tokenizer) != vocabulary:
        return (
            f"The folder's tokenizer has {len(tokenizer)} tokens and its model {vocabulary}: a file is missing. "
            "Convert again."
        )
    return None
