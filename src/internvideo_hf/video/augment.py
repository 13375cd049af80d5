"""Training augmentation of clips: VideoMAE's, as functions of the frames and of `Randomness`.

- `frames`: shape (frames, channels, height, width); uint8, RGB, before `normalize`, float after it.
- `size`: side of the resulting square in pixels.
- `mean`, `std`: one number a channel, in [0, 1].
- `randomness`: source of the draws.
- Returns frames of the same type, except `normalize` and the views, which return float32; the input is not changed.
- Raises ValueError for frames of a wrong shape or type, and for a number out of range.

One draw serves all frames of a clip, except for the noise of `random_erasing`. The order of the draws, and the stream
of each, is the released one: with the same seed the pixels are those of the original (golden case vm_preprocess). Each
docstring lists its draws.

A training view of a clip is a `pretraining_view` or a `finetuning_view`; `repeated_views` makes several of the same
frames.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
import torch
import torchvision.transforms.v2.functional as tv
from einops import rearrange
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor
from torch.utils.data import default_collate

from internvideo_hf.video.randomness import Randomness, draw_integer
from internvideo_hf.video.transforms import FLOAT_RESIZE_METHODS, resize_exact, resize_short_side

View = TypeVar("View")

# ---- shared pieces --------------------------------------------------------------------------------------------------


def _check_frames(frames: Tensor) -> None:
    if frames.ndim != 4:
        raise ValueError(
            f"frames: got shape {tuple(frames.shape)}, expected (frames, channels, height, width); augment one clip "
            "at a time"
        )


def _check_pixels(frames: Tensor) -> None:
    _check_frames(frames)
    if frames.dtype != torch.uint8:
        raise ValueError(
            f"frames: got {frames.dtype}, expected uint8; take this step before the frames are normalized"
        )


def _check_normalized(frames: Tensor) -> None:
    _check_frames(frames)
    if not frames.is_floating_point():
        raise ValueError(f"frames: got {frames.dtype}, expected a float type; normalize the frames before this step")


def _check_probability(probability: float) -> None:
    if not 0 <= probability <= 1:
        raise ValueError(f"probability: got {probability}, expected a number in [0, 1]; 0 turns the step off")


def normalize(frames: Tensor, *, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Bring uint8 pixels to the model's range, float32: (pixel / 255 - mean) / std.

    Normalized frames are refused, which would be divided by 255 twice.
    """
    _check_pixels(frames)
    # Decoders give the channels last; rows of one channel side by side make all that follows faster.
    pixels = frames.to(torch.float32, memory_format=torch.contiguous_format)
    # Divided, because torchvision's `to_dtype` multiplies by 1 / 255, which rounds differently.
    return tv.normalize(pixels.div_(255), list(mean), list(std), inplace=True)


# ---- pre-training ---------------------------------------------------------------------------------------------------

CROP_SCALES = (1, 0.875, 0.75, 0.66)
"""Sides of a pre-training crop, as fractions of the frame's short side."""

_CROP_SNAP = 2
"""A side within so many pixels of the wanted one becomes that."""

# Quarters of the room beside the crop, as (left, top): the corners and the center, the middles of the sides (left,
# right, bottom, top), and the middles between the corners and the center.
_CROP_PLACES = ((0, 0), (4, 0), (0, 4), (4, 4), (2, 2), (0, 2), (4, 2), (2, 4), (2, 0), (1, 1), (3, 1), (1, 3), (3, 3))


