"""RandAugment of clips, in two forms: Pillow's pixels bit for bit, and bilinear ones in less time.

Each operation is defined by what Pillow does to one picture, which is what the released models were trained on. It is
applied to a few frames at once, as planes of one channel: changes of single values by a table, moves along an axis by
one filter in the place of five. Only the geometry differs between the forms: Pillow's is bicubic.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from internvideo_hf.video.randomness import Randomness, draw_integer

Planes = NDArray[np.uint8]
Shorts = NDArray[np.int16]
Floats = NDArray[np.float64]
Matrix = tuple[tuple[float, float, float], tuple[float, float, float]]

_GRAY = 128
_FILL = (_GRAY,) * 3
_MAX_MAGNITUDE = 10
_OPERATION_PROBABILITY = 0.5
_DEGREES = 30  # of a rotation at the highest level
# So few that what is computed of them stays in the processor's cache.
_FRAMES_AT_A_TIME = 4
# Weights of red, green and blue in Pillow's gray, in units of 2 ** -16.
_LUMA = (19595, 38470, 7471)


def check_clip(frames: Tensor) -> None:
    """Refuse frames that are not those of one clip.

    Raises:
        ValueError: if they are not.
    """
    if frames.ndim != 4:
        raise ValueError(
            f"frames: got shape {tuple(frames.shape)}, expected (frames, channels, height, width); augment one clip "
            "at a time"
        )


def check_pixels(frames: Tensor) -> None:
    """Refuse frames that are not a clip of whole numbers.

    Raises:
        ValueError: if they are not.
    """
    check_clip(frames)
    if frames.dtype != torch.uint8:
        raise ValueError(
            f"frames: got {frames.dtype}, expected uint8; take this step before the frames are normalized"
        )


class Step(NamedTuple):
    """An operation to be applied.

    Attributes:
        name: of the operation.
        level: its strength in [0, 1], or in [-1, 1].
    """

    name: str
    level: float


class Region(NamedTuple):
    """A rectangle of a picture, in pixels.

    Attributes:
        top: its first row.
        left: its first column.
        height: rows.
        width: columns.
    """

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """The rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


class _Operation(NamedTuple):
    """A change of pictures by a level in [0, 1], or in [-1, 1] with an equal chance for both signs.

    Attributes:
        apply: changes one picture; the reference.
        on_planes: (frames `(frames, 3, height, width)`, level, region) -> the region of the changed frames, to the
            same pixels.
        is_local: whether each pixel depends on itself alone.
        is_signed: whether levels can be negative.
        source: (level, width, height) -> of an operation that moves the picture, the matrix from places of pixels
            after it to those before, see `rand_augment_tracked`.
    """

    apply: Callable[[Image.Image, float], Image.Image]
    on_planes: Callable[[Planes, float, Region], Planes]
    is_local: bool = False
    is_signed: bool = False
    source: Callable[[float, int, int], Matrix] | None = None


# ---- operations on one picture --------------------------------------------------------------------------------------


def _moved(
    image: Image.Image,
    level: float,
    size: tuple[int, int] | None = None,
    *,
    source: Callable[[float, int, int], Matrix],
) -> Image.Image:
    """Move a picture; with `size`, only that many columns and rows of the result."""
    first, second = source(level, image.width, image.height)
    return image.transform(
        size or image.size,
        Image.Transform.AFFINE,
        (*first, *second),
        resample=Image.Resampling.BICUBIC,
        fillcolor=_FILL,
    )


def _rotated(level: float, width: int, height: int) -> Matrix:
    """Return the matrix of Pillow's rotation around the center, to the left for a positive level."""
    angle = math.radians(-(_DEGREES * level % 360))
    cos, sin, x, y = round(math.cos(angle), 15), round(math.sin(angle), 15), width / 2, height / 2
    # In the order of Pillow, for the same bits.
    return (cos, sin, cos * -x + sin * -y + x), (-sin, cos, -sin * -x + cos * -y + y)


def _rotate(image: Image.Image, level: float, size: tuple[int, int] | None = None) -> Image.Image:
    if size is None:
        return image.rotate(level * _DEGREES, resample=Image.Resampling.BICUBIC, fillcolor=_FILL)
    return _moved(image, level, size, source=_rotated)


def _posterize(image: Image.Image, level: float) -> Image.Image:
    # Not `ImageOps.posterize`, which refuses to clear all 8 bits, as the highest level does.
    cleared_bits = 4 + int(level * 4)
    return image.point([value >> cleared_bits << cleared_bits for value in range(256)] * 3)


