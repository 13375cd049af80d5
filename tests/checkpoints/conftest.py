"""A released checkpoint small enough to corrupt in every way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from parity.compare import load_config
from parity.internvideo_mm import overrides
from transformers.utils import logging

from internvideo_hf.checkpoints import ConversionReport, convert_checkpoint


@pytest.fixture(autouse=True)
def no_progress_bars():
    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


@pytest.fixture(scope="session")
def case(golden: Path) -> Path:
    """Return the folder of a Lightning file with both towers and two left-overs of the caption decoder."""
    return golden / "mm_tiny_b"


@pytest.fixture
def content(case: Path) -> dict[str, Any]:
    """All that the Lightning file holds."""
    return torch.load(case / "checkpoint.ckpt", weights_only=True)


@pytest.fixture
def released(content: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return the state dict of the Lightning file."""
    return content["state_dict"]


@pytest.fixture
def settings(case: Path) -> dict[str, Any]:
    """Return the configuration overrides that no tensor shape gives."""
    return overrides(load_config(case))


@pytest.fixture
def convert(settings: dict[str, Any], tmp_path: Path) -> Callable[..., ConversionReport]:
    """Convert a file, or first write what is given, into `tmp_path / "out"`."""

    def convert(source: Any, **options: Any) -> ConversionReport:
        if not isinstance(source, Path):
            torch.save(source, tmp_path / "source.ckpt")
            source = tmp_path / "source.ckpt"
        return convert_checkpoint(source, tmp_path / "out", **{"config_overrides": settings, **options})

    return convert
