"""Layers that families share; what differs between families stands with the family.

Shape letters, here and in the models: `b` clip, `t` frame, `h w` patch grid, `n` token, `c` channel, `k` head.
"""

from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import nn
from transformers.activations import ACT2FN
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from internvideo_hf.models.common.kernels import project


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute attention step by step, for the probabilities that the fused kernels do not return.

    Args:
        module: says whether it is in training.
        query: `(b, k, n, d)`.
        key: `(b, k, m, d)`.
        value: `(b, k, m, d)`.
        attention_mask: added to the scores, broadcastable to `(b, k, n, m)`.
        scaling: factor on the scores.
        dropout: of the probabilities, 0-1.
        kwargs: for other kernels.

    Returns:
        The result `(b, n, k, d)` and the probabilities `(b, k, n, m)`.
    """
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    probabilities = nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    probabilities = nn.functional.dropout(probabilities, p=dropout, training=module.training)
    return torch.matmul(probabilities, value).transpose(1, 2).contiguous(), probabilities


class PatchConv(nn.Conv3d):
    """A 3-D convolution of pixels of any float type; the processor makes float32, and the weight may be halved."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return super().forward(pixels.to(self.weight.dtype))


class Attention(nn.Module):
    """Multi-head attention of `hidden_states` to itself or to other tokens.

    Args:
        config: names the attention kernel (`_attn_implementation`) and the rate `attention_dropout`.
        hidden_size: width of the tokens.
        num_heads: must divide `hidden_size`.
        biases: which of the projections "q", "k", "v" have a bias. One on the keys changes no answer, since the
            softmax does not see what is added to all scores of a query; VideoMAE has none.
        context_size: width of the tokens attended to, where it is another one.
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        hidden_size: int,
        num_heads: int,
        biases: str = "qkv",
        context_size: int | None = None,
    ):
        super().__init__()
        context_size = context_size or hidden_size
        self.config = config
        self.num_heads = num_heads
        self.scaling = (hidden_size // num_heads) ** -0.5
        self.is_causal = False
        self.q_proj = nn.Linear(hidden_size, hidden_size, bias="q" in biases)
        self.k_proj = nn.Linear(context_size, hidden_size, bias="k" in biases)
        self.v_proj = nn.Linear(context_size, hidden_size, bias="v" in biases)
        self.out_proj = nn.Linear(hidden_size, hidden_size)

    def forward(
        self,
        hidden_states: torch.Tensor,
        context: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend.

        Args:
            hidden_states: the queries, `(b, n, c)`.
            context: the tokens attended to, `(b, m, context_size)`; `hidden_states` itself where None.
            attention_mask: added to the scores, broadcastable to `(b, k, n, m)`; None for nothing.
            kwargs: for the attention kernel.

        Returns:
            `(b, n, c)`, and the probabilities `(b, k, n, m)` where the kernel computes them.
        """
        context = hidden_states if context is None else context
        query = rearrange(project(self.q_proj, hidden_states), "b n (k d) -> b k n d", k=self.num_heads)
        key = rearrange(project(self.k_proj, context), "b n (k d) -> b k n d", k=self.num_heads)
        value = rearrange(project(self.v_proj, context), "b n (k d) -> b k n d", k=self.num_heads)
        attend: Callable[..., Any] = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        dropout: float = self.config.attention_dropout if self.training else 0.0
        attended, probabilities = attend(
            self, query, key, value, attention_mask, scaling=self.scaling, dropout=dropout, **kwargs
        )
        return project(self.out_proj, rearrange(attended, "b n k d -> b n (k d)")), probabilities


