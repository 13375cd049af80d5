"""The faster kernel gives what the plain one gives, and is taken where it is a gain."""

import pytest
import torch
from models.model_checks import draw

from internvideo_hf.models.common import kernels
from internvideo_hf.models.common.kernels import linear, project


@pytest.fixture
def convolved(monkeypatch) -> list:
    """Turn the faster kernel on, on any machine, and list its calls."""
    calls, conv2d = [], torch.nn.functional.conv2d
    monkeypatch.setattr(kernels, "convolution_is_faster", lambda: True)
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
    tokens, layer = draw(192, 170, 2).permute(2, 1, 0), torch.nn.Linear(192, 192)
    torch.testing.assert_close(
        project(layer, tokens), torch.nn.functional.linear(tokens, layer.weight, layer.bias), atol=1e-4, rtol=1e-5
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


def test_layer_that_is_watched_or_replaced_is_called(convolved):
    tokens, watched, replaced = draw(1, 200, 192), torch.nn.Linear(192, 192), torch.nn.Linear(192, 192)
    seen = []
    watched.register_forward_hook(lambda *_: seen.append(1))
    replaced.forward = lambda tokens: tokens + 1
    assert torch.equal(project(watched, tokens), torch.nn.functional.linear(tokens, watched.weight, watched.bias))
    assert torch.equal(project(replaced, tokens), tokens + 1)
    with torch.nn.modules.module.register_module_forward_hook(lambda *_: seen.append(2)):
        project(torch.nn.Linear(192, 192), tokens)
    assert seen == [1, 2] and not convolved

    class Quantized(torch.nn.Parameter):
        """As torchao's weights: the layer stays torch's own class."""

    watched, plain = torch.nn.Linear(192, 192), torch.nn.Linear(192, 192)
    watched.weight = Quantized(plain.weight.data)
    project(watched, tokens)
    assert not convolved


def test_kernel_is_chosen_once():
    assert kernels.convolution_is_faster() is kernels.convolution_is_faster() in (True, False)
    assert kernels.convolution_is_faster.cache_info().misses == 1
