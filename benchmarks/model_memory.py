"""How much memory training takes on each device, computed before there is one.

Counted is what stays from step to step: weights, gradients, the optimizer, the running average. Activations depend on
kernels and are estimated apart. Not counted are fixed tables and statistics (some MB), what comes for a moment (the
layers that FSDP2 and ZeRO-3 gather, the share of the gradients that DeepSpeed's step casts to float32), buckets of
communication, and gaps of the allocator.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
STATES = {"adamw": 2, "sgd": 0, "sgd_momentum": 1}
"""Optimizer -> numbers that it keeps for each trained weight."""


@dataclass(frozen=True)
class Strategy:
    """What several devices divide among themselves.

    Attributes:
        weights, gradients, optimizer, average: whether a device holds its share alone.
        master: whether the optimizer has a float32 copy of the weights, as DeepSpeed makes in any precision. Elsewhere
            the weights themselves stay float32, and autocast or FSDP2 casts a layer when it is used.
    """

    weights: bool = False
    gradients: bool = False
    optimizer: bool = False
    average: bool = False
    master: bool = False


STRATEGIES: Mapping[str, Strategy] = {
    "ddp": Strategy(),
    "zero1": Strategy(optimizer=True, master=True),
    "zero2": Strategy(optimizer=True, gradients=True, master=True),
    "zero3": Strategy(optimizer=True, gradients=True, weights=True, master=True),
    "fsdp2": Strategy(optimizer=True, gradients=True, weights=True, average=True),
}
"""Name -> what it divides; one for each file of `examples/accelerate`."""


@dataclass(frozen=True)
class DeviceMemory:
    """Bytes on one device.

    Attributes:
        weights: of the model, frozen ones included.
        gradients: of the trained weights.
        optimizer: its state, and its float32 copy of the weights where it has one.
        average: the running average of the trained weights (`ema_decay`).
    """

    weights: int
    gradients: int
    optimizer: int
    average: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.gradients + self.optimizer + self.average


def device_memory(
    parameters: int,
    trained: int | None = None,
    *,
    strategy: str = "ddp",
    devices: int = 1,
    precision: str = "float32",
    optimizer: str = "adamw",
    average: bool = False,
) -> DeviceMemory:
    """Compute the memory that stays on each device during training.

    Args:
        parameters: numbers among the weights.
        trained: how many of them have a gradient; all by default.
        strategy: a name in `STRATEGIES`.
        devices: that train together, 1 or more.
        precision: that of the weights where DeepSpeed keeps them so (`bf16=True`): "float32", "bfloat16" or
            "float16". With the other strategies mixed precision leaves all that stays in float32.
        optimizer: a name in `STATES`.
        average: whether the running average is kept (`ema_decay`).

    Raises:
        ValueError: if a name is unknown, a number makes no sense, or ZeRO-3 should keep an average.
    """
    trained = parameters if trained is None else trained
    for value, known in ((strategy, STRATEGIES), (precision, BYTES), (optimizer, STATES)):
        if value not in known:
            raise ValueError(f"Got {value!r}, expected one of {', '.join(known)}.")
    if devices < 1 or not 0 <= trained <= parameters:
        raise ValueError(
            f"Got {devices} devices, {trained} trained of {parameters} parameters; expected a device, and not more "
            "trained than there are."
        )
    if average and strategy == "zero3":
        raise ValueError("Got an average under zero3, expected none: VideoTrainer refuses it there. Take fsdp2.")
    plan = STRATEGIES[strategy]
    size = BYTES[precision] if plan.master else 4
    states = STATES[optimizer] + plan.master

    def share(count: int, divided: bool) -> int:
        return -(-count // devices) if divided else count

    return DeviceMemory(
        weights=size * share(parameters, plan.weights),
        gradients=size * share(trained, plan.gradients),
        optimizer=4 * states * share(trained, plan.optimizer),
        average=4 * share(trained, plan.average) if average else 0,
    )


def model_memory(model: nn.Module, **options) -> DeviceMemory:
    """Compute the memory for a model, which may be on the meta device.

    Args:
        model: not sharded yet; what is frozen counts as frozen.
        options: as of `device_memory`.
    """
    counts = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    trained = sum(count for count, is_trained in counts if is_trained)
    return device_memory(sum(count for count, _ in counts), trained, **options)


def activation_memory(
    tokens: int, width: int, inner_width: int, layers: int, clips: int, *, precision: str, checkpointed: bool
) -> int:
    """Estimate what a transformer's forward pass leaves for the backward pass, in bytes.

    For each token a layer keeps its input, both normalized inputs, queries, keys, values, the attended and the
    projected result, the middle of the MLP before and after its activation, and its result: 8 of the model's width
    and 2 of the inner one. The fused attention keeps no matrix of tokens by tokens. With checkpointing only the input
    of each layer stays, and one layer at a time is computed anew. Dropout, residual sums in float32 under autocast,
    heads and the loss come on top, so take it for the order of magnitude.

    Args:
        tokens: of a clip, as the layers see them: hidden ones not counted.
        width: of a token.
        inner_width: of the MLP.
        layers: how many.
        clips: on a device at a time.
        precision: of the activations, in `BYTES`.
        checkpointed: whether layers are checkpointed (`activation_checkpointing=True`).
    """
    if precision not in BYTES:
        raise ValueError(f"Got {precision!r}, expected one of {', '.join(BYTES)}.")
    layer = 8 * width + 2 * inner_width
    numbers = layers * width + layer if checkpointed else layers * layer
    return BYTES[precision] * tokens * clips * numbers


def local_bytes(tensors) -> int:
    """Bytes of tensors on this device, of sharded ones those of its own share.

    Args:
        tensors: of any device, the meta device too.
    """
    local = (tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in tensors)
    return sum(tensor.numel() * tensor.element_size() for tensor in local if isinstance(tensor, torch.Tensor))
