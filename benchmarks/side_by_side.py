"""Shared by the speed benchmarks: alternating timing of variants, and peak memory of a call."""

import ctypes
import gc
import os
import platform
import re
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # for the processor time; torch reads it when it is imported

import numpy as np
import torch
import transformers


def environment() -> str:
    """Return the date, the machine, the versions, and the command."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    kernels = torch.backends.cpu.get_cpu_capability()
    about = f"{date.today()}, {cpu}, {os.cpu_count()} cores, {kernels}, Python {platform.python_version()}, {versions}"
    return f"{about}\n\n{' '.join(['python', *sys.argv])}"


def as_row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def timed(call: Callable[[], object]) -> np.ndarray:
    """Return wall-clock seconds and processor seconds of this process."""
    start = np.array([time.perf_counter(), time.process_time()])
    call()
    return np.array([time.perf_counter(), time.process_time()]) - start


def in_turns(calls: dict[str, Callable[[], np.ndarray]], rounds: int) -> dict[str, np.ndarray]:
    """Return the times `(rounds, 2)` of functions that return their own, after one warm-up call.

    They alternate, in reversed order every second round, so that ratios can be computed within a round.
    """
    for call in calls.values():
        call()
    rows: dict[str, list[np.ndarray]] = {name: [] for name in calls}
    for turn in range(rounds):
        for name in list(calls) if turn % 2 == 0 else reversed(calls):
            rows[name].append(calls[name]())
    return {name: np.stack(row) for name, row in rows.items()}


def ratios(times: dict[str, np.ndarray], to: str) -> dict[str, np.ndarray]:
    """Return, per variant, the median over rounds of its ratio to a reference variant, for both clocks."""
    return {name: np.median(row / times[to], axis=0) for name, row in times.items()}


def peak_memory(call: Callable[[], object]) -> int:
    """Return the peak memory of a call in bytes, minus the memory before it; use a fresh interpreter."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # memory that is held without use would hide what the call takes
    Path("/proc/self/clear_refs").write_text("5")  # from here on VmHWM starts again
    before = _memory("VmRSS")
    call()
    return _memory("VmHWM") - before


def _memory(field: str) -> int:
    return int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
