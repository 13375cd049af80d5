"""Training augmentation of clips: VideoMAE's, as functions of the frames and of `Randomness`.

- `frames`: shape (frames, channels, height, width); uint8, RGB, before `normalize`, float after it.
- `size`: side of the resulting square in pixels.
- `mean`, `std`: one number a channel, in [0, 1].
- `randomness`: source of the draws.
- `normalized`: False to leave `normalize` to the caller, where it is the last step: the view is uint8 then.
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
from typing import TypeVar

import torch
import torchvision.transforms.v2.functional as tv
from torch import Tensor
from torch.utils.data import default_collate

from internvideo_hf.utils.names import check_name
from internvideo_hf.video.rand_augment import apply_steps, check_clip, check_pixels, draw_steps
from internvideo_hf.video.randomness import Randomness, draw_integer
from internvideo_hf.video.transforms import FLOAT_RESIZE_METHODS, resize_exact, resize_short_side

View = TypeVar("View")

AUGMENTATION_BACKENDS = ("pil", "tensor")
"""pil: the released pixels. tensor: in less time, but other pixels; see `finetuning_view`."""

# ---- shared pieces --------------------------------------------------------------------------------------------------


def _check_normalized(frames: Tensor) -> None:
    check_clip(frames)
    if not frames.is_floating_point():
        raise ValueError(f"frames: got {frames.dtype}, expected a float type; normalize the frames before this step")


def _check_probability(probability: float) -> None:
    if not 0 <= probability <= 1:
        raise ValueError(f"probability: got {probability}, expected a number in [0, 1]; 0 turns the step off")


def normalize(frames: Tensor, *, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Bring uint8 pixels to the model's range, float32: (pixel / 255 - mean) / std.

    Normalized frames are refused, which would be divided by 255 twice.
    """
    check_pixels(frames)
    # Decoders give the channels last; rows of one channel side by side make all that follows faster.
    pixels = frames.to(torch.float32, memory_format=torch.contiguous_format)
    # Divided, because torchvision's `to_dtype` multiplies by 1 / 255, which rounds differently.
    return tv.normalize(pixels.div_(255), list(mean), list(std), inplace=True)


