"""RandAugment: tables of its operations, Pillow's pixels bit for bit, and bilinear ones close to them."""

from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from internvideo_hf.video import rand_augment as operations
from internvideo_hf.video.rand_augment import Step, apply_steps, draw_steps, rand_augment, rand_augment_tracked
from internvideo_hf.video.randomness import Randomness

MOVING = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")


def noise(num_frames: int = 3, height: int = 20, width: int = 31) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (num_frames, 3, height, width), generator=generator, dtype=torch.uint8)


def smooth(num_frames: int = 2, height: int = 48, width: int = 64) -> Tensor:
    """Return frames of slow waves, other ones in each channel and frame."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [128 + 90 * np.sin(rows / (9 + k)) * np.cos(columns / (6 + k) + k) for k in range(3 * num_frames)]
    return torch.from_numpy(np.stack(waves).astype(np.uint8)).view(num_frames, 3, height, width)


def flat(num_frames: int = 2, height: int = 24, width: int = 30) -> Tensor:
    """Return frames of one value a channel, as black bars and fades have."""
    values = torch.tensor([0, 255, 128, 7, 200, 31][: 3 * num_frames], dtype=torch.uint8)
    return values.view(num_frames, 3, 1, 1).expand(-1, -1, height, width).contiguous()


def by_pillow(frames: Tensor, name: str, level: float) -> Tensor:
    """Apply an operation to picture by picture."""
    pictures = [Image.fromarray(picture) for picture in frames.permute(0, 2, 3, 1).contiguous().numpy()]
    changed = [np.asarray(operations._OPERATIONS[name].apply(picture, level)) for picture in pictures]
    return torch.from_numpy(np.stack(changed)).permute(0, 3, 1, 2)


def operate(name: str, level: float, pixels: list[list[int]]) -> list[list[int]]:
    """One operation on a gray picture; colors stay gray."""
    image = Image.fromarray(np.repeat(np.array(pixels, dtype=np.uint8)[..., None], 3, axis=2))
    result = np.asarray(operations._OPERATIONS[name].apply(image, level))
    assert (result == result[..., :1]).all()
    return result[..., 0].tolist()


@pytest.mark.parametrize(
    ("name", "level", "pixels", "expected"),
    [
        ("auto_contrast", 0.7, [[50, 100, 150]], [[0, 127, 255]]),
        ("invert", 0.7, [[0, 100, 255]], [[255, 155, 0]]),
        ("posterize", 0.0, [[15, 16, 255]], [[0, 16, 240]]),
        ("posterize", 0.7, [[63, 64, 255]], [[0, 64, 192]]),
        ("posterize", 1.0, [[0, 64, 255]], [[0, 0, 0]]),
        ("solarize", 0.0, [[0, 100, 255]], [[0, 100, 255]]),
        ("solarize", 0.5, [[0, 127, 128, 255]], [[0, 127, 127, 0]]),
        ("solarize_add", 0.5, [[0, 100, 127, 128, 255]], [[55, 155, 182, 128, 255]]),
        ("brightness", -1.0, [[0, 100, 200]], [[0, 10, 20]]),
        ("brightness", 1.0, [[0, 100, 200]], [[0, 190, 255]]),
        ("contrast", 0.0, [[0, 100, 200]], [[0, 100, 200]]),
        ("contrast", 1.0, [[80, 100, 120]], [[62, 100, 138]]),
        ("color", -1.0, [[0, 100, 200]], [[0, 100, 200]]),
        ("sharpness", 0.0, [[0, 100, 200]], [[0, 100, 200]]),
        # 0.45 of 20 columns is 9: the picture moves left, and grey comes in.
        ("translate_x", 1.0, [list(range(20))], [[*range(9, 20), *[128] * 9]]),
        ("translate_x", -1.0, [list(range(20))], [[*[128] * 9, *range(11)]]),
        ("translate_y", 1.0, [[y] for y in range(20)], [[y] for y in [*range(9, 20), *[128] * 9]]),
        ("shear_x", 0.0, [[10, 20], [30, 40]], [[10, 20], [30, 40]]),
        ("shear_y", 0.0, [[10, 20], [30, 40]], [[10, 20], [30, 40]]),
        ("rotate", 0.0, [[10, 20], [30, 40]], [[10, 20], [30, 40]]),
    ],
)
def test_operation_table(name, level, pixels, expected) -> None:
    assert operate(name, level, pixels) == expected


@pytest.mark.parametrize("level", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("name", operations._OPERATIONS)
def test_operations_keep_the_size_at_every_level(name: str, level: float) -> None:
    signs = (1, -1) if operations._OPERATIONS[name].is_signed else (1,)
    for sign in signs:
        image = operations._OPERATIONS[name].apply(Image.fromarray(np.full((5, 7, 3), 90, np.uint8)), sign * level)
        assert (image.size, image.mode) == ((7, 5), "RGB")


@pytest.mark.parametrize("seed", range(8))
def test_rand_augment_says_where_it_moves_the_picture(seed: int, monkeypatch) -> None:
    moving = {name: entry for name, entry in operations._OPERATIONS.items() if entry.source is not None}
    assert list(moving) == ["rotate", "shear_x", "shear_y", "translate_x", "translate_y"]
    monkeypatch.setattr(operations, "_OPERATIONS", moving)
    frames = torch.full((1, 3, 120, 160), 128, dtype=torch.uint8)  # as what lies outside
    frames[:, :, 50:56, 70:78] = 255  # the center is at x = 74, y = 53
    found, moved = rand_augment_tracked(frames, magnitude=3, num_operations=3, randomness=Randomness.seeded(seed))
    weight = found[0, 0].double() - 128
    weight[weight.abs() < 8] = 0
    center = [
        float((weight.sum(axis) * (torch.arange(size) + 0.5)).sum() / weight.sum())
        for axis, size in ((0, 160), (1, 120))
    ]
    assert moved @ [74, 53, 1] == pytest.approx([*center, 1], abs=0.3)
    assert torch.equal(found, rand_augment(frames, magnitude=3, num_operations=3, randomness=Randomness.seeded(seed)))


def test_rand_augment_without_operations_changes_nothing() -> None:
    assert torch.equal(rand_augment(noise(), num_operations=0, randomness=Randomness.seeded(0)), noise())


def test_half_of_the_operations_are_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = []
    recorder = operations._Operation(
        by_pillow, lambda planes, level, region: levels.append(level) or planes, is_signed=True
    )
    monkeypatch.setattr(operations, "_OPERATIONS", {"recorder": recorder})
    randomness = Randomness.seeded(0)
    for _ in range(1000):
        rand_augment(noise(1, 2, 2), randomness=randomness)
    assert 1900 < len(levels) < 2100
    assert abs(np.mean(levels)) < 0.05
    np.testing.assert_allclose([np.abs(levels).mean(), np.abs(levels).std()], [0.7, 0.05], atol=0.01)


# ---- all frames at once ---------------------------------------------------------------------------------------------

FRAMES = {
    "noise": noise(),
    "odd": noise(1, 7, 5),
    "narrow": noise(2, 2, 9),
    "smooth": smooth(),
    "flat": flat(),
}


@pytest.mark.parametrize("frames", FRAMES)
@pytest.mark.parametrize("name", operations._OPERATIONS)
def test_all_frames_at_once_have_the_pixels_of_pillow(name: str, frames: str) -> None:
    given = FRAMES[frames]
    signs = (1, -1) if operations._OPERATIONS[name].is_signed else (1,)
    for level, sign in product((0.0, 0.123, 0.37, 0.5, 0.7, 0.7321, 1.0), signs):
        found = apply_steps(given, [Step(name, sign * level)])
        assert torch.equal(found, by_pillow(given, name, sign * level)), level


@pytest.mark.parametrize("seed", range(12))
def test_many_operations_have_the_pixels_of_pillow(seed: int) -> None:
    given = smooth(height=40, width=53)
    expected = given
    for name, level in draw_steps(num_operations=6, randomness=Randomness.seeded(seed)):
        expected = by_pillow(expected, name, level)
    assert torch.equal(rand_augment(given, num_operations=6, randomness=Randomness.seeded(seed)), expected)


@pytest.mark.parametrize("seed", range(24))
def test_a_region_is_that_of_the_whole(seed: int) -> None:
    given = smooth(6, height=40, width=53)
    steps = draw_steps(num_operations=5, randomness=Randomness.seeded(seed))
    for backend in ("pil", "tensor"):
        whole = apply_steps(given, steps, backend=backend)
        for top, left, height, width in ((0, 0, 40, 53), (3, 7, 21, 30), (39, 52, 1, 1), (10, 0, 30, 5)):
            part = apply_steps(given, steps, region=(top, left, height, width), backend=backend)
            assert torch.equal(part, whole[..., top : top + height, left : left + width])


def test_a_line_of_which_parts_are_moved_by_rounding_has_the_pixels_of_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "_neighbors", lambda *_: None)  # as where one is found
    for name in ("shear_x", "translate_y"):
        found = apply_steps(smooth(), [Step(name, 0.37)], region=(5, 6, 20, 30))
        assert torch.equal(found, by_pillow(smooth(), name, 0.37)[..., 5:25, 6:36])


@pytest.mark.parametrize("name", operations._OPERATIONS)
def test_tensors_are_as_pillow_but_for_their_geometry(name: str) -> None:
    given = smooth(height=96, width=128)
    signs = (1, -1) if operations._OPERATIONS[name].is_signed else (1,)
    for level, sign in product((0.0, 0.3, 0.7, 1.0), signs):
        expected = by_pillow(given, name, sign * level).int()
        found = apply_steps(given, [Step(name, sign * level)], backend="tensor").int()
        if name not in MOVING:
            assert torch.equal(found, expected)
            continue
        # Bilinear and bicubic differ little where the picture is smooth, much along the edge to the gray outside it.
        differences = (found - expected).abs()
        assert differences.float().mean() < 1
        assert (differences > 3).float().mean() < 0.025
        if level == 0.7:  # a wrong sign would show
            wrong = apply_steps(given, [Step(name, -sign * level)], backend="tensor").int()
            assert (wrong - expected).abs().float().mean() > 10


def test_tensors_move_by_whole_pixels_exactly() -> None:
    # 0.45 of 40 columns is 18: the picture moves left, and gray comes in.
    given = noise(2, 20, 40)
    for backend in ("pil", "tensor"):
        found = apply_steps(given, [Step("translate_x", 1.0)], backend=backend)
        assert torch.equal(found[..., :22], given[..., 18:]) and (found[..., 22:] == 128).all()
        found = apply_steps(given, [Step("translate_y", -1.0)], backend=backend)
        assert torch.equal(found[..., 9:, :], given[..., :11, :]) and (found[..., :9, :] == 128).all()
