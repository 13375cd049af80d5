"""Device maps that divide a model as finely as accelerate may, and devices that this machine lacks."""

from collections.abc import Iterator

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers.modeling_utils import PreTrainedModel

MAIN = "cuda:0"


def finest_parts(model: PreTrainedModel, module: nn.Module | None = None, prefix: str = "") -> Iterator[str]:
    """Yield the names that device maps may give a place of its own: tensors, leaves, and modules that stay whole."""
    module = model if module is None else module
    for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
        yield f"{prefix}{name}"
    for name, child in module.named_children():
        if type(child).__name__ in model._no_split_modules or not list(child.children()):
            if [*child.parameters(), *child.buffers()]:
                yield f"{prefix}{name}"
        else:
            yield from finest_parts(model, child, f"{prefix}{name}.")


def is_tensor(model: PreTrainedModel, part: str) -> bool:
    owner, _, name = part.rpartition(".")
    tensors = model.get_submodule(owner)
    return name in tensors._parameters or name in tensors._buffers


def half_on_disk(model: PreTrainedModel, first: int) -> dict[str, str]:
    """Put every second part on the disk, but no tensor by itself, for which accelerate has no hook."""
    parts = list(finest_parts(model))
    return {
        part: "disk" if number % 2 == first and not is_tensor(model, part) else "cpu"
        for number, part in enumerate(parts)
    }


def on_two_devices(model: PreTrainedModel, first: int) -> None:
    """Put every second part on another device; call it, and the model, within a `FakeTensorMode`."""
    from accelerate import dispatch_model

    device_map = {part: f"cuda:{(number + first) % 2}" for number, part in enumerate(finest_parts(model))}
    # Accelerate puts the model's own tensors on the main device.
    device_map |= {part: MAIN for part in device_map if "." not in part and is_tensor(model, part)}
    for part, device in device_map.items():
        owners = [model.get_submodule(part.rpartition(".")[0])]
        names = {part.rpartition(".")[2]}
        if not is_tensor(model, part):
            owners, names = list(model.get_submodule(part).modules()), None
        for owner in owners:
            for name, parameter in owner.named_parameters(recurse=False):
                if names is None or name in names:
                    owner._parameters[name] = nn.Parameter(empty_like(parameter, device))
            for name, buffer in owner.named_buffers(recurse=False):
                if names is None or name in names:
                    owner._buffers[name] = empty_like(buffer, device)
    dispatch_model(model, device_map, main_device=MAIN)


def empty_like(tensor: torch.Tensor, device: str = MAIN) -> torch.Tensor:
    """Return a tensor of this shape and type, in a `FakeTensorMode` on any device."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=device)


__all__ = ["FakeTensorMode", "empty_like", "half_on_disk", "on_two_devices"]
