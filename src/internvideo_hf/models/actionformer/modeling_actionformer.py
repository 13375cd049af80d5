"""ActionFormer (arXiv 2202.07925) as InternVideo uses it: actions with their boundaries, from the features of a video.

A transformer with attention to windows reads the features and halves their number five times. At every position of
every level one head scores the classes, and another gives the distances to the start and the end of the action there.

Norms have biases, so padded positions do not stay 0 behind them, and leak through convolutions into the last real
positions: the length that a sequence is padded to is part of the answer (`ActionFormerConfig.padded_length`).

Released: no heads, but features and training settings; `ActionFormerConfig.from_data_set` has them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from internvideo_hf.models.actionformer.attention_actionformer import ActionFormerAttention, MaskedConv, masked
from internvideo_hf.models.actionformer.configuration_actionformer import ActionFormerConfig
from internvideo_hf.models.actionformer.losses_actionformer import class_loss, make_targets, segment_loss
from internvideo_hf.models.common.base import VideoPreTrainedModel, torch_default_
from internvideo_hf.models.common.kernels import project
from internvideo_hf.models.common.layers import MLP, DropPath, LayerScale, sine_table
from internvideo_hf.models.common.losses import count_in_all_processes
from internvideo_hf.models.common.narrowing import known

NORMALIZER_MOMENTUM = 0.9  # of the running number of positive positions


@dataclass
class ActionFormerModelOutput(ModelOutput):
    """The feature pyramid.

    Attributes:
        last_hidden_state: the coarsest level, `(batch, length / 2**(levels - 1), hidden_size)`.
        feature_maps: of each level, `(batch, length / 2**level, hidden_size)`.
        masks: of each level, `(batch, length / 2**level)`, True on real positions.
        hidden_states, attentions: of every layer, at its length.
    """

    last_hidden_state: torch.Tensor | None = None
    feature_maps: tuple[torch.Tensor, ...] | None = None
    masks: tuple[torch.Tensor, ...] | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class ActionFormerForTemporalLocalizationOutput(ModelOutput):
    """Actions at every position of every level.

    Attributes:
        loss: `class_loss` plus the weighted `segment_loss`, where labels were given.
        class_loss, segment_loss: its parts, each divided by the running number of positive positions.
        logits: of each level, `(batch, positions, num_labels)`; 0 at padded positions.
        offsets: of each level, `(batch, positions, 2)`: distances to the start and the end of the action, 0 or more,
            in positions of the level.
        points: of each level, `(positions, 4)`: the position, the least and the most distance that the level learns,
            and its stride, in grid units.
        masks: of each level, `(batch, positions)`, True on real positions.
        hidden_states, attentions: of every layer, at its length.
    """

    loss: torch.Tensor | None = None
    class_loss: torch.Tensor | None = None
    segment_loss: torch.Tensor | None = None
    logits: tuple[torch.Tensor, ...] | None = None
    offsets: tuple[torch.Tensor, ...] | None = None
    points: tuple[torch.Tensor, ...] | None = None
    masks: tuple[torch.Tensor, ...] | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class ActionFormerConvs(nn.Module):
    """Convolutions over time, each followed by a layer norm, if wanted, and a ReLU.

    Args:
        sizes: channels of the input and of each convolution's result.
        kernel_size: odd.
        layer_norm_eps: of the norms; None for no norms, but biases.
    """

    def __init__(self, sizes: Sequence[int], kernel_size: int, layer_norm_eps: float | None):
        super().__init__()
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        for size, out_size in pairwise(sizes):
            self.convs.append(MaskedConv(size, out_size, kernel_size, bias=layer_norm_eps is None))
            self.norms.append(nn.Identity() if layer_norm_eps is None else nn.LayerNorm(out_size, eps=layer_norm_eps))

    def forward(self, hidden_states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            hidden_states = nn.functional.relu(norm(conv(hidden_states, mask)))
        return hidden_states


class ActionFormerPositions(nn.Module):
    """A fixed sine table; longer sequences re-sample it."""

    table: torch.Tensor

    def __init__(self, config: ActionFormerConfig):
        super().__init__()
        self.shape = (config.max_sequence_length, config.hidden_size)
        self.register_buffer("table", self.compute(), persistent=False)

    def compute(self) -> torch.Tensor:
        """Compute the table, `(max_sequence_length, hidden_size)`."""
        return sine_table(*self.shape) / self.shape[1] ** 0.5

    def forward(self, length: int) -> torch.Tensor:
        if not torch.compiler.is_exporting() and length <= self.shape[0]:
            return self.table[:length]
        rows = self.table.float().T[None]
        return nn.functional.interpolate(rows, size=length, mode="linear", align_corners=False)[0].T


class ActionFormerLayer(GradientCheckpointingLayer):
    """A transformer layer that keeps the length, or halves it."""

    def __init__(self, config: ActionFormerConfig, window: int, stride: int):
        super().__init__()
        width, scale = config.hidden_size, config.layer_scale_init_value
        self.stride = stride
        self.layer_norm1 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.self_attn = ActionFormerAttention(config, window, stride)
        self.layer_scale1 = LayerScale(width, scale) if scale else nn.Identity()
        self.layer_norm2 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp = MLP(width, known(config.intermediate_size), config.hidden_act, config.hidden_dropout)
        self.layer_scale2 = LayerScale(width, scale) if scale else nn.Identity()
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.drop_path = DropPath(config.drop_path_rate)

    def forward(self, hidden_states: torch.Tensor, mask: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Compute the layer.

        Args:
            hidden_states: `(b, n * stride, c)`.
            mask: of the results, `(b, n)`.
            kwargs: for the attention kernel.
        """
        attended = self.dropout(self.self_attn(self.layer_norm1(hidden_states), mask, **kwargs)[0])
        if self.stride > 1:
            # Padded positions are 0, and may be the largest beside the last real one.
            # In two dimensions: that of one binds a trace to the length of its example.
            pooled = nn.functional.max_pool2d(hidden_states[:, None], (3, 1), (self.stride, 1), padding=(1, 0))
            hidden_states = pooled[:, 0]
        hidden_states = masked(hidden_states, mask) + self.drop_path(self.layer_scale1(attended))
        branch = masked(self.dropout(self.mlp(self.layer_norm2(hidden_states))), mask)
        return hidden_states + self.drop_path(self.layer_scale2(branch))


