"""Attentive probe: a learned query that attends to the tokens of a frozen encoder, and a linear classifier."""

import math

import torch
from torch import nn

from internvideo_hf.models.common.layers import MLP


class AttentiveProbe(nn.Module):
    """Classifies clips by their tokens, in the shape of V-JEPA's probes.

    Args:
        width: channels of a token.
        classes: number of classes.
        depth: blocks; the last one is cross-attention with the query, those before it self-attention.
        heads: of attention, at most; the greatest common divisor with the width is taken.
        mlp_ratio: hidden width of the MLPs over `width`.
    """

    def __init__(self, width: int, classes: int, depth: int = 1, heads: int = 16, mlp_ratio: float = 4.0):
        super().__init__()
        heads = math.gcd(width, heads)
        self.query = nn.Parameter(torch.zeros(1, width))
        self.blocks = nn.ModuleList(SelfAttention(width, heads, mlp_ratio) for _ in range(depth - 1))
        self.pooling = AttentionPooling(width, heads, mlp_ratio)
        self.head = nn.Linear(width, classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.query, std=0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the logits of clips, `(clips, classes)`.

        Args:
            tokens: `(clips, tokens, width)`.
        """
        for block in self.blocks:
            tokens = block(tokens)
        logits: torch.Tensor = self.head(self.pooling(self.query, tokens))
        return logits


class SelfAttention(nn.Module):
    """Self-attention and an MLP, each behind a layer norm and beside a shortcut.

    Args:
        width: channels of a token.
        heads: of attention.
        mlp_ratio: hidden width of the MLP over `width`.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float):
        super().__init__()
        self.heads, self.norm, self.norm_mlp = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_query_key_value, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = MLP(width, int(width * mlp_ratio), "gelu")

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Mix the tokens of each clip.

        Args:
            tokens: `(clips, tokens, width)`.
        """
        rows = self.to_query_key_value(self.norm(tokens))
        query, key, value = rows.view(*rows.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        found = nn.functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.project(found.transpose(1, 2).flatten(2))
        mixed: torch.Tensor = tokens + self.mlp(self.norm_mlp(tokens))
        return mixed


class AttentionPooling(nn.Module):
    """Cross-attention of one query with tokens behind a layer norm, and an MLP, each beside a shortcut.

    Args:
        width: channels of a token.
        heads: of attention.
        mlp_ratio: hidden width of the MLP over `width`.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float):
        super().__init__()
        self.heads, self.norm, self.norm_mlp = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_query, self.to_value = nn.Linear(width, width), nn.Linear(width, width)
        self.to_key = nn.Linear(width, width, bias=False)  # a bias would cancel in the softmax
        self.project, self.mlp = nn.Linear(width, width), MLP(width, int(width * mlp_ratio), "gelu")

    def forward(self, query: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Return one vector of each clip, `(clips, width)`.

        Args:
            query: of all clips, `(1, width)`.
            tokens: `(clips, tokens, width)`.
        """
        # Keys and values are never made: the one query is compared with the tokens along one direction a head, and the
        # tokens are averaged before they become values. Of frozen tokens, the norm then needs no gradient either.
        normed = nn.functional.layer_norm(tokens, tokens.shape[-1:], eps=self.norm.eps)
        asked = self.to_query(query).view(self.heads, -1)
        key, value = (one.weight.view(self.heads, -1, one.in_features) for one in (self.to_key, self.to_value))
        along = torch.einsum("hd,hdw->hw", asked, key) * self.norm.weight * asked.shape[-1] ** -0.5
        shares = (along @ normed.transpose(1, 2)).softmax(dim=-1)
        means = (shares @ normed) * self.norm.weight + self.norm.bias
        found = torch.einsum("chw,hdw->chd", means, value).flatten(1) + self.to_value.bias
        query = query + self.project(found)
        pooled: torch.Tensor = query + self.mlp(self.norm_mlp(query))
        return pooled
