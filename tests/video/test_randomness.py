"""Generators of every kind draw the numbers that the originals took from the stream of that kind."""

import random

import numpy as np
import pytest
import torch

from internvideo_hf.video.randomness import Randomness, draw_integer, draw_normals, draw_permutation

KINDS = {
    "numpy.Generator": np.random.default_rng,
    "RandomState": np.random.RandomState,
    "random.Random": random.Random,
    "torch.Generator": lambda seed: torch.Generator().manual_seed(seed),
}


@pytest.mark.parametrize("kind", KINDS)
def test_draws_have_their_range_and_repeat(kind):
    def draws(seed: int) -> list:
        generator = KINDS[kind](seed)
        integers = [draw_integer(generator, 3, 9) for _ in range(200)]
        permutation, normals = draw_permutation(generator, 50), draw_normals(generator, 2000)
        assert set(integers) == set(range(3, 9))
        assert permutation.dtype == np.int64 and sorted(permutation) == list(range(50))
        assert normals.dtype == np.float64 and abs(normals.mean()) < 0.2 and abs(normals.std() - 1) < 0.1
        return [integers, permutation.tolist(), normals.tolist()]

    assert draws(0) == draws(0) != draws(1)


def test_a_seed_replays_the_streams_of_the_originals():
    ours = Randomness.seeded(4)
    random.seed(4)
    np.random.seed(4)
    torch.manual_seed(4)
    assert draw_integer(ours.python, 0, 1000) == random.randrange(0, 1000)
    assert draw_integer(ours.numpy, 0, 1000) == np.random.randint(0, 1000)
    assert draw_permutation(ours.numpy, 9).tolist() == np.random.permutation(9).tolist()
    assert torch.equal(torch.randn(3, generator=ours.torch), torch.randn(3))


@pytest.mark.parametrize("draw", [lambda g: draw_integer(g, 0, 2), lambda g: draw_permutation(g, 2)])
def test_another_kind_is_refused(draw):
    with pytest.raises(ValueError, match="generator: got int, expected numpy.random.Generator"):
        draw(7)
