"""Windows, search among rows, and calibrated scores, on numbers alone."""

import pytest
import torch
from torch.nn.functional import normalize

from internvideo_hf.search import nearest
from internvideo_hf.search.calibration import calibrate, null_captions
from internvideo_hf.search.clips import Cut, windows
from internvideo_hf.search.store import Part, Video, write


def make_parts(rows: int, dim: int, sizes: list[int], dtype=torch.float32) -> list[Part]:
    embeddings = normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(0)), dim=-1).to(dtype)
    parts, first = [], 0
    for number, size in enumerate(sizes):
        videos = [Video(f"/{number}/{i}.mp4", 1, 1, "", 1) for i in range(size)]
        zeros = torch.zeros(size, dtype=torch.int64)
        block = embeddings[first : first + size]
        parts.append(Part(videos, block, torch.zeros(size, 2, dtype=torch.float64), torch.arange(size), zeros))
        first += size
    assert first == rows
    return parts


@pytest.mark.parametrize(
    ("duration", "window", "stride", "expected"),
    [
        (10, None, None, [(0, 10)]),
        (10, 4, None, [(0, 4), (4, 8), (8, 10)]),
        (9.5, 4, None, [(0, 4), (4, 9.5)]),  # what is left is short: the last window reaches over it
        (8, 4, None, [(0, 4), (4, 8)]),
        (3, 4, None, [(0, 3)]),
        (10, 4, 2, [(0, 4), (2, 6), (4, 8), (6, 10)]),
        (11, 4, 2, [(0, 4), (2, 6), (4, 8), (6, 10), (8, 11)]),
        (4.5, 4, 1, [(0, 4), (1, 4.5)]),
    ],
)
def test_windows_cover_the_video(duration, window, stride, expected):
    assert windows(duration, Cut(window, stride)) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_mapped_search_equals_a_plain_product(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(nearest, "ROWS_AT_ONCE", 100)
    parts = make_parts(1000, 32, [350, 1, 649], dtype)
    plain = torch.cat([part.embeddings for part in parts]).float()
    write(tmp_path, {}, parts)
    assert all(part.file is not None for part in parts)
    queries = normalize(torch.randn(7, 32), dim=-1)
    similar, rows = nearest.exact(parts, queries, 20)
    expected = (queries @ plain.T).sort(dim=1, descending=True, stable=True)
    torch.testing.assert_close(similar, expected[0][:, :20], atol=1e-6, rtol=0)
    assert torch.equal(rows, expected[1][:, :20])
    assert torch.equal(nearest.gather(parts, [999, 0, 350]), plain[[999, 0, 350]])
    assert nearest.exact(parts, queries, 5000)[0].shape == (7, 1000)


def test_of_equals_the_earlier_row_comes_first(monkeypatch):
    monkeypatch.setattr(nearest, "ROWS_AT_ONCE", 3)
    parts = make_parts(10, 4, [10])
    parts[0].embeddings = parts[0].embeddings[:1].expand(10, 4).clone()
    assert nearest.exact(parts, parts[0].embeddings[:1], 5)[1].tolist() == [[0, 1, 2, 3, 4]]


def test_approximate_search_proposes_what_the_exact_one_finds():
    pytest.importorskip("faiss")
    # Rows in clumps, as clips are.
    parts = make_parts(4000, 32, [1500, 2500])
    centres = normalize(torch.randn(40, 32), dim=-1)
    for part in parts:
        noise = 0.3 * part.embeddings
        part.embeddings = normalize(centres[torch.randint(40, (len(part),))] + noise, dim=-1)
    queries = torch.cat([part.embeddings[:50] for part in parts])
    approximate = nearest.Approximate.build(parts)
    similar, rows = approximate.search(parts, queries, 10)
    expected, wanted = nearest.exact(parts, queries, 10)
    recall = sum(len(set(a) & set(b)) for a, b in zip(rows.tolist(), wanted.tolist(), strict=True)) / wanted.numel()
    assert recall > 0.9
    same = rows == wanted
    torch.testing.assert_close(similar[same], expected[same])


def test_approximate_search_without_faiss_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(ImportError, match=r"internvideo-hf\[search\]"):
        nearest.Approximate.build(make_parts(2000, 4, [2000]))


def test_z_and_share_are_those_of_the_clip():
    clip = torch.tensor([[1.0, 0.0]])
    cosines = torch.tensor([0.1, 0.2, 0.3, 0.4])
    null = torch.stack([cosines, (1 - cosines**2).sqrt()], dim=1)
    scores = calibrate(torch.tensor([0.25]), clip, null, 1)
    assert scores.z.item() == pytest.approx(0, abs=1e-6)
    assert scores.share.item() == 0.5 and scores.chance.item() == pytest.approx(0.5)
    far = calibrate(torch.tensor([0.9]), clip, null, 1)
    assert far.share.item() == 1 and far.z.item() == pytest.approx(0.65 / cosines.std().item(), rel=1e-5)
    assert 0 < far.chance < 1e-6
    assert calibrate(torch.tensor([0.9]), clip, null, 1000).chance == pytest.approx(1000 * far.chance)


def test_a_better_query_scores_better_in_every_measure():
    generator = torch.Generator().manual_seed(1)
    clips = normalize(torch.randn(50, 16, generator=generator), dim=-1)
    null = normalize(torch.randn(200, 16, generator=generator), dim=-1)
    low, high = (calibrate(torch.full((50,), cosine), clips, null, 50) for cosine in (0.2, 0.4))
    assert (high.z > low.z).all() and (high.share >= low.share).all() and (high.chance < low.chance).all()


def test_strange_queries_match_about_as_seldom_as_is_said():
    generator = torch.Generator().manual_seed(2)
    draw = lambda rows: normalize(torch.randn(rows, 64, generator=generator), dim=-1)  # noqa: E731
    clips, null, strange = draw(500), draw(200), draw(400)
    best, at = (strange @ clips.T).max(dim=1)
    chance = torch.stack([calibrate(best[i : i + 1], clips[at[i : i + 1]], null, 500).chance[0] for i in range(400)])
    # As often as 0.05 says, or a little more or less: the tails are not quite normal.
    assert (chance <= 0.05).float().mean() < 0.1


def test_null_captions_are_many_and_differ():
    captions = null_captions()
    assert len(captions) == len(set(captions)) >= 200
    assert all(caption == caption.strip() and caption for caption in captions)
