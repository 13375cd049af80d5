"""Action detection with VideoMAE: what each person of a clip's key frame does, as AVA and AVA-Kinetics ask it.

The encoder's tokens, averaged over time, are a map of the clip. RoIAlign cuts each person's box out of it, the maximum
over the box's cells is the person's feature, and a head scores all actions independently of each other.

Released: ViT-H with a linear head of AVA's 80 actions. ACAR's head (arXiv 2006.07976) also compares what is around the
people of a frame; the original has it, and no released file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import roi_align
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, can_return_tuple

from internvideo_hf.models.common.base import init_weight_with, torch_default_
from internvideo_hf.models.common.layers import as_clips
from internvideo_hf.models.common.narrowing import known
from internvideo_hf.models.internvideo_mae.configuration_internvideo_mae import InternVideoMAEConfig
from internvideo_hf.models.internvideo_mae.modeling_internvideo_mae import (
    InternVideoMAEModel,
    InternVideoMAEPreTrainedModel,
    measure_clips,
)

RELATION_DROPOUT = 0.2  # of ACAR's head, in training only


@dataclass
class InternVideoMAEForVideoActionDetectionOutput(ModelOutput):
    """Actions of each box.

    Attributes:
        loss: binary cross-entropy, summed over the real boxes of the batch and averaged over the actions, where labels
            were given.
        logits: `(batch, boxes, num_labels)`; each action's probability is its sigmoid; 0 at padded boxes.
        hidden_states, attentions: of the encoder.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


