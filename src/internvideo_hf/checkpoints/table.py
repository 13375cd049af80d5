"""Key tables: the conversion of released tensors to a model's, as data.

A table is a literal dict: released name -> action. `{}` in a released name matches a number and `*` anything; the new
name repeats the matches, in order, at its own `{}`. Tables are exact: a released name without a line, a model tensor
without a source, two sources for one tensor and a wrong shape are all errors.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from internvideo_hf.checkpoints.errors import CheckpointError
from internvideo_hf.utils.names import listed


@dataclass(frozen=True)
class Become:
    """The new names of a released tensor, and the function that computes the new tensors from it."""

    names: tuple[str, ...]
    convert: Callable[[torch.Tensor], Sequence[torch.Tensor]]


@dataclass(frozen=True)
class LeaveOut:
    """A released tensor that the model does not use, and why."""

    reason: str


Table = dict[str, Become | LeaveOut]


def rename(name: str) -> Become:
    """Rename a tensor."""
    return Become((name,), lambda tensor: (tensor,))


def pairs(names: Mapping[str, str]) -> Table:
    """Return lines for modules with a weight and a bias.

    Args:
        names: released name -> ours.
    """
    return {
        f"{released}.{kind}": rename(f"{ours}.{kind}")
        for released, ours in names.items()
        for kind in ("weight", "bias")
    }


def split_rows(*names: str) -> Become:
    """Split a tensor into equal parts along the first axis, such as a fused projection of query, key and value."""
    return Become(names, lambda tensor: tensor.tensor_split(len(names)))


def split_sizes(sizes: Sequence[int], *names: str) -> Become:
    """Split a tensor into parts of given lengths along the first axis."""
    return Become(names, lambda tensor: torch.split(tensor, list(sizes)))


def transpose(name: str) -> Become:
    """Transpose a matrix `(in, out)` to the weight `(out, in)` of a linear layer."""
    return Become((name,), lambda tensor: (tensor.t(),))


def insert_time(name: str) -> Become:
    """Expand a 2-D patch kernel `(out, in, h, w)` to a 3-D one of one frame."""
    return Become((name,), lambda tensor: (tensor.unsqueeze(2),))


def drop_kernel(name: str) -> Become:
    """Turn the kernel `(out, in, 1)` of a convolution over one position into the weight of a linear layer."""
    return Become((name,), lambda tensor: (tensor.squeeze(2),))


def flatten(name: str) -> Become:
    """Flatten a vector that is stored with axes of length 1."""
    return Become((name,), lambda tensor: (tensor.flatten(),))


def convert_state_dict(
    state_dict: Mapping[str, torch.Tensor], table: Table
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Apply a table to the tensors of a released file.

    Returns:
        The new tensors by name; released name -> reason, of those left out.

    Raises:
        CheckpointError: if the table lacks tensors, two become one tensor, or a tensor has too few axes for its line.
    """
    patterns = {_compile(released): action for released, action in table.items()}
    converted: dict[str, torch.Tensor] = {}
    left_out: dict[str, str] = {}
    unknown: list[str] = []
    doubled: list[str] = []
    for name, tensor in state_dict.items():
        line = next(
            ((match, action) for pattern, action in patterns.items() if (match := pattern.fullmatch(name))), None
        )
        if line is None:
            unknown.append(name)
            continue
        match, action = line
        if isinstance(action, LeaveOut):
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
            f"The file holds {len(unknown)} tensors that are unknown in this model: {listed(unknown)}."
        )
    if doubled:
        raise CheckpointError(f"The file holds tensors of the model twice: {listed(doubled)}.")
    return converted, left_out


DOWNLOAD = "Is the download complete? Pass sizes that no shape contains by --config."


def check_complete(
    model: nn.Module, converted: Mapping[str, torch.Tensor], table: Table, advice: str = DOWNLOAD
) -> None:
    """Check that converted tensors fill a model exactly.

    Args:
        model: may be on the meta device; only names and shapes are read.
        converted: tensors by the model's names.
        table: that converted them; errors give the released names.
        advice: end of the error message.

    Raises:
        CheckpointError: if tensors are missing or surplus, or have another shape or kind of number; the message names
            them all.
    """
    expected = model.state_dict()
    problems = []
    if missing := [released_name(name, table) for name in expected if name not in converted]:
        problems.append(f"missing: {listed(list(dict.fromkeys(missing)))}")
    if surplus := [released_name(name, table) for name in converted if name not in expected]:
        problems.append(f"not in a model of this size: {listed(list(dict.fromkeys(surplus)))}")
    shapes = [
        f"{released_name(name, table)} gives {tuple(converted[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in converted and converted[name].shape != tensor.shape
    ]
    if shapes:
        problems.append(f"of another shape: {listed(shapes)}")
    kinds = [
        f"{released_name(name, table)} holds {converted[name].dtype}"
        for name, tensor in expected.items()
        if name in converted and converted[name].is_floating_point() != tensor.is_floating_point()
    ]
    if kinds:
        problems.append(f"of another kind of number: {listed(list(dict.fromkeys(kinds)))}")
    if problems:
        raise CheckpointError(f"The tensors do not fit {type(model).__name__}; {'; '.join(problems)}. {advice}")


def released_name(name: str, table: Table) -> str:
    """Return the released name of a tensor of ours; our name if no line of the table makes it."""
    for released, action in table.items():
        for target in getattr(action, "names", ()):
            if match := _compile(target).fullmatch(name):
                return released.format(*match.groups())
    return name


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\{\}", r"(\d+)").replace(r"\*", "(.+)"))
