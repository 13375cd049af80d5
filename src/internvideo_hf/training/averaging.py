"""The running average of a model's weights in training (EMA)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

FILE_NAME = "average.safetensors"  # in a checkpoint's folder


class WeightAverage:
    """The exponential moving average of all weights and statistics of a model.

    Args:
        model: whose weights it starts from.
        decay: share of the average that each update keeps, 0-1.
    """

    def __init__(self, model: nn.Module, decay: float):
        if not 0 <= decay < 1:
            raise ValueError(f"decay={decay} must be at least 0 and less than 1.")
        self.decay = decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's weights; counters are taken as they are."""
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                self.tensors[name].lerp_(tensor, 1 - self.decay)
            else:
                self.tensors[name].copy_(tensor)

    @contextmanager
    def in_place_of(self, model: nn.Module) -> Iterator[None]:
        """Give the model the average for a while; its own weights come back, whatever happens."""
        own = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(self.tensors)
        try:
            yield
        finally:
            model.load_state_dict(own)

    def save(self, folder: Path) -> None:
        """Write the average into a checkpoint's folder."""
        unfinished = folder / f".unfinished-{FILE_NAME}"
        save_file({name: tensor.contiguous() for name, tensor in self.tensors.items()}, unfinished)
        unfinished.replace(folder / FILE_NAME)

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
            self.tensors[name].copy_(tensor)
