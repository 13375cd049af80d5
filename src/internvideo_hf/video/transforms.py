"""Pixel rules of every released evaluation: resizing and cropping frames, chosen by names in a config.

Frames are tensors of shape (frames, channels, height, width). A checkpoint gives its published score only with its own
rule: the rules differ in antialiasing, in arithmetic (float or fixed point), in the rounding of the long side and of a
crop's offset. `RESIZE_METHODS`, `LONG_SIDE_ROUNDINGS` and `OFFSET_ROUNDINGS` list them.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torchvision.transforms.v2.functional as tv
from einops import rearrange
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from internvideo_hf.utils.names import lookup

Ints = NDArray[np.integer]
_CV2_COEFFICIENT_BITS = 11

CHANNEL_ORDERS = {"rgb": [0, 1, 2], "bgr": [2, 1, 0]}
"""Name in a config -> places of the channels of RGB frames. UniFormerV2 saw Something-Something in BGR."""


# ---- how pixels are resized -----------------------------------------------------------------------------------------


def _check_dtype(frames: Tensor, method: str, dtype: str, correct: bool) -> None:
    if not correct:
        raise ValueError(
            f"frames: got {frames.dtype}, expected {dtype} for the resize method {method!r}; convert the frames, or "
            "choose another method"
        )


def _resize_pil(frames: Tensor, size: tuple[int, int], resample: Image.Resampling) -> Tensor:
    _check_dtype(frames, f"pil_{resample.name.lower()}", "uint8", frames.dtype == torch.uint8)
    height, width = size
    # Pillow resizes each channel by itself, so planes give the pixels that RGB images would.
    planes = [
        torch.from_numpy(np.array(Image.fromarray(plane).resize((width, height), resample)))
        for plane in rearrange(frames, "t c h w -> (t c) h w").cpu().numpy()
    ]
    return rearrange(torch.stack(planes), "(t c) h w -> t c h w", c=frames.shape[1]).to(frames.device)


def _resize_torch(frames: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    _check_dtype(frames, f"torch_{mode}", "a float type", frames.is_floating_point())
    return interpolate(frames, size=size, mode=mode, align_corners=False)


def _resize_torchvision(frames: Tensor, size: tuple[int, int], mode: tv.InterpolationMode) -> Tensor:
    return tv.resize(frames, list(size), interpolation=mode, antialias=True)


def _resize_torchvision_v1_bicubic(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Match `torchvision.transforms.Resize(size, BICUBIC)` of torchvision 0.15 on tensors: in float, no antialias."""
    resized = interpolate(frames.float(), size=size, mode="bicubic", align_corners=False)
    return resized.clamp(0, 255).round().to(torch.uint8) if frames.dtype == torch.uint8 else resized.to(frames.dtype)