def _solarize_add(image: Image.Image, level: float) -> Image.Image:
    added = int(level * 110)
    return image.point([min(value + added, 255) if value < 128 else value for value in range(256)] * 3)


def _factor(level: float) -> float:
    return 1 + level * 0.9


def _enhance(image: Image.Image, level: float, kind: type) -> Image.Image:
    enhanced: Image.Image = kind(image).enhance(_factor(level))
    return enhanced


# ---- the same on all frames -----------------------------------------------------------------------------------------


def _by_table(
    planes: Planes, level: float, region: Region, apply: Callable[[Image.Image, float], Image.Image]
) -> Planes:
    """Apply what changes each value by itself: to all values once, and to the planes by the table of the results."""
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 256, 3))
    return _looked_up(planes[..., *region.slices], np.asarray(apply(ramp, level))[0, :, 0])


def _looked_up(planes: Planes, table: Planes) -> Planes:
    # As bytes: numpy's own look-up first makes eight bytes of each index.
    return np.frombuffer(planes.tobytes().translate(table.tobytes()), np.uint8).reshape(planes.shape)


def _by_channel(planes: Planes, level: float, region: Region, table_of: Callable[[Planes], Planes]) -> Planes:
    """Apply what changes each value of a channel alike, by a table that depends on the channel."""
    changed = np.empty_like(planes[..., *region.slices])
    for place in np.ndindex(planes.shape[:2]):
        changed[place] = _looked_up(planes[place][region.slices], table_of(planes[place]))
    return changed


def _stretching(plane: Planes) -> Planes:
    """Return the table of Pillow's `autocontrast`: the lowest value becomes 0, the highest 255."""
    values, low, high = np.arange(256), int(plane.min()), int(plane.max())
    if low == high:
        return values.astype(np.uint8)
    scale = 255 / (high - low)
    return (values * scale - low * scale).clip(0, 255).astype(np.uint8)  # cut off, not rounded