def multi_scale_crop(
    frames: Tensor,
    size: int,
    *,
    scales: Sequence[float] = CROP_SCALES,
    gap: int = 1,
    num_places: int = len(_CROP_PLACES),
    method: str = "pil_bilinear",
    randomness: Randomness,
) -> Tensor:
    """Cut one of 10 shapes at one of 13 places out of the clip, and resize it to a square; uint8.

    Height and width are the short side by two of the `scales`, at most `gap` steps apart; `num_places` of 5 leaves the
    corners and the center. Draws: `python`, the shape and the place. Source: VideoMAE pre-training (corner cropping
    and scale jittering of TSN, arXiv:1608.00859).
    """
    _check_pixels(frames)
    height, width = frames.shape[-2:]
    sides = [int(min(height, width) * scale) for scale in scales]
    sides = [size if abs(side - size) <= _CROP_SNAP else side for side in sides]
    shapes = [(h, w) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= gap]
    crop_height, crop_width = shapes[draw_integer(randomness.python, 0, len(shapes))]
    left, top = _CROP_PLACES[draw_integer(randomness.python, 0, num_places)]
    # Reference: whole quarters, so the last place can miss the border by 3 pixels; and where the side has snapped to
    # more than the frame has, the crop reaches beyond it, into black.
    top, left = top * ((height - crop_height) // 4), left * ((width - crop_width) // 4)
    return resize_exact(tv.crop(frames, top, left, crop_height, crop_width), (size, size), method=method)


# ---- RandAugment ----------------------------------------------------------------------------------------------------

_FILL = (128, 128, 128)
_MAX_MAGNITUDE = 10
_OPERATION_PROBABILITY = 0.5
_DEGREES = 30  # of a rotation at the highest level


class _Operation(NamedTuple):
    """A change of one picture by a level in [0, 1], or in [-1, 1] with an equal chance for both signs.

    `source`: (level, width, height) -> of an operation that moves the picture, the matrix from places of pixels after
    it to those before, see `rand_augment_tracked`.
    """

    apply: Callable[[Image.Image, float], Image.Image]
    is_signed: bool = False
    source: Callable[[float, int, int], Sequence[Sequence[float]]] | None = None


def _shearing(x: float, y: float) -> _Operation:
    return _moving(lambda level, width, height: ((1, x * level, 0), (y * level, 1, 0)))


def _translation(x: float, y: float) -> _Operation:
    return _moving(lambda level, width, height: ((1, 0, level * x * width), (0, 1, level * y * height)))


def _moving(source: Callable[[float, int, int], Sequence[Sequence[float]]]) -> _Operation:
    def apply(image: Image.Image, level: float) -> Image.Image:
        first, second = source(level, image.width, image.height)
        return _affine(image, (*first, *second))

    return _Operation(apply, is_signed=True, source=source)


def _rotated(level: float, width: int, height: int) -> Sequence[Sequence[float]]:
    """Return the matrix of Pillow's rotation around the center, to the left for a positive level."""
    angle = math.radians(-_DEGREES * level)
    cos, sin, x, y = math.cos(angle), math.sin(angle), width / 2, height / 2
    return (cos, sin, x - cos * x - sin * y), (-sin, cos, y + sin * x - cos * y)


def _affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BICUBIC, fillcolor=_FILL
    )


def _posterize(image: Image.Image, level: float) -> Image.Image:
    # Not `ImageOps.posterize`, which refuses to clear all 8 bits, as the highest level does.
    cleared_bits = 4 + int(level * 4)
    return image.point([value >> cleared_bits << cleared_bits for value in range(256)] * 3)


def _solarize_add(image: Image.Image, level: float) -> Image.Image:
    added = int(level * 110)
    return image.point([min(value + added, 255) if value < 128 else value for value in range(256)] * 3)


def _enhance(kind: type, image: Image.Image, level: float) -> Image.Image:
    return kind(image).enhance(1 + level * 0.9)


