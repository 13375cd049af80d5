"""The folder store: content, search and refusals."""

import json
import shutil
from dataclasses import replace

import dying
import pytest
import torch
from safetensors.torch import load_file, save_file
from search.rows import make_segments, rows_of, video_of
from torch.nn.functional import normalize

from internvideo_hf.search.stores import nearest
from internvideo_hf.search.stores.local import LocalStore
from internvideo_hf.utils.locks import LockedError

SETTINGS = {"model": "some/model", "fingerprint": "sha256:0", "window": None, "stride": None, "dtype": "float32"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_mapped_search_equals_a_plain_product(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(nearest, "CHUNK_ROWS", 100)
    segments = make_segments(1000, 32, [350, 1, 649], dtype)
    plain = torch.cat([segment.embeddings for segment in segments]).float()
    store = LocalStore(SETTINGS | {"dtype": str(dtype).removeprefix("torch.")}, tmp_path)
    for segment in segments:
        store.upsert(segment)
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
        store.upsert(rows_of(path, numbers, clips))
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
    store.upsert(rows_of("/a", [0], 1))
    assert torch.equal(store.cached("ones", compute), torch.ones(2)) and len(calls) == 1
    store = LocalStore.load(tmp_path / "index")
    store.cached("ones", compute), store.cached("ones", compute)
    assert len(calls) == 1
    (tmp_path / "index/ones.safetensors").write_bytes(b"damaged")
    assert torch.equal(LocalStore.load(tmp_path / "index").cached("ones", compute), torch.ones(2)) and len(calls) == 2


def test_a_reader_sees_what_another_process_writes_when_it_looks(tmp_path, monkeypatch):
    folder = tmp_path / "index"
    writer = LocalStore(dict(SETTINGS), folder)
    writer.upsert(rows_of("/a", [0], 1))
    reader = LocalStore.load(folder)
    writer.upsert(rows_of("/b", [0, 1], 2))
    assert len(reader) == 1
    reader.refresh()
    assert len(reader) == 3 and sorted(reader.known().videos) == ["/a", "/b"]
    monkeypatch.setattr(LocalStore, "_take_over", lambda self: pytest.fail("nothing has changed"))
    reader.refresh()
    writer.refresh()
    LocalStore({**SETTINGS}).refresh()  # in memory
    monkeypatch.undo()
    # One of another model, or none, leaves a reader as it is.
    header = (folder / "index.json").read_text()
    (folder / "index.json").write_text(header.replace("sha256:0", "sha256:11"))
    with pytest.raises(ValueError, match="with other settings"):
        reader.refresh()
    reader.refresh()
    (folder / "index.json").unlink()
    reader.refresh()
    assert len(reader) == 3


def test_a_header_without_a_setting_is_refused(tmp_path):
    LocalStore(dict(SETTINGS), tmp_path / "index").upsert(rows_of("/a", [0], 1))
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
        store.upsert(segment)
    query = store.embeddings()[:1]
    with pytest.raises(ValueError, match="no approximate index"):
        store.nearest(query, 1, approximate=True)
    store.build_approximate()
    assert LocalStore.load(tmp_path / "index").nearest(query, 1, approximate=True)[1].tolist() == [[0]]
    store.rewrite(removed=["/0/3.mp4"])
    assert not list((tmp_path / "index").glob("*.faiss"))
    with pytest.raises(ValueError, match="changed since"):
        store.nearest(query, 1, approximate=True)


@pytest.fixture
def folder(tmp_path):
    store = LocalStore(SETTINGS | {"window": 8.0, "stride": 4.0}, tmp_path / "index")
    store.upsert(rows_of("a.mp4", [0, 1, 2], 3))
    return tmp_path / "index"


@pytest.mark.parametrize("elsewhere", ["../other/{}", "{0.parent}/../other/{0.name}", "sub/{}", "..", 3, "\0", "{}/."])
def test_parts_elsewhere_are_refused(folder, elsewhere):
    header = json.loads((folder / "index.json").read_text())
    part = folder / header["parts"][0]
    for place in (folder.parent / "other", folder / "sub"):
        place.mkdir()
        shutil.copy(part, place)
    name = elsewhere if isinstance(elsewhere, int) else elsewhere.replace("{}", part.name).format(part)
    (folder / "index.json").write_text(json.dumps({**header, "parts": [name]}))
    with pytest.raises(ValueError, match=r"index\.json is damaged: parts is .* build it again"):
        LocalStore.load(folder)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"window": value} for value in (float("nan"), -8, 0, float("inf"), "8", True)),
        *(
            {"stride": float("nan")},
            {"dtype": "load_inline"},
            {"model_dtype": "int4"},
            {"model": None},
            {"model": 3},
            {"fingerprint": 0.5},
        ),
    ],
)
def test_settings_that_no_index_has_are_refused(folder, wrong):
    header = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**header, **wrong}))
    with pytest.raises(ValueError, match=rf"index\.json is damaged: {next(iter(wrong))} is "):
        LocalStore.load(folder)