class QuickGELU(nn.Module):
    """`x * sigmoid(1.702 x)` as CLIP has it, computed as `silu(1.702 x) / 1.702`.

    transformers' class makes two tensors more, each as large as the widest of the layer; most of its time goes into
    fetching their memory from the system (benchmarks/README.md).
    """

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Compute the activation of a tensor of any shape."""
        if torch.compiler.is_compiling():  # compilers and runtimes have a kernel for the common form alone
            return hidden_states * torch.sigmoid(1.702 * hidden_states)
        scaled = 1.702 * hidden_states
        return nn.functional.silu(scaled, inplace=not scaled.requires_grad).mul_(1 / 1.702)


class MLP(nn.Module):
    """Two linear layers with an activation, and dropout behind the activation.

    Args:
        hidden_size: width of the tokens.
        intermediate_size: width between the two layers.
        activation: its name in transformers' `ACT2FN`.
        dropout: probability that a hidden unit is dropped in training, 0-1.
    """

    def __init__(self, hidden_size: int, intermediate_size: int, activation: str, dropout: float = 0.0):
        super().__init__()
        self.fc1 = nn.Linear(hidden_size, intermediate_size)
        self.activation = QuickGELU() if activation == "quick_gelu" else ACT2FN[activation]
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(intermediate_size, hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        inner = self.dropout(self.activation(project(self.fc1, hidden_states)))
        return project(self.fc2, inner)


class DropPath(nn.Module):
    """Stochastic depth: drop a residual branch of some samples in training, and scale it up for the others.

    Args:
        rate: probability that a sample's branch is dropped, 0-1.
    """

    def __init__(self, rate: float = 0.0):
        super().__init__()
        self.rate = rate

    def forward(self, branch: torch.Tensor, rows: int = 1) -> torch.Tensor:
        """Drop the branch of some samples.

        Args:
            branch: `(b * rows, ...)`.
            rows: consecutive rows that are one sample, such as the frames of a clip.
        """
        if not self.training or self.rate == 0.0:
            return branch
        kept = branch.new_empty(branch.shape[0] // rows, *[1] * (branch.ndim - 1)).bernoulli_(1 - self.rate)
        return branch * kept.repeat_interleave(rows, dim=0) / (1 - self.rate)


def drop_path_rates(last: float, layers: int) -> list[float]:
    """Return rates that rise linearly from 0 at the first layer to `last` at the last one.

    Args:
        last: rate of the last layer, 0-1.
        layers: how many.
    """
    return [last * index / max(layers - 1, 1) for index in range(layers)]


class LayerScale(nn.Module):
    """A learned factor for each channel of a residual branch."""

    def __init__(self, hidden_size: int, start: float):
        super().__init__()
        self.start = start
        self.factor = nn.Parameter(torch.full((hidden_size,), float(start)))

    def forward(self, branch: torch.Tensor) -> torch.Tensor:
        return branch * self.factor


class EncoderLayer(GradientCheckpointingLayer):
    """The pre-norm transformer layer: self-attention and MLP, each added to its input.

    Args:
        config: with `hidden_size`, `intermediate_size`, `num_attention_heads`, `hidden_act`, `layer_norm_eps`.
        drop_path: probability that a sample's branch is dropped in training, 0-1.
    """

    def __init__(self, config: Any, drop_path: float = 0.0):
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self_attn = Attention(config, config.hidden_size, config.num_attention_heads)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = MLP(config.hidden_size, config.intermediate_size, config.hidden_act)
        self.drop_path = DropPath(drop_path)

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        attended = self.self_attn(self.layer_norm1(hidden_states), **kwargs)[0]
        hidden_states = hidden_states + self.drop_path(attended)
        branch: torch.Tensor = self.drop_path(self.mlp(self.layer_norm2(hidden_states)))
        return hidden_states + branch


class PostNormLayer(GradientCheckpointingLayer):
    """The post-norm transformer layer, as in BERT: each sum of a branch and its input is normalized.

    Args:
        config: with `hidden_size`, `intermediate_size`, `num_attention_heads`, `hidden_act`, `layer_norm_eps`,
            `hidden_dropout`.
        inner_dropout: probability that a unit inside the MLP is dropped in training, 0-1; BERT drops none.
    """

    def __init__(self, config: Any, inner_dropout: float = 0.0):
        super().__init__()
        self.self_attn = Attention(config, config.hidden_size, config.num_attention_heads)
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = MLP(config.hidden_size, config.intermediate_size, config.hidden_act, inner_dropout)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> torch.Tensor:
        attended = self.self_attn(hidden_states, attention_mask=attention_mask, **kwargs)[0]
        hidden_states = self.layer_norm1(hidden_states + self.dropout(attended))
        normalized: torch.Tensor = self.layer_norm2(hidden_states + self.dropout(self.mlp(hidden_states)))
        return normalized


def sine_table(positions: int, width: int) -> torch.Tensor:
    """Compute the fixed position table, `(positions, width)`: sines at even channels, cosines at odd ones.

    Args:
        positions: rows.
        width: channels.

    Returns:
        float32, on the CPU.
    """
    # The device is named: transformers builds models on the meta device, where a table would stay empty.
    return sine_rows(torch.arange(positions, device="cpu"), width)


def sine_rows(positions: torch.Tensor, width: int) -> torch.Tensor:
    """Compute rows of the fixed position table, which has no end, `(..., width)`, float32.

    Args:
        positions: numbers of the rows, integers, of any shape.
        width: channels.
    """
    # Numbers become float64 when they are there: DeepSpeed's zero.Init casts whatever is created as a float to half
    # precision. Apple's GPUs have no float64.
    device = torch.device("cpu") if positions.device.type == "mps" else positions.device
    channels = torch.arange(width, device=device)
    rates = 10000.0 ** (2 * (channels.double() // 2) / width)
    angles = positions.to(device).double()[..., None] / rates
    return torch.where(channels % 2 == 0, angles.sin(), angles.cos()).float().to(positions.device)


def resample_position_rows(positions: torch.Tensor, length: int) -> torch.Tensor:
    """Fit a table of learned positions in a sequence to another length, as ViCLIP's loader does.

    More rows come by linear interpolation (half-pixel centres); of fewer, they are the first ones, as they are.

    Args:
        positions: `(rows, c)`.
        length: the wanted rows, 1 or more; may be symbolic in a traced graph.

    Returns:
        `(length, c)`.
    """
    rows = positions.shape[0]
    # One formula for both cases, since a graph that is made for any length cannot branch on it: where there are rows
    # enough, one step of the sequence is one row.
    step: Any = torch.sym_min(rows, length) / length  # a number, or a symbolic one
    half_pixels: torch.Tensor = (torch.arange(length, device=positions.device) + 0.5) * step
    place = (half_pixels - 0.5).clamp(min=0.0)
    lower = place.long().clamp(max=rows - 1)
    fraction = (place - lower)[:, None]
    table = positions.float()
    between = table[lower] * (1 - fraction) + table[(lower + 1).clamp(max=rows - 1)] * fraction
    return between.to(positions.dtype)


def resample_position_grid(positions: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Fit a square table of learned patch positions to another grid, by bicubic interpolation.

    Args:
        positions: `(side * side, c)`, row by row.
        height: of the new grid, in patches.
        width: of the new grid, in patches.

    Returns:
        `(height * width, c)`; the same tensor where the grid is already right.
    """
    side = round(positions.shape[0] ** 0.5)
    if (height, width) == (side, side):
        return positions
    grid = rearrange(positions, "(h w) c -> 1 c h w", h=side)
    grid = nn.functional.interpolate(grid.float(), size=(height, width), mode="bicubic", align_corners=False)
    return rearrange(grid, "1 c h w -> (h w) c").to(positions.dtype)


