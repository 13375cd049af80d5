"""Collect transformers' own tests only where slow tests are asked for: they download a file."""

from pathlib import Path

import pytest

OF_TRANSFORMERS = ("test_models.py", "test_pipelines.py", "test_processors.py")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marks of transformers' tests."""
    attention = [f"flash_attn{kind}_test" for kind in ("", "_2", "_3", "_4", "_mps")]
    for mark in (*attention, "accelerate_tests", "generate", "is_pipeline_test", "torch_compile_test"):
        config.addinivalue_line("markers", f"{mark}: of transformers' own tests")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Pass over these modules if slow tests are left out."""
    return True if collection_path.name in OF_TRANSFORMERS and "not slow" in config.option.markexpr else None
