"""The forward of a video classifier, and its loss."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_outputs import BaseModelOutputWithPooling, ImageClassifierOutput
from transformers.modeling_utils import PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, can_return_tuple

from internvideo_hf.models.common.base import VideoPreTrainedModel
from internvideo_hf.models.common.configuration import head_slices
from internvideo_hf.models.common.losses import IGNORED, known_label_loss


class ClassificationHead(VideoPreTrainedModel):
    """The result of a classifier, from its logits."""

    accepts_loss_kwargs = False  # the loss is a plain mean
    export_kind: ClassVar[str | None] = "classifier"
    output_class: type[ModelOutput] = ImageClassifierOutput

    def result(self, logits: torch.Tensor, labels: torch.Tensor | None, **outputs: Any) -> ModelOutput:
        """Return the output, with the loss of labels.

        Args:
            logits: `(batch, num_labels)`.
            labels: see `classification_loss`.
            outputs: other fields of the output.
        """
        loss = classification_loss(logits, labels, self.config)
        return self.output_class(loss=loss, logits=logits, **outputs)


class VideoClassifier(ClassificationHead):
    """A video encoder with a classification head; goes before the family's base class."""

    encoder_name = "vision_model"

    @property
    def encoder(self) -> PreTrainedModel:
        """The model that the head stands on."""
        encoder: PreTrainedModel = getattr(self, self.encoder_name)
        return encoder

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.encoder.set_input_embeddings(value)

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
    ) -> tuple[Any, ...] | ModelOutput:
        """Classify clips.

        Args:
            pixel_values_videos: normalized frames, `(batch, frames, channels, height, width)`.
            labels: see `classification_loss`.
            kwargs: for the encoder.
        """
        outputs = self.encoder(pixel_values_videos, return_dict=True, **kwargs)
        states = {"hidden_states": outputs.hidden_states, "attentions": outputs.attentions}
        return self.result(self.classify(outputs), labels, **states)


def classification_loss(
    logits: torch.Tensor, labels: torch.Tensor | None, config: PreTrainedConfig
) -> torch.Tensor | None:
    """Compute the loss of `config.problem_type` in float32; None without labels.

    As in transformers, except that soft targets without a problem type are those of mixup, not of several classes, and
    that labels of -100 are unknown and left out of every mean:

    - "single_label_classification": cross-entropy with class numbers `(batch,)` or soft targets `(batch, num_labels)`.
    - "multi_label_classification": binary cross-entropy with 0 or 1 for each class, `(batch, num_labels)`.
    - "regression": mean squared error with numbers `(batch, num_labels)`, or `(batch,)` if there is one.
    - None: regression for one label, otherwise the first.

    With `config.label_heads`, it is the sum of the heads' cross-entropies with class numbers `(batch, heads)`.

    Args:
        logits: `(batch, num_labels)`.
        labels: as above.
        config: of the model.

    Raises:
        ValueError: if labels have another shape, or class numbers are given to a model of one class.
    """
    if labels is None:
        return None
    logits, labels, one_label = logits.float(), labels.to(logits.device), logits.shape[-1] == 1
    if heads := head_slices(config):
        return _loss_of_heads(logits, labels, heads)
    problem_type = config.problem_type or ("regression" if one_label else "single_label_classification")
    if problem_type == "single_label_classification":
        return nn.functional.cross_entropy(logits, labels)
    if config.problem_type is None and not labels.is_floating_point():
        raise ValueError(
            "The model has one class, so class numbers teach it nothing. Give it two or more (num_labels), or set "
            "problem_type='regression' for numbers, 'multi_label_classification' for yes or no."
        )
    targets = labels[:, None] if one_label and labels.ndim == 1 else labels
    if targets.shape != logits.shape:
        raise ValueError(
            f"The labels have the shape {tuple(labels.shape)}, expected {tuple(logits.shape)} for problem_type="
            f"{problem_type!r}. For class numbers, set problem_type='single_label_classification'."
        )
    functions = nn.functional
    function = functions.mse_loss if problem_type == "regression" else functions.binary_cross_entropy_with_logits
    known = targets != IGNORED
    terms = function(logits, torch.where(known, targets, 0).float(), reduction="none")
    return (terms * known).sum() / known.sum().clamp(min=1)


def _loss_of_heads(logits: torch.Tensor, labels: torch.Tensor, heads: Mapping[str, slice]) -> torch.Tensor:
    if labels.shape != (len(logits), len(heads)) or labels.is_floating_point():
        raise ValueError(
            f"The labels are {labels.dtype} of the shape {tuple(labels.shape)}, expected class numbers "
            f"{(len(logits), len(heads))}, one for each of {', '.join(heads)}."
        )
    losses = [known_label_loss(logits[:, place], labels[:, number]) for number, place in enumerate(heads.values())]
    return torch.stack(losses).sum()
