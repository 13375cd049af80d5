"""TCANet (arXiv 2103.13141): better boundaries for proposals of actions, from the features of a video.

An encoder of which half of the heads see a window and half the whole video; then three stages, each of which samples
the features of a proposal and of what is before and behind it, and moves its boundaries. A stage refines what the one
before has found. It is no detector by itself: the proposals come from elsewhere, such as BMN.

Padding is not masked, neither in the encoder nor where features are sampled: the length that a sequence is padded to
is part of the answer.

The paper of InternVideo names it for HACS; neither its weights nor its settings for InternVideo's features are public.
"""

from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import nn
from torch.nn.functional import grid_sample, pad, relu
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from internvideo_hf.models.common.base import VideoPreTrainedModel, torch_default_
from internvideo_hf.models.common.layers import Attention, PostNormLayer
from internvideo_hf.models.tcanet.configuration_tcanet import TCANetConfig
from internvideo_hf.models.tcanet.losses_tcanet import boundary_loss, overlap, overlap_loss

CENTER_SCALE, WIDTH_SCALE = 0.1, 0.2
# Of start and end: the original moves them five times as far in training as in inference.
BOUNDARY_SCALE = {True: 1.0, False: 0.2}


@dataclass
class TCANetForTemporalLocalizationOutput(ModelOutput):
    """Refined proposals.

    Attributes:
        loss: the sum of all losses of all stages, where labels were given.
        boundary_losses, overlap_losses: its parts, one for each stage.
        segments: of each stage, `(batch, proposals, 2)` in seconds, float32; the last are the answer.
        overlaps: of each stage, `(batch, proposals)`, 0-1, float32: how well the stage's input is thought to fit.
        scores: of the last segments, `(batch, proposals)`, float32, where scores of the proposals were given: these
            times the overlap of the stage before the last, as in the original's inference.
        hidden_states, attentions: of the encoder's layers.
    """

    loss: torch.Tensor | None = None
    boundary_losses: tuple[torch.Tensor, ...] | None = None
    overlap_losses: tuple[torch.Tensor, ...] | None = None
    segments: tuple[torch.Tensor, ...] | None = None
    overlaps: tuple[torch.Tensor, ...] | None = None
    scores: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class TCANetConvs(nn.Module):
    """Two grouped convolutions over time, each followed by a ReLU.

    Args:
        in_size: channels of the input.
        out_size: channels of the result.
        groups: of both.
        stride: of both.
    """

    def __init__(self, in_size: int, out_size: int, groups: int, stride: int = 1):
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv1d(size, out_size, 3, stride=stride, padding=1, groups=groups) for size in (in_size, out_size)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return `(b, out_size, n)` of features `(b, in_size, m)`."""
        for conv in self.convs:
            features = relu(conv(features))
        return features


class TCANetEmbeddings(TCANetConvs):
    """The features in the width of the encoder."""

    def __init__(self, config: TCANetConfig):
        super().__init__(config.feature_size, config.hidden_size, config.num_groups)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return `(b, n, hidden_size)` of features `(b, n, feature_size)`."""
        dtype = next(self.parameters()).dtype
        return super().forward(features.transpose(1, 2).to(dtype)).transpose(1, 2)


class TCANetLayer(PostNormLayer):
    """A post-norm transformer layer with dropout inside the MLP, too."""

    def __init__(self, config: TCANetConfig):
        super().__init__(config, config.hidden_dropout)