def as_clips(
    pixel_values_videos: torch.Tensor, num_channels: int, patch_size: int, tubelet_size: int = 1
) -> torch.Tensor:
    """Check a batch of clips, and give single images the time axis that they lack.

    Args:
        pixel_values_videos: `(batch, frames, channels, height, width)` or `(batch, channels, height, width)`.
        num_channels: that a frame must have.
        patch_size: that must divide both sides.
        tubelet_size: that must divide the number of frames.

    Returns:
        `(batch, frames, channels, height, width)`.

    Raises:
        ValueError: naming the shape or type that came and what would fit.
    """
    if not pixel_values_videos.is_floating_point():
        raise ValueError(
            f"pixel_values_videos holds {pixel_values_videos.dtype} numbers, expected normalized floats: frames go "
            "through the model's processor first, `processor(videos=video)` or AutoVideoProcessor."
        )
    shape = tuple(pixel_values_videos.shape)
    if pixel_values_videos.ndim == 4:
        pixel_values_videos = pixel_values_videos[:, None]
    if pixel_values_videos.ndim != 5 or pixel_values_videos.shape[2] != num_channels:
        images = f" or (batch, {num_channels}, height, width)" if tubelet_size == 1 else ""
        raise ValueError(
            f"pixel_values_videos has the shape {shape}, expected (batch, frames, {num_channels}, height, width)"
            f"{images}. The processor makes this layout; from (batch, channels, "
            "frames, height, width) it is `pixel_values_videos.transpose(1, 2)`."
        )
    _, frames, _, height, width = pixel_values_videos.shape
    _check_multiple("number of frames", frames, tubelet_size, "tubelet size")
    _check_multiple("height", height, patch_size, "patch size")
    _check_multiple("width", width, patch_size, "patch size")
    return pixel_values_videos


def _check_multiple(what: str, length: int, unit: int, unit_name: str) -> None:
    if length % unit or not length:
        below = length // unit * unit
        nearest = " or ".join(str(size) for size in (below, below + unit) if size)
        raise ValueError(f"The {what}, {length}, is not a multiple of the {unit_name} {unit}. Make it {nearest}.")


def select_tokens(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Select the tokens `(b, n, c)` where `mask` `(b, n)` is True, in their order.

    Args:
        tokens: `(b, n, c)`.
        mask: `(b, n)`; every row must select the same number.
    """
    return tokens[mask.to(tokens.device)].reshape(len(tokens), -1, *tokens.shape[2:])


def check_mask(mask: torch.Tensor, shape: torch.Size) -> None:
    """Refuse a mask that is not boolean, not of the tokens' shape, or uneven over the batch.

    Args:
        mask: which tokens are chosen.
        shape: `(clips, tokens)`.

    Raises:
        ValueError: naming what came and what was expected.
    """
    if mask.dtype != torch.bool or mask.shape != shape:
        raise ValueError(
            f"The mask is {mask.dtype} of the shape {tuple(mask.shape)}, expected torch.bool of the shape "
            f"{tuple(shape)} (clips, tokens); `internvideo_hf.video.masking` makes such masks."
        )
    counts = mask.sum(dim=1)
    if (counts != counts[0]).any():
        raise ValueError(f"Every row of a mask must have the same number of True entries, got {counts.tolist()}.")


def visible_mask(bool_masked_pos: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Check a mask of hidden tokens, and return that of the visible ones.

    Args:
        bool_masked_pos: `(clips, tokens)`, True on hidden tokens.
        shape: `(clips, tokens)`.

    Raises:
        ValueError: as of `check_mask`, and if everything is hidden.
    """
    check_mask(bool_masked_pos, shape)
    if bool_masked_pos.all():
        raise ValueError(f"The mask hides all {shape[1]} tokens, expected some to be left.")
    return ~bool_masked_pos
