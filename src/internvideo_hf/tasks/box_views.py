"""Pixels of tasks on boxes: views of a clip that return what they did, so that boxes can follow.

Frames are tensors of shape (frames, channels, height, width), RGB. Nothing is cropped for evaluation: the model takes
any height and width.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from internvideo_hf.tasks import boxes
from internvideo_hf.tasks.boxes import Size
from internvideo_hf.video.augment import normalize
from internvideo_hf.video.transforms import resize_exact, short_side_size

SHORT_SIDE, CROP_SIZE = 256, 224
"""Pixels of the released models: short side of a frame, and side of the square that training cuts out of it."""
MEAN, STD = (122.7717 / 255, 115.9465 / 255, 102.9801 / 255), (57.375 / 255,) * 3
"""Statistics of the released models, of pixels from 0 to 1; others than those of their pre-training."""
HUE, SATURATION, VALUE = 10, 26, 26
"""The most that training changes a color: of 180 steps of hue, of 255 of the others."""
MULTIPLE = 16
"""Sides of a batch are multiples of this number of pixels, the side of a patch."""
_HUES, _FULL = 180, 255
_SHIFT = 12  # bits of OpenCV's fixed-point division


@dataclass(frozen=True)
class Geometry:
    """What a view did to frames: it resized them, cut out a part, and mirrored that.

    Args:
        size: of the frames before, (height, width) in pixels.
        resized: after resizing.
        corner: first row and first column of the part; None if nothing was cut off.
        cut: size of the part.
        flipped: whether it was mirrored left to right.
    """

    size: Size
    resized: Size
    corner: tuple[int, int] | None = None
    cut: Size = (0, 0)
    flipped: bool = False

    @property
    def view(self) -> Size:
        """Size of the view, (height, width) in pixels."""
        return self.resized if self.corner is None else self.cut

    def follow(self, given: Tensor, *, as_published: bool = False) -> Tensor:
        """Return boxes as they lie in the view; those outside it have no width or no height.

        Args:
            given: of the frames before, `(n, 4)`, see `boxes`.
            as_published: see `boxes.crop`.
        """
        moved = boxes.resize(given, self.size, self.resized)
        if self.corner is not None:
            moved = boxes.crop(moved, self.corner, self.cut, as_published=as_published)
        return boxes.flip(moved, self.view[1]) if self.flipped else moved


@dataclass(frozen=True)
class Pixels:
    """How frames become a model's input.

    Args:
        short_side: of a frame after resizing, pixels; the other side keeps the frame's shape.
        resize_method: name in `internvideo_hf.video.transforms.RESIZE_METHODS`, one that takes uint8.
        crop_size: side of the square for training; None cuts nothing off.
        hue: the most that training changes the hue, of 180 steps.
        saturation: the most that it changes the saturation, of 255 steps.
        value: the same for the brightness.
        flip: probability that it mirrors a clip.
        mean: of the channels, of pixels from 0 to 1.
        std: the same.
        as_published: repeat a mistake of the released code: a frame whose short side has its length already is
            squashed to its height in width and its width in height.
        short_sides: least and largest short side that training draws in place of `short_side`, such that its inverse
            is uniform; None draws none.
    """

    short_side: int = SHORT_SIDE
    resize_method: str = "cv2_linear"
    crop_size: int | None = CROP_SIZE
    hue: int = HUE
    saturation: int = SATURATION
    value: int = VALUE
    flip: float = 0.5
    mean: Sequence[float] = MEAN
    std: Sequence[float] = STD
    as_published: bool = False
    short_sides: tuple[int, int] | None = None


def evaluation_view(frames: Tensor, rule: Pixels) -> tuple[Tensor, Geometry]:
    """Make the input of an evaluation: resize and normalize.

    Args:
        frames: uint8, `(frames, 3, height, width)`.
        rule: short side and statistics.

    Returns:
        float32, `(frames, 3, height, width)`; and what was done.
    """
    resized, geometry = _resize(frames, rule)
    return _normalize(resized, rule), geometry


def training_view(frames: Tensor, rule: Pixels, randomness: random.Random) -> tuple[Tensor, Geometry]:
    """Make the input of a training: resize, cut out a square, change colors, mirror, and normalize.

    Draws: the short side; column and row of the square; steps of hue, saturation and value, the same for all frames;
    whether to mirror. A step that is switched off draws nothing.

    Args:
        frames: uint8, `(frames, 3, height, width)`.
        rule: the steps.
        randomness: of the draws.

    Returns:
        float32, `(frames, 3, height, width)`; and what was done.

    Raises:
        ValueError: if the square is larger than the resized frames.
    """
    if rule.short_sides is not None:
        least, largest = rule.short_sides
        rule = replace(rule, short_side=round(1 / randomness.uniform(1 / largest, 1 / least)))
    resized, geometry = _resize(frames, rule)
    height, width = geometry.resized
    corner, cut = None, geometry.resized
    if rule.crop_size is not None:
        if rule.crop_size > min(height, width):
            raise ValueError(
                f"crop_size is {rule.crop_size}, and frames have {height} x {width} pixels: expected a crop within "
                "them. Set a larger short_side."
            )
        left, top = (int(randomness.random() * (side - rule.crop_size)) for side in (width, height))
        corner, cut = (top, left), (rule.crop_size, rule.crop_size)
        resized = resized[..., top : top + rule.crop_size, left : left + rule.crop_size]
    if rule.hue or rule.saturation or rule.value:
        steps = [randomness.randint(-most, most) for most in (rule.hue, rule.saturation, rule.value)]
        resized = change_colors(resized, *steps)
    flipped = rule.flip > 0 and randomness.random() < rule.flip
    if flipped:
        resized = resized.flip(-1)
    return _normalize(resized, rule), Geometry(geometry.size, geometry.resized, corner, cut, flipped)


def pad_batch(clips: Sequence[Tensor], multiple: int = MULTIPLE) -> tuple[Tensor, Tensor]:
    """Stack clips of different sizes: they are filled up with zeros at the right and at the bottom.

    Args:
        clips: `(frames, channels, height, width)` each.
        multiple: of which height and width become multiples.

    Returns:
        `(batch, frames, channels, height, width)`; and which pixels are those of a clip, bool,
        `(batch, height, width)`.
    """
    height, width = (-(-max(clip.shape[axis] for clip in clips) // multiple) * multiple for axis in (-2, -1))
    mask = torch.zeros(len(clips), height, width, dtype=torch.bool)
    for row, clip in enumerate(clips):
        mask[row, : clip.shape[-2], : clip.shape[-1]] = True
    return torch.stack([pad(clip, (0, width - clip.shape[-1], 0, height - clip.shape[-2])) for clip in clips]), mask


def change_colors(frames: Tensor, hue: int, saturation: int, value: int) -> Tensor:
    """Shift hue, saturation and value of all pixels, with OpenCV's rounding.

    Args:
        frames: uint8, `(frames, 3, height, width)`, RGB.
        hue: steps of 180.
        saturation: steps of 255; the result stays within 0-255.
        value: the same.
    """
    h, s, v = _to_hsv(frames.to(torch.int32))
    return _to_rgb((h + hue) % _HUES, (s + saturation).clamp(0, _FULL), (v + value).clamp(0, _FULL))


def _to_hsv(frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Convert as `cv2.cvtColor(..., COLOR_RGB2HSV)` does with bytes: hue 0-179, the others 0-255."""
    red, green, blue = frames.unbind(1)
    value, spread = frames.amax(1), frames.amax(1) - frames.amin(1)
    numbers = torch.arange(1, _FULL + 1, dtype=torch.float64)
    zero = torch.zeros(1, dtype=torch.int32)
    by_value = torch.cat([zero, ((_FULL << _SHIFT) / numbers).round().int()])
    by_spread = torch.cat([zero, ((_HUES << _SHIFT) / (6 * numbers)).round().int()])
    half = 1 << (_SHIFT - 1)
    saturation = (spread * by_value[value] + half) >> _SHIFT
    sector = torch.where(
        value == red, green - blue, torch.where(value == green, blue - red + 2 * spread, red - green + 4 * spread)
    )
    hue = (sector * by_spread[spread] + half) >> _SHIFT
    return torch.where(hue < 0, hue + _HUES, hue), saturation, value


