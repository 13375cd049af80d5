"""The default device, and the number types of models."""

import os

import torch

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""Name in a command or a protocol -> number type."""


def default_device(device: str | torch.device | None = None) -> torch.device:
    """Return a device: the one asked for, or the accelerator (CUDA, MPS, XPU, ...), or the CPU if there is none.

    Args:
        device: such as "cuda:1"; None for the default.
    """
    if device is None and torch.accelerator.is_available():
        device = torch.accelerator.current_accelerator()
    return torch.device("cpu" if device is None else device)


def default_workers(workers: int | None = None) -> int:
    """Return a number of decoding processes: the one asked for, or one per core, at most 8.

    Args:
        workers: 0 decodes in the calling process; None for the default.
    """
    return min(8, os.cpu_count() or 1) if workers is None else workers