# The draw is an index: the order is part of it.
_OPERATIONS: dict[str, _Operation] = {
    "auto_contrast": _Operation(lambda image, level: ImageOps.autocontrast(image)),
    "equalize": _Operation(lambda image, level: ImageOps.equalize(image)),
    "invert": _Operation(lambda image, level: ImageOps.invert(image)),
    "rotate": _Operation(
        lambda image, level: image.rotate(level * _DEGREES, resample=Image.Resampling.BICUBIC, fillcolor=_FILL),
        is_signed=True,
        source=_rotated,
    ),
    "posterize": _Operation(_posterize),
    "solarize": _Operation(lambda image, level: ImageOps.solarize(image, 256 - int(level * 256))),
    "solarize_add": _Operation(_solarize_add),
    "color": _Operation(partial(_enhance, ImageEnhance.Color), is_signed=True),
    "contrast": _Operation(partial(_enhance, ImageEnhance.Contrast), is_signed=True),
    "brightness": _Operation(partial(_enhance, ImageEnhance.Brightness), is_signed=True),
    "sharpness": _Operation(partial(_enhance, ImageEnhance.Sharpness), is_signed=True),
    "shear_x": _shearing(0.3, 0),
    "shear_y": _shearing(0, 0.3),
    "translate_x": _translation(0.45, 0),
    "translate_y": _translation(0, 0.45),
}


def rand_augment(
    frames: Tensor,
    *,
    magnitude: float = 7,
    num_operations: int = 4,
    magnitude_std: float = 0.5,
    randomness: Randomness,
) -> Tensor:
    """Change colors and geometry by `num_operations` random operations, each with a chance of one half; uint8.

    An operation can come twice. Its strength is a normal draw around `magnitude`, clipped to [0, 10]; both are the
    same for all frames. The defaults are the released `rand-m7-n4-mstd0.5-inc1`. Draws: `numpy`, the operations; then
    of each `python`, whether it is applied, and if so its strength and, where it has one, its sign. Source:
    RandAugment (arXiv:1909.13719) as timm has it, strength growing with the magnitude; outside the frame lies gray
    128.
    """
    return rand_augment_tracked(
        frames,
        magnitude=magnitude,
        num_operations=num_operations,
        magnitude_std=magnitude_std,
        randomness=randomness,
    )[0]


def rand_augment_tracked(
    frames: Tensor,
    *,
    magnitude: float = 7,
    num_operations: int = 4,
    magnitude_std: float = 0.5,
    randomness: Randomness,
) -> tuple[Tensor, NDArray[np.float64]]:
    """Apply `rand_augment`, and say where it moved the picture, so that points can follow.

    Returns:
        The frames; and the affine matrix `(3, 3)` from (x, y, 1) before to after, in pixels from the left and the
        upper edge of the frame, so that the center of the first pixel is at (0.5, 0.5).
    """
    _check_pixels(frames)
    if frames.shape[1] != 3:
        raise ValueError(f"frames: got {frames.shape[1]} channels, expected 3; repeat a gray one three times")
    if not 0 <= magnitude <= _MAX_MAGNITUDE:
        raise ValueError(f"magnitude: got {magnitude}, expected a number in [0, {_MAX_MAGNITUDE}]; VideoMAE's is 7")
    if num_operations < 0 or magnitude_std < 0:
        raise ValueError(
            f"num_operations, magnitude_std: got {num_operations}, {magnitude_std}, expected at least 0; 0 turns "
            "either off"
        )
    images = [Image.fromarray(picture) for picture in rearrange(frames, "t c h w -> t h w c").cpu().numpy()]
    operations, moved = list(_OPERATIONS.values()), np.eye(3)
    chosen = [draw_integer(randomness.numpy, 0, len(operations)) for _ in range(num_operations)]
    for operation in (operations[index] for index in chosen):
        if randomness.python.random() > _OPERATION_PROBABILITY:
            continue
        # Reference: no deviation, no draw.
        strength = randomness.python.gauss(magnitude, magnitude_std) if magnitude_std else magnitude
        level = min(_MAX_MAGNITUDE, max(0, strength)) / _MAX_MAGNITUDE
        if operation.is_signed and randomness.python.random() > 0.5:
            level = -level
        images = [operation.apply(image, level) for image in images]
        if operation.source is not None:
            source = np.vstack([operation.source(level, *images[0].size), (0, 0, 1)])
            moved = np.linalg.inv(source) @ moved
    augmented = torch.from_numpy(np.stack([np.asarray(image) for image in images])).to(frames.device)
    return rearrange(augmented, "t h w c -> t c h w").contiguous(), moved