def _to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Convert as `cv2.cvtColor(..., COLOR_HSV2RGB)` does with bytes."""
    s, v = saturation.float() * (1 / _FULL), value.float() * (1 / _FULL)
    place = hue.float() * (6 / _HUES)
    sector = place.floor()
    rest = place - sector
    levels = torch.stack([v, v * (1 - s), v * (1 - s * rest), v * (1 - s * (1 - rest))])
    # Level of red, green and blue in each sixth of the circle.
    which = torch.tensor([[0, 3, 1], [2, 0, 1], [1, 0, 3], [1, 2, 0], [3, 1, 0], [0, 1, 2]])[sector.long()]
    found = levels.movedim(0, -1).gather(-1, which)
    return (found * _FULL).round().clamp(0, _FULL).to(torch.uint8).movedim(-1, 1)


def _resize(frames: Tensor, rule: Pixels) -> tuple[Tensor, Geometry]:
    height, width = frames.shape[-2:]
    size = short_side_size(height, width, rule.short_side)
    if rule.as_published and min(height, width) == rule.short_side:
        size = width, height
    return resize_exact(frames, size, method=rule.resize_method), Geometry((height, width), size)


def _normalize(frames: Tensor, rule: Pixels) -> Tensor:
    return normalize(frames, mean=rule.mean, std=rule.std)
