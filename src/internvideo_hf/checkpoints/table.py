"""Key tables: how the tensors of a released file become the tensors of a model, with nothing left unsaid.

A table is a literal dict from a released name to what becomes of it. `{}` in a name stands for a number and `*` for
anything; each new name takes these over, in order, at its own `{}`. Tables are exact: a name that no line covers, a
tensor that nothing fills, two lines for one tensor and a shape that does not fit are all errors.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from internvideo_hf.checkpoints.errors import CheckpointError


@dataclass(frozen=True)
class Become:
    """The new names of one released tensor, and how the new tensors come out of it."""

    names: tuple[str, ...]
    convert: Callable[[torch.Tensor], Sequence[torch.Tensor]]


@dataclass(frozen=True)
class LeaveOut:
    """A released tensor that the model has no place for, and why."""

    reason: str


Table = Mapping[str, Become | LeaveOut]


def rename(name: str) -> Become:
    """The same tensor under another name."""
    return Become((name,), lambda tensor: (tensor,))


def pairs(names: Mapping[str, str]) -> Table:
    """Lines for modules that hold a weight and a bias: released name -> ours."""
    return {
        f"{released}.{kind}": rename(f"{ours}.{kind}")
        for released, ours in names.items()
        for kind in ("weight", "bias")
    }


def split_rows(*names: str) -> Become:
    """Equal parts along the first axis, such as the query, key and value of a fused projection."""
    return Become(names, lambda tensor: tensor.tensor_split(len(names)))


def transpose(name: str) -> Become:
    """A matrix `(in, out)` as the weight `(out, in)` of a linear layer."""
    return Become((name,), lambda tensor: (tensor.t(),))


def insert_time(name: str) -> Become:
    """A 2-D patch kernel `(out, in, h, w)` as a 3-D one that is one frame deep."""
    return Become((name,), lambda tensor: (tensor.unsqueeze(2),))


def flatten(name: str) -> Become:
    """A vector stored with axes of length 1 around it."""
    return Become((name,), lambda tensor: (tensor.flatten(),))


def convert_state_dict(
    state_dict: Mapping[str, torch.Tensor], table: Table
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Apply a table to the tensors of a released file.

    Returns:
        The new tensors by name, and the released names that were left out with the reason for each.

    Raises:
        CheckpointError: naming all tensors that the table does not know, or that would become one tensor twice, or
            the first that has too few axes for its line.
    """
    patterns = {_compile(released): action for released, action in table.items()}
    converted, left_out, unknown, doubled = {}, {}, [], []
    for name, tensor in state_dict.items():
        match, action = next(
            ((match, action) for pattern, action in patterns.items() if (match := pattern.fullmatch(name))),
            (None, None),
        )
        if action is None:
            unknown.append(name)
        elif isinstance(action, LeaveOut):
            left_out[name] = action.reason
        else:
            targets = [target.format(*match.groups()) for target in action.names]
            doubled += [target for target in targets if target in converted]
            try:
                converted.update(zip(targets, action.convert(tensor), strict=True))
            except (RuntimeError, IndexError) as error:
                raise CheckpointError(
                    f"{name} has the shape {tuple(tensor.shape)}, which cannot become {', '.join(targets)}."
                ) from error
    if unknown:
        raise CheckpointError(
            f"The file holds {len(unknown)} tensors that this model does not know: {_some(unknown)}."
        )
    if doubled:
        raise CheckpointError(f"The file holds these tensors of the model twice: {_some(doubled)}.")
    return converted, left_out


DOWNLOAD = "Is the download whole? Sizes that no shape tells go into --config."


def check_complete(
    model: nn.Module, converted: Mapping[str, torch.Tensor], table: Table, advice: str = DOWNLOAD
) -> None:
    """Prove that converted tensors fill a model exactly.

    Args:
        model: may live on the meta device; only names and shapes are read.
        advice: what the user may do about a misfit.

    Raises:
        CheckpointError: naming all tensors that are missing (as the released file calls them), too many, of
            another shape, or of whole numbers where the model computes.
    """
    expected = model.state_dict()
    problems = []
    if missing := [released_name(name, table) for name in expected if name not in converted]:
        problems.append(f"missing: {_some(list(dict.fromkeys(missing)))}")
    if surplus := [released_name(name, table) for name in converted if name not in expected]:
        problems.append(f"not in a model of this size: {_some(list(dict.fromkeys(surplus)))}")
    shapes = [
        f"{released_name(name, table)} gives {tuple(converted[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in converted and converted[name].shape != tensor.shape
    ]
    if shapes:
        problems.append(f"of another shape: {_some(shapes)}")
    kinds = [
        f"{released_name(name, table)} holds {converted[name].dtype}"
        for name, tensor in expected.items()
        if name in converted and converted[name].is_floating_point() != tensor.is_floating_point()
    ]
    if kinds:
        problems.append(f"of another kind of number: {_some(list(dict.fromkeys(kinds)))}")
    if problems:
        raise CheckpointError(f"The tensors do not fit {type(model).__name__}; {'; '.join(problems)}. {advice}")


def released_name(name: str, table: Table) -> str:
    """The name that a released file gives to a tensor of ours (ours, where no line of the table makes it)."""
    for released, action in table.items():
        for target in getattr(action, "names", ()):
            if match := _compile(target).fullmatch(name):
                return released.format(*match.groups())
    return name


def _compile(pattern: str) -> re.Pattern:
    return re.compile(re.escape(pattern).replace(r"\{\}", r"(\d+)").replace(r"\*", "(.+)"))


def _some(items: Sequence[str], most: int = 8) -> str:
    rest = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + rest
