"""The running average of a model's weights in training (EMA)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from internvideo_hf.utils.files import atomic_write

FILE_NAME = "average.safetensors"  # in a checkpoint's folder


class EMA:
    """The exponential moving average of a model's weights, but those that are frozen, and of its statistics.

    Where FSDP2 shards the model, every process averages its own shards.

    Args:
        model: whose weights it starts from.
        decay: share of the average that each update keeps, 0-1.

    Raises:
        ValueError: if the decay lies outside, or DeepSpeed's ZeRO-3 partitions the model.
    """

    def __init__(self, model: nn.Module, decay: float):
        if not 0 <= decay < 1:
            raise ValueError(f"decay={decay} must be at least 0 and less than 1.")
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
        """Move the average towards the model's weights; counters are taken as they are."""
        self._follow(model)
        for name, tensor in self._averaged(model).items():
            if tensor.is_floating_point():
                # DeepSpeed keeps the weights in half precision, in which so small a step would round to nothing.
                self.tensors[name].lerp_(tensor.to(self.tensors[name].dtype), 1 - self.decay)
            else:
                self.tensors[name].copy_(tensor)

    @contextmanager
    def in_place_of(self, model: nn.Module) -> Iterator[None]:
        """Give the model the average for a while; its own weights come back, whatever happens."""
        own = {name: tensor.detach().clone() for name, tensor in self._averaged(model).items()}
        self.put_into(model)
        try:
            yield
        finally:
            model.load_state_dict(model.state_dict() | own)

    def put_into(self, model: nn.Module) -> None:
        """Give the model the average for good."""
        self._follow(model)
        model.load_state_dict(model.state_dict() | self.tensors)

    def save(self, folder: Path, writes: bool = True) -> None:
        """Write the average into a checkpoint's folder.

        Args:
            folder: of the checkpoint.
            writes: whether this process writes. All must call it, since each holds a share of a sharded average.
        """
        whole = {}
        for name, tensor in self.tensors.items():
            if _is_sharded(tensor):
                tensor = tensor.full_tensor()
            if writes:
                whole[name] = tensor.contiguous().cpu()
        if writes:
            atomic_write(folder / FILE_NAME, lambda temporary: save_file(whole, temporary))

    def load(self, folder: Path) -> None:
        """Read the average from a checkpoint's folder.

        Raises:
            ValueError: if it has none, or that of another model.
        """
        if not (folder / FILE_NAME).is_file():
            raise ValueError(f"{folder} holds no {FILE_NAME}: it was trained without ema_decay. Train so again.")
        loaded = load_file(folder / FILE_NAME)
        shapes = {name: tensor.shape for name, tensor in self.tensors.items()}
        if {name: tensor.shape for name, tensor in loaded.items()} != shapes:
            raise ValueError(f"{folder / FILE_NAME} is the average of another model.")
        for name, tensor in loaded.items():
            self.tensors[name].copy_(_placed_like(tensor, self.tensors[name]))

    def _follow(self, model: nn.Module) -> None:
        """Bring the average to where the model is, which may have been moved and sharded since."""
        _refuse_zero3(model)
        for name, tensor in self._averaged(model).items():
            self.tensors[name] = _placed_like(self.tensors[name], tensor)


def _is_sharded(tensor: torch.Tensor) -> bool:
    return hasattr(tensor, "device_mesh")


def _placed_like(tensor: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """A tensor on the device, and in the shards, of another of its shape."""
    if _is_sharded(other) and not _is_sharded(tensor):
        from torch.distributed.tensor import distribute_tensor  # which not every build of torch has

        return distribute_tensor(tensor, other.device_mesh, other.placements)
    return tensor.to(other.device)


def _refuse_zero3(model: nn.Module) -> None:
    if any(hasattr(parameter, "ds_id") for parameter in model.parameters()):
        raise ValueError(
            "Got a model that DeepSpeed's ZeRO-3 partitions, expected whole weights or those of FSDP2: leave out "
            "ema_decay, or take FSDP2 or ZeRO-2."
        )