def _cv2_neighbors(source: int, target: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Return both source positions of each target position and their weights, in units of 2 ** -11.

    OpenCV computes the position in double, the fraction in single precision, and rounds the two weights separately.
    """
    position = ((np.arange(target) + 0.5) * (1.0 / (target / source)) - 0.5).astype(np.float32)
    lower = np.floor(position)
    fraction = position - lower
    scale = np.float32(1 << _CV2_COEFFICIENT_BITS)
    weights = [np.rint((np.float32(1) - fraction) * scale), np.rint(fraction * scale)]
    first, second = (np.clip(lower + step, 0, source - 1).astype(np.int64) for step in (0, 1))
    first_weight, second_weight = (weight.astype(np.int32) for weight in weights)
    return first, second, first_weight, second_weight


def _resize_cv2_linear(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Match `cv2.resize(..., interpolation=cv2.INTER_LINEAR)` on uint8 bit for bit: no antialias, 11-bit weights."""
    _check_dtype(frames, "cv2_linear", "uint8", frames.dtype == torch.uint8)
    height, width = frames.shape[-2:]
    if (height, width) == (2 * size[0], 2 * size[1]):
        # OpenCV takes the mean of 2 x 2 pixels here, which rounds differently.
        blocks = rearrange(frames.to(torch.int32), "t c (h y) (w x) -> t c h w (y x)", y=2, x=2)
        return ((blocks.sum(-1) + 2) >> 2).to(torch.uint8)
    top, bottom, top_weight, bottom_weight = _cv2_neighbors(height, size[0])
    left, right, left_weight, right_weight = _cv2_neighbors(width, size[1])
    rows, places = np.unique([top, bottom], return_inverse=True)
    top, bottom = places.reshape(2, -1)
    pixels = frames.cpu().numpy()
    resized = np.empty((*pixels.shape[:2], *size), np.uint8)
    # Plane by plane, which stays in the processor's cache, and in numpy, which picks columns faster than torch.
    for place in np.ndindex(pixels.shape[:2]):
        plane = pixels[place] if len(rows) == height else pixels[place][rows]
        # OpenCV drops 4 bits here and 16 after the second multiplication, to stay within 32 bits.
        blended = plane.take(left, 1) * left_weight
        blended += plane.take(right, 1) * right_weight
        blended >>= 4
        upper, lower = blended.take(top, 0), blended.take(bottom, 0)
        upper *= top_weight[:, None]
        lower *= bottom_weight[:, None]
        upper >>= 16
        lower >>= 16
        resized[place] = (upper + lower + 2) >> 2
    return torch.from_numpy(resized).to(frames.device)


RESIZE_METHODS: dict[str, Callable[[Tensor, tuple[int, int]], Tensor]] = {
    "pil_bilinear": partial(_resize_pil, resample=Image.Resampling.BILINEAR),
    "pil_bicubic": partial(_resize_pil, resample=Image.Resampling.BICUBIC),
    "torch_bilinear": partial(_resize_torch, mode="bilinear"),
    "torch_bicubic": partial(_resize_torch, mode="bicubic"),
    "torchvision_bilinear": partial(_resize_torchvision, mode=tv.InterpolationMode.BILINEAR),
    "torchvision_bicubic": partial(_resize_torchvision, mode=tv.InterpolationMode.BICUBIC),
    "torchvision_v1_bicubic": _resize_torchvision_v1_bicubic,
    "cv2_linear": _resize_cv2_linear,
}
"""Name in a config -> function (frames, (height, width)) -> frames.

pil_*: Pillow, uint8, antialias (InternVideo-MM: bilinear; retrieval: bicubic).
torch_*: float, no antialias, half-pixel centers (UniFormerV2: bilinear, AFTER normalization).
torchvision_v1_bicubic: no antialias, uint8 by way of float, or float (ViCLIP training code, with the torchvision that
it pins, on uint8).
torchvision_bicubic: antialias, uint8 or float, as torchvision does by default from 0.17 on (ViCLIP's option).
torchvision_bilinear: the same with two neighbors (no released model; for training, as Pillow within a gray level).
cv2_linear: OpenCV's fixed-point bilinear, uint8, no antialias (VideoMAE, ViCLIP demo)."""

FLOAT_RESIZE_METHODS = ("torch_bilinear", "torch_bicubic")
"""The methods that take no uint8."""

LONG_SIDE_ROUNDINGS: dict[str, Callable[[int, int, int], int]] = {
    "truncate": lambda size, long, short: int(size * long / short),
    "floor": lambda size, long, short: math.floor(long / short * size),
    "nearest": lambda size, long, short: int(long * (size / short) + 0.5),
}
"""Name in a config -> new long side, where the short side becomes `size`.

truncate: InternVideo-MM, VideoMAE, retrieval. floor: UniFormerV2. The same number in exact arithmetic, but the rounded
ratio of the second can lose a pixel: 61 x 56 to a short side of 112 has a long side of 122 or 121. nearest: MMAction2
(open set), half up."""


def _check_size(size: int, name: str) -> None:
    if size < 1:
        raise ValueError(f"{name}: got {size}, expected at least 1 pixel; give the size that the model was built for")


def _check_frames(frames: Tensor) -> None:
    if frames.ndim != 4:
        raise ValueError(
            f"frames: got shape {tuple(frames.shape)}, expected (frames, channels, height, width); add an axis to one "
            "frame, flatten a batch"
        )


def short_side_size(height: int, width: int, size: int, rounding: str = "truncate") -> tuple[int, int]:
    """Compute (height, width) for a short side of `size` pixels and the same shape of picture.

    Args:
        height: height in pixels.
        width: width in pixels.
        size: new short side in pixels.
        rounding: name in `LONG_SIDE_ROUNDINGS`.

    Returns:
        New height and width in pixels.

    Raises:
        ValueError: if a size is not positive or the rounding is unknown.
    """
    for name, value in {"height": height, "width": width, "size": size}.items():
        _check_size(value, name)
    short, long = min(height, width), max(height, width)
    # Unchanged also where the formula would round the long side differently.
    new_long = long if short == size else lookup(LONG_SIDE_ROUNDINGS, rounding, "rounding")(size, long, short)
    return (new_long, size) if height > width else (size, new_long)


def resize_exact(frames: Tensor, size: tuple[int, int], *, method: str) -> Tensor:
    """Resize frames to `size`, whatever their shape; frames of that size are returned as they are.

    Args:
        frames: shape (frames, channels, height, width); uint8 or float, see `RESIZE_METHODS`.
        size: height and width in pixels.
        method: name in `RESIZE_METHODS`.

    Returns:
        Shape (frames, channels, *size), of the same type.

    Raises:
        ValueError: if the shape, the size, the method, or the type of the frames for this method is wrong.
    """
    _check_frames(frames)
    for name, value in zip(("height", "width"), size, strict=True):
        _check_size(value, name)
    resize = lookup(RESIZE_METHODS, method, "method")
    return frames if tuple(frames.shape[-2:]) == tuple(size) else resize(frames, (size[0], size[1]))


def resize_short_side(frames: Tensor, size: int, *, rounding: str = "truncate", method: str) -> Tensor:
    """Resize frames to a short side of `size` pixels; frames that have it are returned as they are.

    Args:
        frames: shape (frames, channels, height, width); uint8 or float, see `RESIZE_METHODS`.
        size: new short side in pixels.
        rounding: name in `LONG_SIDE_ROUNDINGS`.
        method: name in `RESIZE_METHODS`.

    Returns:
        Shape (frames, channels, new height, new width), of the same type.

    Raises:
        ValueError: if the shape, the size, a name, or the type of the frames for this method is wrong.
    """
    _check_frames(frames)
    return resize_exact(frames, short_side_size(frames.shape[-2], frames.shape[-1], size, rounding), method=method)


# ---- where a crop lies ----------------------------------------------------------------------------------------------

OFFSET_ROUNDINGS: dict[str, Callable[[float], int]] = {
    "round": lambda offset: int(round(offset)),
    "ceil": math.ceil,
    "floor": math.floor,
}
"""Name in a config -> offset of a crop in whole pixels.

round: half to even, so 16.5 -> 16 (InternVideo-MM, VideoMAE validation, retrieval). ceil: UniFormerV2. floor: VideoMAE
test."""


def crop_offset(
    height: int,
    width: int,
    size: int | tuple[int, int],
    position: int = 0,
    num_positions: int = 1,
    rounding: str = "round",
) -> tuple[int, int]:
    """Compute (top, left) of a crop: the center, or one of several evenly spread along the longer side.

    Position 0 is left (top of a portrait), the last one right (bottom), e.g. left, center, right for three. Along the
    shorter side, and for one position along both, the crop is central.

    Args:
        height: height of the frame in pixels.
        width: width of the frame in pixels.
        size: side of a square crop, or (height, width), in pixels.
        position: which crop, in [0, num_positions).
        num_positions: number of crops.
        rounding: name in `OFFSET_ROUNDINGS`.

    Returns:
        First row and first column of the crop.

    Raises:
        ValueError: if the crop does not fit into the frame, there is no such position, or the rounding is unknown.
    """
    crop_height, crop_width = (size, size) if isinstance(size, int) else size
    if not (1 <= crop_height <= height and 1 <= crop_width <= width):
        raise ValueError(
            f"size: got {crop_height} x {crop_width} (height x width), expected a crop within the frame of "
            f"{height} x {width}; resize the frames first"
        )
    if not 0 <= position < num_positions:
        raise ValueError(
            f"position: got {position}, expected 0 to {num_positions - 1} for num_positions={num_positions}; count "
            "the crops from 0"
        )
    to_pixels = lookup(OFFSET_ROUNDINGS, rounding, "rounding")

    def offset(slack: int, spread: bool) -> int:
        exact = position * (slack / (num_positions - 1)) if spread else slack / 2
        return min(to_pixels(exact), slack)

    spread = num_positions > 1
    portrait = height > width
    return offset(height - crop_height, spread and portrait), offset(width - crop_width, spread and not portrait)


def crop(
    frames: Tensor,
    size: int | tuple[int, int],
    position: int = 0,
    num_positions: int = 1,
    rounding: str = "round",
) -> Tensor:
    """Cut the crop that `crop_offset` describes out of every frame.

    Args:
        frames: shape (frames, channels, height, width).
        size: side of a square crop, or (height, width), in pixels.
        position: which crop, in [0, num_positions).
        num_positions: number of crops, spread along the longer side; 1 is the center.
        rounding: name in `OFFSET_ROUNDINGS`.

    Returns:
        A view of `frames`, shape (frames, channels, *size).

    Raises:
        ValueError: if the shape is wrong, the crop does not fit, there is no such position, or no such rounding.
    """
    _check_frames(frames)
    top, left = crop_offset(frames.shape[-2], frames.shape[-1], size, position, num_positions, rounding)
    crop_height, crop_width = (size, size) if isinstance(size, int) else size
    return frames[..., top : top + crop_height, left : left + crop_width]
