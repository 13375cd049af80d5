"""From rows to hits, on plain numbers."""

import pytest
import torch
from torch.nn.functional import normalize

from internvideo_hf.search import ranking
from internvideo_hf.search.ranking import rank
from internvideo_hf.search.stores.local import LocalStore
from internvideo_hf.search.stores.segments import Segment, Video

QUERY = torch.tensor([[1.0, 0.0]])


@pytest.fixture
def store():
    """Ten windows of a long video, each nearer to the query than the one clip of a short video."""
    store = LocalStore({"model": "m", "fingerprint": "f", "window": 1, "stride": None, "dtype": "float32"})
    embeddings = normalize(torch.tensor([[1.0, i / 10] for i in range(10)] + [[1.0, 2.0]]), dim=-1)
    videos = [Video("/long", 1, 1, "", 10), Video("/short", 1, 1, "", 1)]
    spans = torch.tensor([[i, i + 1.0] for i in range(10)] + [[float("nan")] * 2], dtype=torch.float64)
    store.upsert(Segment(videos, embeddings, spans, torch.tensor([0] * 10 + [1]), torch.tensor([*range(10), 0])))
    return store


def test_hits_are_in_order_and_share_the_probability(store):
    hits = rank(store, QUERY, 10.0, top_k=11)
    assert [(hit.video, hit.start) for hit in hits] == [*(("/long", float(i)) for i in range(10)), ("/short", None)]
    assert sum(hit.probability for hit in hits) == pytest.approx(1) and hits[0].similarity == pytest.approx(1)
    assert hits[0].z is None and hits[0].matches is None


def test_more_candidates_are_looked_at_until_there_are_enough_hits(store, monkeypatch):
    monkeypatch.setattr(ranking, "CANDIDATES", 2)
    assert [hit.video for hit in rank(store, QUERY, 1.0, top_k=2, per_video=1)] == ["/long", "/short"]
    assert [hit.start for hit in rank(store, QUERY, 1.0, top_k=3, per_video=2)] == [0.0, 1.0, None]
    assert len(rank(store, QUERY, 1.0, top_k=5, per_video=1)) == 2


def test_null_captions_calibrate(store):
    null = normalize(torch.tensor([[0.2, 1.0], [0.1, 1.0], [-0.1, 1.0], [0.0, 1.0]]), dim=-1)
    best, *_, last = rank(store, QUERY, 1.0, null, top_k=11)
    assert best.share == 1.0 and best.z > last.z and best.chance < last.chance
    assert best.matches is True and last.matches is False