# ---- fine-tuning ----------------------------------------------------------------------------------------------------

_CROP_ATTEMPTS = 10
_CROP_AREA = (0.08, 1.0)
_CROP_RATIO = (0.75, 1.3333)
_ERASE_ATTEMPTS = 100
_ERASED_AREA = (0.02, 1 / 3)
_ERASED_RATIO = (0.3, 1 / 0.3)


def _draw_sides(
    area: float, fraction: tuple[float, float], ratio: tuple[float, float], randomness: Randomness
) -> tuple[int, int]:
    """Draw two sides in pixels: a uniform fraction of `area`, and a log-uniform ratio of the first to the second."""
    target = randomness.python.uniform(*fraction) * area
    drawn = math.exp(randomness.python.uniform(math.log(ratio[0]), math.log(ratio[1])))
    return round(math.sqrt(target * drawn)), round(math.sqrt(target / drawn))


def _draw_offset(room_height: int, room_width: int, randomness: Randomness) -> tuple[int, int]:
    top = draw_integer(randomness.python, 0, room_height + 1)
    return top, draw_integer(randomness.python, 0, room_width + 1)


def draw_resized_crop(
    height: int,
    width: int,
    area: tuple[float, float] = _CROP_AREA,
    ratio: tuple[float, float] = _CROP_RATIO,
    *,
    randomness: Randomness,
) -> tuple[int, int, int, int]:
    """Draw the rectangle of `random_resized_crop`: first row, first column, height and width.

    Args:
        height: of the frames.
        width: of the frames.
        area: see `random_resized_crop`.
        ratio: see `random_resized_crop`.
        randomness: of the draws.
    """
    for _ in range(_CROP_ATTEMPTS):
        crop_width, crop_height = _draw_sides(height * width, area, ratio, randomness)
        # Reference: a draw for a swap of the sides that the released recipes leave off; the flip comes after it.
        randomness.numpy.uniform()
        if 0 < crop_width <= width and 0 < crop_height <= height:
            return *_draw_offset(height - crop_height, width - crop_width, randomness), crop_height, crop_width
    crop_height = min(height, round(width / ratio[0]))
    crop_width = min(width, round(height * ratio[1]))
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def random_resized_crop(
    frames: Tensor,
    size: int,
    *,
    area: tuple[float, float] = _CROP_AREA,
    ratio: tuple[float, float] = _CROP_RATIO,
    method: str = "torch_bilinear",
    randomness: Randomness,
) -> Tensor:
    """Cut a random rectangle out of the clip and resize it to a square; by default bilinear, without antialias.

    `area`: lowest and highest fraction of the frame's area, in (0, 1]; uniform. `ratio`: lowest and highest width by
    height; log-uniform; the released 1.3333 is not quite 4/3. `method`: a name in `RESIZE_METHODS`; the default takes
    float frames.

    After 10 rectangles that do not fit: the central one that comes closest to the whole frame. Draws, for each
    rectangle: `python`, area and ratio; `numpy`, one that is not used; where it fits, `python`, first row and first
    column. Source: VideoMAE fine-tuning.
    """
    (_check_normalized if method in FLOAT_RESIZE_METHODS else _check_frames)(frames)
    top, left, height, width = draw_resized_crop(
        frames.shape[-2], frames.shape[-1], area, ratio, randomness=randomness
    )
    return resize_exact(frames[..., top : top + height, left : left + width], (size, size), method=method)