def pad_boxes(boxes: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad the boxes of several clips to one tensor, as `InternVideoMAEForVideoActionDetection` takes them.

    Args:
        boxes: of each clip, `(n, 4)`: left, top, right, bottom; n may differ, and be 0.

    Returns:
        The boxes, `(clips, largest n, 4)`, float32, and `box_mask`, bool, `(clips, largest n)`, True on real ones.
        `logits[box_mask]` has the rows of all clips' boxes, one after the other.

    Raises:
        ValueError: if boxes have another shape, or there are no clips.
    """
    for entry in boxes:
        if entry.ndim != 2 or entry.shape[1] != 4:
            raise ValueError(f"boxes: got a tensor of the shape {tuple(entry.shape)}, expected (boxes, 4) of a clip.")
    if not len(boxes):
        raise ValueError("boxes: got no clips, expected a tensor (boxes, 4) for each, which may have no rows.")
    padded = pad_sequence([entry.float() for entry in boxes], batch_first=True)
    counts = torch.tensor([len(entry) for entry in boxes], device=padded.device)
    return padded, torch.arange(padded.shape[1], device=padded.device) < counts[:, None]


class InternVideoMAEBoxPooler(nn.Module):
    """RoIAlign, and the maximum over the cells of each box."""

    def __init__(self, config: InternVideoMAEConfig):
        super().__init__()
        self.size = config.roi_size
        self.scale = config.roi_scale or 1 / config.patch_size
        self.sampling_ratio = config.roi_sampling_ratio
        self.aligned = config.roi_aligned

    def align(self, feature_maps: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Cut boxes out of maps, `(batch * boxes, c, roi_size, roi_size)`, float32.

        Args:
            feature_maps: `(batch, c, h, w)`.
            boxes: `(batch, boxes, 4)`, in pixels.
        """
        batch, count = boxes.shape[:2]
        numbers = torch.arange(batch, device=boxes.device).repeat_interleave(count)
        regions = torch.cat([numbers[:, None].float(), boxes.flatten(0, 1)], dim=1)
        # In float32: the kernel for the CPU knows no bfloat16.
        return roi_align(feature_maps.float(), regions, self.size, self.scale, self.sampling_ratio, self.aligned)

    def forward(self, feature_maps: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Return the feature of each box, `(batch, boxes, c)`."""
        features = self.align(feature_maps, boxes).amax(dim=(2, 3)).to(feature_maps.dtype)
        return features.unflatten(0, boxes.shape[:2])


class InternVideoMAERelation(nn.Module):
    """Let each person's context look at those of the others in the frame, place by place."""

    def __init__(self, size: int):
        super().__init__()
        self.query, self.key, self.value, self.out = (
            nn.Conv2d(size, size, kernel_size=3, padding=1, bias=False) for _ in range(4)
        )
        self.norm = nn.GroupNorm(1, size)
        self.dropout = nn.Dropout(RELATION_DROPOUT)
        init_weight_with(torch_default_, self.query, self.key, self.value, self.out)

    def forward(self, contexts: torch.Tensor) -> torch.Tensor:
        """Return contexts that have seen each other.

        Args:
            contexts: of the boxes of one clip, `(boxes, c, h, w)`.
        """
        scores = torch.einsum("ichw,jchw->hwij", self.query(contexts), self.key(contexts)) / contexts.shape[1] ** 0.5
        seen = torch.einsum("hwij,jchw->ichw", scores.softmax(dim=-1), self.value(contexts))
        return contexts + self.dropout(self.out(nn.functional.relu(self.norm(seen))))


class InternVideoMAERelationClassifier(nn.Module):
    """ACAR's head (arXiv 2006.07976): scores a box by its feature, and by what relates it to the frame and the others.

    The released convolution of map and feature together is two layers here: the map is read once for all boxes.
    """

    def __init__(self, config: InternVideoMAEConfig):
        super().__init__()
        size = config.hidden_size
        self.map_projection = nn.Conv2d(size, size, kernel_size=1, bias=False)
        self.box_projection = nn.Linear(size, size, bias=False)
        self.conv = nn.Conv2d(size, size, kernel_size=3, bias=False)
        self.relations = nn.ModuleList([InternVideoMAERelation(size) for _ in range(2)])
        self.box_features = nn.Linear(size, size, bias=False)
        self.output = nn.Linear(2 * size, known(config.num_labels), bias=False)
        init_weight_with(torch_default_, self.conv)
        init_weight_with(_as_half_of_the_inputs_, self.map_projection, self.box_projection)

    def forward(
        self, features: torch.Tensor, feature_maps: torch.Tensor, box_mask: torch.Tensor, cells: torch.Tensor | None
    ) -> torch.Tensor:
        """Score boxes, `(batch, boxes, num_labels)`.

        Args:
            features: of the boxes, `(batch, boxes, c)`.
            feature_maps: `(batch, c, h, w)`.
            box_mask: `(batch, boxes)`, True on real boxes, of which alone others see something.
            cells: rows and columns of each map that are no padding, `(batch, 2)`; None for all.
        """
        box_mask = box_mask.to(features.device)
        sizes = [feature_maps.shape[2:]] * len(features) if cells is None else cells.tolist()
        contexts = torch.zeros_like(features)
        contexts[box_mask] = torch.cat(
            [
                self.relate(own[mask], feature_map[:, :height, :width])
                for own, mask, feature_map, (height, width) in zip(
                    features, box_mask, feature_maps, sizes, strict=True
                )
            ]
        )
        scored: torch.Tensor = self.output(
            torch.cat([nn.functional.relu(self.box_features(features)), contexts], dim=-1)
        )
        return scored

    def relate(self, features: torch.Tensor, feature_map: torch.Tensor) -> torch.Tensor:
        """Return the context of each box of one clip, `(boxes, c)`.

        Args:
            features: `(boxes, c)`.
            feature_map: `(c, h, w)`.
        """
        if min(feature_map.shape[1:]) < 3:
            raise ValueError(
                f"The clip has {feature_map.shape[1]} x {feature_map.shape[2]} patches, expected 3 x 3 or more for "
                "detection_head='acar'. Give larger frames."
            )
        contexts = self.map_projection(feature_map[None]) + self.box_projection(features)[:, :, None, None]
        contexts = nn.functional.relu(self.conv(nn.functional.relu(contexts)))
        contexts = nn.functional.max_pool2d(contexts, kernel_size=3, stride=2, padding=1)
        for relation in self.relations:
            contexts = relation(contexts)
        return contexts.mean(dim=(2, 3))


def _as_half_of_the_inputs_(weight: torch.Tensor) -> torch.Tensor:
    """Initialize a weight as torch does that of a layer with twice as many inputs."""
    return init.kaiming_uniform_(weight, a=11**0.5)


@dataclass
class BoxFeatures:
    """What a model sees of the boxes of a batch.

    Attributes:
        features: `(batch, boxes, c)`.
        feature_maps: that they are cut out of, `(batch, c, h, w)`.
        boxes: within the frame, 0 where there is none, `(batch, boxes, 4)`, float32.
        box_mask: bool, `(batch, boxes)`, True on real boxes.
        cells: rows and columns of each map that are no padding, `(batch, 2)`; None if all are.
        encoded: outputs of the encoder.
    """

    features: torch.Tensor
    feature_maps: torch.Tensor
    boxes: torch.Tensor
    box_mask: torch.Tensor
    cells: torch.Tensor | None
    encoded: BaseModelOutputWithPooling


class InternVideoMAEBoxModel(InternVideoMAEPreTrainedModel):
    """The encoder with features of boxes; a model adds a head."""

    task_name = "Action detection"

    def __init__(self, config: InternVideoMAEConfig):
        super().__init__(config)
        config.validate_architecture()  # once more: from_pretrained(..., detection_head=...) sets values unchecked
        if config.use_mean_pooling:
            raise ValueError(
                f"{self.task_name} needs an encoder that normalizes its tokens: pass use_mean_pooling=False. With the "
                "pooling of a classifier the final layer norm would silently be missing."
            )
        self.internvideo_mae = InternVideoMAEModel(config)
        self.box_pooler = InternVideoMAEBoxPooler(config)

    def look_at_boxes(
        self,
        pixel_values_videos: torch.Tensor,
        boxes: torch.Tensor,
        box_mask: torch.Tensor | None,
        pixel_mask: torch.Tensor | None,
        **kwargs: Any,
    ) -> BoxFeatures:
        """Encode clips, and cut boxes out of their maps.

        Args:
            pixel_values_videos: as of `InternVideoMAEForVideoActionDetection.forward`.
            boxes: likewise.
            box_mask: likewise.
            pixel_mask: likewise.
            kwargs: for the layers.

        Raises:
            ValueError: if the shapes do not fit the model or each other, or a real box is not finite.
        """
        config = self.config
        height, width = pixel_values_videos.shape[-2:]
        seen = drop_remainder(pixel_values_videos, config.patch_size)
        clips = as_clips(seen, config.num_channels, config.patch_size, config.tubelet_size)
        batch = clips.shape[0]  # len() would make it a constant of an exported program
        box_mask = check_boxes(boxes, box_mask, batch)
        pixel_mask = None if config.attend_to_padding else pixel_mask
        if pixel_mask is not None:
            pixel_mask = drop_remainder(pixel_mask, config.patch_size)
        outputs = self.internvideo_mae(clips, pixel_mask=pixel_mask, return_dict=True, **kwargs)
        maps = self._feature_maps(outputs.last_hidden_state, clips)
        frame, cells = boxes.new_tensor([[width, height]]), None
        if pixel_mask is not None:
            extent = measure_clips(pixel_mask, (batch, *clips.shape[3:]))
            frame, cells = extent.flip(1), -(-extent // config.patch_size)
            maps = repeat_edges(maps, cells.to(maps.device))
        boxes = boxes.float().masked_fill(~box_mask[..., None], 0.0).to(maps.device)
        boxes = torch.minimum(boxes.clamp(min=0), frame.repeat(1, 2)[:, None].to(boxes))
        return BoxFeatures(self.box_pooler(maps, boxes), maps, boxes, box_mask, cells, outputs)

    def _feature_maps(self, tokens: torch.Tensor, clips: torch.Tensor) -> torch.Tensor:
        """Average tokens over time, `(batch, c, h, w)`."""
        height, width = (side // self.config.patch_size for side in clips.shape[3:])
        return rearrange(tokens, "b (t h w) c -> b c t h w", h=height, w=width).mean(dim=2)


class InternVideoMAEForVideoActionDetection(InternVideoMAEBoxModel):
    """The encoder with a head that scores the actions of people whose boxes are given.

    Give each clip the boxes of the people in its key frame, the middle one, from any person detector. Actions are
    independent of each other: a person may do none, or several.

    To fine-tune a pretrained encoder: `from_pretrained(folder, num_labels=80)`; a classifier: with
    `use_mean_pooling=False, ignore_mismatched_sizes=True` as well, since the norm of its average is none of tokens.
    """

    # The loss is a sum over boxes: parts of a batch add up to that of the batch, and Trainer must not average them.
    accepts_loss_kwargs = True

    def __init__(self, config: InternVideoMAEConfig):
        super().__init__(config)
        if config.problem_type not in (None, "multi_label_classification"):
            raise ValueError(
                f"problem_type: got {config.problem_type!r}, expected 'multi_label_classification': a person may do "
                "several things at once."
            )
        if config.detection_head == "acar":
            self.classifier: nn.Module = InternVideoMAERelationClassifier(config)
        else:
            self.classifier = nn.Linear(config.hidden_size, known(config.num_labels))
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        boxes: torch.Tensor,
        box_mask: torch.Tensor | None = None,
        *,
        pixel_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Any, ...] | InternVideoMAEForVideoActionDetectionOutput:
        """Score the actions of each box.

        Args:
            pixel_values_videos: normalized frames, `(batch, frames, channels, height, width)`. Of sides that are no
                multiple of the patch size, the last pixels are not seen, as in the released model: pad to see them.
            boxes: of the people of each clip, `(batch, boxes, 4)`: left, top, right, bottom in pixels of
                `pixel_values_videos`; from a list of different lengths by `pad_boxes`. Edges beyond the frame are
                moved onto its border; a box of no area has the feature of the map's cell there.
            box_mask: `(batch, boxes)`, True on real boxes; None if all are. What padded ones hold does not matter.
            pixel_mask: `(batch, height, width)`, True on pixels of the clip, False on padding at its right and bottom;
                None if there is none. It makes the scores those of the clip alone; with `attend_to_padding` it changes
                nothing, since released models look at padding.
            labels: `(batch, boxes, num_labels)`, 0 or 1 for each action.
            kwargs: for the layers.

        Raises:
            ValueError: if the shapes do not fit the model or each other, or a real box is not finite.
        """
        seen = self.look_at_boxes(pixel_values_videos, boxes, box_mask, pixel_mask, **kwargs)
        if self.config.detection_head == "acar":
            logits = self.classifier(seen.features, seen.feature_maps, seen.box_mask, seen.cells)
        else:
            logits = self.classifier(seen.features)
        logits = logits.masked_fill(~seen.box_mask[..., None].to(logits.device), 0.0)
        return InternVideoMAEForVideoActionDetectionOutput(
            loss=None if labels is None else detection_loss(logits, labels, seen.box_mask),
            logits=logits,
            hidden_states=seen.encoded.hidden_states,
            attentions=seen.encoded.attentions,
        )


def drop_remainder(pixels: torch.Tensor, patch_size: int) -> torch.Tensor:
    """Cut off the pixels at the right and bottom that fill no patch.

    Args:
        pixels: `(..., height, width)`.
        patch_size: side of a patch; smaller frames stay, for the check of sizes.
    """
    height, width = (side - side % patch_size or side for side in pixels.shape[-2:])
    return pixels[..., :height, :width]


def check_boxes(boxes: torch.Tensor, box_mask: torch.Tensor | None, batch: int) -> torch.Tensor:
    """Check boxes and their mask, and return the mask.

    Args:
        boxes: as of `InternVideoMAEForVideoActionDetection.forward`.
        box_mask: likewise.
        batch: number of clips.

    Raises:
        ValueError: if a shape does not fit, or a real box is not finite.
    """
    if not isinstance(boxes, torch.Tensor):
        raise ValueError(
            "boxes: got a list, expected one tensor (batch, boxes, 4). `pad_boxes` makes it, and box_mask."
        )
    if boxes.ndim != 3 or boxes.shape[0] != batch or boxes.shape[2] != 4:
        raise ValueError(
            f"boxes has the shape {tuple(boxes.shape)}, expected ({batch}, boxes, 4): left, top, right, bottom of the "
            "people of each clip. `pad_boxes` makes it of a list."
        )
    if box_mask is None:
        box_mask = torch.ones(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
    if box_mask.shape != boxes.shape[:2]:
        raise ValueError(f"box_mask has the shape {tuple(box_mask.shape)}, expected {tuple(boxes.shape[:2])}.")
    box_mask = box_mask.to(boxes.device).bool()
    if not torch.compiler.is_compiling():
        wrong = ~boxes.isfinite().all(dim=-1) & box_mask
        if wrong.any():
            clip, number = wrong.nonzero()[0].tolist()
            raise ValueError(
                f"boxes: box {number} of clip {clip} is {boxes[clip, number].tolist()}, expected finite numbers."
            )
    return box_mask


def repeat_edges(feature_maps: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """Overwrite padding with the last real cells, so that boxes at the border read none of it, as at a map's end.

    Args:
        feature_maps: `(batch, c, h, w)`.
        cells: rows and columns that are real, `(batch, 2)`.
    """
    batch, _, height, width = feature_maps.shape
    rows = torch.minimum(torch.arange(height, device=cells.device), cells[:, :1] - 1)
    columns = torch.minimum(torch.arange(width, device=cells.device), cells[:, 1:] - 1)
    clips = torch.arange(batch, device=cells.device)
    repeated = feature_maps[clips[:, None, None], :, rows[:, :, None], columns[:, None]]
    return rearrange(repeated, "b h w c -> b c h w")


def detection_loss(logits: torch.Tensor, labels: torch.Tensor, box_mask: torch.Tensor) -> torch.Tensor:
    """Compute the binary cross-entropy, summed over real boxes and averaged over actions, in float32.

    Args:
        logits: `(batch, boxes, num_labels)`.
        labels: likewise, 0 or 1.
        box_mask: `(batch, boxes)`, True on real boxes.

    Raises:
        ValueError: if labels have another shape.
    """
    if labels.shape != logits.shape:
        raise ValueError(
            f"labels has the shape {tuple(labels.shape)}, expected {tuple(logits.shape)}: 0 or 1 for each action of "
            "each box."
        )
    box_mask = box_mask.to(logits.device)[..., None]
    targets = labels.to(logits.device).float().masked_fill(~box_mask, 0.0)
    losses = nn.functional.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
    return losses.masked_fill(~box_mask, 0.0).sum() / logits.shape[-1]


__all__ = ["InternVideoMAEForVideoActionDetection", "InternVideoMAEForVideoActionDetectionOutput", "pad_boxes"]
