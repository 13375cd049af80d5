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


def video_of(path: str, clips: int) -> Video:
    return Video(path, len(path), 1, f"content of {path}", clips)


def rows_of(path: str, numbers: list[int], clips: int) -> Segment:
    """Rows of one video whose embeddings tell its clips apart."""
    embeddings = normalize(torch.tensor([[1.0, number, len(path)] for number in numbers]), dim=-1)
    spans = torch.tensor([[number, number + 1.0] for number in numbers], dtype=torch.float64)
    return Segment([video_of(path, clips)], embeddings, spans, torch.zeros(len(numbers)).long(), torch.tensor(numbers))
