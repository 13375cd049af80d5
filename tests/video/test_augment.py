"""Training augmentation on simple images, and properties that hold for every seed."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from internvideo_hf.video import augment
from internvideo_hf.video.augment import (
    collate_views,
    contrastive_view,
    corner_view,
    cropped_view,
    finetuning_view,
    multi_scale_crop,
    normalize,
    pretraining_view,
    random_erasing,
    random_flip,
    random_resized_crop,
    repeated_views,
)
from internvideo_hf.video.rand_augment import rand_augment
from internvideo_hf.video.randomness import Randomness

HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


def noise(num_frames: int = 3, height: int = 20, width: int = 31) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (num_frames, 3, height, width), generator=generator, dtype=torch.uint8)


def ramp(height: int, width: int) -> Tensor:
    """Return a frame whose channels are the row, the column, and 255."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns, torch.full_like(rows, 255)])[None].to(torch.uint8)


STEPS = {
    "multi_scale_crop": lambda frames, randomness: multi_scale_crop(frames, 14, randomness=randomness),
    "rand_augment": lambda frames, randomness: rand_augment(frames, randomness=randomness),
    "random_resized_crop": lambda frames, randomness: random_resized_crop(frames / 255, 14, randomness=randomness),
    "random_flip": lambda frames, randomness: random_flip(frames, randomness=randomness),
    "random_erasing": lambda frames, randomness: random_erasing(frames / 255, randomness=randomness),
    "pretraining_view": lambda frames, randomness: pretraining_view(frames, 14, **HALF, randomness=randomness),
    "finetuning_view": lambda frames, randomness: finetuning_view(frames, 14, **HALF, randomness=randomness),
}


# ---- what always holds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STEPS)
def test_a_seed_gives_the_same_view_and_the_next_draw_another(name: str) -> None:
    def views() -> list[Tensor]:
        randomness = Randomness.seeded(1)
        return [STEPS[name](noise(), randomness) for _ in range(8)]

    first, again = views(), views()
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not torch.equal(first[0], other) for other in first[1:])


@pytest.mark.parametrize("name", STEPS)
def test_the_input_is_not_changed(name: str) -> None:
    frames = noise()
    for seed in range(10):
        STEPS[name](frames, Randomness.seeded(seed))
    assert torch.equal(frames, noise())


@pytest.mark.parametrize("name", [name for name in STEPS if name not in ("random_erasing", "finetuning_view")])
def test_all_frames_are_changed_alike(name: str) -> None:
    frames = noise(1).expand(4, -1, -1, -1)
    for seed in range(20):
        view = STEPS[name](frames, Randomness.seeded(seed))
        assert all(torch.equal(view[0], other) for other in view)


def test_numpy_and_torch_have_the_seed_of_the_originals() -> None:
    randomness = Randomness.seeded(7)
    np.random.seed(7)
    torch.manual_seed(7)
    assert randomness.numpy.uniform() == np.random.uniform()
    assert torch.equal(torch.randn(3, generator=randomness.torch), torch.randn(3))


# ---- normalising and pre-training -----------------------------------------------------------------------------------


def test_normalize_table() -> None:
    frames = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 3, 1, 1)
    result = normalize(frames, mean=(0.5, 0.5, 0.5), std=(0.5, 0.25, 0.5))
    torch.testing.assert_close(result.flatten(), torch.tensor([-1.0, -1.2, 1.0]))


