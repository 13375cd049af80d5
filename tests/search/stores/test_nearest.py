"""Nearest-neighbor search, exact and approximate."""

import pytest
import torch
from search.rows import make_segments
from torch.nn.functional import normalize

from internvideo_hf.search.stores import nearest


def test_of_equals_the_earlier_row_comes_first(monkeypatch):
    monkeypatch.setattr(nearest, "CHUNK_ROWS", 3)
    segments = make_segments(10, 4, [10])
    segments[0].embeddings = segments[0].embeddings[:1].expand(10, 4).clone()
    assert nearest.exact(segments, segments[0].embeddings[:1], 5)[1].tolist() == [[0, 1, 2, 3, 4]]


def test_approximate_search_proposes_what_the_exact_one_finds():
    pytest.importorskip("faiss")
    # Rows in clumps, as clips are.
    segments = make_segments(4000, 32, [1500, 2500])
    centres = normalize(torch.randn(40, 32), dim=-1)
    for segment in segments:
        noise = 0.3 * segment.embeddings
        segment.embeddings = normalize(centres[torch.randint(40, (len(segment),))] + noise, dim=-1)
    queries = torch.cat([segment.embeddings[:50] for segment in segments])
    approximate = nearest.Approximate.build(segments)
    similar, rows = approximate.search(segments, queries, 10)
    expected, wanted = nearest.exact(segments, queries, 10)
    recall = sum(len(set(a) & set(b)) for a, b in zip(rows.tolist(), wanted.tolist(), strict=True)) / wanted.numel()
    assert recall > 0.9
    same = rows == wanted
    torch.testing.assert_close(similar[same], expected[same])


def test_approximate_search_without_faiss_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(ImportError, match=r"internvideo-hf\[search\]"):
        nearest.Approximate.build(make_segments(2000, 4, [2000]))