def _normalize_pixels_last(frames: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Normalize to the bits of `normalize`, with the channels of a pixel side by side, as torch resizes three."""
    count, channels, height, width = frames.shape
    rows = frames.permute(0, 2, 3, 1).contiguous().view(count, height, width * channels).to(torch.float32)
    of_row = [torch.tensor(values, dtype=torch.float32).repeat(width) for values in (mean, std)]
    rows.div_(255).sub_(of_row[0]).div_(of_row[1])
    return rows.view(count, height, width, channels).permute(0, 3, 1, 2)


def _finish(frames: Tensor, mean: Sequence[float], std: Sequence[float], normalized: bool) -> Tensor:
    return normalize(frames, mean=mean, std=std) if normalized else frames


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
    check_pixels(frames)
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
    (_check_normalized if method in FLOAT_RESIZE_METHODS else check_clip)(frames)
    top, left, height, width = draw_resized_crop(
        frames.shape[-2], frames.shape[-1], area, ratio, randomness=randomness
    )
    return resize_exact(frames[..., top : top + height, left : left + width], (size, size), method=method)


def random_flip(frames: Tensor, *, probability: float = 0.5, randomness: Randomness) -> Tensor:
    """Swap left and right of all frames, or of none.

    Never for labels that tell left from right, as Something-Something's: a probability of 0. Draws: `numpy`, one;
    none for a probability of 0. Source: VideoMAE fine-tuning.
    """
    check_clip(frames)
    _check_probability(probability)
    if probability and randomness.numpy.uniform() < probability:
        return frames.flip(-1)
    return frames


def random_erasing(
    frames: Tensor,
    *,
    probability: float = 0.25,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    randomness: Randomness,
) -> Tensor:
    """Replace a rectangle, the same in all frames, by noise of mean 0 and variance 1, another in every frame.

    Takes normalized frames; or uint8 with the `mean` and `std` by which they will be normalized, to which the noise is
    rounded, and clipped where it lies beyond black or white. The rectangle has 2 to 33 % of the area and a height of
    0.3 to 3.3 widths; after 100 that do not fit, none is erased. Draws: none for a probability of 0; `python`,
    whether; for each rectangle area and ratio, where it fits first row and first column; `torch`, the noise, frame by
    frame. Source: VideoMAE fine-tuning (random erasing, arXiv:1708.04896, mode 'pixel').
    """
    (_check_normalized if mean is None or std is None else check_pixels)(frames)
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
    dtype = frames.dtype if frames.is_floating_point() else torch.float32
    # Frame by frame: torch draws few numbers in another way than many.
    noise = torch.stack(
        [torch.randn(channels, erased_height, erased_width, generator=randomness.torch, dtype=dtype) for _ in frames]
    )
    if mean is not None and std is not None:
        scale, shift = (torch.tensor(values, dtype=dtype)[:, None, None] * 255 for values in (std, mean))
        noise = noise.mul_(scale).add_(shift).round_().clamp_(0, 255)
    erased = frames.clone()
    erased[..., top : top + erased_height, left : left + erased_width] = noise.to(frames.device)
    return erased


# ---- views of a clip ------------------------------------------------------------------------------------------------


def pretraining_view(
    frames: Tensor,
    size: int,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    method: str = "pil_bilinear",
    normalized: bool = True,
    randomness: Randomness,
) -> Tensor:
    """Make one view of a clip for masked video modeling: `multi_scale_crop`, then `normalize`; no flip (released).

    `method`: a name in `RESIZE_METHODS` that takes uint8; "torchvision_bilinear" takes less time than the released
    one, from which it differs by a gray level here and there. Source: VideoMAE pre-training.
    """
    cropped = multi_scale_crop(frames, size, method=method, randomness=randomness)
    return _finish(cropped, mean, std, normalized)


def corner_view(
    frames: Tensor,
    size: int,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    flip_probability: float = 0.5,
    normalized: bool = True,
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
    flipped = random_flip(frames, probability=flip_probability, randomness=randomness)
    return _finish(flipped, mean, std, normalized)


def finetuning_view(
    frames: Tensor,
    size: int,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    flip_probability: float = 0.5,
    erasing_probability: float = 0.25,
    augmentation_backend: str = "pil",
    normalized: bool = True,
    randomness: Randomness,
) -> Tensor:
    """Make one view of a clip for classification, in the released order: normalized BEFORE it is resized.

    `rand_augment`, `normalize`, `random_resized_crop`, `random_flip` (probability 0 for Something-Something),
    `random_erasing`. Source: VideoMAE fine-tuning.

    `augmentation_backend`: "pil", the released pixels, always float32; or "tensor", which takes a fraction of the
    time. It makes the same draws, and applies them in the order that is usual for pictures, so that what is cropped
    off costs nothing: crop, resized with antialias, flip, `rand_augment` with bilinear geometry, whose shifts are
    fractions of the crop then, and erasing; all in uint8, so that `normalize` comes last.
    """
    check_name(augmentation_backend, AUGMENTATION_BACKENDS, "augmentation_backend")
    check_pixels(frames)
    steps = draw_steps(randomness=randomness)
    if augmentation_backend == "tensor":
        frames = random_resized_crop(frames, size, method="torchvision_bilinear", randomness=randomness)
        frames = random_flip(frames, probability=flip_probability, randomness=randomness)
        frames = apply_steps(frames, steps, backend="tensor")
        frames = random_erasing(frames, probability=erasing_probability, mean=mean, std=std, randomness=randomness)
        return _finish(frames, mean, std, normalized)
    crop = draw_resized_crop(*frames.shape[-2:], randomness=randomness)
    # Normalized pixel by pixel, so that what lies outside the crop can be left out.
    frames = _normalize_pixels_last(apply_steps(frames, steps, region=crop), mean, std)
    frames = resize_exact(frames, (size, size), method="torch_bilinear").contiguous()
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
    normalized: bool = True,
    randomness: Randomness,
) -> Tensor:
    """Make one view of a clip for training with texts: `random_resized_crop`, bicubic, `random_flip`, `normalize`.

    Set `flip_probability` to 0 for captions that tell left from right. `method`: a name in `RESIZE_METHODS` that takes
    uint8; the torchvision that ViCLIP pins has no antialias ("torchvision_v1_bicubic"). Source: ViCLIP training. The
    distribution is the released one; the draws are this module's, not torchvision's.
    """
    check_pixels(frames)
    cropped = random_resized_crop(frames, size, area=area, ratio=(3 / 4, 4 / 3), method=method, randomness=randomness)
    flipped = random_flip(cropped, probability=flip_probability, randomness=randomness)
    return _finish(flipped, mean, std, normalized)


def cropped_view(
    frames: Tensor,
    size: int,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    squash: bool = True,
    method: str = "pil_bicubic",
    normalized: bool = True,
    randomness: Randomness,
) -> Tensor:
    """Make one view of a clip for training with questions: resize, cut a square at a random place, `normalize`.

    `squash`: resize both sides to `size * 256 // 224` pixels, whatever their ratio; otherwise the short side alone.
    `method`: a name in `RESIZE_METHODS` that takes uint8. Draws: `python`, first row and first column. Source:
    InternVideo-MM's question answering; the distribution is the released one, the draws are not torchvision's.
    """
    check_pixels(frames)
    side = size * 256 // 224
    if squash:
        resized = resize_exact(frames, (side, side), method=method)
    else:
        resized = resize_short_side(frames, side, method=method)
    top, left = _draw_offset(resized.shape[-2] - size, resized.shape[-1] - size, randomness)
    return _finish(resized[..., top : top + size, left : left + size], mean, std, normalized)


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
