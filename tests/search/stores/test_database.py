"""What stores in databases share: agreement with the index that is there, cached tensors, refusals."""

import pytest
import torch

from internvideo_hf.search.stores.database import DatabaseStore

SETTINGS = {"model": "m", "fingerprint": "f", "window": 1.0, "stride": 1.0, "dtype": "float32"}


class DictStore(DatabaseStore):
    """Rows, settings and states in dictionaries by address."""

    databases: dict[str, dict] = {}

    def _open(self, address):
        self.place, self._cached = address, {}

    @property
    def database(self):
        return self.databases[self.place]

    def _has_index(self):
        return self.place in self.databases

    def _read_settings(self):
        return dict(self.database["settings"])

    def _get(self, key):
        return self.database.get(key)

    def _put(self, key, value):
        if self.database["read-only"]:
            raise PermissionError(key)
        self.database[key] = value

    def _refusals(self):
        return (PermissionError,)

    def __len__(self):
        return self.database["rows"] if self._has_index() else 0

    def rewrite(self, *, removed=(), renamed=None, copied=()):
        self.database["removed"] = removed

    def _count(self, where):
        return 1

    def _has_approximate(self):
        return False

    def _nearest(self, queries, count, approximate, where):
        return queries, torch.arange(count)


@pytest.fixture
def store(monkeypatch):
    there = {"a": {"settings": SETTINGS, "rows": 3, "read-only": False}}
    monkeypatch.setattr(DictStore, "databases", there)
    return DictStore.load("a")


def test_an_index_is_opened_with_its_settings(store):
    assert store.settings == SETTINGS
    assert DictStore.exists("a") and not DictStore.exists("b")
    with pytest.raises(ValueError, match="b holds no index"):
        DictStore.load("b")


def test_changes_need_the_settings_that_are_there(store):
    store.settings = SETTINGS | {"fingerprint": None}
    store._agree()
    assert store.settings["fingerprint"] == "f"
    store.settings = SETTINGS | {"window": 2.0}
    with pytest.raises(ValueError, match="Another process has written an index with other settings into a"):
        store._agree()


def test_rows_are_counted_and_deleted(store):
    assert (store.count(), store.count(object())) == (3, 1)
    store.delete(["x"])
    assert store.database["removed"] == ["x"]
    assert DictStore._at("b").count(object()) == 0


def test_a_search_needs_rows_and_what_it_asks_for(store):
    assert store.nearest(torch.ones(1, 2), 2)[1].tolist() == [0, 1]
    with pytest.raises(ValueError, match="no approximate index"):
        store.nearest(torch.ones(1, 2), 2, approximate=True)
    with pytest.raises(ValueError, match="is empty"):
        DictStore._at("b").nearest(torch.ones(1, 2), 2)


def test_tensors_are_computed_once(store):
    calls = []

    def compute():
        calls.append(1)
        return torch.tensor([1.5, len(calls)])

    assert store.cached("t", compute).tolist() == [1.5, 1.0]
    assert DictStore.load("a").cached("t", compute).tolist() == [1.5, 1.0] and len(calls) == 1


def test_a_reader_without_the_right_to_write_keeps_tensors_for_itself(store):
    store.database["read-only"] = True
    assert store.cached("t", lambda: torch.ones(1)).tolist() == [1.0]
    assert store.cached("t", lambda: torch.zeros(1)).tolist() == [1.0] and "t" not in store.database
