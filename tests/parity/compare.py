"""Loading of reference cases, and the comparison that all adapters share."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file


def load_config(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


def load_tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "io.safetensors")


class Comparison:
    """Compares named values with the stored ones, and fails at the end if a stored one was never compared."""

    def __init__(self, stored: dict[str, torch.Tensor], inputs: tuple[str, ...] = ()):
        self.stored = stored
        self.open = set(stored) - set(inputs)

    def close(self, name: str, actual: torch.Tensor, atol: float = 1e-5, rtol: float = 1e-5) -> None:
        torch.testing.assert_close(
            actual.detach().to(self.stored[name].dtype),
            self.stored[name],
            atol=atol,
            rtol=rtol,
            msg=lambda text: f"{name}: {text}",
        )
        self.open.discard(name)

    def finish(self) -> None:
        assert not self.open, f"stored but never compared: {sorted(self.open)}"
