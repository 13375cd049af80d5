"""An 8-bit copy of rows, which finds the nearest of them at a quarter of the memory traffic, and loses none.

Scanning all rows takes as long as memory takes to deliver them. So the 8-bit copy is scanned first. It gives an upper
bound of every cosine, and only rows whose bound reaches the answer are compared in float32.

Why no row of the answer is lost. A row is x = m + s c + e: the center m of its segment, its step s times its codes c,
and a remainder e, of which the norm is stored. A query is q = t d + t' d' + f likewise. So, by Cauchy-Schwarz,

    q.x  =  q.m + s (t d.c + t' d'.c) + s f.c + q.e  <=  q.m + s (t d.c + t' d'.c) + |f| reach + |q| |e|

where `reach` is the largest s |c| of the segment, and d.c and d'.c are sums of integers, free of rounding. Rounding: a
product in float32, in any order of summation, is within n u |q| |x| (1 + n u) of q.x, for n dimensions and u = 2^-24.
This holds for the float32 cosine of the row, and for q.m; the other operations of the bound, less than a dozen, add a
few u. `rounding` is 4 (n + 8) u |q|: times |x|, it is more than all of them together.

Let T be the smallest float32 cosine of any `count` rows. A row whose bound is below T has a float32 cosine below those
of `count` other rows, so it is not in the answer. All others are compared in float32. The choice of the `count` rows
decides only how many others these are.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch

LEVELS = 127  # codes are -127 to 127
_CHUNK_ROWS = 32_768  # whose sums of integers, 256 kB, are still in the cache when they become estimates
_QUANTIZED_ROWS = (
    256  # at once, since larger tensors of float64 would cost more time for their memory than for the sums
)
_ROUND_UP = 1 + 2**-20  # of a norm in float64, before it becomes float32


@dataclass(frozen=True)
class Codes:
    """8-bit codes of some rows, and what bounds their difference from the rows.

    Attributes:
        codes: int8 `(rows, dim)`, -127 to 127.
        step: size of one level of a row's codes, float32 `(rows,)`.
        error: norm of what the codes leave out of a row, rounded up, float32 `(rows,)`; infinite for a row that holds
            a value that is not finite.
        center: mean of the rows, float32 `(dim,)`.
        reach: the largest norm of a row's codes times its step, rounded up, float32 `(1,)`.
    """

    codes: torch.Tensor
    step: torch.Tensor
    error: torch.Tensor
    center: torch.Tensor
    reach: torch.Tensor

    @classmethod
    def of_rows(cls, embeddings: torch.Tensor) -> "Codes":
        """Quantize rows.

        Args:
            embeddings: of any floating-point type, `(rows, dim)`.
        """
        center = embeddings.float().mean(dim=0).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        parts = [_quantize(chunk.double() - center.double()) for chunk in torch.split(embeddings, _QUANTIZED_ROWS)]
        codes, step, error, norm = map(torch.cat, zip(*parts, strict=True))
        return cls(codes, step, error, center, norm.max()[None])

    def check(self, embeddings: torch.Tensor) -> None:
        """Refuse codes that are not those of some rows, by their shapes.

        Args:
            embeddings: the rows, `(rows, dim)`.

        Raises:
            ValueError: if a shape or a number type is wrong.
        """
        rows, dim = embeddings.shape
        shapes = {"codes": (rows, dim), "step": (rows,), "error": (rows,), "center": (dim,), "reach": (1,)}
        for name, shape in shapes.items():
            tensor = getattr(self, name)
            if tensor.shape != shape or tensor.dtype != (torch.int8 if name == "codes" else torch.float32):
                raise ValueError(f"the 8-bit copy of its rows has {name} of {tensor.dtype} {tuple(tensor.shape)}")

    def bounds(self, query: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Estimate the cosines of all rows, and bound them from above.

        Args:
            query: float32 `(dim,)`.

        Returns:
            Estimates, and bounds that no float32 cosine exceeds, both float32 `(rows,)`.
        """
        # Two numbers of 8 bits for each of the query: one value that is far larger than the others costs no accuracy.
        coarse, coarse_step, rest = _in_levels(query.double())
        fine, fine_step, rest = _in_levels(rest)
        levels = torch.stack([coarse, fine], dim=1)  # one product of both takes as long as one of them
        norm, reach, slack = query.double().norm().item(), self.reach.item(), rounding(query)
        estimates = torch.empty(len(self.codes))
        for start in range(0, len(self.codes), _CHUNK_ROWS):
            sums = torch._int_mm(self.codes[start : start + _CHUNK_ROWS], levels)
            found = estimates[start : start + len(sums)]
            torch.mul(sums[:, 0], coarse_step, out=found)
            found.add_(sums[:, 1], alpha=fine_step)
        estimates.mul_(self.step).add_(self.center @ query)
        constant = rest.norm().item() * reach + slack * (self.center.norm().item() + reach)
        return estimates, (self.error * (norm + slack)).add_(estimates).add_(constant)


def _in_levels(values: torch.Tensor) -> tuple[torch.Tensor, float, torch.Tensor]:
    """Return values of float64 as int8, the size of a level, and what is left out."""
    step = max(values.abs().max().item() / LEVELS, 1e-300)
    levels = (values / step).round()
    return levels.to(torch.int8), step, values - step * levels


def rounding(query: torch.Tensor) -> float:
    """Return more than what float32 may change a cosine with a unit vector by, in any order of summation.

    Args:
        query: float32 `(dim,)`.
    """
    return 4 * (len(query) + 8) * 2.0**-24 * float(query.double().norm())


def _quantize(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return codes, steps, errors and norms of rows in float64."""
    finite = rows.isfinite().all(dim=1)
    rows = rows.where(finite[:, None], 0)
    step = (rows.abs().amax(dim=1) / LEVELS).float().clamp_min(torch.finfo(torch.float32).tiny)
    levels = (rows / step[:, None].double()).round().clamp(-LEVELS, LEVELS)
    coded = levels * step[:, None].double()
    error = ((rows - coded).norm(dim=1) * _ROUND_UP).float().where(finite, torch.inf)
    return levels.to(torch.int8), step, error, (coded.norm(dim=1) * _ROUND_UP).float()


@cache
def integer_product_pays(dim: int) -> bool:
    """Return whether torch multiplies 8-bit integers on this CPU without error, and faster than float32.

    Some builds of torch have a plain loop only, so it is tried.

    Args:
        dim: size of an embedding.
    """
    if not integer_product_is_exact(dim):
        return False
    codes = torch.ones(2048, dim, dtype=torch.int8)
    rows, query = codes.float(), torch.ones(dim, 2, dtype=torch.int8)
    return _seconds(lambda: torch._int_mm(codes, query)) < _seconds(lambda: rows @ rows[0])


@cache
def integer_product_is_exact(dim: int) -> bool:
    """Return whether torch multiplies 8-bit integers on this CPU without error.

    Processors without instructions for it add pairs of products in 16 bits, which cut off large sums.

    Args:
        dim: size of an embedding.
    """
    codes = torch.tensor([[LEVELS], [-LEVELS]], dtype=torch.int8).expand(2, dim).repeat(1024, 1)
    query = codes[:2].T.contiguous()
    try:
        found = torch._int_mm(codes, query)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return torch.equal(found, codes.int() @ query.int())


def _seconds(call: Callable[[], object]) -> float:
    """Return the shortest time of some calls."""
    times = []
    for _ in range(4):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)
