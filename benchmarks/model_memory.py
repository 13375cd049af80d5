"""Training memory per device, computed without one.

Counted is memory that persists between steps: weights, gradients, optimizer state, EMA. Activations depend on kernels
and are estimated separately. Not counted: buffers (some MB), temporary memory (the layers that FSDP2 and ZeRO-3
gather, the gradients that DeepSpeed's step casts to float32), communication buckets, and allocator fragmentation.
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
    """The state that is sharded over devices.

    Attributes:
        weights, gradients, optimizer, average: whether a device holds only its shard.
        master: whether the optimizer has a float32 copy of the weights, as DeepSpeed has in any precision. Otherwise
            the weights themselves stay float32, and autocast or FSDP2 casts each layer on use.
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
        optimizer: its state, including any float32 copy of the weights.
        average: the EMA of the trained weights (`ema_decay`).
    """

    weights: int
    gradients: int
    optimizer: int
    average: int

    @property
    def total(self) -> int:
        """Total bytes."""
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
    """Compute the persistent training memory per device.

    Args:
        parameters: number of parameters.
        trained: number of trainable parameters; all by default.
        strategy: a name in `STRATEGIES`.
        devices: number of devices, at least 1.
        precision: dtype of DeepSpeed's weights (`bf16=True`): "float32", "bfloat16" or "float16". With the other
            strategies all persistent memory stays float32 under mixed precision.
        optimizer: a name in `STATES`.
        average: whether an EMA is kept (`ema_decay`).

    Raises:
        ValueError: if a name is unknown, a number is out of range, or ZeRO-3 is asked for an EMA.
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
        model: unsharded; `requires_grad` decides which parameters are trained.
        options: see `device_memory`.
    """
    counts = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    trained = sum(count for count, is_trained in counts if is_trained)
    return device_memory(sum(count for count, _ in counts), trained, **options)


def activation_memory(
    tokens: int, width: int, inner_width: int, layers: int, clips: int, *, precision: str, checkpointed: bool
) -> int:
    """Estimate the activation memory of a transformer, in bytes.

    Per token, a layer keeps its input, both normalized inputs, queries, keys, values, the attention output before and
    after projection, the hidden layer of the MLP before and after its activation, and its output: 8 of the model's
    width and 2 of the MLP's. Fused attention keeps no attention matrix. With checkpointing only the input of each
    layer is kept, and one layer at a time is recomputed. Dropout, float32 residual sums under autocast, heads and the
    loss come on top, so the result is an order of magnitude.

    Args:
        tokens: visible tokens per clip.
        width: hidden size.
        inner_width: intermediate size of the MLP.
        layers: number of layers.
        clips: batch size per device.
        precision: dtype of the activations, a name in `BYTES`.
        checkpointed: whether layers are checkpointed (`activation_checkpointing=True`).
    """
    if precision not in BYTES:
        raise ValueError(f"Got {precision!r}, expected one of {', '.join(BYTES)}.")
    layer = 8 * width + 2 * inner_width
    numbers = layers * width + layer if checkpointed else layers * layer
    return BYTES[precision] * tokens * clips * numbers


def local_bytes(tensors) -> int:
    """Return the bytes of tensors on this device; of sharded tensors, of the local shard.

    Args:
        tensors: on any device, including meta.
    """
    local = (tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in tensors)
    return sum(tensor.numel() * tensor.element_size() for tensor in local if isinstance(tensor, torch.Tensor))
