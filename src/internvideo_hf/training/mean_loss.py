"""The mean loss of a training over all of its steps, also those before an interruption."""

import json
from pathlib import Path
from typing import Any

import torch

from internvideo_hf.utils.files import atomic_write_text

FILE_NAME = "mean_loss.json"


class MeanLoss:
    """Sum of the losses of a training's steps, kept in its checkpoints.

    Trainer's own `train_loss` is that of the steps since the last resume.

    Args:
        accelerator: of the Trainer; takes the mean over processes.
    """

    def __init__(self, accelerator: Any):
        self._accelerator = accelerator
        self._recent: list[torch.Tensor] = []
        self._total = 0.0  # of this process
        self._first_step = 0

    def add(self, loss: torch.Tensor) -> None:
        """Add the loss of a batch, divided by the batches of its step.

        Args:
            loss: a scalar, on any device.
        """
        self._recent.append(loss.detach())

    def drain(self) -> None:
        """Move the losses from the device into the sum, which waits for the device."""
        if self._recent:
            self._total += torch.stack(self._recent).double().cpu().sum().item()
            self._recent = []

    def value(self, step: int) -> float:
        """Return the mean over steps and processes; all processes must call it.

        Args:
            step: steps of the training so far.
        """
        return self._sum() / max(step - self._first_step, 1)

    def save(self, folder: Path, step: int, writes: bool) -> None:
        """Write the sum into a checkpoint; all processes must call it.

        Args:
            folder: of the checkpoint.
            step: steps of the training so far.
            writes: whether this process writes.
        """
        known = {"sum": self._sum(), "steps": step - self._first_step}
        if writes:
            atomic_write_text(folder / FILE_NAME, json.dumps(known))

    def load(self, folder: Path, step: int) -> None:
        """Continue from a checkpoint; from those of version 0.1, which have no sum, the mean starts again.

        Args:
            folder: of the checkpoint.
            step: steps of the training so far.
        """
        self._total, self._recent, self._first_step = 0.0, [], step
        if (file := folder / FILE_NAME).exists():
            known = json.loads(file.read_text(encoding="utf-8"))
            self._total, self._first_step = known["sum"], step - known["steps"]

    def _sum(self) -> float:
        self.drain()
        total = torch.tensor(self._total, dtype=torch.float32, device=self._accelerator.device)
        mean: torch.Tensor = self._accelerator.reduce(total, "mean")
        # The sum of one process needs no rounding.
        return self._total if self._accelerator.num_processes == 1 else mean.item()
