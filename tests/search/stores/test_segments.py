"""Operations on lists of segments."""

import pytest
import torch
from search.rows import make_segments

from internvideo_hf.search.stores import segments
from internvideo_hf.search.stores.segments import compact, gather, in_chunks, locate, merge


def paths_of(some: list[segments.Segment]) -> list[str]:
    return [segment.videos[i].path for segment in some for i in segment.video.tolist()]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([3, 2], [5]), ([3, 3, 2], [3, 5]), ([9, 1, 1, 3], [9, 5]), ([0, 2, 0, 3, 0], [5]), ([], [])],
)
def test_small_neighbors_are_merged_in_order(monkeypatch, sizes, expected):
    monkeypatch.setattr(segments, "SEGMENT_ROWS", 5)
    before = make_segments(sum(sizes), 4, sizes)
    after = compact(before)
    assert [len(segment) for segment in after] == expected
    assert paths_of(after) == paths_of(before)
    if before:
        assert torch.equal(merge(after).embeddings, torch.cat([segment.embeddings for segment in before]))


def test_a_video_in_two_segments_is_one_after_a_merge():
    first, second = make_segments(5, 4, [3, 2])
    second = second.renamed({second.videos[0].path: first.videos[1]})
    merged = merge([first, second])
    assert len(merged.videos) == 4 and paths_of([merged]) == paths_of([first, second])
    rest = merged.without({first.videos[1].path})
    assert len(rest) == 3 and first.videos[1].path not in paths_of([rest])
    assert torch.equal(rest.embeddings, merged.embeddings[[0, 2, 4]])
    assert rest.without({"/nothing"}) is rest and rest.renamed({}) is rest


def test_rows_are_found_in_their_segments():
    some = make_segments(10, 4, [4, 1, 5])
    plain = torch.cat([segment.embeddings for segment in some])
    rows = [9, 0, 4, 3, 9]
    found = {
        (places.item(), inner.item()) for _, p, i in locate(some, rows) for places, inner in zip(p, i, strict=True)
    }
    assert found == {(0, 4), (1, 0), (2, 0), (3, 3), (4, 4)}
    for asked in (rows, torch.tensor(rows)):
        assert torch.equal(gather(some, asked), plain[rows])
    chunks = list(in_chunks(some, 3))
    assert [first for first, _ in chunks] == [0, 3, 4, 5, 8]
    assert torch.equal(torch.cat([chunk for _, chunk in chunks]), plain)
