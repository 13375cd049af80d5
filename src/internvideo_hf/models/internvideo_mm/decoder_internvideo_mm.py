"""The caption decoder of InternVideo-MM: it reads a text's tokens and a clip's, and predicts the next token.

Learned queries pool the clip's tokens to a fixed number. Each layer then adds two blocks to the text's tokens: causal
self-attention beside a gated MLP (as PaLM, arXiv 2204.02311), and cross-attention to the pooled tokens beside a gated
MLP. All heads of queries share one of keys and values (arXiv 1911.02150), and no projection has a bias. The plan is
CoCa's (arXiv 2205.01917), with the text tower as its unimodal layers.
"""

from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import nn
from transformers import initialization as init
from transformers.cache_utils import EncoderDecoderCache
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from internvideo_hf.models.common.base import VideoPreTrainedModel
from internvideo_hf.models.common.kernels import project
from internvideo_hf.models.common.layers import eager_attention_forward
from internvideo_hf.models.common.narrowing import known, of_type
from internvideo_hf.models.internvideo_mm.configuration_internvideo_mm import InternVideoMMDecoderConfig

Rotation = tuple[torch.Tensor, torch.Tensor]
"""Cosine and sine of the angle of each channel at each position, `(n, d)`."""


def rotation_at(positions: torch.Tensor, head_dim: int, theta: float) -> Rotation:
    """Compute the rotation of rotary positions (arXiv 2104.09864), channel `i` paired with `i + head_dim / 2`.

    Args:
        positions: `(n,)`.
        head_dim: channels of a head, even.
        theta: base of the wavelengths.
    """
    channels = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32)
    angles = positions[:, None].float() * theta ** -(channels / head_dim)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate(tokens: torch.Tensor, rotation: Rotation) -> torch.Tensor:
    """Rotate the pairs of channels.

    Args:
        tokens: `(b, k, n, d)`.
        rotation: of the same `n` and `d`.
    """
    cosine, sine = (part.to(tokens.dtype) for part in rotation)
    first, second = tokens.chunk(2, dim=-1)
    return tokens * cosine + torch.cat([-second, first], dim=-1) * sine


class InternVideoMMDecoderLayerNorm(nn.Module):
    """Layer norm with a learned factor and a constant bias, which released files hold as a buffer."""

    bias: torch.Tensor

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(width))
        self.register_buffer("bias", torch.zeros(width))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return nn.functional.layer_norm(tokens, self.weight.shape, self.weight, self.bias, self.eps)


