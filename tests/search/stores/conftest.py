"""Stores of each kind, empty."""

import pytest
from object_stores import new_memory

from internvideo_hf.search.stores.opening import new_store

SETTINGS = {"model": "some/model", "fingerprint": "sha256:0", "window": None, "stride": None, "dtype": "float32"}


@pytest.fixture(params=["local", "memory", "lance"])
def address(request, tmp_path, monkeypatch):
    """Return the address of a store that does not exist yet, of each kind; `test_postgres` has its own."""
    if request.param == "local":
        return str(tmp_path / "index")
    if request.param == "memory":
        monkeypatch.setenv("INTERNVIDEO_CACHE", str(tmp_path / "cache"))
        return f"{new_memory()}/index"
    pytest.importorskip("lancedb")
    return f"lance:{tmp_path / 'index'}"


@pytest.fixture
def store(address):
    """Return an empty store of each kind."""
    return new_store(dict(SETTINGS), address)
