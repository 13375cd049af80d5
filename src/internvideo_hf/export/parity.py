"""Comparison of exported functions with torch."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from internvideo_hf.export.functions import Traceable
from internvideo_hf.models.common.exported.graphs import Graph
from internvideo_hf.models.common.exported.manifest import Agreement


@dataclass(frozen=True)
class Bound:
    """What an output must keep of torch's.

    Args:
        cosine: the least one of any clip or text.
        difference: the largest one, as a fraction of the largest value; None for any.
        advice: what to do about a larger one.
    """

    cosine: float
    difference: float | None = None
    advice: str = "Choose another --dtype or --format."

    def __str__(self) -> str:
        largest = (
            ""
            if self.difference is None
            else f", and a difference of at most {self.difference:g} of the largest value"
        )
        return f"a cosine of at least {self.cosine:g}{largest}"


BOUNDS = {
    "float32": Bound(0.99999, 1e-4),
    "float16": Bound(0.9999),
    "bfloat16": Bound(0.999),
    "int8": Bound(0.99, advice="Give more videos of calibration (100 are usual), or choose another --format."),
}
"""Number type of the weights -> bound of every output."""


class ParityError(ValueError):
    """An exported function gives other answers than torch."""


def compare(function: Traceable, graph: Graph) -> dict[str, Agreement]:
    """Compare an exported function with torch on real inputs, together, one alone and cut short, by output.

    Args:
        function: of the model in torch.
        graph: the exported one.
    """
    first = {name: tensor[:1] for name, tensor in function.inputs.items()}
    found: dict[str, Agreement] = {}
    for inputs, expected in (*function.examples, (first, function.reference(first))):
        got = graph(inputs)
        for output, tensor in expected.items():
            try:
                measured = agreement(tensor, got[output])
            except ParityError as error:
                raise ParityError(
                    f"The exported function {function.name!r} differs from torch: in its {output}, {error}. Nothing "
                    "was written. Choose another --dtype or --format."
                ) from error
            found[output] = worse(found[output], measured) if output in found else measured
    return found


def agreement(expected: torch.Tensor, got: torch.Tensor) -> Agreement:
    """Measure how near one tensor comes to another, row by row.

    Args:
        expected: `(rows, ...)`.
        got: the same shape.

    Raises:
        ParityError: if the shapes differ, or a number is not finite.
    """
    if expected.shape != got.shape:
        raise ParityError(f"the exported one has the shape {tuple(got.shape)}, torch's {tuple(expected.shape)}")
    expected, got = (tensor.double().reshape(len(tensor), -1) for tensor in (expected, got))
    if not got.isfinite().all():
        raise ParityError("a number is not finite")
    lengths = expected.norm(dim=1) * got.norm(dim=1)
    products = (expected * got).sum(dim=1)
    # Of one number a row, such as an uncertainty, the cosine tells nothing; of zeros there is none.
    cosines = torch.where(lengths > 0, products / lengths.clamp(min=1e-300), (expected == got).all(dim=1).double())
    return Agreement((expected - got).abs().max().item(), expected.abs().max().item(), cosines.min().item())


def worse(one: Agreement, other: Agreement) -> Agreement:
    """Return the worse of each figure of two comparisons.

    Args:
        one: of some inputs.
        other: of others.
    """
    return Agreement(max(one.difference, other.difference), max(one.scale, other.scale), min(one.cosine, other.cosine))


def check(name: str, measured: Mapping[str, Agreement], bound: Bound) -> None:
    """Refuse a function that differs from torch by more than a bound.

    Args:
        name: of the function.
        measured: by output.
        bound: of every output.

    Raises:
        ParityError: naming the output.
    """
    for output, found in measured.items():
        is_far = bound.difference is not None and found.difference > bound.difference * found.scale
        if is_far or found.cosine < bound.cosine:
            raise ParityError(
                f"The exported function {name!r} differs from torch: its {output} has a cosine of {found.cosine:.6f} "
                f"and a largest difference of {found.difference:.2g} where the largest value is {found.scale:.2g}, "
                f"expected {bound}. Nothing was written. {bound.advice}"
            )
