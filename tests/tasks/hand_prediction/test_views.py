"""Points follow the picture: through resizing, crops and RandAugment, checked against where a square really is."""

import numpy as np
import pytest
import torch

from internvideo_hf.processing.video_processing import InternVideoVideoProcessor
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.hand_prediction.views import Placement, TrainingView, placement_of, view_size
from internvideo_hf.tasks.protocol import HandData
from internvideo_hf.video import rand_augment as operations
from internvideo_hf.video.randomness import Randomness


def frames_with_square(x: int, y: int) -> torch.Tensor:
    frames = torch.full((2, 3, 90, 160), 128, dtype=torch.uint8)
    frames[..., y - 4 : y + 4, x - 4 : x + 4] = 255
    return frames


def center_of(pixels: torch.Tensor) -> list[float]:
    """Return x and y of the center of what differs from the background."""
    weight = (pixels[0, 0].double() - pixels[0, 0].median()).abs()
    weight[weight < 0.2 * weight.max()] = 0
    return [
        float((weight.sum(axis) * (torch.arange(size) + 0.5)).sum() / weight.sum())
        for axis, size in ((0, weight.shape[1]), (1, weight.shape[0]))
    ]


def processor(**options) -> InternVideoVideoProcessor:
    return InternVideoVideoProcessor(num_frames=2, resize_method="cv2_linear", do_sample_frames=False, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}},
        {"size": {"height": 40, "width": 60}, "do_center_crop": False},
        {"size": {"shortest_edge": 45}, "do_center_crop": False},
        {"do_resize": False, "crop_size": {"height": 80, "width": 100}},
    ],
)
def test_a_view_lies_where_the_processor_puts_it(options):
    ours = processor(**options)
    frames = frames_with_square(70, 52)
    pixels = ours([frames.permute(0, 2, 3, 1).numpy()], return_tensors="pt")["pixel_values_videos"][0]
    place = placement_of(ours, 90, 160)
    assert place.to_view(np.array([70.0, 52.0])) == pytest.approx(center_of(pixels), abs=0.4)
    assert place.to_video(place.to_view(np.array([[1.0, -7.0]]))) == pytest.approx(np.array([[1.0, -7.0]]))


def view(**changes) -> TrainingView:
    data = HandData(**{"crop_area": [0.5, 0.9], "rand_augment": False, "erasing": 0.0} | changes)
    return TrainingView.of(processor(size={"height": 60, "width": 80}, do_center_crop=False), data)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("moves", [False, True])
@pytest.mark.parametrize("flip", [0, 1])
def test_points_move_with_the_picture_in_training(seed, moves, flip, monkeypatch):
    moving = {name: entry for name, entry in operations._OPERATIONS.items() if entry.source is not None}
    monkeypatch.setattr(operations, "_OPERATIONS", {"shear_x": moving["shear_x"], "rotate": moving["rotate"]})
    pixels, points = view(rand_augment=moves, flip=flip)(
        frames_with_square(80, 45), np.array([[80.0, 45.0], [0.0, 0.0]]), Randomness.seeded(seed)
    )
    assert pixels.shape == (2, 3, 60, 80) and pixels.dtype == torch.float32
    assert points[0] == pytest.approx(center_of(pixels), abs=0.4)
    if not moves and not flip:
        assert (points[1] <= 0).all()  # the corner of the frame is not in a crop of 90 % or less, or at its corner


def test_the_draws_are_the_seeds_and_channels_are_reordered():
    ours = view(rand_augment=True, erasing=1.0)
    frames, points = frames_with_square(60, 40), np.array([[60.0, 40.0]])
    first, second = (ours(frames, points, Randomness.seeded(3)) for _ in range(2))
    assert torch.equal(first[0], second[0]) and (first[1] == second[1]).all()
    blue = frames.clone()
    blue[:, 0] = 0
    swapped = TrainingView(ours.size, ours.mean, ours.std, "bgr", (1.0, 1.0), False, 0.0, 0.0)
    found, _ = swapped(blue, points, Randomness.seeded(0))
    assert found[:, 2].max() < found[:, 0].min()  # the last of the model's channels is red


def test_settings_out_of_range_are_refused():
    with pytest.raises(RecipeError, match="crop_area is"):
        view(crop_area=[0.9, 0.5])
    with pytest.raises(RecipeError, match="erasing is 2"):
        view(erasing=2)
    with pytest.raises(RecipeError, match="flip is -1"):
        view(flip=-1)
    with pytest.raises(RecipeError, match="keeps the shape of a video"):
        view_size(processor(size={"shortest_edge": 45}, do_center_crop=False))
    assert Placement().to_view(np.array([3.0, 4.0])).tolist() == [3, 4]
