"""The default device, and the number types of models."""

import os
import re
from functools import cache
from pathlib import Path

import torch

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""Name in a command or a protocol -> number type."""
INT8 = "int8"
NUMBER_TYPES = (*DTYPES, INT8)
"""What a model may run in; with "int8", its weights alone are of that type."""
_BFLOAT16_FLAGS = {"amx_bf16", "avx512_bf16"}  # of x86; without them, bfloat16 is much slower than float32


def default_device(device: str | torch.device | None = None) -> torch.device:
    """Return a device: the one asked for, or the accelerator (CUDA, MPS, XPU, ...), or the CPU if there is none.

    Args:
        device: such as "cuda:1"; None for the default.
    """
    if device is None and torch.accelerator.is_available():
        device = torch.accelerator.current_accelerator()
    return torch.device("cpu" if device is None else device)


def fastest_dtype(device: str | torch.device | None = None) -> str | None:
    """Return the fastest number type whose answers change little: "bfloat16" where the hardware multiplies it.

    Args:
        device: where the model runs; see `default_device`.

    Returns:
        A name in `DTYPES`; None for the type in which a model is saved.
    """
    kind = default_device(device).type
    if kind == "cpu":
        return "bfloat16" if _BFLOAT16_FLAGS & cpu_flags() else None
    return "bfloat16" if kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else None


def cpu_flags() -> set[str]:
    """Return the names of what an x86 CPU can do, as Linux tells them; none elsewhere."""
    found = re.search(r"^flags\s*:(.*)$", cpu_info(), re.MULTILINE)
    return set(found[1].split()) if found else set()


@cache
def cpu_info() -> str:
    """Return what Linux tells of the CPU; nothing on other systems."""
    file = Path("/proc/cpuinfo")
    return file.read_text() if file.is_file() else ""


def default_workers(workers: int | None = None) -> int:
    """Return a number of decoding processes: the one asked for, or one per core, at most 8.

    Args:
        workers: 0 decodes in the calling process; None for the default.
    """
    return min(8, os.cpu_count() or 1) if workers is None else workers
