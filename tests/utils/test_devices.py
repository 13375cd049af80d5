"""The default device and number of processes."""

import torch

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
