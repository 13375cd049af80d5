"""The fastest matrix product of this machine."""

from functools import cache

import torch
from einops import rearrange
from torch import nn

from internvideo_hf.utils.devices import cpu_info


@cache
def convolution_is_faster() -> bool:
    """Return whether a convolution by one pixel outruns a matrix product, in float32 on this CPU.

    torch gives matrix products to MKL, which leaves half of the AVX-512 units of AMD's processors idle, and
    convolutions to oneDNN, which does not: about half the time (benchmarks/README.md).
    """
    return (
        torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and "AuthenticAMD" in cpu_info()
    )


def linear(tokens: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Compute `nn.functional.linear` of tokens by the faster of two kernels.

    The convolution does not pay off for a few tokens, where rearranging costs more than multiplying, nor in the
    backward pass of a narrow layer.

    Args:
        tokens: `(b, n, c)`.
        weight: `(d, c)`.
        bias: `(d,)`.

    Returns:
        `(b, n, d)`.
    """
    convolve = (
        not torch.compiler.is_compiling()  # a choice by the number of tokens would bind the graph to it
        and tokens.device.type == "cpu"
        and tokens.dtype == torch.float32
        and type(weight) in (torch.Tensor, nn.Parameter)  # neither quantized nor distributed
        and tokens.ndim == 3
        and tokens.shape[0] * tokens.shape[1] >= 160
        and min(weight.shape) >= 192
        and convolution_is_faster()
    )
    if not convolve:
        return nn.functional.linear(tokens, weight, bias)
    # The axis comes by indexing: with the strides of a rearrangement, torch would copy a batch of one.
    image = rearrange(tokens, "b n c -> b c n")[:, :, None]
    return rearrange(nn.functional.conv2d(image, weight[:, :, None, None], bias)[:, :, 0], "b c n -> b n c")


def project(layer: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """Call a linear layer, with the faster kernel of `linear` where that leaves nothing out.

    Not a class of layers, since torch's quantization finds `nn.Linear` itself and no subclass of it.

    Args:
        layer: `nn.Linear`, or what has taken its place, such as a quantized layer or an adapter; called as any module
            where it has hooks, a `forward` of its own, or a weight of another class (quantized, sharded).
        tokens: `(b, n, c)`.

    Returns:
        `(b, n, d)`.
    """
    if type(layer) is nn.Linear and type(layer.weight) is nn.Parameter:
        if not torch.compiler.is_compiling() and not _is_watched(layer):
            return linear(tokens, layer.weight, layer.bias)
    called: torch.Tensor = layer(tokens)
    return called


def _is_watched(layer: nn.Module) -> bool:
    """Return whether a call of the layer would do more than its class's `forward`, as `nn.Module` decides it."""
    hooks = layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks
    return "forward" in vars(layer) or any(hooks) or nn.modules.module._has_any_global_hook()  # type: ignore[no-untyped-call]