@pytest.mark.parametrize(
    ("table", "value", "cause"),
    [
        ("video", torch.tensor([0, -1, 0]), "a video that is not there"),
        ("video", torch.tensor([0, 1, 0]), "a video that is not there"),
        ("video", torch.tensor([0, 0]), "different lengths"),
        ("number", torch.tensor([0, 1, -1]), "the number of a clip"),
        ("number", torch.tensor([0, 1, 3]), "the number of a clip"),
        ("spans", torch.tensor([[0.0, 1.0], [-1.0, 2.0], [2.0, 3.0]]), "the times of a clip"),
        ("spans", torch.tensor([[0.0, 1.0], [1.0, float("nan")], [2.0, 3.0]]), "the times of a clip"),
        ("spans", torch.tensor([[0.0, 1.0], [1.0, float("inf")], [2.0, 3.0]]), "the times of a clip"),
        ("embeddings", torch.zeros(3, dtype=torch.int64), "tables have"),
    ],
)
def test_rows_that_do_not_fit_are_refused(folder, table, value, cause):
    part = next(folder.glob("rows-*"))
    save_file({**load_file(part), table: value}, part)
    with pytest.raises(ValueError, match=rf"is missing or damaged \(.*{cause}"):
        LocalStore.load(folder)


@pytest.mark.parametrize("entry", [["a.mp4", 5, 1, "b", 2.5], ["a.mp4", 5, None, "b", 3], [3, 5, 1, "b", 3], {}, None])
def test_entries_of_videos_are_checked(folder, entry):
    part = next(folder.glob("rows-*"))
    videos = torch.frombuffer(bytearray(json.dumps([entry]).encode()), dtype=torch.uint8)
    save_file({**load_file(part), "videos": videos}, part)
    with pytest.raises(ValueError, match="is missing or damaged"):
        LocalStore.load(folder)


def test_embeddings_that_are_no_numbers_are_not_the_best_hit(folder):
    part = next(folder.glob("rows-*"))
    tensors = load_file(part)
    tensors["embeddings"][1] = float("nan")
    save_file(tensors, part)
    with pytest.raises(ValueError, match="embeddings that are not finite"):
        LocalStore.load(folder).nearest(normalize(torch.randn(1, 3), dim=-1), 2)


def append_in_a_process(folder, **death):
    """Append 1000 rows in a process of its own, which may die."""

    def work():
        store = LocalStore.load(folder) if (folder / "index.json").exists() else LocalStore(dict(SETTINGS), folder)
        with store.writing():
            store.upsert(rows_of("/new", list(range(1000)), 1000))

    return dying.run(work, **death)


DEATHS = [
    ({"kill_before": "rows-*"}, dying.KILLED),
    ({"kill_before": "index.json"}, dying.KILLED),
    ({"file_size": 20_000}, dying.FULL),
]


@pytest.mark.parametrize(("death", "code"), DEATHS)
def test_an_index_that_was_never_finished_counts_as_empty(tmp_path, death, code):
    assert append_in_a_process(tmp_path / "index", **death) == code
    with pytest.raises(ValueError, match="holds no index"):
        LocalStore.load(tmp_path / "index")
    assert append_in_a_process(tmp_path / "index") == 0
    assert len(LocalStore.load(tmp_path / "index")) == 1000
    names = sorted(file.name[:5] for file in (tmp_path / "index").iterdir())
    assert names == ["index", "rows-"], "what the first process left is gone"


@pytest.mark.parametrize(("death", "code"), DEATHS)
def test_a_change_that_was_never_finished_leaves_the_rows_before(tmp_path, death, code):
    with (store := LocalStore(dict(SETTINGS), tmp_path / "index")).writing():
        store.upsert(rows_of("/a", [0, 1], 2))
    assert append_in_a_process(tmp_path / "index", **death) == code
    loaded = LocalStore.load(tmp_path / "index")
    assert list(loaded.known().videos) == ["/a"] and len(loaded) == 2
    assert append_in_a_process(tmp_path / "index") == 0
    assert len(LocalStore.load(tmp_path / "index")) == 1002
    assert len(list((tmp_path / "index").iterdir())) == 3


def test_files_of_others_are_not_taken_for_an_unfinished_index(tmp_path):
    (tmp_path / "rows.csv").touch()
    with pytest.raises(ValueError, match="holds something else"):
        LocalStore(dict(SETTINGS), tmp_path)


def test_a_store_sees_what_another_one_has_written(tmp_path):
    first, second = (LocalStore(dict(SETTINGS), tmp_path / "index") for _ in range(2))
    for store, path in ((first, "/a"), (second, "/bb"), (first, "/ccc")):
        with store.writing():
            store.upsert(rows_of(path, [0], 1))
    assert list(LocalStore.load(tmp_path / "index").known().videos) == ["/a", "/bb", "/ccc"]
    with first.writing(), pytest.raises(LockedError, match="index is being written by process"), second.writing():
        pass
    other = LocalStore(SETTINGS | {"window": 8.0})
    other.folder = tmp_path / "index"
    with pytest.raises(ValueError, match="window none, now 8.0"), other.writing():
        pass