def _equalizing(plane: Planes) -> Planes:
    """Return the table of Pillow's `equalize`: each value becomes the share of those below it, in steps of 1 / 255."""
    counts = np.array(Image.fromarray(plane).histogram())
    values = np.arange(256)
    step = (plane.size - int(counts[counts > 0][-1])) // 255
    if step == 0:
        return values.astype(np.uint8)
    below = np.cumsum(counts) - counts
    return ((step // 2 + below) // step).clip(0, 255).astype(np.uint8)


def _gray(planes: Planes) -> Planes:
    """Return Pillow's gray of the frames, `(frames, height, width)`."""
    total = np.full(planes[:, 0].shape, 1 << 15, np.uint32)  # a half, to round
    for channel, weight in enumerate(_LUMA):
        total += np.multiply(planes[:, channel], weight, dtype=np.uint32)
    total >>= 16
    return total.astype(np.uint8)


def _blended(first: Planes, second: Planes, level: float) -> Planes:
    """Return Pillow's `first + factor * (second - first)` of planes of the same shape."""
    one, other = (Image.fromarray(planes.reshape(-1, planes.shape[-1])) for planes in (first, second))
    return np.asarray(Image.blend(one, other, _factor(level))).reshape(second.shape)


def _color(planes: Planes, level: float, region: Region) -> Planes:
    planes = planes[..., *region.slices]
    return _blended(np.broadcast_to(_gray(planes)[:, None], planes.shape), planes, level)


def _contrast(planes: Planes, level: float, region: Region) -> Planes:
    ramp, changed = np.arange(256, dtype=np.uint8)[None], np.empty_like(planes[..., *region.slices])
    for place, gray in enumerate(_gray(planes)):
        mean = int(int(gray.sum()) / gray.size + 0.5)
        table = _blended(np.full_like(ramp, mean), ramp, level)
        changed[place] = _looked_up(planes[place][..., *region.slices], table)
    return changed


def _sharpness(planes: Planes, level: float, region: Region) -> Planes:
    # Pillow's filter leaves the border as it is, as it does with smaller pictures.
    height, width = planes.shape[2:]
    smooth = planes[..., *region.slices].copy()
    if min(height, width) > 2:
        (top, left), (bottom, right) = (
            (max(part.start, 1) for part in region.slices),
            (min(part.stop, size - 1) for part, size in zip(region.slices, (height, width), strict=True)),
        )
        inner = slice(top - region.top, bottom - region.top), slice(left - region.left, right - region.left)
        for place in np.ndindex(planes.shape[:2]):
            plane = planes[place][top - 1 : bottom + 1, left - 1 : right + 1].astype(np.uint16)
            rows = plane[:-2] + plane[1:-1] + plane[2:]
            total = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * plane[1:-1, 1:-1]
            # Thirteenths, rounded; none lies in the middle between two whole numbers.
            smooth[place][inner] = total * np.float32(1 / 13) + np.float32(0.5)
    return _blended(smooth, planes[..., *region.slices], level)


def _by_picture(
    planes: Planes, level: float, region: Region, apply: Callable[[Image.Image, float, tuple[int, int]], Image.Image]
) -> Planes:
    end = region.left + region.width, region.top + region.height
    changed = np.empty((len(planes), 3, region.height, region.width), np.uint8)
    for place, picture in enumerate(np.ascontiguousarray(rearrange(planes, "t c h w -> t h w c"))):
        # From the first row and column on, from where Pillow computes places: from others they round otherwise.
        moved = np.asarray(apply(Image.fromarray(picture), level, end))
        changed[place] = rearrange(moved[region.slices], "h w c -> c h w")
    return changed


def _along_an_axis(
    planes: Planes, level: float, region: Region, source: Callable[[float, int, int], Matrix]
) -> Planes:
    """Move rows or columns along themselves by Pillow's bicubic filter, which changes nothing across them.

    In its arithmetic, double precision in its order, but with one filter in the place of five, and places computed
    once for all frames.
    """
    matrix = source(level, planes.shape[3], planes.shape[2])
    by_columns = matrix[1] == (0, 1, 0)
    rows, columns = (np.arange(part.start, part.stop) + 0.5 for part in region.slices)
    of_column, of_row, shift = matrix[0 if by_columns else 1]
    places = of_column * columns[None, :] + of_row * rows[:, None] + shift
    outside = (places < 0) | (places >= planes.shape[3 if by_columns else 2])
    places -= 0.5
    before = np.floor(places)
    places -= before  # how far behind the pixel before
    neighbors = _neighbors(planes, before.astype(np.int64), region, by_columns)
    if neighbors is None:
        return _by_picture(planes, level, region, partial(_moved, source=source))
    changed = np.empty((*planes.shape[:2], region.height, region.width), np.uint8)
    for place in np.ndindex(planes.shape[:2]):
        near = neighbors[place].astype(np.int16)
        v1, v2, v3, v4 = (
            near[:, k : k + region.width] if by_columns else near[k : k + region.height] for k in range(4)
        )
        changed[place] = _cubic(v1, v2, v3, v4, places)
    changed[..., outside] = _GRAY
    return changed


def _cubic(v1: Shorts, v2: Shorts, v3: Shorts, v4: Shorts, fractions: Floats) -> Floats:
    """Return Pillow's cubic between the second and the third of four pixels, in [0, 255], to be cut off."""
    first, both = v1 - v2, v3 - v4
    both += first
    value = fractions * -both
    both += first
    value += both
    value *= fractions
    value += v3 - v1
    value *= fractions
    value += v2
    return np.clip(value, 0, 255, out=value)


def _neighbors(planes: Planes, before: NDArray[np.int64], region: Region, by_columns: bool) -> Planes | None:
    """Return the pixels that a filter of four takes: for pixel k of a line of the region those at k to k + 3.

    Args:
        planes: the frames.
        before: row or column of the second of the four, for each pixel of the region.
        region: of the result.
        by_columns: whether lines are rows, and places in them columns.

    Returns:
        The region with three more columns, or rows; None if a line is not moved as a whole, for places are rounded.
    """
    moving, across = (1, 0) if by_columns else (0, 1)
    shape = [region.height, region.width]
    shape[moving] += 3
    near = np.empty((*planes.shape[:2], *shape), np.uint8)
    # With the columns of all lines last, which move.
    given, wanted = (planes, near) if by_columns else (planes.swapaxes(2, 3), near.swapaxes(2, 3))
    before = before if by_columns else before.T
    start, first_line = region.slices[moving].start, region.slices[across].start
    steps = before - np.arange(start, start + before.shape[1])
    if (steps != steps[:, :1]).any():
        return None
    ends = np.flatnonzero(np.diff(steps[:, 0])) + 1  # of runs of lines with the same step
    size, count = given.shape[3], wanted.shape[3]
    for run in np.split(np.arange(len(steps)), ends):
        first = start + int(steps[run[0], 0]) - 1
        source = given[:, :, first_line + run[0] : first_line + run[-1] + 1]
        target = wanted[:, :, run[0] : run[-1] + 1]
        # Beyond the edge lies the pixel at the edge, again and again.
        low = min(max(-first, 0), count)
        high = max(min(size - first, count), low)
        target[..., low:high] = source[..., first + low : first + high]
        target[..., :low] = source[..., :1]
        target[..., high:] = source[..., -1:]
    return near


def _bilinear(planes: Planes, matrix: Matrix) -> Planes:
    """Move the picture as `_moved`, but bilinear, in float32."""
    height, width = planes.shape[2:]
    # Frames as channels, which are moved alike; around gray, since outside of the picture torch has zeros.
    pixels = np.subtract(planes.reshape(1, -1, height, width), _GRAY, dtype=np.float32)
    grid = _grid(matrix, height, width)
    moved = grid_sample(
        torch.from_numpy(pixels), grid, mode="bilinear", padding_mode="zeros", align_corners=False
    ).numpy()
    moved += np.float32(_GRAY + 0.5)
    return moved.astype(np.uint8).reshape(planes.shape)


@lru_cache(maxsize=4)  # for the next frames of a clip
def _grid(matrix: Matrix, height: int, width: int) -> Tensor:
    """Return the places before of all pixels, as torch has them: from -1 to 1."""
    (a, b, c), (d, e, f) = matrix
    ratio = height / width
    theta = [
        [a, b * ratio, a + b * ratio + 2 * c / width - 1],
        [d / ratio, e, d / ratio + e + 2 * f / height - 1],
    ]
    return affine_grid(torch.tensor([theta], dtype=torch.float32), [1, 1, height, width], align_corners=False)


# ---- the table of operations ----------------------------------------------------------------------------------------


def _of_values(apply: Callable[[Image.Image, float], Image.Image], is_signed: bool = False) -> _Operation:
    return _Operation(apply, partial(_by_table, apply=apply), is_local=True, is_signed=is_signed)


def _of_channels(apply: Callable[[Image.Image], Image.Image], table_of: Callable[[Planes], Planes]) -> _Operation:
    return _Operation(lambda image, level: apply(image), partial(_by_channel, table_of=table_of))


def _enhancing(kind: type, on_planes: Callable[[Planes, float, Region], Planes], is_local: bool = False) -> _Operation:
    return _Operation(partial(_enhance, kind=kind), on_planes, is_local, is_signed=True)


def _moving(source: Callable[[float, int, int], Matrix]) -> _Operation:
    on_planes = partial(_along_an_axis, source=source)
    return _Operation(partial(_moved, source=source), on_planes, is_signed=True, source=source)


def _shearing(x: float, y: float) -> _Operation:
    return _moving(lambda level, width, height: ((1, x * level, 0), (y * level, 1, 0)))


def _translation(x: float, y: float) -> _Operation:
    return _moving(lambda level, width, height: ((1, 0, level * x * width), (0, 1, level * y * height)))


# The draw is an index: the order is part of it.
_OPERATIONS: dict[str, _Operation] = {
    "auto_contrast": _of_channels(ImageOps.autocontrast, _stretching),
    "equalize": _of_channels(ImageOps.equalize, _equalizing),
    "invert": _of_values(lambda image, level: ImageOps.invert(image)),
    "rotate": _Operation(_rotate, partial(_by_picture, apply=_rotate), is_signed=True, source=_rotated),
    "posterize": _of_values(_posterize),
    "solarize": _of_values(lambda image, level: ImageOps.solarize(image, 256 - int(level * 256))),
    "solarize_add": _of_values(_solarize_add),
    "color": _enhancing(ImageEnhance.Color, _color, is_local=True),
    "contrast": _enhancing(ImageEnhance.Contrast, _contrast),
    "brightness": _of_values(partial(_enhance, kind=ImageEnhance.Brightness), is_signed=True),
    "sharpness": _enhancing(ImageEnhance.Sharpness, _sharpness),
    "shear_x": _shearing(0.3, 0),
    "shear_y": _shearing(0, 0.3),
    "translate_x": _translation(0.45, 0),
    "translate_y": _translation(0, 0.45),
}


# ---- RandAugment ----------------------------------------------------------------------------------------------------


def draw_steps(
    *, magnitude: float = 7, num_operations: int = 4, magnitude_std: float = 0.5, randomness: Randomness
) -> list[Step]:
    """Draw the operations of `rand_augment`, which are the same for all frames.

    Args:
        magnitude: strength around which operations are drawn, 0-10.
        num_operations: how many are drawn.
        magnitude_std: standard deviation of the strength; 0 for none.
        randomness: source of the draws.

    Raises:
        ValueError: if a number is out of range.
    """
    if not 0 <= magnitude <= _MAX_MAGNITUDE:
        raise ValueError(f"magnitude: got {magnitude}, expected a number in [0, {_MAX_MAGNITUDE}]; VideoMAE's is 7")
    if num_operations < 0 or magnitude_std < 0:
        raise ValueError(
            f"num_operations, magnitude_std: got {num_operations}, {magnitude_std}, expected at least 0; 0 turns "
            "either off"
        )
    names, steps = list(_OPERATIONS), []
    chosen = [draw_integer(randomness.numpy, 0, len(names)) for _ in range(num_operations)]
    for name in (names[index] for index in chosen):
        if randomness.python.random() > _OPERATION_PROBABILITY:
            continue
        # Reference: no deviation, no draw.
        strength = randomness.python.gauss(magnitude, magnitude_std) if magnitude_std else magnitude
        level = min(_MAX_MAGNITUDE, max(0, strength)) / _MAX_MAGNITUDE
        if _OPERATIONS[name].is_signed and randomness.python.random() > 0.5:
            level = -level
        steps.append(Step(name, level))
    return steps


def apply_steps(
    frames: Tensor, steps: Sequence[Step], *, region: tuple[int, int, int, int] | None = None, backend: str = "pil"
) -> Tensor:
    """Apply drawn operations to all frames of a clip.

    Args:
        frames: RGB, uint8, `(frames, 3, height, width)`.
        steps: from `draw_steps`.
        region: first row, first column, height and width of the part of the result that is returned, which spares
            what does not reach it; None for all of it.
        backend: "pil" for Pillow's bicubic geometry, "tensor" for bilinear geometry in less time.

    Raises:
        ValueError: if the frames are not RGB.
    """
    if frames.shape[1] != 3:
        raise ValueError(f"frames: got {frames.shape[1]} channels, expected 3; repeat a gray one three times")
    whole = Region(0, 0, *frames.shape[-2:])
    part = whole if region is None else Region(*region)
    # Up to the last operation that looks beyond a pixel, the whole picture is needed.
    last = max((k for k, step in enumerate(steps) if not _OPERATIONS[step.name].is_local), default=-1)
    given = frames.cpu().numpy()
    made = np.empty((*given.shape[:2], part.height, part.width), np.uint8)
    for first in range(0, len(given), _FRAMES_AT_A_TIME):
        block = given[first : first + _FRAMES_AT_A_TIME]
        planes = np.ascontiguousarray(block[..., *part.slices] if last < 0 else block)
        for k, (name, level) in enumerate(steps):
            operation = _OPERATIONS[name]
            size = Region(0, 0, *planes.shape[2:])
            if backend == "tensor" and operation.source is not None:
                planes = _bilinear(planes, operation.source(level, size.width, size.height))
                planes = planes[..., *part.slices] if k == last else planes
            else:
                planes = operation.on_planes(planes, level, part if k == last else size)
        made[first : first + _FRAMES_AT_A_TIME] = planes
    return torch.from_numpy(made).to(frames.device)


def rand_augment(frames: Tensor, **options: Any) -> Tensor:
    """Change colors and geometry by `num_operations` random operations, each with a chance of one half; uint8.

    `options`: those of `draw_steps`.

    An operation can come twice. Its strength is a normal draw around `magnitude`, clipped to [0, 10]; both are the
    same for all frames. The defaults are the released `rand-m7-n4-mstd0.5-inc1`. Draws: `numpy`, the operations; then
    of each `python`, whether it is applied, and if so its strength and, where it has one, its sign. Source:
    RandAugment (arXiv:1909.13719) as timm has it, strength growing with the magnitude; outside the frame lies gray
    128.
    """
    return rand_augment_tracked(frames, **options)[0]


def rand_augment_tracked(frames: Tensor, **options: Any) -> tuple[Tensor, NDArray[np.float64]]:
    """Apply `rand_augment`, with its options, and say where it moved the picture, so that points can follow.

    Returns:
        The frames; and the affine matrix `(3, 3)` from (x, y, 1) before to after, in pixels from the left and the
        upper edge of the frame, so that the center of the first pixel is at (0.5, 0.5).
    """
    check_pixels(frames)
    steps = draw_steps(**options)
    height, width = frames.shape[-2:]
    moved = np.eye(3)
    for name, level in steps:
        if (matrix_of := _OPERATIONS[name].source) is not None:
            moved = np.linalg.inv(np.vstack([matrix_of(level, width, height), (0, 0, 1)])) @ moved
    return apply_steps(frames, steps), moved
