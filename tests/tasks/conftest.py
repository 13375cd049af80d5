"""Lists in published layouts, and workers."""

from pathlib import Path

import pytest
from data.executors.here import Here
from inference.row_work import two_workers
from tasks.lists import write_lists

from internvideo_hf.inference import rows


@pytest.fixture(scope="session")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of short videos and lists, which tests only read."""
    return write_lists(tmp_path_factory.mktemp("lists"))


@pytest.fixture(params=["here", pytest.param("two workers", marks=pytest.mark.slow)])
def engine(request, monkeypatch):
    """Return what runs shards of few rows: in this process, or two workers, each with a model and a decoder."""
    monkeypatch.setattr(rows, "SHARD_ROWS", 2)
    return Here() if request.param == "here" else two_workers()