def random_flip(frames: Tensor, *, probability: float = 0.5, randomness: Randomness) -> Tensor:
    """Swap left and right of all frames, or of none.

    Never for labels that tell left from right, as Something-Something's: a probability of 0. Draws: `numpy`, one;
    none for a probability of 0. Source: VideoMAE fine-tuning.
    """
    _check_frames(frames)
    _check_probability(probability)
    if probability and randomness.numpy.uniform() < probability:
        return frames.flip(-1)
    return frames


def random_erasing(frames: Tensor, *, probability: float = 0.25, randomness: Randomness) -> Tensor:
    """Replace a rectangle, the same in all frames, by noise of mean 0 and variance 1, another in every frame.

    Takes normalized frames. The rectangle has 2 to 33 % of the area and a height of 0.3 to 3.3 widths; after 100 that
    do not fit, none is erased. Draws: none for a probability of 0; `python`, whether; for each rectangle area and
    ratio, where it fits first row and first column; `torch`, the noise, frame by frame. Source: VideoMAE fine-tuning
    (random erasing, arXiv:1708.04896, mode 'pixel').
    """
    _check_normalized(frames)
    _check_probability(probability)
    if not probability or randomness.python.random() > probability:
        return frames
    _, channels, height, width = frames.shape
    for _ in range(_ERASE_ATTEMPTS):
        erased_height, erased_width = _draw_sides(height * width, _ERASED_AREA, _ERASED_RATIO, randomness)
        if erased_height < height and erased_width < width:
            break
    else:
        return frames
    top, left = _draw_offset(height - erased_height, width - erased_width, randomness)
    # Frame by frame: torch draws few numbers in another way than many.
    noise = [
        torch.randn(channels, erased_height, erased_width, generator=randomness.torch, dtype=frames.dtype)
        for _ in frames
    ]
    erased = frames.clone()
    erased[..., top : top + erased_height, left : left + erased_width] = torch.stack(noise).to(frames.device)
    return erased


# ---- views of a clip ------------------------------------------------------------------------------------------------


def pretraining_view(
    frames: Tensor, size: int, *, mean: Sequence[float], std: Sequence[float], randomness: Randomness
) -> Tensor:
    """Make one view of a clip for masked video modeling: `multi_scale_crop`, then `normalize`; no flip (released).

    Source: VideoMAE pre-training.
    """
    return normalize(multi_scale_crop(frames, size, randomness=randomness), mean=mean, std=std)


