"""Short-term anticipation with VideoMAE: what will be done to each object of a clip's last frame, and when (Ego4D).

As in action detection, the feature of an object is the maximum over its box of the encoder's map. One head scores the
verbs; another tells the seconds until a hand touches the object, from the feature and a code of where the box lies.
The noun, and how likely the object is the next, come from the object detector that found the box.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, can_return_tuple

from internvideo_hf.models.common.kernels import project
from internvideo_hf.models.common.layers import sine_rows
from internvideo_hf.models.common.losses import IGNORED, known_label_loss, mean_of_items
from internvideo_hf.models.common.narrowing import known
from internvideo_hf.models.internvideo_mae.configuration_internvideo_mae import InternVideoMAEConfig
from internvideo_hf.models.internvideo_mae.modeling_internvideo_mae_detection import InternVideoMAEBoxModel


@dataclass
class InternVideoMAEForShortTermAnticipationOutput(ModelOutput):
    """What will be done to the object of each box, and when.

    Attributes:
        loss: weighted sum of both losses, of those whose labels were given.
        verb_loss: cross-entropy, the mean over the boxes with a verb.
        time_loss: smooth L1 loss of the seconds, the mean over the boxes with a time.
        logits: of the verbs, `(batch, boxes, num_labels)`; 0 at padded boxes.
        times: seconds to contact, `(batch, boxes)`, 0 or more; 0 at padded boxes.
        hidden_states, attentions: of the encoder.
    """

    loss: torch.Tensor | None = None
    verb_loss: torch.Tensor | None = None
    time_loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    times: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class InternVideoMAEForShortTermAnticipation(InternVideoMAEBoxModel):
    """The encoder with heads that tell the verb and the time to contact of objects whose boxes are given.

    Give each clip, which ends at the moment that is asked about, the boxes of objects in its last frame, from any
    object detector. Released models have a verb more than there are, which is never right, and place the cells of a
    box by their centers (`roi_aligned=True`).

    To fine-tune a pretrained encoder: `from_pretrained(folder, num_labels=75)`; a classifier: with
    `use_mean_pooling=False, ignore_mismatched_sizes=True` as well, since the norm of its average is none of tokens.
    """

    # The losses are means over the labels of a step, see `count_loss_items`.
    accepts_loss_kwargs = True
    task_name = "Short-term anticipation"

    def __init__(self, config: InternVideoMAEConfig):
        super().__init__(config)
        if config.problem_type not in (None, "single_label_classification"):
            raise ValueError(
                f"problem_type: got {config.problem_type!r}, expected 'single_label_classification': an object has "
                "one verb."
            )
        self.classifier = nn.Linear(config.hidden_size, known(config.num_labels))
        self.regressor = nn.Linear(config.hidden_size, 1)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        boxes: torch.Tensor,
        box_mask: torch.Tensor | None = None,
        *,
        pixel_mask: torch.Tensor | None = None,
        verb_labels: torch.Tensor | None = None,
        time_labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Any, ...] | InternVideoMAEForShortTermAnticipationOutput:
        """Score the verbs of each box, and tell the seconds to contact.

        Args:
            pixel_values_videos: as of `InternVideoMAEForVideoActionDetection.forward`.
            boxes: of the objects in the last frame of each clip, likewise.
            box_mask: likewise.
            pixel_mask: likewise.
            verb_labels: class number of each box, `(batch, boxes)`, int64; -100 where there is none.
            time_labels: seconds to contact, `(batch, boxes)`, float; NaN where there are none.
            kwargs: for the layers; and `num_items_in_batch`, `(2,)`, the verbs and times of all batches of a step,
                whose losses then add up to that of the step. `VideoTrainer` gives it in training.

        Raises:
            ValueError: if the shapes do not fit the model or each other, or a real box is not finite.
        """
        num_items: Any = kwargs.pop("num_items_in_batch", None) if self.training else None
        seen = self.look_at_boxes(pixel_values_videos, boxes, box_mask, pixel_mask, **kwargs)
        logits = self.classifier(seen.features)
        codes = encode_boxes(seen.boxes, seen.features.shape[-1]).to(seen.features)
        times = nn.functional.softplus(project(self.regressor, seen.features + codes)[..., 0]).to(logits.device)
        padding = ~seen.box_mask.to(logits.device)
        logits, times = logits.masked_fill(padding[..., None], 0.0), times.masked_fill(padding, 0.0)
        losses = self._losses((logits, times), seen.box_mask, verb_labels, time_labels, num_items)
        return InternVideoMAEForShortTermAnticipationOutput(
            *losses,
            logits=logits,
            times=times,
            hidden_states=seen.encoded.hidden_states,
            attentions=seen.encoded.attentions,
        )

    def count_loss_items(self, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the numbers of verbs and times of a batch, over which the losses are averaged, `(2,)`.

        Args:
            batch: arguments of `forward` by name.
        """
        verbs, times, mask = (batch.get(name) for name in ("verb_labels", "time_labels", "box_mask"))
        mask = torch.ones(batch["boxes"].shape[:2]) if mask is None else mask
        has_verb, has_time = _labeled(mask, verbs, times)
        return torch.stack([has_verb.sum(), has_time.sum()])

    def _losses(
        self,
        answers: tuple[torch.Tensor, torch.Tensor],
        box_mask: torch.Tensor,
        verb_labels: torch.Tensor | None,
        time_labels: torch.Tensor | None,
        num_items: torch.Tensor | None,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        """Return the weighted sum, and the loss of the verbs and of the times; None without labels."""
        for name, labels in (("verb_labels", verb_labels), ("time_labels", time_labels)):
            if labels is not None and labels.shape != box_mask.shape:
                raise ValueError(
                    f"{name} has the shape {tuple(labels.shape)}, expected {tuple(box_mask.shape)}: one for each box."
                )
        (logits, times), config = answers, self.config
        of_verbs, of_times = (None, None) if num_items is None else num_items.unbind()
        has_verb, has_time = (has.to(logits.device) for has in _labeled(box_mask, verb_labels, time_labels))
        verb_loss = time_loss = None
        losses = []
        if verb_labels is not None:
            targets = verb_labels.to(logits.device).masked_fill(~has_verb, IGNORED).flatten()
            verb_loss = known_label_loss(logits.flatten(0, 1), targets, self.training, of_verbs)
            losses.append(config.verb_loss_weight * verb_loss)
        if time_labels is not None:
            targets = torch.where(has_time, time_labels.to(logits.device).float(), 0.0)
            errors = nn.functional.smooth_l1_loss(times.float(), targets, reduction="none")
            total = errors.masked_fill(~has_time, 0.0).sum()
            time_loss = mean_of_items(total, has_time.sum(), self.training, of_times)
            losses.append(config.time_loss_weight * time_loss)
        return torch.stack(losses).sum() if losses else None, verb_loss, time_loss


def encode_boxes(boxes: torch.Tensor, width: int) -> torch.Tensor:
    """Return the code of where boxes lie: the sum of the position table's rows of their four edges.

    The released model looks the rows up in a table of `image_size ** 2` rows, and fails at edges beyond it. Here they
    are computed, so that there is no end; the rows are the same.

    Args:
        boxes: left, top, right, bottom, `(..., 4)`, pixels from 0 on, of which the whole ones count.
        width: channels.

    Returns:
        `(..., width)`, float32.
    """
    return sine_rows(boxes.long(), width).sum(dim=-2)


def _labeled(
    box_mask: torch.Tensor, verb_labels: torch.Tensor | None, time_labels: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which boxes have a verb, and which a time."""
    mask = box_mask.bool()
    none = torch.zeros_like(mask)
    has_verb = none if verb_labels is None else mask & (verb_labels != IGNORED).to(mask.device)
    has_time = none if time_labels is None else mask & ~time_labels.isnan().to(mask.device)
    return has_verb, has_time


__all__ = ["InternVideoMAEForShortTermAnticipation", "InternVideoMAEForShortTermAnticipationOutput", "encode_boxes"]
