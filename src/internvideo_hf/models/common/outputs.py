"""What the models return, where transformers has no class for it."""

from dataclasses import dataclass

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput


@dataclass
class VideoTextOutput(ModelOutput):
    """The result of a dual encoder of video and text.

    Attributes:
        loss: the contrastive loss, where `return_loss` was set.
        logits_per_video: similarity by the learned temperature, `(videos, texts)`.
        logits_per_text: its transpose, `(texts, videos)`.
        video_embeds: projected video embeddings of length 1, `(videos, projection_dim)`.
        text_embeds: projected text embeddings of length 1, `(texts, projection_dim)`.
        video_model_output, text_model_output: what `get_video_features` and `get_text_features` returned.
    """

    loss: torch.Tensor | None = None
    logits_per_video: torch.Tensor | None = None
    logits_per_text: torch.Tensor | None = None
    video_embeds: torch.Tensor | None = None
    text_embeds: torch.Tensor | None = None
    video_model_output: BaseModelOutputWithPooling | None = None
    text_model_output: BaseModelOutputWithPooling | None = None
