"""The folder store: content, search and refusals."""

import json
from dataclasses import replace

import pytest
import torch
from search.rows import make_segments
from torch.nn.functional import normalize

from internvideo_hf.search.stores import nearest
from internvideo_hf.search.stores.local import LocalStore
from internvideo_hf.search.stores.segments import Segment, Video

SETTINGS = {"model": "some/model", "fingerprint": "sha256:0", "window": None, "stride": None, "dtype": "float32"}


def video_of(path: str, clips: int) -> Video:
    return Video(path, len(path), 1, f"content of {path}", clips)


def rows_of(path: str, numbers: list[int], clips: int) -> Segment:
    """Rows of one video whose embeddings tell its clips apart."""
    embeddings = normalize(torch.tensor([[1.0, number, len(path)] for number in numbers]), dim=-1)
    spans = torch.tensor([[number, number + 1.0] for number in numbers], dtype=torch.float64)
    return Segment([video_of(path, clips)], embeddings, spans, torch.zeros(len(numbers)).long(), torch.tensor(numbers))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_mapped_search_equals_a_plain_product(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(nearest, "CHUNK_ROWS", 100)
    segments = make_segments(1000, 32, [350, 1, 649], dtype)
    plain = torch.cat([segment.embeddings for segment in segments]).float()
    store = LocalStore(SETTINGS | {"dtype": str(dtype).removeprefix("torch.")}, tmp_path)
    for segment in segments:
        store.append(segment)
    assert all(segment.file is not None for segment in store.segments)
    queries = normalize(torch.randn(7, 32), dim=-1)
    similar, rows = store.nearest(queries, 20)
    expected = (queries @ plain.T).sort(dim=1, descending=True, stable=True)
    torch.testing.assert_close(similar, expected[0][:, :20], atol=1e-6, rtol=0)
    assert torch.equal(rows, expected[1][:, :20])
    assert torch.equal(store.gather([999, 0, 350]), plain[[999, 0, 350]])
    assert store.nearest(queries, 5000)[0].shape == (7, 1000)


@pytest.mark.parametrize("on_disk", [True, False])
def test_videos_are_removed_renamed_and_copied_in_one_change(tmp_path, on_disk):
    store = LocalStore(dict(SETTINGS), tmp_path / "index" if on_disk else None)
    for path, numbers, clips in (("/a", [0, 1], 2), ("/bb", [2, 0], 4), ("/ccc", [0], 1), ("/bb", [1], 4)):
        store.append(rows_of(path, numbers, clips))
    assert store.known().missing == {"/bb": (3,)}
    before = dict(zip(store.clips(range(6)), store.embeddings().tolist(), strict=True))
    moved, copy = replace(video_of("/a", 2), path="/moved"), replace(video_of("/bb", 4), path="/copy")
    store.rewrite(removed=["/bb", "/ccc"], renamed={"/a": moved}, copied=[("/bb", copy)])
    assert store.known() == ({"/moved": moved, "/copy": copy}, {"/copy": (3,)})
    assert sorted(store.clips(range(len(store)))) == [
        *(("/copy", float(i), i + 1.0) for i in range(3)),
        *(("/moved", float(i), i + 1.0) for i in range(2)),
    ]
    source = {"/copy": "/bb", "/moved": "/a"}
    for (path, *span), row in zip(store.clips(range(5)), store.embeddings().tolist(), strict=True):
        assert row == before[(source[path], *span)]
    if on_disk:
        loaded = LocalStore.load(tmp_path / "index")
        assert loaded.known() == store.known() and torch.equal(loaded.embeddings(), store.embeddings())
    store.rewrite(removed=["/moved", "/copy"])
    assert len(store) == 0
    with pytest.raises(ValueError, match="index is empty"):
        store.nearest(torch.ones(1, 3), 1)


def test_cached_tensors_are_computed_once_and_again_if_damaged(tmp_path):
    calls = []

    def compute() -> torch.Tensor:
        calls.append(1)
        return torch.ones(2)

    store = LocalStore(dict(SETTINGS), tmp_path / "index")
    store.append(rows_of("/a", [0], 1))
    assert torch.equal(store.cached("ones", compute), torch.ones(2)) and len(calls) == 1
    store = LocalStore.load(tmp_path / "index")
    store.cached("ones", compute), store.cached("ones", compute)
    assert len(calls) == 1
    (tmp_path / "index/ones.safetensors").write_bytes(b"damaged")
    assert torch.equal(LocalStore.load(tmp_path / "index").cached("ones", compute), torch.ones(2)) and len(calls) == 2


def test_a_header_without_a_setting_is_refused(tmp_path):
    LocalStore(dict(SETTINGS), tmp_path / "index").append(rows_of("/a", [0], 1))
    header = json.loads((tmp_path / "index/index.json").read_text())
    assert list(header) == ["format", *SETTINGS, "videos", "clips", "parts"]
    del header["stride"]
    (tmp_path / "index/index.json").write_text(json.dumps(header))
    with pytest.raises(ValueError, match="lacks stride"):
        LocalStore.load(tmp_path / "index")


def test_an_approximate_index_is_that_of_the_present_rows(tmp_path):
    pytest.importorskip("faiss")
    store = LocalStore(dict(SETTINGS), tmp_path / "index")
    for segment in make_segments(2000, 8, [1500, 500]):
        store.append(segment)
    query = store.embeddings()[:1]
    with pytest.raises(ValueError, match="no approximate index"):
        store.nearest(query, 1, approximate=True)
    store.build_approximate()
    assert LocalStore.load(tmp_path / "index").nearest(query, 1, approximate=True)[1].tolist() == [[0]]
    store.rewrite(removed=["/0/3.mp4"])
    assert not list((tmp_path / "index").glob("*.faiss"))
    with pytest.raises(ValueError, match="changed since"):
        store.nearest(query, 1, approximate=True)
