"""Lists in published layouts."""

from pathlib import Path

import pytest
from tasks.lists import write_lists


@pytest.fixture(scope="session")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of short videos and lists, which tests only read."""
    return write_lists(tmp_path_factory.mktemp("lists"))
