"""The attentive probe equals attention as torch has it, block by block."""

import pytest
import torch
from torch import nn

from internvideo_hf.models.common.attentive_probe import AttentionPooling, AttentiveProbe, SelfAttention


def moved(module: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return module.double()


def attention(width: int, heads: int, weights: list[nn.Linear], project: nn.Linear) -> nn.MultiheadAttention:
    """Return torch's own attention with these weights of query, key and value."""
    stock = nn.MultiheadAttention(width, heads, batch_first=True).double()
    with torch.no_grad():
        stock.in_proj_weight.copy_(torch.cat([one.weight for one in weights]))
        biases = [torch.zeros(width) if one.bias is None else one.bias for one in weights]
        stock.in_proj_bias.copy_(torch.cat(biases))
        stock.out_proj.load_state_dict(project.state_dict())
    return stock


def test_pooling_is_cross_attention_of_one_query():
    pooling = moved(AttentionPooling(12, 3, 2.0))
    tokens, query = torch.randn(4, 7, 12).double() * 3 + 1, torch.randn(1, 12).double()
    stock = attention(12, 3, [pooling.to_query, pooling.to_key, pooling.to_value], pooling.project)
    normed, asked = pooling.norm(tokens), query.expand(4, 1, 12)
    expected = asked + stock(asked, normed, normed)[0]
    expected = (expected + pooling.mlp(pooling.norm_mlp(expected)))[:, 0]
    torch.testing.assert_close(pooling(query, tokens), expected)
    weights = [query.requires_grad_(), *pooling.parameters()]
    found = torch.autograd.grad(pooling(query, tokens).square().sum(), weights)
    stock_query = query.expand(4, 1, 12) + stock(query.expand(4, 1, 12), pooling.norm(tokens), pooling.norm(tokens))[0]
    again = (stock_query + pooling.mlp(pooling.norm_mlp(stock_query)))[:, 0].square().sum()
    torch.testing.assert_close(found[0], torch.autograd.grad(again, query)[0])


def test_blocks_before_it_are_self_attention():
    block = moved(SelfAttention(12, 3, 2.0))
    tokens = torch.randn(4, 7, 12).double()
    parts = [nn.Linear(12, 12).double() for _ in range(3)]
    for part, weight, bias in zip(
        parts, block.to_query_key_value.weight.chunk(3), block.to_query_key_value.bias.chunk(3), strict=True
    ):
        part.load_state_dict({"weight": weight, "bias": bias})
    stock = attention(12, 3, parts, block.project)
    normed = block.norm(tokens)
    expected = tokens + stock(normed, normed, normed)[0]
    torch.testing.assert_close(block(tokens), expected + block.mlp(block.norm_mlp(expected)))


@pytest.mark.parametrize(("width", "heads", "taken"), [(12, 16, 4), (96, 16, 16), (7, 4, 1)])
def test_heads_divide_the_width(width, heads, taken):
    probe = AttentiveProbe(width, 5, depth=2, heads=heads)
    assert probe.pooling.heads == probe.blocks[0].heads == taken
    assert probe(torch.randn(2, 3, width)).shape == (2, 5)
