"""Pixels of hand prediction: views of a clip that say what they did, so that points can follow.

Frames are tensors of shape (frames, channels, height, width), RGB; points `(..., 2)`, x and y in pixels from the left
and the upper edge, of the video or of the view, so that the center of the first pixel is at (0.5, 0.5).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from internvideo_hf.processing.video_processing import InternVideoVideoProcessor
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.protocol import HandData
from internvideo_hf.video.augment import draw_resized_crop, normalize, random_erasing
from internvideo_hf.video.rand_augment import rand_augment_tracked
from internvideo_hf.video.randomness import Randomness
from internvideo_hf.video.transforms import CHANNEL_ORDERS, crop_offset, resize_exact, short_side_size

Floats = NDArray[np.float64]
_RATIO = (0.75, 1.3333)  # width by height of a training crop; the released 1.3333 is not quite 4/3


class Placement(NamedTuple):
    """Where a view lies in the frames of its video: they are scaled, and the view begins at a corner of the result.

    Args:
        scale_x: pixels of the view in one of the video, from left to right.
        scale_y: the same, downwards.
        left: first column of the view after scaling.
        top: first row.
    """

    scale_x: float = 1.0
    scale_y: float = 1.0
    left: float = 0.0
    top: float = 0.0

    def to_view(self, points: Floats) -> Floats:
        """Return points of the video as they lie in the view; outside it too."""
        return points * (self.scale_x, self.scale_y) - (self.left, self.top)

    def to_video(self, points: Floats) -> Floats:
        """Return points of the view as they lie in the video."""
        return (points + (self.left, self.top)) / (self.scale_x, self.scale_y)


def placement_of(processor: InternVideoVideoProcessor, height: int, width: int) -> Placement:
    """Return where the view of a processor lies.

    Args:
        processor: of the model, with one crop.
        height: of the video's frames, in pixels.
        width: of the video's frames, in pixels.
    """
    rows, columns = height, width
    if processor.do_resize:
        size = dict(processor.size or {})
        if "shortest_edge" in size:
            rows, columns = short_side_size(height, width, size["shortest_edge"], processor.resize_rounding)
        else:
            rows, columns = size["height"], size["width"]
    top = left = 0
    if processor.do_center_crop:
        top, left = crop_offset(rows, columns, view_size(processor), rounding=processor.crop_rounding)
    return Placement(columns / width, rows / height, left, top)


def view_size(processor: InternVideoVideoProcessor) -> tuple[int, int]:
    """Return height and width of a processor's view in pixels.

    Args:
        processor: of the model.

    Raises:
        RecipeError: if they depend on the video.
    """
    size = dict((processor.crop_size if processor.do_center_crop else processor.size) or {})
    if "height" not in size:
        raise RecipeError(
            "The processor keeps the shape of a video, and training needs clips of one size: set "
            "model.processor.do_center_crop=true, or model.processor.size={height: 320, width: 320}."
        )
    return size["height"], size["width"]


@dataclass(frozen=True)
class TrainingView:
    """How the frames of a clip become a training input, in the released order.

    Args:
        size: height and width in pixels.
        mean: of the channels, of pixels from 0 to 1.
        std: the same.
        channel_order: a name in `CHANNEL_ORDERS`.
        area: least and largest fraction of the frame's area that the crop takes.
        rand_augment: apply RandAugment.
        flip: probability that the clip is mirrored left to right.
        erasing: probability that a rectangle is erased.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channel_order: str
    area: tuple[float, float]
    rand_augment: bool
    flip: float
    erasing: float

    @classmethod
    def of(cls, processor: InternVideoVideoProcessor, data: HandData) -> "TrainingView":
        """Return the view of a recipe: size and statistics are the processor's.

        Args:
            processor: of the model.
            data: settings.

        Raises:
            RecipeError: if a setting is out of range.
        """
        if len(data.crop_area) != 2 or not 0 < data.crop_area[0] <= data.crop_area[1] <= 1:
            raise RecipeError(f"data.hands.crop_area is {data.crop_area}, expected two fractions in (0, 1], rising.")
        for name in ("flip", "erasing"):
            if not 0 <= getattr(data, name) <= 1:
                raise RecipeError(f"data.hands.{name} is {getattr(data, name)}, expected a probability, 0 to 1.")
        low, high = data.crop_area
        mean, std = tuple(processor.image_mean), tuple(processor.image_std)
        chances = data.rand_augment, data.flip, data.erasing
        return cls(view_size(processor), mean, std, processor.channel_order, (low, high), *chances)

    def __call__(self, frames: Tensor, points: Floats, randomness: Randomness) -> tuple[Tensor, Floats]:
        """Make the input; points move with the picture.

        The original applies the same steps, and leaves the points where they were.

        Args:
            frames: uint8.
            points: `(..., 2)`, of the video.
            randomness: of the draws: those of `rand_augment_tracked`, `draw_resized_crop`, mirroring where it may
                happen, `random_erasing`.

        Returns:
            float32 frames of the view's size; and the points, of the view.
        """
        moved = np.eye(3)
        if self.rand_augment:
            frames, moved = rand_augment_tracked(frames, randomness=randomness)
        rows, columns = frames.shape[-2:]
        top, left, height, width = draw_resized_crop(rows, columns, self.area, _RATIO, randomness=randomness)
        cut = frames[:, CHANNEL_ORDERS[self.channel_order], top : top + height, left : left + width]
        pixels = resize_exact(normalize(cut, mean=self.mean, std=self.std), self.size, method="torch_bilinear")
        scale_x, scale_y = self.size[1] / width, self.size[0] / height
        place = Placement(scale_x, scale_y, left * scale_x, top * scale_y)
        points = place.to_view(points @ moved[:2, :2].T + moved[:2, 2])
        if self.flip and randomness.numpy.uniform() < self.flip:
            pixels, points = pixels.flip(-1), points * (-1, 1) + (self.size[1], 0)
        return random_erasing(pixels, probability=self.erasing, randomness=randomness), points