def corner_view(
    frames: Tensor,
    size: int,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    flip_probability: float = 0.5,
    randomness: Randomness,
) -> Tensor:
    """Make one view of a clip for open-set training: a square at a corner or in the center, flipped, `normalize`.

    The short side is resized to 8/7 of `size`; the square has it for its side, or four fifths of it. Source: MMAction2
    `MultiScaleCrop` (open set). The distribution is the released one, the draws are not.
    """
    frames = resize_short_side(frames, size * 256 // 224, rounding="nearest", method="cv2_linear")
    frames = multi_scale_crop(
        frames, size, scales=(1, 0.8), gap=0, num_places=5, method="cv2_linear", randomness=randomness
    )
    return normalize(random_flip(frames, probability=flip_probability, randomness=randomness), mean=mean, std=std)


def finetuning_view(
    frames: Tensor,
    size: int,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    flip_probability: float = 0.5,
    erasing_probability: float = 0.25,
    randomness: Randomness,
) -> Tensor:
    """Make one view of a clip for classification, in the released order: normalized BEFORE it is resized.

    `rand_augment`, `normalize`, `random_resized_crop`, `random_flip` (probability 0 for Something-Something),
    `random_erasing`. Source: VideoMAE fine-tuning.
    """
    frames = rand_augment(frames, randomness=randomness)
    rows, columns = frames.shape[-2:]
    top, left, height, width = draw_resized_crop(rows, columns, randomness=randomness)
    # Pixel by pixel, so that what lies outside the crop can be left out.
    frames = normalize(frames[..., top : top + height, left : left + width], mean=mean, std=std)
    frames = resize_exact(frames, (size, size), method="torch_bilinear")
    frames = random_flip(frames, probability=flip_probability, randomness=randomness)
    return random_erasing(frames, probability=erasing_probability, randomness=randomness)


def contrastive_view(
    frames: Tensor,
    size: int,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    area: tuple[float, float] = (0.5, 1.0),
    flip_probability: float = 0.5,
    method: str = "torchvision_bicubic",
    randomness: Randomness,
) -> Tensor:
    """Make one view of a clip for training with texts: `random_resized_crop`, bicubic, `random_flip`, `normalize`.

    Set `flip_probability` to 0 for captions that tell left from right. `method`: a name in `RESIZE_METHODS` that takes
    uint8; the torchvision that ViCLIP pins has no antialias ("torchvision_v1_bicubic"). Source: ViCLIP training. The
    distribution is the released one; the draws are this module's, not torchvision's.
    """
    _check_pixels(frames)
    cropped = random_resized_crop(frames, size, area=area, ratio=(3 / 4, 4 / 3), method=method, randomness=randomness)
    return normalize(random_flip(cropped, probability=flip_probability, randomness=randomness), mean=mean, std=std)


def cropped_view(
    frames: Tensor,
    size: int,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    squash: bool = True,
    method: str = "pil_bicubic",
    randomness: Randomness,
) -> Tensor:
    """Make one view of a clip for training with questions: resize, cut a square at a random place, `normalize`.

    `squash`: resize both sides to `size * 256 // 224` pixels, whatever their ratio; otherwise the short side alone.
    `method`: a name in `RESIZE_METHODS` that takes uint8. Draws: `python`, first row and first column. Source:
    InternVideo-MM's question answering; the distribution is the released one, the draws are not torchvision's.
    """
    _check_pixels(frames)
    side = size * 256 // 224
    if squash:
        resized = resize_exact(frames, (side, side), method=method)
    else:
        resized = resize_short_side(frames, side, method=method)
    top, left = _draw_offset(resized.shape[-2] - size, resized.shape[-1] - size, randomness)
    return normalize(resized[..., top : top + size, left : left + size], mean=mean, std=std)


def repeated_views(frames: Tensor, num_views: int, make_view: Callable[[Tensor], View]) -> list[View]:
    """Make several views of the SAME frames, so that a video is decoded once (repeated sampling, `num_sample`).

    Args:
        frames: shape (frames, channels, height, width).
        num_views: 1 or more; the released recipes take 2 in fine-tuning and 4 in pre-training of the largest.
        make_view: makes one view, e.g. `pretraining_view` with all but the frames given, with new draws each time.
    """
    if num_views < 1:
        raise ValueError(f"num_views: got {num_views}, expected at least 1; 1 means no repetition")
    return [make_view(frames) for _ in range(num_views)]


def collate_views(videos: Sequence[Sequence[Mapping[str, object]]]) -> dict[str, Tensor]:
    """Stack the views of several videos, all views of a video before the next video's.

    View r of video b is row b * num_views + r. The order matters to mixup, whose partner is the batch reversed.

    Args:
        videos: for each video its views, each with the same fields: tensors of equal shape, arrays or numbers, or
            such things by name.

    Returns:
        Each field with a first axis of all views.

    Raises:
        ValueError: if a view has other fields than the first.
    """
    views = [view for video in videos for view in video]
    for number, view in enumerate(views):
        if view.keys() != views[0].keys():
            raise ValueError(
                f"view {number}: got the fields {sorted(view)}, expected {sorted(views[0])}; give all views the same"
            )
    # Not `torch.stack`: inside a worker this writes to the memory that the loader's process reads.
    return {name: default_collate([_as_tensor(view[name]) for view in views]) for name in views[0]}


def _as_tensor(value: object) -> object:
    return value if isinstance(value, Mapping) else torch.as_tensor(value)
