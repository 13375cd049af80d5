"""The store in LanceDB: what is particular to it."""

import os

import pytest
from object_stores import new_memory
from search.rows import rows_of
from search.stores.conftest import SETTINGS

from internvideo_hf.search.stores import lance
from internvideo_hf.search.stores.lance import CLIPS, LanceStore
from internvideo_hf.utils.locks import LockedError
from internvideo_hf.utils.storage import StoragePath

lancedb = pytest.importorskip("lancedb")


def test_others_read_the_rows_as_columns(tmp_path):
    store = LanceStore(dict(SETTINGS), f"lance:{tmp_path / 'index'}")
    store.upsert(rows_of("/a", [0, 1], 2))
    table = lancedb.connect(tmp_path / "index").open_table(CLIPS)
    assert table.search().where("number = 1").to_arrow().select(["path", "start", "end"]).to_pylist() == [
        {"path": "/a", "start": 1.0, "end": 2.0}
    ]
    key = table.schema.field("id")
    assert not key.nullable and key.metadata[b"lance-schema:unenforced-primary-key"] == b"true"


def test_files_of_others_are_not_taken_for_a_store(tmp_path):
    (tmp_path / "rows.csv").touch()
    with pytest.raises(ValueError, match="holds something else"):
        LanceStore(dict(SETTINGS), f"lance:{tmp_path}")
    with pytest.raises(ValueError, match="names no folder"):
        LanceStore(dict(SETTINGS), "lance:")


def test_one_process_at_a_time_writes_in_an_object_store():
    address = new_memory()
    first, second = (LanceStore(dict(SETTINGS), f"lance:{address}") for _ in range(2))
    with first.writing(), pytest.raises(LockedError, match=f"is being written by process {os.getpid()} on "):
        with second.writing():
            pass
    with second.writing():
        pass
    assert not StoragePath(address).exists()  # no lock is left


def test_another_format_is_refused(tmp_path):
    store = LanceStore(dict(SETTINGS), f"lance:{tmp_path / 'index'}")
    store.upsert(rows_of("/a", [0], 1))
    store._put("settings", b'{"format": 99}')
    with pytest.raises(ValueError, match="another format"):
        LanceStore.load(f"lance:{tmp_path / 'index'}")


def test_new_rows_are_added_without_a_merge(tmp_path, monkeypatch):
    merged, merge = [], lance._merge

    def note(table, key, rows):
        merged.extend(rows["path"].to_pylist() if key == "id" else [])
        merge(table, key, rows)

    monkeypatch.setattr(lance, "_merge", note)
    stores = [LanceStore(dict(SETTINGS), f"lance:{tmp_path / 'index'}") for _ in range(2)]
    stores[0].upsert(rows_of("/a", [0], 2))
    stores[0].upsert(rows_of("/b", [0], 1))
    assert merged == []
    stores[0].upsert(rows_of("/a", [1], 2))
    assert merged == []
    stores[0].upsert(rows_of("/a", [0, 1], 2))
    stores[1].upsert(rows_of("/c", [0], 1))
    stores[0].upsert(rows_of("/c", [0], 1))  # which another process has written since
    stores[0].delete(["/b"])
    stores[0].upsert(rows_of("/b", [0], 1))
    assert merged == ["/a", "/a", "/c"]
    assert {path: video.clips for path, video in stores[1].known().videos.items()} == {"/a": 2, "/b": 1, "/c": 1}
    assert len(stores[1]) == 4


def test_files_of_many_commits_are_merged(tmp_path, monkeypatch):
    monkeypatch.setattr(lance, "_COMMITS_A_FILE", 4)
    store = LanceStore(dict(SETTINGS), f"lance:{tmp_path / 'index'}")
    for number in range(6):
        store.upsert(rows_of(f"/{number}", [0], 1))
    assert store._table().stats()["fragment_stats"]["num_fragments"] == 3
    assert [*store.known().videos] == [f"/{number}" for number in range(6)]


def test_a_forked_process_refuses_a_store_that_was_open(tmp_path):
    store = LanceStore(dict(SETTINGS), f"lance:{tmp_path / 'index'}")
    store.upsert(rows_of("/a", [0], 1))
    child = os.fork()
    if child == 0:
        try:
            len(store)
        except RuntimeError as error:
            os._exit(0 if 'Start processes by "spawn"' in str(error) else 2)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(store) == 1
