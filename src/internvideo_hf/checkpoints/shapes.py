"""Read the sizes of a model from the shapes of a released file's tensors."""

import re
from collections.abc import Mapping
from typing import Any

import torch

from internvideo_hf.checkpoints.errors import CheckpointError

HEAD_DIM = 64  # of nearly every released model; no shape contains the number of heads


def shape_of(state_dict: Mapping[str, torch.Tensor], name: str, axes: int) -> tuple[int, ...]:
    """Return the shape of a tensor.

    Args:
        state_dict: tensors of a released file.
        name: of the tensor.
        axes: the expected number of axes.

    Raises:
        CheckpointError: if it is missing, or has another number of axes.
    """
    if name not in state_dict:
        raise CheckpointError(f"The file lacks {name}. Is the download complete?")
    shape = tuple(state_dict[name].shape)
    if len(shape) != axes:
        raise CheckpointError(f"{name} has the shape {shape}, expected {axes} axes.")
    return shape


def count_layers(state_dict: Mapping[str, torch.Tensor], *lists: str) -> int:
    """Return one more than the largest index into module lists.

    Any tensor of a layer counts, so that a layer with a missing tensor is counted too.

    Args:
        state_dict: tensors of a released file.
        lists: names of module lists, such as "visual.transformer.resblocks".

    Raises:
        CheckpointError: if an index exceeds the number of tensors: the file is damaged.
    """
    pattern = re.compile(rf"({'|'.join(map(re.escape, lists))})\.(\d+)\.")
    layers = 0
    for name in state_dict:
        if match := pattern.match(name):
            layers = max(layers, 1 + int(match[2]))
            if layers > len(state_dict):
                raise CheckpointError(f"{name} implies more layers than the file holds tensors. Is the file damaged?")
    return layers


def same_width(name: str, width: int, other: str, other_width: int) -> None:
    """Refuse two tensors that differ in width: sizes read from a damaged tensor would make all others look wrong.

    Raises:
        CheckpointError: if they differ; the message names both.
    """
    if width != other_width:
        raise CheckpointError(
            f"{name} is {width} wide and {other} {other_width}, expected the same. Is the file damaged?"
        )


def fill_heads(sizes: dict[str, Any], key: str, width: int, released: Mapping[int, int] | None = None) -> None:
    """Set the number of heads if it is missing: that of the released model of the width, or one per 64 channels.

    Args:
        sizes: configuration values; changed in place.
        key: name of the number of heads.
        width: channels of all heads.
        released: width -> heads of released models.

    Raises:
        CheckpointError: if neither rule gives a number.
    """
    if key in sizes:
        return
    if width not in (released or {}) and width % HEAD_DIM:
        raise CheckpointError(
            f"No shape contains the number of heads, and a width of {width} is neither that of a released model nor a "
            f"multiple of the usual {HEAD_DIM} per head. Give {key} in a JSON file by --config."
        )
    sizes[key] = (released or {}).get(width, width // HEAD_DIM)
