"""Attention of ActionFormer: to a window around each position in blocks, or to all positions.

Shape letters: `b` video, `n` position, `c` channel, `k` head, `d` channel of a head.
"""

from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from internvideo_hf.models.actionformer.configuration_actionformer import ActionFormerConfig
from internvideo_hf.models.common.kernels import project
from internvideo_hf.models.common.layers import eager_attention_forward

LEAST_BLOCK = 32  # positions; products of smaller blocks cost more to start than to compute


def masked(hidden_states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Set padded positions to 0.

    Args:
        hidden_states: `(b, n, c)`.
        mask: `(b, n)`, True on real positions; may be on another device.
    """
    return hidden_states * mask[..., None].to(hidden_states.device)


class MaskedConv(nn.Conv1d):
    """A convolution over time whose results at padded positions are 0.

    Args:
        in_size: channels.
        out_size: channels.
        kernel_size: odd; padded to the same length.
        stride: positions from a result to the next; must divide the length.
        groups: see torch.
        bias: add a bias.
    """

    def __init__(
        self, in_size: int, out_size: int, kernel_size: int, stride: int = 1, groups: int = 1, bias: bool = True
    ):
        super().__init__(
            in_size, out_size, kernel_size, stride=stride, padding=kernel_size // 2, groups=groups, bias=bias
        )

    def forward(self, hidden_states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Convolve.

        Args:
            hidden_states: `(b, n, c)`.
            mask: of the results, `(b, n / stride)`, True on real positions.

        Returns:
            `(b, n / stride, out_size)`.
        """
        channels_first = hidden_states.to(self.weight.dtype).transpose(1, 2)
        return masked(super().forward(channels_first).transpose(1, 2), mask)


class ActionFormerAttention(nn.Module):
    """Multi-head attention whose queries, keys and values each pass a depth-wise convolution first.

    With a window, blocks of positions attend to themselves and half a window on both sides, so that memory grows with
    the length times the window. A position always sees itself: padded ones, whose result is 0, have nothing else.

    Args:
        config: of the model.
        window: positions that a position attends to, itself in their middle; odd. 1 or less: all.
        stride: of the convolutions, which shorten the sequence.
    """

    def __init__(self, config: ActionFormerConfig, window: int, stride: int):
        super().__init__()
        width = config.hidden_size
        self.config = config
        self.num_heads = config.num_attention_heads
        self.scaling = (width // self.num_heads) ** -0.5
        self.is_causal = False
        self.reach = window // 2 if window > 1 else 0
        for name in ("q", "k", "v"):
            self.add_module(f"{name}_conv", MaskedConv(width, width, 3, stride, groups=width, bias=False))
            self.add_module(f"{name}_norm", nn.LayerNorm(width, eps=config.layer_norm_eps))
            self.add_module(f"{name}_proj", nn.Linear(width, width))
        self.out_proj = nn.Linear(width, width)
        has_bias = config.use_relative_positions and self.reach > 0
        self.relative_bias = nn.Parameter(torch.zeros(self.num_heads, window)) if has_bias else None

    def forward(
        self, hidden_states: torch.Tensor, mask: torch.Tensor, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend.

        Args:
            hidden_states: `(b, n * stride, c)`.
            mask: of the results, `(b, n)`, True on real positions.
            kwargs: for the attention kernel.

        Returns:
            `(b, n, c)`, and the probabilities where the kernel computes them: `(b, k, n, window)`, or `(b, k, n, n)`
            without a window.
        """
        query, key, value = (self._input(name, hidden_states, mask) for name in ("q", "k", "v"))
        attend = self._attend_in_blocks if self.reach else self._attend_to_all
        attended, probabilities = attend(query, key, value, mask, **kwargs)
        attended = project(self.out_proj, rearrange(attended, "b n k d -> b n (k d)"))
        return masked(attended, mask), probabilities

    def _input(self, name: str, hidden_states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return queries, keys or values, `(b, n, c)`."""
        convolved = self.get_submodule(f"{name}_conv")(hidden_states, mask)
        return project(self.get_submodule(f"{name}_proj"), self.get_submodule(f"{name}_norm")(convolved))

    def _attend_to_all(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        query, key, value = (rearrange(part, "b n (k d) -> b k n d", k=self.num_heads) for part in (query, key, value))
        hidden = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, torch.finfo(query.dtype).min)
        return self._attend(query, key, value, hidden[:, None, None], **kwargs)

    def _attend_in_blocks(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        batch, length = query.shape[:2]
        block, reach = max(2 * self.reach, LEAST_BLOCK), self.reach
        blocks = (length + block - 1) // block
        rest = blocks * block - length

        def neighborhoods(part: torch.Tensor) -> torch.Tensor:
            """Return each block with half a window on both sides, `(b, blocks, c, block + 2 reach)`."""
            return nn.functional.pad(part, (0, 0, reach, rest + reach)).unfold(1, block + 2 * reach, block)

        query = nn.functional.pad(query, (0, 0, 0, rest))
        query = rearrange(query, "b (m n) (k d) -> (b m) k n d", m=blocks, n=block, k=self.num_heads)
        key, value = (
            rearrange(neighborhoods(part), "b m (k d) n -> (b m) k n d", k=self.num_heads) for part in (key, value)
        )
        bias = self._bias(neighborhoods(mask[..., None].to(query.device))[:, :, 0], block, query.dtype)
        attended, probabilities = self._attend(query, key, value, bias, **kwargs)
        attended = rearrange(attended, "(b m) n k d -> b (m n) k d", b=batch)[:, :length]
        if probabilities is not None:
            places = self._places(block, query.device).expand(*probabilities.shape[:3], -1)
            probabilities = rearrange(probabilities.gather(-1, places), "(b m) k n w -> b k (m n) w", b=batch)
            probabilities = probabilities[:, :, :length]
        return attended, probabilities

    def _places(self, block: int, device: torch.device) -> torch.Tensor:
        """Return the window of each position of a block, as indices into its neighborhood, `(block, window)`."""
        window = 2 * self.reach + 1
        return torch.arange(block, device=device)[:, None] + torch.arange(window, device=device)

    def _bias(self, is_real: torch.Tensor, block: int, dtype: torch.dtype) -> torch.Tensor:
        """Return what is added to the scores of blocks: the lowest number outside of windows and at padded positions.

        Args:
            is_real: `(b, blocks, block + 2 reach)`, True on real positions.
            block: positions of a block.
            dtype: of the scores.

        Returns:
            `(b * blocks, 1 or k, block, block + 2 reach)`.
        """
        device = is_real.device
        slots = torch.arange(block + 2 * self.reach, device=device) - torch.arange(block, device=device)[:, None]
        in_window, is_itself = (slots >= 0) & (slots <= 2 * self.reach), slots == self.reach
        is_seen = in_window & (rearrange(is_real, "b m n -> (b m) 1 1 n") | is_itself)
        bias = torch.zeros((), dtype=dtype, device=device)
        if self.relative_bias is not None:
            bias = self.relative_bias.to(device, dtype)[:, slots.clamp(0, 2 * self.reach)]
        return torch.where(is_seen, bias, torch.finfo(dtype).min)

    def _attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        kernel: Callable[..., Any] = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        dropout = self.config.attention_dropout if self.training else 0.0
        attended: tuple[torch.Tensor, torch.Tensor | None] = kernel(
            self, query, key, value, bias, scaling=self.scaling, dropout=dropout, **kwargs
        )
        return attended
