"""The forward of a video classifier, and its loss."""

from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling, ImageClassifierOutput
from transformers.modeling_utils import PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple

from internvideo_hf.models.common.base import VideoPreTrainedModel


class VideoClassifier(VideoPreTrainedModel):
    """A video encoder with a classification head; goes before the family's base class."""

    accepts_loss_kwargs = False  # the loss is a plain mean

    encoder_name = "vision_model"

    @property
    def encoder(self) -> PreTrainedModel:
        """The model that the head stands on."""
        encoder: PreTrainedModel = getattr(self, self.encoder_name)
        return encoder

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.get_input_embeddings()

    def classify(self, outputs: BaseModelOutputWithPooling) -> torch.Tensor:
        """Compute the logits `(batch, num_labels)`.

        Args:
            outputs: of the encoder.
        """
        raise NotImplementedError

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Any, ...] | ImageClassifierOutput:
        """Classify clips.

        Args:
            pixel_values_videos: normalized frames, `(batch, frames, channels, height, width)`.
            labels: class numbers `(batch,)`, or soft targets `(batch, num_labels)`.
            kwargs: for the encoder.
        """
        outputs = self.encoder(pixel_values_videos, return_dict=True, **kwargs)
        logits = self.classify(outputs)
        return ImageClassifierOutput(
            loss=classification_loss(logits, labels),
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def classification_loss(logits: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor | None:
    """Compute the cross-entropy in float32; None without labels.

    Args:
        logits: `(batch, num_labels)`.
        labels: class numbers `(batch,)`, or soft targets `(batch, num_labels)`.
    """
    return None if labels is None else nn.functional.cross_entropy(logits.float(), labels)