class InternVideoMMDecoderAttention(nn.Module):
    """Attention to other tokens, without a mask.

    Args:
        config: of the decoder.
        context_size: width of the tokens attended to.
        cache_layer: number of the cache's layer that holds its keys and values; None where none does.
    """

    is_causal = False

    def __init__(self, config: InternVideoMMDecoderConfig, context_size: int, cache_layer: int | None = None):
        super().__init__()
        width = config.hidden_size
        self.config = config
        self.cache_layer = cache_layer
        self.num_heads = config.num_attention_heads
        self.num_key_value_groups = self.num_heads  # heads of queries to one of keys and values; kernels read it
        self.scaling = (width // self.num_heads) ** -0.5
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(context_size, width // self.num_heads, bias=False)
        self.v_proj = nn.Linear(context_size, width // self.num_heads, bias=False)
        self.out_proj = nn.Linear(width, width, bias=False)

    def forward(
        self,
        hidden_states: torch.Tensor,
        context: torch.Tensor,
        rotation: Rotation | None = None,
        attention_mask: torch.Tensor | None = None,
        cache: EncoderDecoderCache | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend.

        Args:
            hidden_states: the queries, `(b, n, c)`.
            context: the tokens attended to, `(b, m, context_size)`.
            rotation: of queries and keys.
            attention_mask: of transformers' `create_causal_mask`.
            cache: keys and values of earlier calls; changed in place.
            kwargs: for the attention kernel.

        Returns:
            `(b, n, c)`, and the probabilities `(b, k, n, m)` where the kernel computes them.
        """
        query = rearrange(project(self.q_proj, hidden_states), "b n (k d) -> b k n d", k=self.num_heads)
        query = query if rotation is None else rotate(query, rotation)
        key, value = self._keys_and_values(context, rotation, cache)
        attend: Callable[..., Any] = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        dropout: float = self.config.attention_dropout if self.training else 0.0
        attended, probabilities = attend(
            self, query, key, value, attention_mask, scaling=self.scaling, dropout=dropout, **kwargs
        )
        return project(self.out_proj, rearrange(attended, "b n k d -> b n (k d)")), probabilities

    def _keys_and_values(
        self, context: torch.Tensor, rotation: Rotation | None, cache: EncoderDecoderCache | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return keys and values `(b, 1, m, d)` of a context that stays the same."""
        if cache is not None and cache.is_updated.get(known(self.cache_layer)):
            stored: Any = cache.cross_attention_cache.layers[known(self.cache_layer)]
            return stored.keys, stored.values
        key, value = self._project_context(context)
        if cache is not None:
            cache.cross_attention_cache.update(key, value, known(self.cache_layer))
            cache.is_updated[known(self.cache_layer)] = True
        return key, value

    def _project_context(self, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return project(self.k_proj, context)[:, None], project(self.v_proj, context)[:, None]


class InternVideoMMDecoderSelfAttention(InternVideoMMDecoderAttention):
    """Causal attention of a text's tokens to themselves and to those before them."""

    is_causal = True

    def _keys_and_values(
        self, context: torch.Tensor, rotation: Rotation | None, cache: EncoderDecoderCache | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        key, value = self._project_context(context)
        key = rotate(key, known(rotation))
        if cache is None:
            return key, value
        joined: tuple[torch.Tensor, torch.Tensor] = cache.self_attention_cache.update(
            key, value, known(self.cache_layer)
        )
        return joined


class InternVideoMMDecoderMLP(nn.Module):
    """A gated MLP (SwiGLU, arXiv 2002.05202) without biases."""

    def __init__(self, config: InternVideoMMDecoderConfig):
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        gate = nn.functional.silu(project(self.gate_proj, hidden_states))
        return project(self.down_proj, gate * project(self.up_proj, hidden_states))


class InternVideoMMDecoderLayer(GradientCheckpointingLayer):
    """Two residual blocks: self-attention beside an MLP, and cross-attention beside an MLP.

    Args:
        config: of the decoder.
        number: its place among the decoder's layers, from 0.
    """

    def __init__(self, config: InternVideoMMDecoderConfig, number: int):
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.self_layer_norm = InternVideoMMDecoderLayerNorm(width, eps)
        self.self_attn = InternVideoMMDecoderSelfAttention(config, width, number)
        self.self_mlp = InternVideoMMDecoderMLP(config)
        self.cross_layer_norm = InternVideoMMDecoderLayerNorm(width, eps)
        self.cross_attn = InternVideoMMDecoderAttention(config, width, number)
        self.cross_mlp = InternVideoMMDecoderMLP(config)

    def forward(
        self,
        hidden_states: torch.Tensor,
        visual_tokens: torch.Tensor,
        rotation: Rotation,
        attention_mask: torch.Tensor | None = None,
        cache: EncoderDecoderCache | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Transform a text's tokens.

        Args:
            hidden_states: `(b, n, c)`.
            visual_tokens: `(b, queries, c)`.
            rotation: of the text's positions.
            attention_mask: of transformers' `create_causal_mask`.
            cache: keys and values of earlier calls; changed in place.
            kwargs: for the attention kernels.
        """
        normed = self.self_layer_norm(hidden_states)
        attended = self.self_attn(normed, normed, rotation, attention_mask, cache, **kwargs)[0]
        hidden_states = hidden_states + attended + self.self_mlp(normed)
        normed = self.cross_layer_norm(hidden_states)
        attended = self.cross_attn(normed, visual_tokens, cache=cache, **kwargs)[0]
        branch: torch.Tensor = attended + self.cross_mlp(normed)
        return hidden_states + branch


class InternVideoMMVisualPooler(nn.Module):
    """Learned queries attend to a clip's tokens."""

    def __init__(self, config: InternVideoMMDecoderConfig):
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.queries = nn.Parameter(torch.empty(config.num_visual_queries, width))
        self.query_layer_norm = InternVideoMMDecoderLayerNorm(width, eps)
        self.context_layer_norm = InternVideoMMDecoderLayerNorm(config.encoder_hidden_size, eps)
        self.attention = InternVideoMMDecoderAttention(config, config.encoder_hidden_size)
        self.layer_norm = nn.LayerNorm(width, eps=eps)

    def forward(self, video_tokens: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Pool.

        Args:
            video_tokens: of the video tower, `(b, m, encoder_hidden_size)`, in any order.
            kwargs: for the attention kernel.

        Returns:
            `(b, queries, c)`.
        """
        queries = self.query_layer_norm(self.queries.expand(video_tokens.shape[0], -1, -1))
        pooled: torch.Tensor = self.layer_norm(
            self.attention(queries, self.context_layer_norm(video_tokens), **kwargs)[0]
        )
        return pooled


class InternVideoMMCaptionDecoder(VideoPreTrainedModel):
    """Pooler and layers, without the head.

    Args:
        config: its sizes.
        first_cache_layer: number of the cache's layer for the first self-attention; those before are the text tower's.
    """

    config: InternVideoMMDecoderConfig
    _no_split_modules = ["InternVideoMMVisualPooler", "InternVideoMMDecoderLayer"]

    def __init__(self, config: InternVideoMMDecoderConfig, first_cache_layer: int = 0):
        super().__init__(config)
        self.pooler = InternVideoMMVisualPooler(config)
        self.text_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.layers = nn.ModuleList(
            [InternVideoMMDecoderLayer(config, number) for number in range(config.num_hidden_layers)]
        )
        for number, layer in enumerate(self.layers):
            of_type(layer, InternVideoMMDecoderLayer).self_attn.cache_layer = first_cache_layer + number
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.text_layer_norm

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, InternVideoMMVisualPooler):
            init.normal_(module.queries, std=self.config.hidden_size**-0.5)

    def forward(
        self,
        text_tokens: torch.Tensor,
        visual_tokens: torch.Tensor,
        first_position: int = 0,
        attention_mask: torch.Tensor | None = None,
        cache: EncoderDecoderCache | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Let a text's tokens read the clip.

        Args:
            text_tokens: last hidden states of the text tower, `(b, n, c)`.
            visual_tokens: of the pooler, `(b, queries, c)`.
            first_position: place of the first token in its text: how many the cache holds.
            attention_mask: of transformers' `create_causal_mask`.
            cache: keys and values of earlier tokens; changed in place.
            kwargs: for the attention kernels.

        Returns:
            `(b, n, c)`.
        """
        positions = torch.arange(first_position, first_position + text_tokens.shape[1], device=text_tokens.device)
        head_dim = self.config.hidden_size // self.config.num_attention_heads
        rotation = rotation_at(positions, head_dim, self.config.rope_theta)
        hidden_states: torch.Tensor = self.text_layer_norm(text_tokens)
        for layer in self.layers:
            hidden_states = layer(hidden_states, visual_tokens, rotation, attention_mask, cache, **kwargs)
        return hidden_states


class InternVideoMMCaptionHead(nn.Module):
    """Scores of the next token: two linear layers, each behind a layer norm.

    Args:
        config: of the decoder.
        vocab_size: tokens.
    """

    def __init__(self, config: InternVideoMMDecoderConfig, vocab_size: int):
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.layer_norm1 = nn.LayerNorm(width, eps=eps)
        self.fc1 = nn.Linear(width, width)
        self.layer_norm2 = nn.LayerNorm(width, eps=eps)
        self.fc2 = nn.Linear(width, vocab_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        inner = nn.functional.gelu(project(self.fc1, self.layer_norm1(hidden_states)))
        return project(self.fc2, self.layer_norm2(inner))


class InternVideoMMAnswerHead(nn.Module):
    """Scores of answers: two linear layers with dropout before each.

    Args:
        width: of the features.
        num_labels: answers.
        dropout: probability that a channel is dropped in training, 0-1.
        eps: epsilon of the layer norm.
    """

    def __init__(self, width: int, num_labels: int, dropout: float, eps: float):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.fc1 = nn.Linear(width, 2 * width)
        self.layer_norm = nn.LayerNorm(2 * width, eps=eps)
        self.fc2 = nn.Linear(2 * width, num_labels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        inner = nn.functional.gelu(self.layer_norm(self.fc1(self.dropout(features))))
        scores: torch.Tensor = self.fc2(self.dropout(inner))
        return scores