class ActionFormerNeck(nn.Module):
    """Norms of all levels; with "fpn", coarse levels are added to finer ones before."""

    def __init__(self, config: ActionFormerConfig):
        super().__init__()
        levels, width, with_norm = config.num_levels, known(config.neck_hidden_size), config.use_neck_norm
        self.laterals, self.convs = nn.ModuleList(), nn.ModuleList()
        if config.neck_type == "fpn":
            self.laterals.extend(nn.Linear(config.hidden_size, width, bias=False) for _ in range(levels))
            self.convs.extend(MaskedConv(width, width, 3, groups=width, bias=False) for _ in range(levels))
        self.norms = nn.ModuleList(
            [nn.LayerNorm(width, eps=config.layer_norm_eps) if with_norm else nn.Identity() for _ in range(levels)]
        )

    def forward(self, feature_maps: Sequence[torch.Tensor], masks: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return the pyramid, `(batch, positions, neck_hidden_size)` of each level."""
        maps = list(feature_maps)
        if self.convs:
            maps = [
                masked(project(lateral, level), mask)
                for lateral, level, mask in zip(self.laterals, maps, masks, strict=True)
            ]
            for level in range(len(maps) - 1, 0, -1):
                maps[level - 1] = maps[level - 1] + maps[level].repeat_interleave(2, dim=1).to(maps[level - 1].device)
            maps = [conv(level, mask) for conv, level, mask in zip(self.convs, maps, masks, strict=True)]
        return [norm(level) for norm, level in zip(self.norms, maps, strict=True)]


class ActionFormerHead(nn.Module):
    """Convolutions that all levels share.

    Args:
        config: of the model.
        out_size: channels of the result.
    """

    def __init__(self, config: ActionFormerConfig, out_size: int):
        super().__init__()
        width, kernel = known(config.head_hidden_size), config.head_kernel_size
        sizes = [known(config.neck_hidden_size)] + [width] * (config.num_head_layers - 1)
        self.layers = ActionFormerConvs(sizes, kernel, config.layer_norm_eps if config.use_head_norm else None)
        self.output = MaskedConv(sizes[-1], out_size, kernel)

    def forward(self, feature_maps: Sequence[torch.Tensor], masks: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return `(batch, positions, out_size)` of each level."""
        return [self.output(self.layers(level, mask), mask) for level, mask in zip(feature_maps, masks, strict=True)]


class ActionFormerRegressor(ActionFormerHead):
    """Distances to start and end, each level with a learned factor."""

    def __init__(self, config: ActionFormerConfig):
        super().__init__(config, 2)
        self.scales = nn.ModuleList([LayerScale(1, 1.0) for _ in range(config.num_levels)])

    def forward(self, feature_maps: Sequence[torch.Tensor], masks: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return `(batch, positions, 2)` of each level, 0 or more."""
        distances = super().forward(feature_maps, masks)
        return [nn.functional.relu(scale(level)) for scale, level in zip(self.scales, distances, strict=True)]


class ActionFormerPreTrainedModel(VideoPreTrainedModel):
    config: ActionFormerConfig
    base_model_prefix = "actionformer"
    main_input_name = "features"
    input_modalities = ["time"]
    # Windows and padding need masks that flash attention does not take, and biases that flex attention does not train.
    _supports_flash_attn = False
    _supports_flex_attn = False
    _no_split_modules = ["ActionFormerLayer"]
    _input_embed_layer = "embeddings"
    layer_group_rules = {
        r"embeddings|positions": "embeddings",
        r"layers\.(\d+)": "layers.{}",
        r"neck": "neck",
        r"classifier|regressor|loss_normalizer": "head",
    }

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize weights as torch does, and biases with 0; rebuild the position table, which no file holds."""
        if isinstance(module, nn.Linear | nn.Conv1d):
            torch_default_(module.weight)
            if module.bias is not None:
                is_classifier = module is getattr(getattr(self, "classifier", None), "output", None)
                prior = math.log(self.config.class_prior / (1 - self.config.class_prior)) if is_classifier else 0.0
                init.constant_(module.bias, prior)
        elif isinstance(module, LayerScale):
            init.constant_(module.factor, module.start)
        elif isinstance(module, ActionFormerPositions):
            init.copy_(module.table, module.compute())
        elif isinstance(module, ActionFormerAttention):
            if module.relative_bias is not None:
                init.trunc_normal_(module.relative_bias, std=(2.0 / self.config.hidden_size) ** 0.5)
        elif isinstance(module, ActionFormerForTemporalLocalization):
            init.constant_(module.loss_normalizer, self.config.init_loss_normalizer)
        else:
            super()._init_weights(module)


class ActionFormerModel(ActionFormerPreTrainedModel):
    """The feature pyramid without neck and heads."""

    _can_record_outputs = {
        "hidden_states": ActionFormerLayer,
        "attentions": OutputRecorder(ActionFormerAttention, index=1, layer_name="self_attn"),
    }

    def __init__(self, config: ActionFormerConfig):
        super().__init__(config)
        sizes = [config.feature_size] + [config.hidden_size] * config.num_embedding_layers
        norm_eps = config.layer_norm_eps if config.use_embedding_norm else None
        self.embeddings = ActionFormerConvs(sizes, config.embedding_kernel_size, norm_eps)
        self.positions = ActionFormerPositions(config) if config.use_absolute_positions else None
        windows: list[int] = config.attention_windows  # type: ignore[assignment]  # a number only before __init__
        self.layers = nn.ModuleList(
            [ActionFormerLayer(config, windows[0], 1) for _ in range(config.num_stem_layers)]
            + [ActionFormerLayer(config, window, 2) for window in windows[1:]]
        )
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        features: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ActionFormerModelOutput:
        """Compute the pyramid.

        Args:
            features: of each video, `(batch, length, feature_size)`; padded to `ActionFormerConfig.padded_length`.
            attention_mask: `(batch, length)`, True or 1 on real positions, which come first; None if all are.
            kwargs: for the layers.

        Raises:
            ValueError: if the shapes do not fit the model or each other, or a sequence is too long for training.
        """
        features, mask = self.pad(features, attention_mask)
        hidden_states = self.embeddings(features, mask)
        if self.positions is not None:
            table = self.positions(hidden_states.shape[1]).to(hidden_states.device, hidden_states.dtype)
            hidden_states = hidden_states + masked(table, mask)
        feature_maps, masks = [], []
        for number, layer in enumerate(self.layers, start=1):
            if number > self.config.num_stem_layers:
                mask = mask[:, ::2]
            hidden_states = layer(hidden_states, mask, **kwargs)
            if number >= self.config.num_stem_layers:
                feature_maps.append(hidden_states)
                masks.append(mask)
        return ActionFormerModelOutput(
            last_hidden_state=hidden_states, feature_maps=tuple(feature_maps), masks=tuple(masks)
        )

    def pad(self, features: torch.Tensor, attention_mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Pad features with zeros to the length that the model computes with, and return them with their mask.

        Args:
            features: as of `forward`.
            attention_mask: as of `forward`.
        """
        config, shape = self.config, tuple(features.shape)
        if features.ndim != 3 or shape[2] != config.feature_size or shape[1] < 1:
            raise ValueError(
                f"features has the shape {shape}, expected (batch, length, {config.feature_size}): one row for each "
                "window of the video, of the encoder that the model was trained with."
            )
        if attention_mask is None:
            attention_mask = torch.ones(shape[:2], device=features.device)
        if tuple(attention_mask.shape) != shape[:2]:
            raise ValueError(f"attention_mask has the shape {tuple(attention_mask.shape)}, expected {shape[:2]}.")
        if self.training and shape[1] > config.max_sequence_length:
            raise ValueError(
                f"features has a length of {shape[1]}, expected {config.max_sequence_length} or less in training. "
                "Crop the sequence, or raise max_sequence_length."
            )
        # Whoever exports the model pads before: a comparison of lengths would bind the trace to its result.
        rest = 0 if torch.compiler.is_exporting() else config.padded_length(shape[1]) - shape[1]
        mask = nn.functional.pad(attention_mask.to(features.device).bool(), (0, rest))
        features = nn.functional.pad(features, (0, 0, 0, rest))
        return features.masked_fill(~mask[..., None], 0.0), mask


class ActionFormerForTemporalLocalization(ActionFormerPreTrainedModel):
    """The pyramid with a neck and two heads that all levels share: scores of the classes, and boundaries."""

    export_kind = "localizer"
    accepts_loss_kwargs = True  # sums over points, divided by a number of the entire step: see `begin_step`

    loss_normalizer: torch.Tensor

    def __init__(self, config: ActionFormerConfig):
        super().__init__(config)
        self.actionformer = ActionFormerModel(config)
        self.neck = ActionFormerNeck(config)
        self.classifier = ActionFormerHead(config, known(config.num_labels))
        self.regressor = ActionFormerRegressor(config)
        self.register_buffer("loss_normalizer", torch.tensor(float(config.init_loss_normalizer)))
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        features: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: Sequence[Mapping[str, torch.Tensor]] | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Any, ...] | ActionFormerForTemporalLocalizationOutput:
        """Localize actions.

        Args:
            features: of each video, `(batch, length, feature_size)`; padded to `ActionFormerConfig.padded_length`.
            attention_mask: `(batch, length)`, True or 1 on real positions, which come first; None if all are.
            labels: the actions of each video: `segments`, `(actions, 2)`, start and end in grid units, and
                `class_labels`, `(actions,)`, numbers of their classes. In training, each call moves the running number
                of positive positions, unless `num_items_in_batch` is given.
            kwargs: for the layers; and `num_items_in_batch`, positive positions of all batches of a step, whose losses
                then add up to that of all their videos, if `begin_step` was called before the first. `VideoTrainer`
                does both.

        Raises:
            ValueError: if the shapes do not fit the model or each other, or a sequence is too long for training.
        """
        of_step = kwargs.pop("num_items_in_batch", None) is not None and self.training
        outputs = self.actionformer(features, attention_mask, return_dict=True, **kwargs)
        pyramid, masks = self.neck(outputs.feature_maps, outputs.masks), outputs.masks
        result = ActionFormerForTemporalLocalizationOutput(
            logits=tuple(self.classifier(pyramid, masks)),
            offsets=tuple(self.regressor(pyramid, masks)),
            points=self.points(masks[0].shape[1]),
            masks=masks,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )
        if labels is not None:
            result.class_loss, result.segment_loss, result.loss = self.compute_loss(result, labels, of_step)
        return result

    def count_loss_items(self, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the number of positive positions of a batch, over which the losses are averaged.

        Args:
            batch: with `labels`, and `attention_mask` or `features`, as of `forward`.
        """
        mask = batch.get("attention_mask")
        mask = torch.ones(batch["features"].shape[:2]) if mask is None else mask
        rest = self.config.padded_length(mask.shape[1]) - mask.shape[1]
        mask = nn.functional.pad(mask.to(self.loss_normalizer.device).bool(), (0, rest))
        points = torch.cat(self.points(mask.shape[1]))
        classes, _ = make_targets(
            points, batch["labels"], known(self.config.num_labels), self.config.center_sampling_radius
        )
        on_levels = torch.cat([mask[:, ::stride] for stride in self.config.strides], dim=1)
        return ((classes.sum(dim=-1) > 0) & on_levels).sum()

    @torch.no_grad()
    def begin_step(self, num_items: torch.Tensor) -> None:
        """Move the running number of positive positions, once for all batches of a step.

        Args:
            num_items: positive positions of the step, in all processes.
        """
        moved = self.loss_normalizer.float() * NORMALIZER_MOMENTUM
        self.loss_normalizer.copy_(moved + (1 - NORMALIZER_MOMENTUM) * num_items.to(moved.device).clamp(min=1))

    def points(self, length: int) -> tuple[torch.Tensor, ...]:
        """Return the points of each level: position, least and most distance, stride; `(positions, 4)`, float32.

        Args:
            length: of the padded sequence.
        """
        points, device = [], self.loss_normalizer.device
        for stride, (least, most) in zip(self.config.strides, known(self.config.regression_ranges), strict=True):
            positions = torch.arange(0, length, stride, device=device, dtype=torch.float32)
            others = [torch.full_like(positions, value) for value in (least, most, stride)]
            points.append(torch.stack([positions, *others], dim=1))
        return tuple(points)

    def compute_loss(
        self,
        outputs: ActionFormerForTemporalLocalizationOutput,
        labels: Sequence[Mapping[str, torch.Tensor]],
        of_step: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Compute the losses of classes and boundaries, and their weighted sum, in float32.

        Args:
            outputs: of `forward`.
            labels: as of `forward`.
            of_step: divide by the running number as it is, which `begin_step` has moved.

        Raises:
            ValueError: if the labels do not fit the batch or the classes.
        """
        config, device = self.config, self.loss_normalizer.device
        logits, offsets, mask = (
            torch.cat([level.to(device) for level in levels], dim=1)
            for levels in (known(outputs.logits), known(outputs.offsets), known(outputs.masks))
        )
        if len(labels) != len(logits):
            raise ValueError(f"labels: got {len(labels)} entries, expected one for each of {len(logits)} videos.")
        points, radius = torch.cat(known(outputs.points)), config.center_sampling_radius
        classes, distances = make_targets(points, labels, logits.shape[-1], radius)
        is_positive = (classes.sum(dim=-1) > 0) & mask
        processes = 1
        if not of_step:
            positives, processes = count_in_all_processes(is_positive.sum())
            if self.training:
                self.begin_step(positives)
        divisor = self.loss_normalizer.float() / processes
        of_classes = class_loss(logits.float(), classes, mask, config.label_smoothing) / divisor
        of_segments = segment_loss(offsets.float(), distances, is_positive) / divisor
        weight: float | torch.Tensor = config.loss_weight
        if config.loss_weight <= 0:
            weight = of_classes.detach() / of_segments.detach().clamp(min=0.01)
        return of_classes, of_segments, of_classes + weight * of_segments


__all__ = ["ActionFormerForTemporalLocalization", "ActionFormerModel"]
