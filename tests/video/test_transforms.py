"""Pixels and crop offsets against the released pipelines' frames, and small tables."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange
from safetensors.torch import load_file
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as v1
from torchvision.transforms.v2 import functional as v2

from internvideo_hf.video.transforms import (
    OFFSET_ROUNDINGS,
    RESIZE_METHODS,
    crop,
    crop_offset,
    resize_exact,
    resize_short_side,
    short_side_size,
)


def random_frames(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8, generator=generator)


# ---- resizing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["mm_load_video", "mm_load_video_portrait"])
def test_mm_frames_equal_the_demo(golden: Path, case: str) -> None:
    stored = np.load(golden / case / "frames.npz")
    frames = rearrange(torch.from_numpy(stored["decoded"]), "t h w c -> t c h w")
    cropped = crop(resize_short_side(frames, 256, rounding="truncate", method="pil_bilinear"), 224)
    assert torch.equal(rearrange(cropped, "t c h w -> c t h w"), torch.from_numpy(stored["cropped_u8_cthw"]))


def test_viclip_frames_equal_the_demo(golden: Path) -> None:
    folder = golden / "viclip_frames2tensor"
    config, stored = json.loads((folder / "config.json").read_text()), load_file(folder / "io.safetensors")
    frames = rearrange(stored["frames_bgr"][config["selected"]].flip(-1), "t h w c -> t c h w")
    width, height = config["target_size_WH"]
    resized = resize_exact(frames, (height, width), method="cv2_linear")
    mean, std = (torch.tensor(config[name], dtype=torch.float64)[:, None, None] for name in ("mean", "std"))
    # Scaled back to grey levels, the stored floats are the integers that were resized.
    grey = (stored["video"][0].double() * std + mean) * 255
    torch.testing.assert_close(grey, resized.double(), atol=1e-4, rtol=0)


def test_videomae_frames_equal_the_loader(golden: Path) -> None:
    stored = load_file(golden / "vm_preprocess" / "io.safetensors")
    short_side = json.loads((golden / "vm_preprocess" / "config.json").read_text())["short_side"]
    frames = rearrange(stored["frames_uint8"], "t h w c -> t c h w")
    resized = resize_short_side(frames, short_side, rounding="truncate", method="cv2_linear")
    assert torch.equal(rearrange(resized, "t c h w -> t h w c"), stored["resized_uint8"])


def test_cv2_linear_on_four_pixels() -> None:
    # Written by cv2.resize(np.array([[0, 10], [100, 255]], np.uint8), (4, 3), interpolation=cv2.INTER_LINEAR).
    frames = torch.tensor([[[[0, 10], [100, 255]]]], dtype=torch.uint8)
    expected = [[0, 2, 7, 10], [50, 71, 112, 133], [100, 139, 216, 255]]
    assert resize_exact(frames, (3, 4), method="cv2_linear")[0, 0].tolist() == expected


def test_cv2_linear_halves_by_the_mean_of_four() -> None:
    frames = torch.tensor([[[[0, 1], [1, 1]]]], dtype=torch.uint8)
    assert resize_exact(frames, (1, 1), method="cv2_linear").item() == 1
    frames = torch.tensor([[[[0, 0], [0, 1]]]], dtype=torch.uint8)
    assert resize_exact(frames, (1, 1), method="cv2_linear").item() == 0


@pytest.mark.parametrize("size", [(7, 9), (40, 61), (1, 1), (23, 5)])
def test_cv2_linear_is_bilinear_up_to_rounding(size: tuple[int, int]) -> None:
    frames = random_frames(20, 31)
    exact = resize_exact(frames.double(), size, method="torch_bilinear")
    assert (resize_exact(frames, size, method="cv2_linear") - exact).abs().max() < 1


@pytest.mark.parametrize("method", RESIZE_METHODS)
def test_resizing_keeps_type_channels_and_constants(method: str) -> None:
    frames = torch.full((2, 3, 20, 31), 77, dtype=torch.uint8)
    if method.startswith("torch_"):
        frames = frames.float()
    resized = resize_exact(frames, (16, 24), method=method)
    assert resized.dtype == frames.dtype
    torch.testing.assert_close(resized, torch.full((2, 3, 16, 24), 77, dtype=frames.dtype))
    assert resize_exact(resized, (16, 24), method=method) is resized


def test_antialias_tells_the_methods_apart() -> None:
    stripes = torch.zeros(1, 3, 8, 64, dtype=torch.uint8)
    stripes[..., ::4] = 255
    spread = {
        name: int(np.ptp(resize_exact(stripes, (8, 16), method=name).numpy()))
        for name in ("pil_bilinear", "pil_bicubic", "torchvision_bicubic")
    }
    assert max(spread.values()) < 40
    assert resize_exact(stripes, (8, 16), method="cv2_linear").max() == 0


@pytest.mark.parametrize("size", [(224, 224), (50, 31)])
def test_torchvision_v1_bicubic_is_its_resize_of_tensors_without_antialias(size: tuple[int, int]) -> None:
    frames = random_frames(72, 128)
    # torchvision's first functions still take the path of 0.15: through float, clamped and rounded.
    options = {"interpolation": InterpolationMode.BICUBIC, "antialias": False}
    expected = v1.resize(frames, list(size), **options)
    assert torch.equal(resize_exact(frames, size, method="torchvision_v1_bicubic"), expected)
    assert not torch.equal(expected, v2.resize(frames, list(size), **options))  # its uint8 kernel rounds otherwise


def test_torchvision_v1_bicubic_by_hand() -> None:
    # Keys' kernel with a = -0.75 half-way between two pixels: -3/32, 19/32, 19/32, -3/32.
    frames = torch.tensor([0, 0, 0, 0, 255, 255, 255, 255], dtype=torch.uint8).expand(1, 3, 8, 8)
    found = resize_exact(frames, (8, 4), method="torchvision_v1_bicubic")[0, 0, 0].tolist()
    assert found == [0, 0, 255, 255]  # -24 and 279, clamped


@pytest.mark.parametrize(
    ("height", "width", "size", "rounding", "expected"),
    [
        (120, 160, 256, "truncate", (256, 341)),
        (160, 120, 256, "truncate", (341, 256)),
        (100, 100, 224, "floor", (224, 224)),
        (20, 31, 16, "truncate", (16, 24)),
        (56, 61, 112, "truncate", (112, 122)),
        (56, 61, 112, "floor", (112, 121)),
        (256, 999, 256, "floor", (256, 999)),
        (256, 340, 224, "nearest", (224, 298)),  # 297.5
        (256, 340, 224, "floor", (224, 297)),
        (340, 257, 224, "nearest", (296, 224)),  # 296.3
    ],
)
def test_short_side_size(height: int, width: int, size: int, rounding: str, expected: tuple[int, int]) -> None:
    assert short_side_size(height, width, size, rounding) == expected


# ---- crops ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slack", "expected"),
    [(32, {"round": 16, "ceil": 16, "floor": 16}), (33, {"round": 16, "ceil": 17, "floor": 16}),
     (117, {"round": 58, "ceil": 59, "floor": 58}), (35, {"round": 18, "ceil": 18, "floor": 17})],
)  # fmt: skip
def test_central_offset(slack: int, expected: dict[str, int]) -> None:
    for rounding in OFFSET_ROUNDINGS:
        top, left = crop_offset(224, 224 + slack, 224, rounding=rounding)
        assert (top, left) == (0, expected[rounding])


@pytest.mark.parametrize(
    ("height", "width", "num_positions", "rounding", "expected"),
    [
        (8, 13, 3, "floor", [(0, 0), (0, 2), (0, 5)]),
        (13, 8, 3, "ceil", [(0, 0), (3, 0), (5, 0)]),
        (8, 8, 3, "ceil", [(0, 0), (0, 0), (0, 0)]),
        (10, 14, 3, "round", [(1, 0), (1, 3), (1, 6)]),
        (8, 15, 5, "floor", [(0, 0), (0, 1), (0, 3), (0, 5), (0, 7)]),
        (10, 13, 1, "round", [(1, 2)]),
    ],
)
def test_spread_offsets(height: int, width: int, num_positions: int, rounding: str, expected: list) -> None:
    offsets = [crop_offset(height, width, 8, k, num_positions, rounding) for k in range(num_positions)]
    assert offsets == expected


def test_every_crop_lies_within_the_frame() -> None:
    for rounding in OFFSET_ROUNDINGS:
        for num_positions in range(1, 12):
            for width in range(16, 40):
                lefts = [crop_offset(16, width, 16, k, num_positions, rounding)[1] for k in range(num_positions)]
                assert lefts == sorted(lefts) and 0 <= lefts[0] and lefts[-1] <= width - 16


def test_crop_takes_the_pixels_at_the_offset() -> None:
    frames = random_frames(10, 14)
    assert torch.equal(crop(frames, 8, 2, 3), frames[:, :, 1:9, 6:14])
    assert torch.equal(crop(frames, (10, 4)), frames[:, :, :, 5:9])


# ---- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: resize_exact(random_frames(8, 8), (4, 4), method="lanczos"),
            "method: got 'lanczos', expected one of",
        ),
        (lambda: resize_exact(random_frames(8, 8), (4, 4), method="torch_bilinear"), "torch.uint8, expected a float"),
        (lambda: resize_exact(random_frames(8, 8) / 255, (4, 4), method="cv2_linear"), "float32, expected uint8"),
        (lambda: resize_exact(random_frames(8, 8) / 255, (4, 4), method="pil_bicubic"), "float32, expected uint8"),
        (lambda: resize_exact(random_frames(8, 8)[0], (4, 4), method="cv2_linear"), r"got shape \(3, 8, 8\)"),
        (lambda: resize_exact(random_frames(8, 8), (0, 4), method="cv2_linear"), "height: got 0"),
        (lambda: short_side_size(8, 9, 4, "up"), "rounding: got 'up', expected one of truncate, floor"),
        (lambda: crop(random_frames(8, 8), 9), "resize the frames first"),
        (lambda: crop(random_frames(8, 8), 4, 3, 3), "position: got 3, expected 0 to 2"),
        (lambda: crop(random_frames(8, 8), 4, rounding="up"), "rounding: got 'up'"),
    ],
)
def test_errors_name_what_was_got(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
