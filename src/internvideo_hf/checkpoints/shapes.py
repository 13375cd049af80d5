"""Sizes of a model, read out of the shapes of a released file's tensors."""

import re
from collections.abc import Mapping
from typing import Any

import torch

from internvideo_hf.checkpoints.errors import CheckpointError

HEAD_DIM = 64  # of nearly every released model; the number of heads itself is in no shape


def shape_of(state_dict: Mapping[str, torch.Tensor], name: str, axes: int) -> tuple[int, ...]:
    """The shape of a tensor that tells a size.

    Raises:
        CheckpointError: if it is missing, or has another number of axes.
    """
    if name not in state_dict:
        raise CheckpointError(f"The file lacks {name}. Is the download whole?")
    shape = tuple(state_dict[name].shape)
    if len(shape) != axes:
        raise CheckpointError(f"{name} has the shape {shape}, expected {axes} axes.")
    return shape


def count_layers(state_dict: Mapping[str, torch.Tensor], *lists: str) -> int:
    """One more than the largest index into module lists, such as `visual.transformer.resblocks`.

    Any tensor of a layer counts, so that one with a missing tensor is still counted.

    Raises:
        CheckpointError: if an index is larger than the file has tensors, which would be a model without end.
    """
    pattern = re.compile(rf"({'|'.join(map(re.escape, lists))})\.(\d+)\.")
    layers = 0
    for name in state_dict:
        if match := pattern.match(name):
            layers = max(layers, 1 + int(match[2]))
            if layers > len(state_dict):
                raise CheckpointError(f"{name} counts more layers than the file holds tensors. Is it damaged?")
    return layers


def same_width(name: str, width: int, other: str, other_width: int) -> None:
    """Refuse two tensors that should be equally wide.

    One alone would tell a wrong size for all others to be measured by, if it is the damaged one.

    Raises:
        CheckpointError: naming both.
    """
    if width != other_width:
        raise CheckpointError(
            f"{name} is {width} wide and {other} {other_width}; the two are expected to agree. Is the file whole?"
        )


def fill_heads(sizes: dict[str, Any], key: str, width: int, released: Mapping[int, int] | None = None) -> None:
    """Set a number of heads, unless it is set: as a released model of that width, or 64 channels a head.

    Args:
        sizes: configuration values; changed in place.
        key: name of the number of heads.
        width: channels that the heads share.
        released: width -> heads of models that do not follow the habit.

    Raises:
        CheckpointError: if neither rule gives a number.
    """
    if key in sizes:
        return
    if width not in (released or {}) and width % HEAD_DIM:
        raise CheckpointError(
            f"The number of heads is in no shape, and a width of {width} is neither that of a released model nor a "
            f"multiple of their usual {HEAD_DIM} per head. Give {key} in a JSON file by --config."
        )
    sizes[key] = (released or {}).get(width, width // HEAD_DIM)
