"""Adapters of the kinds of spatio-temporal action detection."""

import re
from pathlib import Path

import torch

from internvideo_hf.tasks.action_detection import boxes
from parity.compare import Comparison, load_config, load_tensors


def stal_boxes(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    compare = Comparison(stored, inputs=("xywh",))
    size = _height_width(config["image_size_wh"])
    given = boxes.from_xywh(stored["xywh"])
    compare.close("xyxy", given)
    clipped = boxes.clip(given, size)
    clipped = clipped[boxes.is_nonempty(clipped)]
    compare.close("clipped_nonempty", clipped)
    compare.close("area", boxes.area(clipped))
    compare.close("back_to_xywh", boxes.to_xywh(clipped))
    compare.close("flipped", boxes.flip(clipped, size[1]))
    for name, target in config["resize_targets_wh"].items():
        compare.close(name, boxes.resize(clipped, size, _height_width(target)))
    left, top, right, bottom = config["crop_rect_x1y1x2y2"]
    cropped = boxes.crop(clipped, (top, left), (bottom - top, right - left), as_published=True)
    compare.close(f"cropped_{left}_{top}_{right}_{bottom}", cropped)
    for name in stored:
        kind, *numbers = re.sub(r"_(?=[\d.])", " ", name).split()
        if kind == "extended":
            amounts = [float(number) for number in numbers] * 2
            compare.close(name, boxes.extend(clipped, size, (amounts[0], amounts[1])))
        elif kind == "jitter":
            generator = torch.Generator().manual_seed(config["jitter_torch_seed"])
            amount = tuple(float(number) for number in numbers)
            assert len(amount) == 4
            compare.close(name, boxes.jitter(clipped, size, generator, amount))
    compare.finish()


def _height_width(size: list[int]) -> tuple[int, int]:
    return size[1], size[0]
