"""Masks on small tables, and properties that hold at every size."""

import random

import numpy as np
import pytest
import torch

from internvideo_hf.video.masking import MASKS

GRIDS = [(2, 2, 2), (8, 4, 4), (4, 6, 8), (8, 14, 14)]


def draw(name: str, grid: tuple[int, int, int], mask_ratio: float, seed: int = 0) -> np.ndarray:
    """Return a mask with time and place as axes: (t, h * w)."""
    mask = MASKS[name](grid, mask_ratio, generator=np.random.default_rng(seed))
    assert mask.dtype == bool and mask.shape == (np.prod(grid),)
    return mask.reshape(grid[0], -1)


# ---- tables ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "grid", "mask_ratio", "hidden_per_frame"),
    [
        ("tube", (8, 14, 14), 0.9, [176] * 8),
        ("tube", (2, 3, 3), 0.5, [4, 4]),
        ("tube", (2, 3, 3), 0.0, [0, 0]),
        ("progressive", (5, 10, 10), 0.75, [76, 81, 86, 91, 96]),
        ("progressive", (2, 2, 2), 0.5, [3, 4]),
        ("center_progressive", (4, 10, 10), 0.75, [96, 76, 76, 96]),
        ("center_progressive", (6, 10, 10), 0.75, [96, 86, 76, 76, 86, 96]),
        ("running_cell", (3, 4, 6), 0.25, [6, 6, 6]),
        ("running_cell", (3, 4, 6), 0.5, [12, 12, 12]),
        ("running_cell", (3, 4, 6), 0.9, [18, 18, 18]),
    ],
)
def test_hidden_tokens_of_each_frame(name, grid, mask_ratio, hidden_per_frame) -> None:
    for seed in range(5):
        assert draw(name, grid, mask_ratio, seed).sum(1).tolist() == hidden_per_frame


@pytest.mark.parametrize("name", ["random", "random_decode"])
@pytest.mark.parametrize(("grid", "mask_ratio", "hidden"), [((8, 4, 4), 0.9, 115), ((2, 3, 3), 0.5, 9)])
def test_hidden_tokens_anywhere(name, grid, mask_ratio, hidden) -> None:
    assert draw(name, grid, mask_ratio).sum() == hidden


def test_the_cell_runs() -> None:
    masks = {draw("running_cell", (5, 2, 4), 0.5, seed).astype(int).tobytes() for seed in range(50)}
    first = np.array(
        [
            [1, 1, 1, 1, 0, 0, 0, 0],
            [1, 0, 1, 0, 0, 1, 0, 1],
            [0, 0, 0, 0, 1, 1, 1, 1],
            [0, 1, 0, 1, 1, 0, 1, 0],
        ]
    )
    assert masks == {np.roll(first, -start, axis=0)[[0, 1, 2, 3, 0]].tobytes() for start in range(4)}


# ---- what always holds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", MASKS)
def test_every_draw_hides_the_same_number(name: str, grid: tuple[int, int, int]) -> None:
    for mask_ratio in (0.25, 0.5, 0.75, 0.9):
        assert len({draw(name, grid, mask_ratio, seed).sum() for seed in range(10)}) == 1


@pytest.mark.parametrize("grid", GRIDS)
def test_a_tube_is_the_same_in_every_frame(grid: tuple[int, int, int]) -> None:
    mask = draw("tube", grid, 0.75)
    assert (mask == mask[0]).all()


@pytest.mark.parametrize("name", ["progressive", "center_progressive"])
def test_visible_places_contain_each_other(name: str) -> None:
    mask = draw(name, (8, 14, 14), 0.75)
    ordered = mask[np.argsort(mask.sum(1), kind="stable")]
    assert (ordered[:-1] <= ordered[1:]).all()


@pytest.mark.parametrize("name", MASKS)
def test_every_place_is_hidden_equally_often(name: str) -> None:
    share = np.mean([draw(name, (4, 4, 4), 0.5, seed) for seed in range(2000)], axis=0)
    np.testing.assert_allclose(share, share.mean(1, keepdims=True) * np.ones(16), atol=0.06)


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize(
    "make",
    [np.random.default_rng, np.random.RandomState, random.Random, lambda seed: torch.Generator().manual_seed(seed)],
)
def test_every_generator_repeats_and_moves_on(name: str, make) -> None:
    def masks() -> list[list[bool]]:
        generator = make(3)
        return [MASKS[name]((8, 6, 6), 0.75, generator=generator).tolist() for _ in range(8)]

    assert masks() == masks()
    assert len({tuple(mask) for mask in masks()}) > 1


# ---- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "grid", "mask_ratio", "message"),
    [
        ("tube", (8, 14), 0.9, r"grid: got \(8, 14\), expected \(frames, rows, columns\)"),
        ("tube", (8, 0, 14), 0.9, "each at least 1"),
        ("tube", (8, 14.0, 14), 0.9, "each at least 1"),
        ("random", (8, 14, 14), 1.0, r"mask_ratio: got 1.0, expected a fraction in \[0, 1\)"),
        ("random_decode", (8, 14, 14), -0.1, "leave some tokens visible"),
        ("center_progressive", (5, 4, 4), 0.9, "got 5 frames of tokens, expected an even number"),
        ("running_cell", (8, 7, 8), 0.5, "got 7 x 8 tokens"),
        ("running_cell", (8, 8, 8), 0.2, "expected at least 0.25"),
    ],
)
def test_errors(name, grid, mask_ratio, message) -> None:
    with pytest.raises(ValueError, match=message):
        MASKS[name](grid, mask_ratio, generator=np.random.default_rng(0))


def test_unknown_generator() -> None:
    with pytest.raises(ValueError, match="generator: got int, expected .*default_rng"):
        MASKS["tube"]((8, 4, 4), 0.9, generator=0)
