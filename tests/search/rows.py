"""Random rows of an index."""

import torch
from torch.nn.functional import normalize

from internvideo_hf.search.stores.segments import Segment, Video


def make_segments(rows: int, dim: int, sizes: list[int], dtype=torch.float32) -> list[Segment]:
    embeddings = normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(0)), dim=-1).to(dtype)
    segments, first = [], 0
    for number, size in enumerate(sizes):
        videos = [Video(f"/{number}/{i}.mp4", 1, 1, "", 1) for i in range(size)]
        zeros = torch.zeros(size, dtype=torch.int64)
        block = embeddings[first : first + size]
        segments.append(Segment(videos, block, torch.zeros(size, 2, dtype=torch.float64), torch.arange(size), zeros))
        first += size
    assert first == rows
    return segments
