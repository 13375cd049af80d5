"""The exponential moving average (EMA) of a model's weights in training."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from internvideo_hf.utils.files import atomic_write

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

FILE_NAME = "average.safetensors"  # in a checkpoint's directory


class EMA:
    """The EMA of a model's trained weights and buffers; frozen weights are left out.

    With FSDP2, every process averages its own shards.

    Args:
        model: the model whose current weights are the first average.
        decay: fraction of the average that each update keeps, 0-1.

    Raises:
        ValueError: if the decay is out of range, or DeepSpeed's ZeRO-3 partitions the model.
    """

    def __init__(self, model: nn.Module, decay: float):
        if not 0 <= decay < 1:
            raise ValueError(f"decay={decay}, expected at least 0 and less than 1.")
        _refuse_zero3(model)
        self.decay = decay
        frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
        self.names = [name for name in model.state_dict() if name not in frozen]
        self.tensors = {name: tensor.detach().clone() for name, tensor in self._averaged(model).items()}

    def _averaged(self, model: nn.Module) -> dict[str, torch.Tensor]:
        tensors = model.state_dict()
        return {name: tensors[name] for name in self.names}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's weights; copy integer buffers.

        Args:
            model: the model in training.
        """
        self._follow(model)
        for name, tensor in self._averaged(model).items():
            if tensor.is_floating_point():
                # In the average's own type: half precision (DeepSpeed's weights) would round so small a step to 0.
                self.tensors[name].lerp_(tensor.to(self.tensors[name].dtype), 1 - self.decay)
            else:
                self.tensors[name].copy_(tensor)

    @contextmanager
    def swapped(self, model: nn.Module) -> Iterator[None]:
        """Give the model the average inside the `with` block, then restore its weights.

        Args:
            model: the model in training.
        """
        weights = {name: tensor.detach().clone() for name, tensor in self._averaged(model).items()}
        self.copy_to(model)
        try:
            yield
        finally:
            model.load_state_dict(model.state_dict() | weights)

    def copy_to(self, model: nn.Module) -> None:
        """Replace the model's weights by the average.

        Args:
            model: the model in training.
        """
        self._follow(model)
        model.load_state_dict(model.state_dict() | self.tensors)

    def save(self, folder: Path, writes: bool = True) -> None:
        """Write the average into a checkpoint's directory.

        Args:
            folder: directory of the checkpoint.
            writes: whether this process writes. All processes must call it: each has a part of a sharded average.
        """
        gathered = {}
        for name, tensor in self.tensors.items():
            if _is_sharded(tensor):
                tensor = tensor.full_tensor()
            if writes:
                gathered[name] = tensor.contiguous().cpu()
        if writes:
            atomic_write(folder / FILE_NAME, lambda temporary: save_file(gathered, temporary))

    def load(self, folder: Path) -> None:
        """Read the average from a checkpoint's directory.

        Args:
            folder: directory of the checkpoint.

        Raises:
            ValueError: if there is no average, or that of another model.
        """
        if not (folder / FILE_NAME).is_file():
            raise ValueError(f"{folder} has no {FILE_NAME}: the run was trained without ema_decay. Resume without it.")
        loaded = load_file(folder / FILE_NAME)
        shapes = {name: tensor.shape for name, tensor in self.tensors.items()}
        if {name: tensor.shape for name, tensor in loaded.items()} != shapes:
            raise ValueError(f"{folder / FILE_NAME} is the average of another model. Resume with the run's model.")
        for name, tensor in loaded.items():
            self.tensors[name].copy_(_placed_like(tensor, self.tensors[name]))

    def _follow(self, model: nn.Module) -> None:
        """Move the average to the device and the shards of the model."""
        _refuse_zero3(model)
        for name, tensor in self._averaged(model).items():
            self.tensors[name] = _placed_like(self.tensors[name], tensor)


def _is_sharded(tensor: torch.Tensor) -> "TypeGuard[DTensor]":
    return hasattr(tensor, "device_mesh")


def _placed_like(tensor: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return a tensor on the device and in the shards of another."""
    if _is_sharded(other) and not _is_sharded(tensor):
        from torch.distributed.tensor import distribute_tensor  # not in every build of torch

        return distribute_tensor(tensor, other.device_mesh, other.placements)
    return tensor.to(other.device)


def _refuse_zero3(model: nn.Module) -> None:
    if any(hasattr(parameter, "ds_id") for parameter in model.parameters()):
        raise ValueError(
            "Got a model that DeepSpeed's ZeRO-3 partitions, expected full weights or those of FSDP2: leave out "
            "ema_decay, or use FSDP2 or ZeRO-2."
        )
