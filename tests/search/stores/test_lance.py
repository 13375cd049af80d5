"""The store in LanceDB: what is particular to it."""

import pytest
from search.rows import rows_of
from search.stores.conftest import SETTINGS

from internvideo_hf.search.stores.lance import CLIPS, LanceStore

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


def test_another_format_is_refused(tmp_path):
    store = LanceStore(dict(SETTINGS), f"lance:{tmp_path / 'index'}")
    store.upsert(rows_of("/a", [0], 1))
    store._put("settings", b'{"format": 99}')
    with pytest.raises(ValueError, match="another format"):
        LanceStore.load(f"lance:{tmp_path / 'index'}")
