"""The default device and number of processes."""

from pathlib import Path

import pytest
import torch

from internvideo_hf.utils import devices
from internvideo_hf.utils.devices import default_device, default_workers


def test_the_accelerator_is_the_default_whatever_its_kind(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("mps"))
    assert default_device() == torch.device("mps")
    assert default_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert default_device() == torch.device("cpu")


def test_workers(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    assert (default_workers(), default_workers(0), default_workers(3)) == (8, 0, 3)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu sse2 avx512f amx_bf16", "bfloat16"),
        ("fpu avx512_bf16", "bfloat16"),
        ("fpu avx512f avx512_vnni avx512_bf16_like", None),
    ],
)
def test_the_fastest_number_type_of_a_cpu_is_what_its_flags_say(monkeypatch, flags, expected):
    text = f"processor\t: 0\nvmx flags\t: amx_bf16\nflags\t\t: {flags}\n\nprocessor\t: 1\n"
    monkeypatch.setattr(Path, "is_file", lambda path: str(path) == "/proc/cpuinfo")
    monkeypatch.setattr(Path, "read_text", lambda path: text)
    devices.cpu_info.cache_clear()
    assert devices.fastest_dtype("cpu") == expected
    devices.cpu_info.cache_clear()


def test_the_fastest_number_type_of_other_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert devices.fastest_dtype("cuda") is None
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert devices.fastest_dtype("cuda") == "bfloat16"
    assert devices.fastest_dtype("mps") is None
