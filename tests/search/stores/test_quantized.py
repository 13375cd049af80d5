"""The 8-bit copy of rows: its bounds hold, so that no row of an answer is lost."""

import pytest
import torch
from search.rows import make_segments
from torch.nn.functional import normalize

from internvideo_hf.search.stores import local, nearest
from internvideo_hf.search.stores.local import LocalStore
from internvideo_hf.search.stores.quantized import Codes, integer_product_is_exact

DIM = 96


def rows_like(kind: str, count: int = 3000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(count, DIM, generator=generator)
    if kind == "narrow cone":
        rows = 0.05 * rows + torch.randn(DIM, generator=generator)
    elif kind == "one large value":
        rows[:, 7] += 40
    elif kind == "sparse":
        rows = rows * (rows.abs() > 2.5) + 1e-6
    elif kind == "equal":
        rows = rows[:2].repeat(count // 2, 1)
    return normalize(rows, dim=-1)


is_exact = pytest.mark.skipif(not integer_product_is_exact(DIM), reason="this processor has no exact 8-bit product")
KINDS = ["any direction", "narrow cone", "one large value", "sparse", "equal"]


@pytest.fixture
def scans(monkeypatch):
    """Search by the codes, whatever is faster here."""
    monkeypatch.setattr(nearest, "integer_product_pays", lambda dim: True)
    monkeypatch.setattr(nearest, "_LARGEST_FRACTION", 1)
    monkeypatch.setattr(nearest, "exact", None)


@is_exact
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_no_cosine_is_above_its_bound(kind, dtype):
    rows = rows_like(kind).to(dtype)
    codes = Codes.of_rows(rows)
    spike = torch.eye(DIM)[3]
    for query in (rows[5].float(), normalize(torch.randn(DIM), dim=0), spike, -rows[9].float()):
        estimates, bounds = codes.bounds(query)
        true = rows.double() @ query.double()
        assert (bounds.double() >= true).all() and (bounds.double() >= rows.float() @ query).all()
        assert (estimates - true).abs().max() < 0.02, "the codes are close to the rows"
        assert (bounds - true).max() < 0.04, "the bounds leave most rows out"


@is_exact
@pytest.mark.parametrize("kind", KINDS)
def test_a_scan_finds_what_the_full_product_finds(kind, scans, monkeypatch):
    monkeypatch.setattr(local, "CODED_ROWS", 500)
    monkeypatch.setattr(nearest, "GATHERED_ROWS", 7)
    rows = rows_like(kind)
    store = LocalStore({"dtype": "float32"})
    for segment, part in zip(make_segments(3000, DIM, [1700, 300, 1000]), rows.split([1700, 300, 1000]), strict=True):
        segment.embeddings = part
        store.upsert(segment)
    assert [segment.codes is not None for segment in store.segments] == [True, False, True]
    queries = torch.cat([normalize(torch.randn(2, DIM), dim=-1), torch.eye(DIM)[:2]])
    for count in (1, 10, 2000):
        similar, found = store.nearest(queries, count)
        expected = (queries.double() @ rows.double().T).sort(dim=1, descending=True)[0][:, :count]
        torch.testing.assert_close(similar, expected.float(), atol=3e-7, rtol=0)
        torch.testing.assert_close((rows[found] * queries[:, None]).sum(-1), similar, atol=3e-7, rtol=0)
        assert all(len(set(row)) == count for row in found.tolist())


@is_exact
def test_of_equals_the_earlier_row_comes_first(scans, monkeypatch):
    monkeypatch.setattr(local, "CODED_ROWS", 4)
    segment = make_segments(10, DIM, [10])[0]
    segment.embeddings = torch.eye(DIM)[[1, 0, 0, 1, 0, 1, 1, 0, 1, 1]]
    store = LocalStore({"dtype": "float32"})
    store.upsert(segment)
    assert store.nearest(torch.eye(DIM)[:1], 6)[1].tolist() == [[1, 2, 4, 7, 0, 3]]


def test_codes_are_stored_with_many_rows_and_added_to_older_files(tmp_path, monkeypatch):
    segments = make_segments(600, DIM, [550, 50])
    settings = {"model": "m", "fingerprint": None, "window": None, "stride": None, "dtype": "float32"}
    store = LocalStore(settings, tmp_path / "index")
    store.upsert(segments[0])
    assert store.segments[0].codes is None, "few rows need none"
    old = store.segments[0].file
    monkeypatch.setattr(local, "CODED_ROWS", 100)
    store = LocalStore.load(tmp_path / "index")
    assert store.segments[0].codes is None
    store.upsert(segments[1])
    assert not (tmp_path / "index" / old).exists()
    loaded = LocalStore.load(tmp_path / "index")
    assert [segment.codes is not None for segment in loaded.segments] == [True, False]
    for name, tensor in vars(Codes.of_rows(segments[0].embeddings)).items():
        assert torch.equal(getattr(loaded.segments[0].codes, name), tensor)
    assert torch.equal(loaded.embeddings(), torch.cat([segment.embeddings for segment in segments]))
    loaded.rewrite(removed=["/0/3.mp4"])
    assert loaded.segments[0].codes.codes.shape == (549, DIM)


@pytest.mark.parametrize("count", [1, 4])
def test_rows_that_are_no_numbers_are_refused(count, monkeypatch):
    monkeypatch.setattr(local, "CODED_ROWS", 4)
    segment = make_segments(100, DIM, [100])[0]
    segment.embeddings[50, 3] = torch.nan
    store = LocalStore({"dtype": "float32"})
    store.upsert(segment)
    with pytest.raises(ValueError, match="not finite"):
        store.nearest(normalize(torch.randn(1, DIM), dim=-1), count)


def test_a_product_that_saturates_is_not_used(monkeypatch):
    def saturating(rows, query):
        """As AVX2 does it: rows as bytes without a sign, pairs of products in 16 bits."""
        pairs = ((rows.int() + 128) * query.int().T).unflatten(1, (-1, 2)).sum(-1).clamp(-(2**15), 2**15 - 1)
        return (pairs.sum(1, keepdim=True) - 128 * query.int().sum()).int()

    monkeypatch.setattr(torch, "_int_mm", saturating)
    assert not integer_product_is_exact.__wrapped__(DIM)
    monkeypatch.delattr(torch, "_int_mm")
    assert not integer_product_is_exact.__wrapped__(DIM)
    monkeypatch.setattr(torch, "_int_mm", lambda rows, query: rows.int() @ query.int(), raising=False)
    assert integer_product_is_exact.__wrapped__(DIM)


def test_a_scan_that_would_compare_most_rows_reads_them_in_order(monkeypatch):
    monkeypatch.setattr(local, "CODED_ROWS", 4)
    monkeypatch.setattr(nearest, "integer_product_pays", lambda dim: True)
    monkeypatch.setattr(
        Codes, "bounds", lambda self, query: (torch.zeros(len(self.codes)), torch.ones(len(self.codes)))
    )
    segment = make_segments(100, DIM, [100])[0]
    store = LocalStore({"dtype": "float32"})
    store.upsert(segment)
    expected = nearest.exact([segment], segment.embeddings[:1], 3)
    assert all(torch.equal(*pair) for pair in zip(store.nearest(segment.embeddings[:1], 3), expected, strict=True))