def test_multi_scale_crop_takes_the_released_shapes_and_places(monkeypatch: pytest.MonkeyPatch) -> None:
    crops = set()

    def record(frames: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
        crops.add((top, left, height, width))
        return frames[..., top : top + height, left : left + width]

    monkeypatch.setattr(augment.tv, "crop", record)
    randomness = Randomness.seeded(0)
    for _ in range(3000):
        multi_scale_crop(ramp(100, 120), 60, randomness=randomness)
    shapes = {(height, width) for _, _, height, width in crops}
    sides = [100, 87, 75, 66]
    assert shapes == {(a, b) for i, a in enumerate(sides) for j, b in enumerate(sides) if abs(i - j) <= 1}
    # 66 x 66 leaves 34 rows and 54 columns: quarters of 8 and 13 pixels.
    assert {(top, left) for top, left, height, width in crops if height == width == 66} == {
        *((top, left) for top in (0, 16, 32) for left in (0, 26, 52)),
        *((top, left) for top in (8, 24) for left in (13, 39)),
    }


def test_a_crop_snaps_to_the_wanted_size_even_beyond_the_frame() -> None:
    frames = torch.full((1, 3, 20, 20), 200, dtype=torch.uint8)
    views = torch.cat([multi_scale_crop(frames, 22, randomness=Randomness.seeded(seed)) for seed in range(100)])
    assert set(views.unique().tolist()) >= {0, 200}
    assert all(side in (0, 200) for side in views[:, :, 11, 11].unique().tolist())


# ---- crop, flip, erasing --------------------------------------------------------------------------------------------


def test_resized_crops_lie_in_the_frame_and_keep_to_the_ranges() -> None:
    randomness = Randomness.seeded(0)
    for _ in range(500):
        top, left, height, width = augment.draw_resized_crop(200, 300, randomness=randomness)
        assert 0 <= top <= 200 - height and 0 <= left <= 300 - width
        assert 0.07 < height * width / (200 * 300) <= 1
        assert 0.73 < width / height < 1.36


@pytest.mark.parametrize(
    ("height", "width", "expected"), [(100, 10, (43, 0, 13, 10)), (10, 100, (0, 43, 10, 13)), (10, 10, (0, 0, 10, 10))]
)
def test_a_crop_that_never_fits_becomes_the_central_one(height, width, expected) -> None:
    too_much = (5.0, 6.0)
    assert augment.draw_resized_crop(height, width, too_much, randomness=Randomness.seeded(0)) == expected


def test_a_crop_of_everything_is_the_frame() -> None:
    frames = noise(2, 16, 16).float()
    view = random_resized_crop(frames, 16, area=(1.0, 1.0), ratio=(1.0, 1.0), randomness=Randomness.seeded(0))
    assert torch.equal(view, frames)


def test_flip_swaps_columns_half_of_the_time() -> None:
    randomness = Randomness.seeded(0)
    frames = noise()
    flipped = [torch.equal(random_flip(frames, randomness=randomness), frames.flip(-1)) for _ in range(1000)]
    assert 450 < sum(flipped) < 550
    assert torch.equal(random_flip(frames, probability=1, randomness=randomness), frames.flip(-1))


@pytest.mark.parametrize("step", [random_flip, random_erasing])
def test_a_probability_of_0_draws_nothing(step) -> None:
    used, fresh = Randomness.seeded(0), Randomness.seeded(0)
    frames = noise().float()
    assert torch.equal(step(frames, probability=0, randomness=used), frames)
    assert (used.numpy.uniform(), used.python.random()) == (fresh.numpy.uniform(), fresh.python.random())


def test_one_rectangle_is_erased_with_other_noise_in_every_frame() -> None:
    frames = torch.full((3, 3, 40, 50), 9.0)
    for seed in range(50):
        erased = random_erasing(frames, probability=1, randomness=Randomness.seeded(seed))
        changed = erased != 9
        assert (changed == changed[:1, :1]).all()
        rows, columns = (changed[0, 0].any(axis).nonzero().flatten() for axis in (1, 0))
        height, width = len(rows), len(columns)
        assert changed[0, 0].sum() == height * width
        assert 0.015 < height * width / (40 * 50) < 0.36 and 0.25 < height / width < 4
        noises = erased[changed].reshape(3, -1)
        assert not torch.equal(noises[0], noises[1])


def test_erased_noise_is_standard_normal() -> None:
    randomness = Randomness.seeded(0)
    frames = torch.full((8, 3, 60, 60), 9.0)
    erased = torch.cat([random_erasing(frames, probability=1, randomness=randomness) for _ in range(20)])
    drawn = erased[erased != 9]
    assert abs(drawn.mean()) < 0.01 and abs(drawn.std() - 1) < 0.01


# ---- views ----------------------------------------------------------------------------------------------------------


def test_views_have_the_wanted_shape() -> None:
    for make in (pretraining_view, finetuning_view):
        for height, width in ((20, 31), (31, 20), (9, 9)):
            view = make(noise(2, height, width), 14, **HALF, randomness=Randomness.seeded(0))
            assert view.shape == (2, 3, 14, 14) and view.dtype == torch.float32


def test_repeated_views_come_from_one_stream_and_are_collated_video_major() -> None:
    randomness = Randomness.seeded(0)
    make_view = partial(pretraining_view, size=14, **HALF, randomness=randomness)
    videos = [
        [{"pixels": view, "label": label} for view in repeated_views(noise(), 2, make_view)] for label in (4, 7, 9)
    ]
    batch = collate_views(videos)
    assert batch["label"].tolist() == [4, 4, 7, 7, 9, 9]
    again = Randomness.seeded(0)
    expected = [pretraining_view(noise(), 14, **HALF, randomness=again) for _ in range(6)]
    assert torch.equal(batch["pixels"], torch.stack(expected))


# ---- errors ---------------------------------------------------------------------------------------------------------

SEEDED = {"randomness": Randomness.seeded(0)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: multi_scale_crop(noise()[0], 14, **SEEDED), "augment one clip at a time"),
        (lambda: multi_scale_crop(noise(), 0, **SEEDED), "height: got 0, expected at least 1 pixel"),
        (
            lambda: multi_scale_crop(noise() / 255, 14, **SEEDED),
            "got torch.float32, expected uint8; take this step before the frames are norm",
        ),
        (lambda: rand_augment(noise() / 255, **SEEDED), "got torch.float32, expected uint8"),
        (lambda: rand_augment(noise()[:, :1], **SEEDED), "got 1 channels, expected 3; repeat a gray one"),
        (lambda: rand_augment(noise(), magnitude=11, **SEEDED), r"magnitude: got 11, expected a number in \[0, 10\]"),
        (lambda: rand_augment(noise(), num_operations=-1, **SEEDED), "got -1, 0.5, expected at least 0"),
        (lambda: normalize(noise() / 255, **HALF), "got torch.float32, expected uint8"),
        (lambda: random_resized_crop(noise(), 14, **SEEDED), "got torch.uint8, expected a float type; normalize"),
        (lambda: random_flip(noise(), probability=2, **SEEDED), r"probability: got 2, expected a number in \[0, 1\]"),
        (lambda: random_erasing(noise(), **SEEDED), "normalize the frames before this step"),
        (lambda: random_erasing(noise() / 255, probability=-1, **SEEDED), "0 turns the step off"),
        (lambda: repeated_views(noise(), 0, normalize), "num_views: got 0, expected at least 1"),
        (lambda: collate_views([[{"a": 1}], [{"b": 1}]]), r"view 1: got the fields \['b'\], expected \['a'\]"),
    ],
)
def test_errors(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_corner_view_is_a_square_at_a_corner_or_in_the_center():
    # At 256 x 512 pixels, rows and columns of even numbers; all of the side, or 204 pixels of it, become 224.
    rows, columns = torch.meshgrid(torch.arange(256) // 2, torch.arange(512) // 4, indexing="ij")
    frames = torch.stack([rows, columns, columns])[None].to(torch.uint8).expand(2, 3, 256, 512)
    found = set()
    for seed in range(60):
        view = 255 * corner_view(frames, 224, mean=(0, 0, 0), std=(1, 1, 1), randomness=Randomness.seeded(seed))
        assert view.shape == (2, 3, 224, 224) and torch.equal(view[0], view[1])
        top, height = 2 * view[0, 0, 0, 0], 2 * (view[0, 0, -1, 0] - view[0, 0, 0, 0])
        left = 4 * min(view[0, 1, 0, 0], view[0, 1, 0, -1])  # of a flipped view, too
        found.add((204 if height < 230 else 256, round(float(top) / 10), round(float(left) / 10)))
    places = {204: [(0, 0), (0, 31), (5, 0), (5, 31), (3, 15)], 256: [(0, 0), (0, 26), (0, 13)]}
    assert found == {(side, *place) for side, all_of in places.items() for place in all_of}


@pytest.mark.parametrize("squash", [True, False])
def test_a_cropped_view_is_a_square_at_a_random_place_of_the_resized_frame(squash):
    # Columns of 0, 4, 8, ...: at 16 x 64 pixels, squashed to 16 x 16 they differ by 16, with the short side kept by 4.
    frames = (4 * torch.arange(64, dtype=torch.uint8))[None, None, None, :].expand(2, 3, 16, 64)
    firsts = set()
    for seed in range(30):
        draws = Randomness.seeded(seed)
        view = cropped_view(frames, 14, mean=(0, 0, 0), std=(1, 1, 1), squash=squash, randomness=draws)
        assert view.shape == (2, 3, 14, 14) and torch.equal(view[0], view[1])
        columns = view[0, 0, 0] * 255
        assert columns.diff()[2:-2].numpy() == pytest.approx(16 if squash else 4, abs=1)
        firsts.add(round(float(columns[2])))
    assert len(firsts) == 3 if squash else len(firsts) > 10  # of 3 and of 51 places


def test_a_contrastive_view_keeps_half_of_the_picture_at_least():
    frames = torch.arange(64, dtype=torch.uint8)[None, None, None, :].expand(2, 3, 64, 64)
    widths = []
    for seed in range(20):
        view = contrastive_view(frames, 16, mean=(0, 0, 0), std=(1, 1, 1), randomness=Randomness.seeded(seed))
        assert view.shape == (2, 3, 16, 16) and torch.equal(view[0], view[1])
        columns = view[0, 0, 0] * 255
        assert columns.diff().sign().unique().numel() == 1, "a flip at most"
        widths.append(abs(float(columns[-1] - columns[0])))
    assert min(widths) > 64 * (0.5 * 3 / 4) ** 0.5 * 0.9 and len(set(widths)) > 5
    with pytest.raises(ValueError, match="expected uint8"):
        contrastive_view(frames.float(), 16, mean=(0, 0, 0), std=(1, 1, 1), randomness=Randomness.seeded(0))
