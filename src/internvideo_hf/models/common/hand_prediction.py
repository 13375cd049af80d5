"""The head that predicts where hands will be, as Ego4D's future hand prediction asks it; or any other points."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.configuration_utils import PreTrainedConfig
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, can_return_tuple

from internvideo_hf.models.common.classification import VideoClassifier
from internvideo_hf.models.common.configuration import head_slices
from internvideo_hf.models.common.losses import count_in_all_processes

HAND_TIMES = ("pre_45", "pre_30", "pre_15", "pre_frame", "contact_frame")
"""Times that Ego4D annotates: 45, 30 and 15 frames before the precondition frame, that frame, and the contact."""

HAND_COORDINATES = ("left x", "left y", "right x", "right y")

HAND_LABELS = tuple(f"{time} {coordinate}" for time in HAND_TIMES for coordinate in HAND_COORDINATES)
"""Names of Ego4D's 20 numbers, in the order of the logits."""

BETA = 5.0  # pixels; where the smooth L1 loss turns from a parabola into a line


@dataclass
class HandPredictionOutput(ModelOutput):
    """Predicted points.

    Attributes:
        loss: smooth L1 loss, the mean over the known labels, float32, where labels were given.
        logits: `(batch, num_labels)`, coordinates in pixels, as the labels of its training, one point after the other,
            x before y; for Ego4D in the order of `HAND_LABELS`.
        hidden_states, attentions: of the encoder, where asked for.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class HandPredictionHead(VideoClassifier):
    """Turns a classifier into a predictor of points; goes before the class of the classifier, whose folders it loads.

    The model has `config.num_labels` outputs: 20 for Ego4D (`HAND_LABELS`), 2 for each point otherwise.
    """

    export_kind = None
    accepts_loss_kwargs = True  # a sum, divided by the known labels of the entire step: see `forward`

    def __init__(self, config: PreTrainedConfig):
        super().__init__(config)
        if config.problem_type not in (None, "regression") or head_slices(config):
            raise ValueError(
                f"A hand predictor gives each clip coordinates, and got problem_type={config.problem_type!r}, "
                f"label_heads={list(head_slices(config))}. Leave both out, and set num_labels to 2 for each point."
            )

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        labels: torch.Tensor | None = None,
        label_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Any, ...] | ModelOutput:
        """Predict points.

        Args:
            pixel_values_videos: normalized frames, `(batch, frames, channels, height, width)`.
            labels: true coordinates in pixels, best in those of `pixel_values_videos`, `(batch, num_labels)`; what
                unknown ones hold does not matter.
            label_mask: `(batch, num_labels)`, True or 1 on known labels; None if all are.
            kwargs: for the encoder; and `num_items_in_batch`, known labels of all batches and processes of a step,
                whose losses then add up to the mean over them. `VideoTrainer` counts them; transformers' `Trainer`
                counts unknown ones too, so that its loss is smaller by their fraction. Without it, the mean is over
                the known labels of this batch, in training over those of all processes.

        Raises:
            ValueError: if the shapes do not fit the model or each other.
        """
        num_items = kwargs.pop("num_items_in_batch", None)
        outputs = self.encoder(pixel_values_videos, return_dict=True, **kwargs)
        logits, loss = self.classify(outputs), None
        if labels is not None:
            total, count = point_loss(logits, labels, label_mask)
            processes = 1
            if num_items is not None:
                count = torch.as_tensor(num_items, device=total.device)
            elif self.training:
                count, processes = count_in_all_processes(count)
            loss = total * processes / count.clamp(min=1)
        return HandPredictionOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )

    def count_loss_items(self, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the number of known labels of a batch, over which the loss is averaged.

        Args:
            batch: with `labels`, and `label_mask` where some are unknown, as of `forward`.
        """
        return known_labels(batch["labels"], batch.get("label_mask")).sum()


def known_labels(labels: torch.Tensor, label_mask: torch.Tensor | None) -> torch.Tensor:
    """Return which labels are known, bool, `(batch, num_labels)`.

    Args:
        labels: `(batch, num_labels)`.
        label_mask: as of `HandPredictionHead.forward`.

    Raises:
        ValueError: if the shapes differ.
    """
    if label_mask is None:
        return torch.ones_like(labels, dtype=torch.bool)
    if label_mask.shape != labels.shape:
        raise ValueError(
            f"label_mask has the shape {tuple(label_mask.shape)}, expected that of the labels, {tuple(labels.shape)}: "
            "1 for each coordinate that is known."
        )
    return label_mask.bool()


def point_loss(
    logits: torch.Tensor, labels: torch.Tensor, label_mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the smooth L1 loss in float32, summed over the known labels, and their number.

    Args:
        logits: `(batch, num_labels)`, in pixels.
        labels: `(batch, num_labels)`.
        label_mask: as of `HandPredictionHead.forward`.

    Raises:
        ValueError: if the shapes differ.
    """
    if labels.shape != logits.shape:
        raise ValueError(
            f"The labels have the shape {tuple(labels.shape)}, expected {tuple(logits.shape)} (batch, num_labels): "
            "x and y of each point, in pixels of the clip."
        )
    is_known = known_labels(labels, label_mask).to(logits.device)
    targets = labels.to(logits.device).float()
    # Of unknown labels both are 0, whatever they hold.
    predictions, targets = (torch.where(is_known, values, 0) for values in (logits.float(), targets))
    total = nn.functional.smooth_l1_loss(predictions, targets, beta=BETA, reduction="sum")
    return total, is_known.sum()
