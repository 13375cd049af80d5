"""Loading of reference cases, and the comparison that all adapters share."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file


def load_config(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


def load_tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "io.safetensors")


def checkpoint_of(folder: Path) -> Path:
    """Return the case's released file, whatever its suffix."""
    return next(
        path for path in sorted(folder.iterdir()) if path.name.split(".")[0] in ("checkpoint", "pytorch_model")
    )


class Comparison:
    """Compares named values with the stored ones, and fails at the end if a stored one was never compared.

    Values that a case does not store are ignored: cases of one kind may hold different stages.
    """

    def __init__(self, stored: dict[str, torch.Tensor], inputs: tuple[str, ...] = ()):
        self.stored = stored
        self.open = set(stored) - set(inputs)

    def close(self, name: str, actual: torch.Tensor, atol: float = 1e-5, rtol: float = 1e-5) -> None:
        if name not in self.stored:
            return
        torch.testing.assert_close(
            actual.detach().to(self.stored[name].dtype),
            self.stored[name],
            atol=atol,
            rtol=rtol,
            msg=lambda text: f"{name}: {text}",
        )
        self.open.discard(name)

    def leading(self, name: str, actual: torch.Tensor) -> None:
        """Compare the first tokens (axis 1), as many as are stored."""
        if name in self.stored:
            self.close(name, actual[:, : self.stored[name].shape[1]])

    def finish(self) -> None:
        assert not self.open, f"stored but never compared: {sorted(self.open)}"
