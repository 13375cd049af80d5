"""Near-copies: what is planted is found, and nothing else."""

import pytest
import torch
from search.rows import make_segments
from torch.nn.functional import normalize

from internvideo_hf.search import duplicates
from internvideo_hf.search.duplicates import calibrated_threshold, find_copies
from internvideo_hf.search.stores.local import LocalStore


def store_of(embeddings: torch.Tensor) -> LocalStore:
    segment = make_segments(len(embeddings), embeddings.shape[1], [len(embeddings)])[0]
    segment.embeddings = normalize(embeddings, dim=-1)
    store = LocalStore({"dtype": "float32"})
    store.upsert(segment)
    return store


@pytest.fixture
def embeddings():
    """Return random rows around a common mean, as embeddings of one model are."""
    return torch.randn(400, 64, generator=torch.Generator().manual_seed(1)) + 1.0


@pytest.mark.parametrize("size", [7, 256])
def test_planted_copies_are_found_and_no_others(embeddings, size, monkeypatch):
    monkeypatch.setattr(duplicates, "_QUERIES", size)
    monkeypatch.setattr(duplicates, "_FIRST_NEIGHBORS", 2)
    noise = 0.05 * torch.randn(4, 64, generator=torch.Generator().manual_seed(2))
    embeddings[[30, 300, 399]] = embeddings[3] + noise[:3]
    embeddings[40] = embeddings[4] + noise[3]
    done = []
    copies = find_copies(store_of(embeddings), on_done=lambda *numbers: done.append(numbers))
    groups = [{int(copy.video[3:-4]) for copy in group} for group in copies.groups]
    assert sorted(groups, key=len) == [{4, 40}, {3, 30, 300, 399}] and copies.clips == 400 and done[-1] == (400, 400)
    assert 0.6 < copies.threshold < min(copy.similarity for group in copies.groups for copy in group)
    assert find_copies(store_of(embeddings), threshold=1.0).groups == ()


def test_the_threshold_is_where_chance_says():
    """Independent cosines of two coordinates, whose tail is known: of 1e5 pairs, `CHANCE` lie above."""
    embeddings = normalize(torch.randn(1000, 512, generator=torch.Generator().manual_seed(1)), dim=-1)
    threshold = calibrated_threshold((embeddings, [str(i) for i in range(1000)]), 1000)
    z = threshold * 512**0.5  # cosines of random directions: mean 0, deviation 1 / sqrt(dim)
    expected = 499500 * 0.5 * torch.erfc(torch.tensor(z / 2**0.5)).item()
    assert expected == pytest.approx(duplicates.CHANCE, rel=0.25)


def test_windows_of_one_video_are_no_copies_of_each_other(embeddings):
    embeddings[1:100] = embeddings[0]
    store = store_of(embeddings[:100])
    assert len(find_copies(store, threshold=0.9).groups[0]) == 100
    segment = store.segments[0]
    segment.videos, segment.video = segment.videos[:1], torch.zeros(100, dtype=torch.int64)
    assert find_copies(store, threshold=0.9).groups == ()


def test_a_small_gallery_needs_a_threshold(embeddings):
    with pytest.raises(ValueError, match="--threshold"):
        find_copies(store_of(embeddings[:10]))
    with pytest.raises(ValueError, match="threshold=2"):
        find_copies(store_of(embeddings), threshold=2)
