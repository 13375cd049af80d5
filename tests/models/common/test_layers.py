"""Shared layers: fast kernels equal the plain ones, and drop path keeps the mean."""

import pytest
import torch

from internvideo_hf.models.common import layers
from internvideo_hf.models.common.layers import DropPath, Linear, drop_path_rates, linear


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def convolved(monkeypatch) -> list:
    """Turn the faster kernel on, on any machine, and list its calls."""
    calls, conv2d = [], torch.nn.functional.conv2d
    monkeypatch.setattr(layers, "CONVOLUTION_IS_FASTER", True)
    monkeypatch.setattr(torch.nn.functional, "conv2d", lambda *args: (calls.append(args), conv2d(*args))[1])
    return calls


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 200), (3, 70), (2, 80)], ids=str)
def test_faster_kernel_gives_the_same_results_and_gradients(shape, bias, convolved):
    results = []
    for function in (linear, torch.nn.functional.linear):
        tokens, weight = draw(*shape, 192).requires_grad_(), draw(256, 192, seed=1).requires_grad_()
        shift = draw(256, seed=2).requires_grad_() if bias else None
        result = function(tokens, weight, shift)
        (result * draw(*shape, 256, seed=3)).sum().backward()
        results.append([result, tokens.grad, weight.grad, *([shift.grad] if bias else [])])
    assert len(convolved) == 1
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-3, rtol=1e-5)  # sums of some 200 products of size 1


def test_faster_kernel_takes_tokens_in_any_memory_layout(convolved):
    tokens, layer = draw(192, 170, 2).permute(2, 1, 0), Linear(192, 192)
    torch.testing.assert_close(
        layer(tokens), torch.nn.functional.linear(tokens, layer.weight, layer.bias), atol=1e-4, rtol=1e-5
    )
    assert len(convolved) == 1


@pytest.mark.parametrize(
    ("tokens", "width", "dtype"),
    [
        ((1, 159), 192, torch.float32),
        ((2, 200), 191, torch.float32),
        ((2, 200), 192, torch.float64),
        ((400,), 192, torch.float32),
    ],
    ids=str,
)
def test_plain_kernel_is_kept_where_the_other_is_no_gain(tokens, width, dtype, convolved):
    linear(draw(*tokens, width).to(dtype), draw(200, width).to(dtype))
    assert not convolved


def test_drop_path_keeps_the_mean_and_drops_whole_samples():
    branch = torch.ones(4000, 3, 2)
    torch.manual_seed(0)
    kept = DropPath(0.25).train()(branch)
    assert kept.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert (kept.flatten(1) == kept[:, :1, 0]).all()
    assert kept.mean().item() == pytest.approx(1, abs=0.03)
    assert torch.equal(DropPath(0.25).eval()(branch), branch) and torch.equal(DropPath(0.0)(branch), branch)


def test_drop_path_rates_rise_linearly_from_zero():
    assert drop_path_rates(0.3, 4) == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert drop_path_rates(0.3, 1) == [0.0] and drop_path_rates(0.3, 0) == []
