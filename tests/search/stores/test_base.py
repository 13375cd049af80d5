"""The store interface and its implementations, which all do the same."""

import inspect
import os
import shutil
from dataclasses import replace

import pytest
import torch
from search.gallery import Decodes, gallery, picture
from search.rows import make_segments, rows_of, video_of
from search.stores.conftest import SETTINGS
from search.test_where import CASES, METADATA, segment_of
from torch.nn.functional import normalize

from internvideo_hf import VideoIndex
from internvideo_hf.search.stores.base import VectorStore, from_text, to_text
from internvideo_hf.search.stores.lance import LanceStore
from internvideo_hf.search.stores.local import LocalStore
from internvideo_hf.search.stores.nearest import exact
from internvideo_hf.search.stores.opening import holds_index, load_store, new_store
from internvideo_hf.search.stores.postgres import PostgresStore
from internvideo_hf.search.where import columns_of, parse
from internvideo_hf.utils.locks import LockedError

METHODS = [name for name, value in vars(VectorStore).items() if inspect.isfunction(value) and name != "__init__"]


@pytest.mark.parametrize("store_class", [LocalStore, LanceStore, PostgresStore])
@pytest.mark.parametrize("name", [name for name in METHODS if not name.startswith("_") or name == "__len__"])
def test_every_store_has_the_methods_of_the_interface(name, store_class):
    assert inspect.signature(getattr(store_class, name)) == inspect.signature(getattr(VectorStore, name))


def test_where_nothing_is_nothing_is_made(address, tmp_path):
    assert not holds_index(address)
    with pytest.raises(ValueError, match="holds no index"):
        load_store(address)
    assert not (tmp_path / "index").exists()


def content(store) -> dict:
    """Return the embeddings of a store by video and number of the clip, with the times."""
    return {
        key: (clip[1:], row)
        for segment in store.rows()
        for key, clip, row in zip(segment.keys(), segment.clips(), segment.embeddings.tolist(), strict=True)
    }


def test_what_is_written_is_read_again(store, address):
    assert len(store) == 0 and store.known() == ({}, {}) and content(store) == {}
    with pytest.raises(ValueError, match="index is empty"):
        store.nearest(torch.ones(1, 3), 1)
    segments = [rows_of("/a", [0, 1], 2), rows_of("/bb", [2, 0], 4), rows_of("/\udcff\u00e9'; DROP", [0], 1)]
    segments[2].spans[:] = torch.nan
    segments[2].videos = [replace(segments[2].videos[0], content="c")]
    with store.writing():
        for segment in segments:
            store.upsert(segment)
        store.compact()
    expected = {
        key: (clip[1:], row)
        for segment in segments
        for key, clip, row in zip(segment.keys(), segment.clips(), segment.embeddings.tolist(), strict=True)
    }
    for opened in (store, load_store(address)):
        assert content(opened) == expected and len(opened) == 5 and opened.info() == (3, 5)
        assert opened.known() == ({s.videos[0].path: s.videos[0] for s in segments}, {"/bb": (1, 3)})
        assert opened.settings == SETTINGS
    assert {clip[0] for segment in store.rows(["/bb", "/none"]) for clip in segment.clips()} == {"/bb"}
    with pytest.raises(ValueError, match="holds an index"):
        new_store(dict(SETTINGS), address)


def test_rows_that_are_written_again_are_there_once(store):
    for _ in range(2):
        store.upsert(rows_of("/a", [0, 1], 3))
    changed = rows_of("/a", [1, 2], 3)
    changed.embeddings = changed.embeddings.flip(1)
    store.upsert(changed)
    assert len(store) == 3 and store.known().missing == {}
    found = content(store)
    assert found["/a", 1][1] == changed.embeddings[0].tolist()
    assert found["/a", 0][1] == rows_of("/a", [0], 3).embeddings[0].tolist()


NUMBERS = {"/a": 2, "/bb": 4, "/ccc": 1, "/d": 1}


