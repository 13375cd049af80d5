"""Geometry of boxes in frames: conversion, and what resizing, flipping and cropping a frame does to its boxes.

Boxes are float tensors `(n, 4)`: left, top, right, bottom in pixels (xyxy). The right column and the bottom row belong
to the box, so a box is `right - left + 1` pixels wide, and one that fills a frame ends at `width - 1`. Sizes are
(height, width) in pixels. No function changes its argument, and none drops a box: select by `is_nonempty`.
"""

import torch
from torch import Tensor

Size = tuple[int, int]

EXTENSION = (0.1, 0.05)
"""What released models add to the width and the height of a person's box before they look at it."""
JITTER = (0.2, 0.1, 0.1, 0.05)
"""What released models were trained with: the most that an edge moves, see `jitter`."""


def from_xywh(boxes: Tensor) -> Tensor:
    """Convert left, top, width, height to xyxy.

    Args:
        boxes: `(n, 4)`.
    """
    corner, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([corner, corner + (size - 1).clamp(min=0)], dim=-1)


def to_xywh(boxes: Tensor) -> Tensor:
    """Convert xyxy to left, top, width, height.

    Args:
        boxes: `(n, 4)`.
    """
    corner, end = boxes[..., :2], boxes[..., 2:]
    return torch.cat([corner, end - corner + 1], dim=-1)


def from_fractions(boxes: Tensor, size: Size) -> Tensor:
    """Convert left, top, right, bottom as fractions of the frame, 0-1, to xyxy in pixels.

    Args:
        boxes: `(n, 4)`; `[0, 0, 1, 1]` fills the frame.
        size: of the frame.
    """
    return boxes * _wh_wh(size, boxes) - boxes.new_tensor([0, 0, 1, 1])


def to_fractions(boxes: Tensor, size: Size) -> Tensor:
    """Convert xyxy in pixels to fractions of the frame; values outside it are not clipped.

    Args:
        boxes: `(n, 4)`.
        size: of the frame.
    """
    return (boxes + boxes.new_tensor([0, 0, 1, 1])) / _wh_wh(size, boxes)


def area(boxes: Tensor) -> Tensor:
    """Return the area of each box in pixels, `(n,)`.

    Args:
        boxes: `(n, 4)`.
    """
    size = to_xywh(boxes)[..., 2:]
    return size[..., 0] * size[..., 1]


def is_nonempty(boxes: Tensor) -> Tensor:
    """Return which boxes end to the right of and below where they begin, bool, `(n,)`.

    Args:
        boxes: `(n, 4)`.
    """
    return (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])


def clip(boxes: Tensor, size: Size) -> Tensor:
    """Move the edges that lie outside the frame onto its border.

    Args:
        boxes: `(n, 4)`.
        size: of the frame.
    """
    return torch.minimum(boxes.clamp(min=0), _wh_wh(size, boxes) - 1)


def resize(boxes: Tensor, size: Size, new_size: Size) -> Tensor:
    """Follow a frame that is resized.

    Args:
        boxes: `(n, 4)`.
        size: of the frame before.
        new_size: after.
    """
    return boxes * (_wh_wh(new_size, boxes) / _wh_wh(size, boxes))


def flip(boxes: Tensor, width: int) -> Tensor:
    """Follow a frame that is mirrored left to right.

    Args:
        boxes: `(n, 4)`.
        width: of the frame.
    """
    left, top, right, bottom = boxes.unbind(-1)
    return torch.stack([width - 1 - right, top, width - 1 - left, bottom], dim=-1)


def crop(boxes: Tensor, corner: tuple[int, int], size: Size, *, as_published: bool = False) -> Tensor:
    """Follow a frame that is cropped. A box outside the crop becomes one of no width or height on its border.

    Args:
        boxes: `(n, 4)`.
        corner: first row and first column of the crop.
        size: of the crop.
        as_published: end boxes one pixel behind the last, as the released code does.
    """
    moved = boxes - boxes.new_tensor([corner[1], corner[0]] * 2)
    return torch.minimum(moved.clamp(min=0), _wh_wh(size, boxes)) if as_published else clip(moved, size)


def extend(boxes: Tensor, size: Size, extension: tuple[float, float] = EXTENSION) -> Tensor:
    """Enlarge boxes around their centers, within the frame.

    Args:
        boxes: `(n, 4)`.
        size: of the frame.
        extension: fractions of a box's width and height that it gains, half of it on each side.
    """
    gain = to_xywh(boxes)[..., 2:] * boxes.new_tensor(extension) / 2
    return clip(boxes + torch.cat([-gain, gain], dim=-1), size)


def jitter(
    boxes: Tensor,
    size: Size,
    generator: torch.Generator | None = None,
    amount: tuple[float, float, float, float] = JITTER,
) -> Tensor:
    """Move each edge of each box at random, within the frame; a box keeps at least one pixel each way.

    Draws one number for each box and edge: all left edges first, then top, right, bottom.

    Args:
        boxes: `(n, 4)`.
        size: of the frame.
        generator: of the draws; None for torch's default.
        amount: the most that the vertical edges move outwards and inwards, as fractions of the box's width, and that
            the horizontal ones do, as fractions of its height: `(x_out, x_in, y_out, y_in)`.
    """
    x_out, x_in, y_out, y_in = amount
    # (least, most) of left, top, right, bottom
    ranges = torch.tensor([[-x_out, x_in], [-y_out, y_in], [-x_in, x_out], [-y_in, y_out]], dtype=boxes.dtype)
    draws = torch.cat([torch.rand(len(boxes), 1, generator=generator) for _ in range(4)], dim=1).to(boxes.dtype)
    moves = (draws * (ranges[:, 1] - ranges[:, 0]) + ranges[:, 0]).to(boxes.device)
    moved = boxes + moves * to_xywh(boxes)[:, 2:].repeat(1, 2)
    last = _wh_wh(size, boxes)[:2] - 1
    corner = torch.minimum(moved[:, :2].clamp(min=0), (last - 1).clamp(min=0))
    end = torch.minimum(torch.maximum(moved[:, 2:], corner + 1), last)
    return torch.cat([corner, end], dim=1)


def _wh_wh(size: Size, like: Tensor) -> Tensor:
    """Return width, height, width, height."""
    return like.new_tensor([size[1], size[0]] * 2)
