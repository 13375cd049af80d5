"""Adapters of the kinds of spatio-temporal action detection."""

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from internvideo_hf.tasks import boxes
from internvideo_hf.tasks.action_detection.annotations import (
    key_frame_name,
    read_annotations,
    read_key_frames,
    read_label_map,
    read_predictions,
)
from internvideo_hf.tasks.action_detection.answers import Answers, write_predictions
from internvideo_hf.tasks.action_detection.metrics import MIN_OVERLAP, BoxTable
from internvideo_hf.tasks.box_views import Pixels, evaluation_view, pad_batch, training_view
from internvideo_hf.tasks.key_frames import context_frames
from parity.compare import Comparison, load_config, load_tensors


def stal_boxes(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    compare = Comparison(stored, inputs=("xywh",))
    size = _height_width(config["image_size_wh"])
    given = boxes.from_xywh(stored["xywh"]) if "xywh" in stored else stored["xyxy"]
    compare.close("xyxy", given)
    clipped = boxes.clip(given, size)
    clipped = clipped[boxes.is_nonempty(clipped)]
    compare.close("clipped_nonempty", clipped)
    compare.close("area", boxes.area(clipped))
    compare.close("back_to_xywh", boxes.to_xywh(clipped))
    compare.close("flipped", boxes.flip(clipped, size[1]))
    for name, target in config.get("resize_targets_wh", {}).items():
        compare.close(name, boxes.resize(clipped, size, _height_width(target)))
    for name in stored:
        kind, *numbers = re.sub(r"_(?=[\d.])", " ", name).split()
        if kind == "extended":
            amounts = [float(number) for number in numbers] * 2
            compare.close(name, boxes.extend(clipped, size, (amounts[0], amounts[1])))
        elif kind == "cropped":
            left, top, right, bottom = map(int, numbers)
            cropped = boxes.crop(clipped, (top, left), (bottom - top, right - left), as_published=True)
            compare.close(name, cropped)
        elif kind == "jitter":
            generator = torch.Generator().manual_seed(config["jitter_torch_seed"])
            amount = tuple(float(number) for number in numbers)
            assert len(amount) == 4
            compare.close(name, boxes.jitter(clipped, size, generator, amount))
    compare.finish()


def _height_width(size: list[int]) -> tuple[int, int]:
    return size[1], size[0]


def stal_ava_evaluation(folder: Path, tmp_path: Path) -> None:
    config = load_config(folder)
    if (folder / "detections.json").exists():
        _compare_writer(folder, config.get("score_threshold", 0.0), tmp_path)
    label_map = read_label_map(folder / "labelmap.pbtxt")
    assert sorted(label_map) == sorted(config.get("whitelist", label_map))
    excluded = read_key_frames(folder / "excluded.csv") if (folder / "excluded.csv").exists() else set()
    truth, predicted = read_annotations(folder / "gt.csv").table(), read_predictions(folder / "result.csv")
    # Neither file keeps to the classes of the label map.
    count = max([config.get("classes_scored", 0), *label_map, *truth.labels + 1, *predicted.labels + 1])
    min_overlap = config.get("iou", MIN_OVERLAP)
    found = Answers(
        predicted.without(excluded),
        truth.without(excluded),
        [label_map.get(number, str(number)) for number in range(1, count + 1)],
        [number - 1 for number in label_map],
        min_overlap,
    )
    prefix = f"AP@{min_overlap:g}IOU/"
    ours = {f"PascalBoxes_PerformanceByCategory/{prefix}{row['class']}": row["AP"] / 100 for row in found.by_class()}
    ours |= {f"PascalBoxes_Precision/m{prefix[:-1]}": found.scores()["mAP"] / 100}
    metrics = json.loads((folder / "metrics.json").read_text())
    assert ours == pytest.approx({name: value for name, value in metrics.items() if value == value}, abs=1e-9)


def _compare_writer(folder: Path, min_score: float, tmp_path: Path) -> None:
    _write_result(json.loads((folder / "detections.json").read_text()), min_score, tmp_path / "result.csv")
    expected = (folder / "result.csv").read_text().splitlines()
    for ours, theirs in zip((tmp_path / "result.csv").read_text().splitlines(), expected, strict=True):
        names, numbers = ours.split(",")[:2], [float(entry) for entry in ours.split(",")[2:]]
        assert names == theirs.split(",")[:2]
        np.testing.assert_allclose(numbers, [float(entry) for entry in theirs.split(",")[2:]], atol=1.01e-5)


def _write_result(detections: list[dict], min_score: float, path: Path) -> None:
    """Write what the original detected as its own writer did, from boxes in pixels of the network."""
    names, corners, labels, scores = [], [], [], []
    for entry in detections:
        info, size = entry["info"], _height_width(entry["size_wh"])
        movie = info["height"], info["width"]
        found = boxes.resize(torch.tensor(entry["boxes_xyxy"]).reshape(-1, 4), size, movie)
        for box, of_classes in zip(boxes.to_fractions(found, movie).tolist(), entry["scores"], strict=True):
            names += [key_frame_name(info["movie"], info["timestamp"])] * len(of_classes)
            corners += [box] * len(of_classes)
            labels += range(len(of_classes))
            scores += of_classes
    table = BoxTable(names, np.array(corners), np.array(labels), np.array(scores))
    write_predictions(path, table.select(np.array(scores) >= min_score))


def stal_transforms(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    compare = Comparison(stored, inputs=tuple(name for name in stored if name.endswith((".boxes", ".clip_uint8"))))
    for case in config.get("temporal_crop", ()):
        assert _middle_frames(case["raw_frames"], case["frame_num"], case["rate"]).tolist() == case["indices"]
    changes = config.get("color_jitter", {"hue": 0, "sat": 0, "val": 0})
    most = {"hue": round(changes["hue"] / 2), "saturation": round(changes["sat"] * 255)}
    statistics = {name: [value / 255 for value in config[f"pixel_{name}"]] for name in ("mean", "std")}
    clips = []
    for case in config.get("cases", ()):
        name, raw = case["i"], stored[f"{case['i']}.clip_uint8"]
        chosen = _middle_frames(len(raw), case["frame_num"], case["frame_sample_rate"])
        rule = Pixels(
            short_side=case["min_size"],
            crop_size=case.get("train_crop"),
            value=round(changes["val"] * 255),
            as_published=True,
            **most,
            **statistics,
        )
        frames, source = raw[chosen].movedim(-1, 1), random.Random(case.get("python_seed"))
        view, geometry = training_view(frames, rule, source) if case.get("train") else evaluation_view(frames, rule)
        assert list(geometry.view) == case.get("out_size_wh", list(geometry.view)[::-1])[::-1]
        compare.close(f"{name}.video", view.movedim(1, 0))
        if f"{name}.boxes" in stored:
            compare.close(f"{name}.boxes_out", geometry.follow(stored[f"{name}.boxes"], as_published=True))
        clips.append(view)
    for name in {name for name in stored if name.startswith("collated_div")}:
        padded, _ = pad_batch(clips[: len(stored[name])], int(name.removeprefix("collated_div")))
        compare.close(name, padded.movedim(2, 1))
    compare.finish()


def _middle_frames(length: int, num_frames: int, stride: int) -> np.ndarray:
    """Return the frames of a clip that is cut to its middle, which the original's key frame halves."""
    span = num_frames * stride
    return context_frames((length - span) // 2 + span // 2, length, num_frames, stride)