def test_videos_are_removed_renamed_and_copied(store):
    for path, numbers, clips in (
        ("/a", [0, 1], 2),
        ("/bb", [2, 0], 4),
        ("/ccc", [0], 1),
        ("/bb", [1], 4),
        ("/d", [0], 1),
    ):
        store.upsert(rows_of(path, numbers, clips))
    before = content(store)
    moved, copy = replace(video_of("/a", 2), path="/moved"), replace(video_of("/bb", 4), path="/copy", mtime=5)
    touched = replace(video_of("/d", 1), mtime=7)
    second = replace(copy, path="/second")
    copies = [("/bb", copy), ("/bb", second)]
    store.rewrite(removed=["/bb", "/ccc"], renamed={"/a": moved, "/d": touched}, copied=copies)
    there = {"/moved": moved, "/copy": copy, "/second": second, "/d": touched}
    assert store.known() == (there, {"/copy": (3,), "/second": (3,)})
    source = {"/copy": "/bb", "/second": "/bb", "/moved": "/a", "/d": "/d"}
    after = content(store)
    assert len(after) == 9 and all(row == before[source[path], number] for (path, number), row in after.items())
    store.delete(["/moved", "/copy", "/second", "/none"])
    assert list(content(store)) == [("/d", 0)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_nearest_rows_are_those_of_the_full_product(address, dtype):
    store = new_store(SETTINGS | {"dtype": str(dtype).removeprefix("torch.")}, address)
    segments = make_segments(300, 32, [130, 170], dtype)
    for segment in segments:
        store.upsert(segment)
    paths = [clip[0] for segment in segments for clip in segment.clips()]
    queries = normalize(torch.randn(3, 32), dim=-1)
    similar, rows = store.nearest(queries, 20)
    expected, wanted = exact(segments, queries, 20)
    torch.testing.assert_close(similar, expected, atol=1e-6, rtol=0)
    assert [clip[0] for clip in store.clips(rows[0])] == [paths[row] for row in wanted[0].tolist()]
    torch.testing.assert_close((store.gather(rows[1]) @ queries[1]), expected[1], atol=1e-6, rtol=0)
    assert store.nearest(queries, 1000)[0].shape == (3, 300)


def test_an_approximate_index_finds_most_and_needs_building(store):
    pytest.importorskip("faiss")
    segments = make_segments(1500, 8, [1500])
    store.upsert(segments[0])
    queries = segments[0].embeddings[:20]
    with pytest.raises(ValueError, match="no approximate index"):
        store.nearest(queries, 1, approximate=True)
    store.build_approximate()
    similar, rows = store.nearest(queries, 5, approximate=True)
    expected = exact(segments, queries, 5)[0]
    torch.testing.assert_close(similar[:, 0], expected[:, 0], atol=1e-6, rtol=0)
    assert (similar[:, :, None] - expected[:, None]).abs().amin(1).lt(1e-6).float().mean() > 0.9
    assert store.clips(rows[3, :1]) == [("/0/3.mp4", 0.0, 0.0)]


def test_cached_tensors_are_computed_once(store, address):
    calls = []

    def compute() -> torch.Tensor:
        calls.append(1)
        return torch.ones(2)

    store.upsert(rows_of("/a", [0], 1))
    for opened in (store, store, load_store(address)):
        assert torch.equal(opened.cached("ones", compute), torch.ones(2))
    assert len(calls) == 1


def test_a_second_writer_is_told_of_the_first_and_sees_its_rows(address):
    first, second = (new_store(dict(SETTINGS), address) for _ in range(2))
    for opened, path in ((first, "/a"), (second, "/bb"), (first, "/ccc")):
        with opened.writing():
            opened.upsert(rows_of(path, [0], 1))
    assert list(load_store(address).known().videos) == ["/a", "/bb", "/ccc"]
    with first.writing(), pytest.raises(LockedError, match=f"is being written by process {os.getpid()} on "):
        with second.writing():
            pass
    second.settings["window"] = 8.0
    with pytest.raises(ValueError, match="window none, now 8.0"), second.writing():
        pass


@pytest.mark.parametrize("path", ["/plain", "/\udcff.mp4", "/\u00e9", "https://host/v.mp4"])
def test_paths_of_any_bytes_are_text_and_come_back(path):
    to_text(path).encode()
    assert from_text(to_text(path)) == path


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_condition_means_the_same_in_every_store(address, dtype):
    store = new_store(SETTINGS | {"dtype": dtype}, address)
    assert store.columns() == {} and store.count() == 0
    segment = segment_of()
    for path in ("/c", "/a", "/b"):  # the columns come one after the other
        store.upsert(segment.without({video.path for video in segment.videos} - {path}))
    assert store.columns() == columns_of(METADATA) and load_store(address).known().videos == {
        video.path: video for video in segment.videos
    }
    query = normalize(torch.tensor([[4.0, 3.0, 2.0, 1.0]]), dim=-1)
    clips = [clip[:2] for clip in segment.clips()]
    for text, expected in CASES.items():
        where = parse(text, store.columns())
        wanted = [clip for clip, chosen in zip(clips, expected, strict=True) if chosen]
        similar, rows = store.nearest(query, 3, where=where)
        assert [clip[:2] for clip in store.clips(rows[0])] == wanted[:3], text
        assert store.count(where) == len(wanted) and similar.shape == rows.shape == (1, min(3, len(wanted)))


def test_an_approximate_search_keeps_to_a_condition(store):
    pytest.importorskip("faiss")
    segment = make_segments(1500, 8, [1500])[0]
    segment.videos = [replace(video, metadata={"even": i % 2 == 0}) for i, video in enumerate(segment.videos)]
    store.upsert(segment)
    store.build_approximate()
    even = parse("even = true", store.columns())
    similar, rows = store.nearest(segment.embeddings[1:2], 5, approximate=True, where=even)
    assert rows.shape == (1, 5) and (similar < 0.9999).all()
    assert all(int(path[3:-4]) % 2 == 0 for path, *_ in store.clips(rows[0]))


def test_metadata_changes_without_the_rows(store):
    store.upsert(rows_of("/a", [0, 1], 2))
    entry = replace(video_of("/a", 2), metadata={"camera": "door"})
    before = content(store)
    store.rewrite(renamed={"/a": entry})
    assert store.known().videos == {"/a": entry} and store.columns() == {"camera": "text"} and content(store) == before


@pytest.fixture(scope="module")
def local(small_folder, tmp_path_factory):
    """Return a gallery, and its index in memory, that no test changes."""
    videos = gallery(tmp_path_factory.mktemp("videos"))
    index = VideoIndex(small_folder, window=1.0)
    index.add([videos])
    return videos, index


def test_an_index_does_in_every_store_what_it_does_in_memory(local, address, tmp_path, monkeypatch):
    videos, expected = local
    shutil.copytree(videos, tmp_path / "videos")
    index = VideoIndex(expected.model, window=1.0, folder=address)
    change = index.update([tmp_path / "videos"])
    assert len(change.new) == 4 and not change.failures and index.info == expected.info == (4, 7)
    decodes = Decodes(monkeypatch)
    index = VideoIndex.load(address)
    (tmp_path / "videos/two.mp4").rename(tmp_path / "videos/moved.mp4")
    shutil.copy(tmp_path / "videos/red.mp4", tmp_path / "videos/copy.mp4")
    os.utime(tmp_path / "videos/green.mp4", ns=(1, 1))
    change = index.update([tmp_path / "videos"])
    assert [len(paths) for paths in (change.moved, change.copied, change.unchanged)] == [1, 1, 3] and not decodes
    assert index.remove([tmp_path / "videos/copy.mp4"]) and len(index) == 7
    for query in ({"text": "something green"}, {"image": picture("green")}):
        hits, wanted = index.search(**query, top_k=7), expected.search(**query, top_k=7)
        others = {(hit.name, hit.time): hit for hit in wanted}
        assert [hit.similarity for hit in hits] == pytest.approx([hit.similarity for hit in wanted], abs=1e-5)
        for hit in hits:
            other = others.pop((hit.name.replace("moved", "two"), hit.time))
            assert hit.similarity == pytest.approx(other.similarity, abs=1e-5)
            assert hit.z == (None if other.z is None else pytest.approx(other.z, abs=1e-2))
            assert hit.matches == other.matches
    assert sorted(clip[1:] for clip in index.clips) == sorted(clip[1:] for clip in expected.clips)
    assert index.embeddings.shape == expected.embeddings.shape