class TCANetBoundaryBranch(nn.Module):
    """The change of one boundary, from the features around it.

    Args:
        config: of the model.
        samples: how many features.
    """

    def __init__(self, config: TCANetConfig, samples: int):
        super().__init__()
        width = config.boundary_hidden_size
        self.layers = TCANetConvs(config.hidden_size, width, config.num_groups, stride=2)
        self.output = nn.Conv1d(width, 1, samples // 4)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """Return `(n, 1)` of samples `(n, c, samples)`."""
        return self.output(self.layers(samples))[..., 0]


class TCANetSegmentBranch(nn.Module):
    """The change of center and width, and the overlap, from all features of a proposal and its context.

    Args:
        config: of the model.
        samples: how many features.
    """

    def __init__(self, config: TCANetConfig, samples: int):
        super().__init__()
        width, groups = config.hidden_size, config.num_groups
        self.layers = TCANetConvs(width, width, groups, stride=2)
        self.hidden = nn.Conv1d(width, width, samples // 4, groups=groups)
        self.output = nn.Conv1d(width, 3, 1)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """Return `(n, 3)` of samples `(n, c, samples)`."""
        return self.output(relu(self.hidden(self.layers(samples))))[..., 0]


class TCANetStage(nn.Module):
    """Refines proposals once."""

    def __init__(self, config: TCANetConfig):
        super().__init__()
        self.context_ratio, self.step_seconds = config.context_ratio, config.step_seconds
        self.samples = (config.num_start_samples, config.num_action_samples, config.num_end_samples)
        self.start = TCANetBoundaryBranch(config, config.num_start_samples)
        self.end = TCANetBoundaryBranch(config, config.num_end_samples)
        self.segment = TCANetSegmentBranch(config, sum(self.samples))

    def sample(self, features: torch.Tensor, proposals: torch.Tensor) -> list[torch.Tensor]:
        """Sample the features before, in and behind proposals.

        Args:
            features: `(b, n, c)`.
            proposals: `(b, p, 2)` in seconds.

        Returns:
            Three of `(b * p, c, samples)`.
        """
        start, end = proposals.unbind(-1)
        context = self.context_ratio * (end - start)
        parts = ((start - context, start), (start, end), (end, end + context))
        return [
            sample_rows(features, torch.stack(part, dim=-1) / (features.shape[1] * self.step_seconds), count)
            for part, count in zip(parts, self.samples, strict=True)
        ]

    def forward(
        self, features: torch.Tensor, proposals: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Predict how proposals change.

        Args:
            features: `(b, n, c)`.
            proposals: `(b, p, 2)` in seconds.

        Returns:
            The changes of start and end, `(b, p, 2)`; of center and width, `(b, p, 2)`; the overlap, `(b, p)`, 0-1.
        """
        samples = [part.to(features.dtype) for part in self.sample(features, proposals)]
        offsets = torch.cat([self.start(samples[0]), self.end(samples[2])], dim=1)
        segment = self.segment(torch.cat(samples, dim=2))
        offsets, segment = (
            rearrange(numbers, "(b p) k -> b p k", b=features.shape[0]).float() for numbers in (offsets, segment)
        )
        return offsets, segment[..., :2], segment[..., 2].sigmoid()


def sample_rows(features: torch.Tensor, segments: torch.Tensor, count: int) -> torch.Tensor:
    """Interpolate features at evenly spaced places of segments; beyond the outermost features there is zero.

    Args:
        features: `(b, n, c)`.
        segments: `(b, p, 2)`, start and end in lengths of the sequence; they are cut to 0-1.
        count: places of a segment.

    Returns:
        `(b * p, c, count)`, float32: seconds in half precision would miss their place.
    """
    start, end = (2 * segments.float().clamp(min=0, max=1) - 1).unbind(-1)
    places = (2 * torch.arange(count, device=segments.device) + 1) / count - 1  # centers of as many equal parts
    along = (end - start)[..., None] / 2 * places + (end + start)[..., None] / 2
    grid = torch.stack([along, torch.zeros_like(along)], dim=-1)
    rows = rearrange(features.float(), "b n c -> b c 1 n")
    return rearrange(grid_sample(rows, grid.to(rows.device), align_corners=False), "b c p k -> (b p) c k")


def refine(proposals: torch.Tensor, offsets: torch.Tensor, shape: torch.Tensor, boundary_scale: float) -> torch.Tensor:
    """Move proposals: the mean of moved boundaries and of a moved and resized segment, cut at 0.

    Args:
        proposals: `(b, p, 2)` in seconds.
        offsets: of start and end, `(b, p, 2)`.
        shape: of center and width, `(b, p, 2)`.
        boundary_scale: factor on `offsets`.
    """
    start, end = proposals.unbind(-1)
    width = end - start
    center = start + 0.5 * width + shape[..., 0] * CENTER_SCALE * width
    half = 0.5 * (shape[..., 1] * WIDTH_SCALE).exp() * width
    resized = torch.stack([center - half, center + half], dim=-1)
    moved = proposals + offsets * width[..., None] * boundary_scale
    return ((moved + resized) / 2).clamp(min=0)


class TCANetPreTrainedModel(VideoPreTrainedModel):
    config: TCANetConfig
    base_model_prefix = "tcanet"
    main_input_name = "features"
    input_modalities = ["time"]
    # Half of the heads have a mask, which flash attention does not take, nor flex attention in this form.
    _supports_flash_attn = False
    _supports_flex_attn = False
    _no_split_modules = ["TCANetLayer", "TCANetStage"]
    _input_embed_layer = "embeddings"
    layer_group_rules = {r"embeddings": "embeddings", r"layers\.(\d+)": "layers.{}", r"stages\.(\d+)": "head.{}"}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize weights as torch does, and biases with 0."""
        if isinstance(module, nn.Linear | nn.Conv1d):
            torch_default_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        else:
            super()._init_weights(module)


class TCANetModel(TCANetPreTrainedModel):
    """The encoder alone."""

    _can_record_outputs = {
        "hidden_states": TCANetLayer,
        "attentions": OutputRecorder(Attention, index=1, layer_name="self_attn"),
    }

    def __init__(self, config: TCANetConfig):
        super().__init__(config)
        self.embeddings = TCANetEmbeddings(config)
        self.layers = nn.ModuleList([TCANetLayer(config) for _ in range(config.num_hidden_layers)])
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(self, features: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> BaseModelOutput:
        """Encode features.

        Args:
            features: of each video, `(batch, length, feature_size)`; shorter ones are padded with zeros to
                `max_sequence_length`.
            kwargs: for the layers.

        Returns:
            `last_hidden_state`: `(batch, max_sequence_length or more, hidden_size)`.

        Raises:
            ValueError: if the shape does not fit the model.
        """
        config = self.config
        if features.ndim != 3 or features.shape[2] != config.feature_size or features.shape[1] < 1:
            raise ValueError(
                f"features has the shape {tuple(features.shape)}, expected (batch, length, {config.feature_size}): "
                "one row for each window of the video, of the encoder that the model was trained with."
            )
        rest: Any = torch.sym_max(config.max_sequence_length - features.shape[1], 0)  # a number, or a symbolic one
        hidden_states = self.embeddings(pad(features, (0, 0, 0, rest)))
        mask = window_mask(hidden_states, config.num_attention_heads, config.attention_window)
        for layer in self.layers:
            hidden_states = layer(hidden_states, mask.to(hidden_states.device), **kwargs)
        return BaseModelOutput(last_hidden_state=hidden_states)


def window_mask(hidden_states: torch.Tensor, heads: int, window: int) -> torch.Tensor:
    """Return what the attention adds to its scores: nothing, but -inf outside of the windows of half of the heads.

    Args:
        hidden_states: `(b, n, c)`; of their length and type.
        heads: of which the first half, rounded down, has windows.
        window: positions of a window.

    Returns:
        `(1, heads, n, n)`.
    """
    positions = torch.arange(hidden_states.shape[1], device=hidden_states.device)
    distance = positions - positions[:, None] + window // 2
    far = (distance < 0) | (distance >= window)
    local = torch.arange(heads, device=hidden_states.device) < heads // 2
    hidden = local[:, None, None] & far
    return torch.zeros_like(hidden, dtype=hidden_states.dtype).masked_fill(hidden, -torch.inf)[None]


class TCANetForTemporalLocalization(TCANetPreTrainedModel):
    """The encoder with its stages: refined boundaries of proposals, and how well they fit."""

    accepts_loss_kwargs = False  # the losses are ratios of sums over a batch

    def __init__(self, config: TCANetConfig):
        super().__init__(config)
        self.tcanet = TCANetModel(config)
        self.stages = nn.ModuleList([TCANetStage(config) for _ in config.iou_thresholds])
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        features: torch.Tensor,
        proposals: torch.Tensor,
        proposal_scores: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        sampling_draws: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> TCANetForTemporalLocalizationOutput:
        """Refine proposals.

        In training mode they move further than in evaluation, as in the original, with labels or without.

        Args:
            features: of each video, `(batch, length, feature_size)`.
            proposals: `(batch, proposals, 2)`, start and end in seconds; rows of zeros are padding.
            proposal_scores: `(batch, proposals)`, 0-1.
            labels: the segment that each proposal shall become, `(batch, proposals, 2)` in seconds;
                `losses_tcanet.match_segments` finds it.
            sampling_draws: `(batch, proposals, stages, 2)`, uniform in [0, 1): which middle and low examples of the
                overlap count in the loss; new ones by default.
            kwargs: for the encoder.

        Raises:
            ValueError: if the shapes do not fit the model or each other.
        """
        encoded = self.tcanet(features, return_dict=True, **kwargs)
        check_proposals(proposals, labels, features.shape[0])
        current, is_real = proposals.float(), proposals.sum(-1) > 0
        draws = sampling_draws
        if draws is None:
            # Of the CPU, so that a seed means the same examples on every device.
            draws = torch.rand(*is_real.shape, len(self.stages), 2, device="cpu")
        elif tuple(draws.shape) != (expected := (*is_real.shape, len(self.stages), 2)):
            raise ValueError(
                f"sampling_draws has the shape {tuple(draws.shape)}, expected {expected}: two numbers for each "
                "proposal and stage."
            )
        segments, overlaps, boundary_losses, overlap_losses = [], [], [], []
        for number, (stage, threshold) in enumerate(zip(self.stages, self.config.iou_thresholds, strict=True)):
            offsets, shape, found = (
                numbers.to(current.device) for numbers in stage(encoded.last_hidden_state, current)
            )
            if labels is not None:
                truth, of_stage = labels.to(current.device).float(), draws[:, :, number].to(current.device)
                true_overlap = overlap(current, truth)
                weights = (is_real & (true_overlap >= threshold)).float()
                boundary_losses.append(boundary_loss(offsets, shape, current, truth, weights))
                overlap_losses.append(overlap_loss(found, true_overlap, threshold, of_stage, is_real))
            current = refine(current, offsets, shape, BOUNDARY_SCALE[self.training]) * is_real[..., None]
            segments.append(current)
            overlaps.append(found * is_real)
        return TCANetForTemporalLocalizationOutput(
            loss=None if labels is None else sum([*boundary_losses, *overlap_losses], current.new_zeros(())),
            boundary_losses=tuple(boundary_losses) or None,
            overlap_losses=tuple(overlap_losses) or None,
            segments=tuple(segments),
            overlaps=tuple(overlaps),
            scores=None if proposal_scores is None else proposal_scores.float() * overlaps[max(len(overlaps) - 2, 0)],
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )


def check_proposals(proposals: torch.Tensor, labels: torch.Tensor | None, batch: int) -> None:
    """Refuse proposals, or their segments, of another shape than `(batch, proposals, 2)`."""
    if proposals.ndim != 3 or proposals.shape[0] != batch or proposals.shape[2] != 2:
        raise ValueError(
            f"proposals has the shape {tuple(proposals.shape)}, expected ({batch}, proposals, 2): start and end in "
            "seconds, for each video of features."
        )
    if labels is not None and labels.shape != proposals.shape:
        raise ValueError(
            f"labels has the shape {tuple(labels.shape)}, expected {tuple(proposals.shape)}: the segment of each "
            "proposal."
        )


__all__ = ["TCANetConfig", "TCANetForTemporalLocalization", "TCANetModel"]
