"""Attention in windows against a dense reading of the same rule, its memory, and masked convolutions."""

import pytest
import torch
from models.actionformer.test_modeling_actionformer import tiny_config
from models.model_checks import draw, move_from_start
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from internvideo_hf.models.actionformer import attention_actionformer
from internvideo_hf.models.actionformer.attention_actionformer import ActionFormerAttention, MaskedConv


def attention(window: int, stride: int = 1, **changes) -> ActionFormerAttention:
    config = tiny_config(**changes)
    config._attn_implementation = "sdpa"
    torch.manual_seed(0)
    return move_from_start(ActionFormerAttention(config, window, stride))


def dense(module: ActionFormerAttention, hidden_states: torch.Tensor, mask: torch.Tensor, window: int):
    """Compute one score for each pair of positions, and hide pairs that are too far apart or padded."""

    def part(name):
        convolved = module.get_submodule(f"{name}_conv")(hidden_states, mask)
        states = module.get_submodule(f"{name}_proj")(module.get_submodule(f"{name}_norm")(convolved))
        return states.unflatten(-1, (module.num_heads, -1)).transpose(1, 2)

    query, key, value = part("q"), part("k"), part("v")
    length, reach = query.shape[2], window // 2
    scores = query @ key.mT / query.shape[-1] ** 0.5
    distance = torch.arange(length) - torch.arange(length)[:, None]
    if module.relative_bias is not None:
        for step in range(-reach, reach + 1):
            scores = scores + module.relative_bias[:, reach + step, None, None] * (distance == step)
    if window > 1:
        scores = scores.masked_fill(distance.abs() > reach, -torch.inf)
    # As in the original: the scores of padded positions stay finite, for queries that see no others.
    scores = scores + torch.where(mask, 0.0, -1e4)[:, None, None]
    attended = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
    return module.out_proj(attended) * mask[..., None]


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize(("length", "window"), [(70, 5), (32, 3), (33, 19), (12, 71), (90, 71), (6, 1), (9, -1)])
def test_windows_are_those_of_a_dense_computation(length, window, relative):
    module = attention(window, use_relative_positions=relative)
    assert (module.relative_bias is not None) == (relative and window > 1)
    mask = torch.arange(length) < torch.tensor([[length], [2 * length // 3], [1]])
    hidden_states = draw(3, length, module.config.hidden_size)
    results = []
    for compute in (lambda: module(hidden_states, mask)[0], lambda: dense(module, hidden_states, mask, window)):
        result = compute()
        module.zero_grad()
        (result * draw(*result.shape, seed=1)).sum().backward()
        results.append((result, {name: p.grad.clone() for name, p in module.named_parameters()}))
    torch.testing.assert_close(results[0][0], results[1][0], atol=1e-5, rtol=1e-5)
    for name, gradient in results[1][1].items():
        torch.testing.assert_close(results[0][1][name], gradient, atol=2e-5, rtol=1e-4, msg=name)


def test_a_stride_halves_queries_keys_and_values():
    module = attention(3, stride=2)
    mask = torch.ones(1, 8, dtype=torch.bool)
    result, _ = module(draw(1, 16, module.config.hidden_size), mask)
    torch.testing.assert_close(result, dense(module, draw(1, 16, module.config.hidden_size), mask, 3))


@torch.no_grad()
def test_blocks_of_any_size_give_the_same(monkeypatch):
    module, hidden_states = attention(5), draw(1, 50, 8)
    mask = torch.arange(50)[None] < 43
    expected = module(hidden_states, mask)[0]
    for least in (1, 7, 64):
        monkeypatch.setattr(attention_actionformer, "LEAST_BLOCK", least)
        torch.testing.assert_close(module(hidden_states, mask)[0], expected)


@torch.no_grad()
def test_no_tensor_grows_with_the_square_of_the_length():
    length, window, sizes = 20_000, 19, []

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            sizes.extend(part.numel() for part in tree_leaves(result) if isinstance(part, torch.Tensor))
            return result

    module = attention(window)
    with Sizes():
        module(draw(1, length, 8), torch.ones(1, length, dtype=torch.bool))
    assert max(sizes) <= length * module.num_heads * 3 * window < length**2 / 100


def test_a_masked_convolution_is_silent_at_padded_positions():
    conv = MaskedConv(2, 3, 3)
    states, mask = draw(1, 6, 2), torch.arange(6)[None] < 4
    result = conv(states, mask)
    expected = nn.functional.conv1d(states.mT, conv.weight, conv.bias, padding=1).mT
    assert torch.equal(result[:, :4], expected[:, :4]) and not result[:, 4:].any()
