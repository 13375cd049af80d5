"""Which store an address means."""

import sys

import pytest

from internvideo_hf.search.stores.local import LocalStore
from internvideo_hf.search.stores.opening import is_store_address, load_store, new_store


def test_folders_and_addresses_are_told_apart(tmp_path):
    assert isinstance(new_store({}, None), LocalStore)
    assert isinstance(new_store({}, tmp_path / "index"), LocalStore)
    for text, expected in (
        ("lance:x", True),
        ("postgres://h", True),
        ("postgresql://h/d#s", True),
        ("x/lance", False),
    ):
        assert is_store_address(text) is expected


def test_a_store_that_is_only_read_is_refused_before_it_is_asked():
    with pytest.raises(OSError, match="hf:// is only read"):
        new_store({}, "hf://datasets/owner/name/index")


@pytest.mark.parametrize(
    ("module", "address", "extra"),
    [
        ("lancedb", "lance:x", "lance"),
        ("psycopg", "postgresql://h", "postgres"),
        ("pgvector", "postgres://h", "postgres"),
    ],
)
def test_a_missing_package_is_named(module, address, extra, monkeypatch):
    if module == "pgvector":
        pytest.importorskip("psycopg")
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"internvideo-hf\[{extra}\]"):
        load_store(address)
