"""Sources of random numbers: one explicit source per call, or the three that the released augmentation reads.

The originals draw from the global streams of `random`, `numpy.random` and torch. A `random.Random`, `RandomState` or
`torch.Generator` of the same seed replays them, because every function here takes the numbers that they took. Each
raises ValueError for a generator of another kind.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

Generator = np.random.Generator | np.random.RandomState | random.Random | torch.Generator


class _Draws(NamedTuple):
    """Draws of one kind of generator: an integer of [low, high), a permutation of n, n standard normal values."""

    integer: Callable[..., Any]
    permutation: Callable[..., Any]
    normals: Callable[..., Any]


_DRAWS = {
    np.random.Generator: _Draws(
        lambda generator, low, high: generator.integers(low, high),
        lambda generator, n: generator.permutation(n),
        lambda generator, n: generator.standard_normal(n),
    ),
    np.random.RandomState: _Draws(
        lambda generator, low, high: generator.randint(low, high),
        lambda generator, n: generator.permutation(n),
        lambda generator, n: generator.standard_normal(n),
    ),
    random.Random: _Draws(
        lambda generator, low, high: generator.randrange(low, high),
        lambda generator, n: generator.sample(range(n), n),
        lambda generator, n: [generator.gauss(0.0, 1.0) for _ in range(n)],
    ),
    torch.Generator: _Draws(
        lambda generator, low, high: torch.randint(low, high, (), generator=generator, device=generator.device),
        lambda generator, n: torch.randperm(n, generator=generator, device=generator.device).tolist(),
        lambda generator, n: torch.randn(
            n, generator=generator, device=generator.device, dtype=torch.float64
        ).tolist(),
    ),
}


def _draws(generator: Generator) -> _Draws:
    for kind, draws in _DRAWS.items():
        if isinstance(generator, kind):
            return draws
    raise ValueError(
        f"generator: got {type(generator).__name__}, expected numpy.random.Generator, numpy.random.RandomState, "
        "random.Random or torch.Generator; make one with numpy.random.default_rng(seed)"
    )


def draw_integer(generator: Generator, low: int, high: int) -> int:
    """Draw one integer, uniform over [low, high)."""
    return int(_draws(generator).integer(generator, low, high))


def draw_permutation(generator: Generator, n: int) -> np.ndarray:
    """Draw an order of 0, ..., n - 1: int64, shape (n,)."""
    return np.asarray(_draws(generator).permutation(generator, n), dtype=np.int64)


def draw_normals(generator: Generator, n: int) -> np.ndarray:
    """Draw n values of mean 0 and variance 1: float64, shape (n,)."""
    return np.asarray(_draws(generator).normals(generator, n), dtype=np.float64)


@dataclass(frozen=True)
class Randomness:
    """The three streams that VideoMAE's augmentation draws from; each function lists its draws.

    Use one object for each worker of a data loader, or the workers repeat each other.

    Args:
        python: stands for `random`.
        numpy: stands for `numpy.random`.
        torch: stands for torch's default generator; on the CPU, as the frames.
    """

    python: random.Random
    numpy: np.random.RandomState
    torch: torch.Generator

    @classmethod
    def seeded(cls, seed: int) -> "Randomness":
        """Make the three streams as the originals have them after seeding each with one number, in [0, 2**32)."""
        return cls(random.Random(seed), np.random.RandomState(seed), torch.Generator().manual_seed(seed))
