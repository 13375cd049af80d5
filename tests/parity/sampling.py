"""Adapters of the frame sampling kinds: every table entry through `SAMPLERS`, every crop through the transforms."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from einops import rearrange

from internvideo_hf.training.schedules import warmup_cosine
from internvideo_hf.video.sampling import BLANK, SAMPLERS, views
from internvideo_hf.video.transforms import crop, crop_offset, resize_short_side
from parity.compare import Comparison, load_config, load_tensors


def _load_json(path: Path) -> dict | list:
    return json.loads(path.read_text())


def _check(actual: np.ndarray, stored: list, entry: dict) -> None:
    described = {key: value for key, value in entry.items() if not isinstance(value, list | dict)}
    assert np.asarray(actual).tolist() == list(stored), described


def _check_sections(table: dict, sections: dict[str, Callable[[dict], None]]) -> None:
    """Run every entry of every section; a section without a check is an error, not a gap."""
    for name, entries in table.items():
        for entry in entries if isinstance(entries, list) else [entries]:
            sections[name](entry)


# ---- InternVideo-MM -------------------------------------------------------------------------------------------------


def _check_mm_intervals(entry: dict) -> None:
    indices = SAMPLERS["internvideo_mm_intervals"](entry["vlen"], entry["num_frames"])[0]
    stored = entry["uniform"]
    # The original gives a short video fewer frames; ours repeats the last one up to num_frames.
    _check(indices[: len(stored)], stored, entry)
    _check(indices[len(stored) :], [stored[-1]] * (entry["num_frames"] - len(stored)), entry)


def _check_mm_intervals_train(entry: dict) -> None:
    generator = random.Random(entry["seed"])
    indices = SAMPLERS["internvideo_mm_intervals_train"](entry["vlen"], entry["num_frames"], generator=generator)
    _check(indices[0], entry["rand"], entry)


def mm_sampling(folder: Path, tmp_path: Path) -> None:
    sections = {"eval_uniform": _check_mm_intervals, "train_rand": _check_mm_intervals_train}
    _check_sections(_load_json(folder / "sampling.json"), sections)


# ---- Open-set recognition -------------------------------------------------------------------------------------------


def openset_frame_indices(folder: Path, tmp_path: Path) -> None:
    for entry in _load_json(folder / "frames.json"):
        name, options = _openset_rule(entry["sampler"], dict(entry["args"]))
        if name.endswith("train"):
            options["generator"] = np.random.RandomState(entry["numpy_seed"])
        _check(SAMPLERS[name](entry["num_frames"], **options).ravel(), entry["frames"], entry)


def _openset_rule(sampler: str, args: dict) -> tuple[str, dict]:
    """Map the released class and its constructor's arguments to our rule and its options."""
    base = {"SampleFrames": "openset", "DenseSampleFrames": "openset_dense"}[sampler]
    test_mode = args.pop("test_mode", False)
    options = {"num_frames": args.pop("clip_len"), "frame_interval": args.pop("frame_interval", 1)}
    num_clips = args.pop("num_clips", 1)
    num_positions = args.pop("num_sample_positions", 10)
    if base == "openset_dense":
        options["sample_range"] = args.pop("sample_range", 64)
    for name, default in (("out_of_bound_opt", "loop"), ("temporal_jitter", False), ("twice_sample", False)):
        assert args.pop(name, default) == default, f"no rule has another {name} than {default!r}"
    assert not args, f"arguments that no rule reads: {args}"
    if base == "openset_dense" and test_mode:
        return base, options | {"num_clips": num_clips * num_positions, "clips_per_start": num_clips}
    return base if test_mode else f"{base}_train", options | {"num_clips": num_clips}


# ---- UniFormerV2 ----------------------------------------------------------------------------------------------------


def _check_uniformerv2(entry: dict) -> None:
    indices = SAMPLERS["uniformerv2"](entry["video_len"], entry["num_frames"], entry["num_clips"])
    _check_numbered(indices, entry)


def _check_uniformerv2_train(entry: dict) -> None:
    generator = random.Random(entry["seed_python_random"])
    _check_numbered(
        SAMPLERS["uniformerv2_train"](entry["video_len"], entry["num_frames"], generator=generator)[0], entry
    )


def _check_numbered(indices: np.ndarray, entry: dict) -> None:
    """Something-Something stores file numbers, which count from 1."""
    if "indices_1based" in entry:
        _check(indices + 1, entry["indices_1based"], entry)
    else:
        _check(indices, entry["indices"], entry)


def uniformerv2_sampling(folder: Path, tmp_path: Path) -> None:
    sections = {
        "kinetics": _check_uniformerv2,
        "sth": _check_uniformerv2,
        "train_kinetics": _check_uniformerv2_train,
        "train_sth": _check_uniformerv2_train,
    }
    _check_sections(_load_json(folder / "sampling.json"), sections)
    _check_uniformerv2_crops(folder)
    for run in _load_json(folder / "lr.json") if (folder / "lr.json").is_file() else ():
        for epoch, stored in run["values"]:
            lr = warmup_cosine(epoch, run["max_epoch"], run["warmup"], start=1e-6, end=1e-6, peak=run["base"])
            np.testing.assert_allclose(lr, stored, rtol=1e-12)


def _check_uniformerv2_crops(folder: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    inputs = tuple(name for name in stored if name.endswith(".frames_thwc"))
    comparison = Comparison(stored, inputs)
    for name in inputs:
        video = name.removesuffix(".frames_thwc")
        frames = rearrange(stored[name], "t h w c -> t c h w").float() / 255
        frames = (frames - config["mean"]) / config["std"]
        frames = resize_short_side(frames, config["crop"], rounding="floor", method="torch_bilinear")
        positions = sum(name.startswith(f"{video}.crop") for name in stored)
        for position in range(positions):
            cropped = crop(frames, config["crop"], position, num_positions=positions, rounding="ceil")
            comparison.close(f"{video}.crop{position}", rearrange(cropped, "t c h w -> c t h w"))
    comparison.finish()


# ---- VideoMAE -------------------------------------------------------------------------------------------------------


def _check_test_views(indices: np.ndarray, num_crops: int, entry: dict) -> None:
    """Frames and crop of every view, in the released order."""
    frames, clips, order = views(indices, num_crops)
    assert [[view["segment"], view["crop"]] for view in entry["views"]] == order.tolist()
    side = entry["short_side"]
    picture = torch.zeros(1, 1, entry["frame_h"], entry["frame_w"], dtype=torch.uint8)
    resized = resize_short_side(picture, side, method="cv2_linear")
    for view in entry["views"]:
        _check(frames[clips[view["segment"]]], view["frames"], entry | view)
        place = {"position": view["crop"], "num_positions": num_crops, "rounding": "floor"}
        top, left = crop_offset(*resized.shape[-2:], side, **place)
        cropped = crop(resized, side, **place)
        # The stored offset runs along the longer side; along the shorter one it is 0.
        _check(
            np.array([top + left, *cropped.shape[-2:]]),
            [view["crop_offset"], view["cropped_h"], view["cropped_w"]],
            entry | view,
        )


def _check_dense_test(entry: dict) -> None:
    indices = SAMPLERS["videomae_dense"](
        entry["num_frames"], entry["clip_len"], entry["num_segments"], sampling_rate=entry["sampling_rate"]
    )
    _check_test_views(indices, entry["num_crops"], entry)


def _check_sparse_test(entry: dict) -> None:
    indices = SAMPLERS["videomae_sparse"](entry["num_frames"], entry["num_segment"], entry["test_num_segment"])
    _check_test_views(indices, entry["test_num_crop"], entry)


def _check_dense(entry: dict) -> None:
    options = {"num_clips": entry.get("v4d_segment", 1), "sampling_rate": entry["sampling_rate"]}
    name = "videomae_dense_validation"
    if "numpy_seed" in entry:
        name = "videomae_dense_train"
        options["generator"] = np.random.RandomState(entry["numpy_seed"])
    indices = SAMPLERS[name](entry["num_frames"], entry["clip_len"], **options)
    _check(indices.ravel(), _wrapped(entry["frames"], entry["num_frames"]), entry)


def _wrapped(stored: list[int], length: int) -> list[int]:
    """Replace the original's index -1 (of an empty segment) by the last frame, as its reader does."""
    return [index % length for index in stored]


def _check_sparse_train(entry: dict) -> None:
    generator = np.random.RandomState(entry["numpy_seed"])
    indices = SAMPLERS["videomae_sparse_train"](entry["num_frames"], entry["num_segment"], generator=generator)
    _check(indices[0], _wrapped(entry["frames"], entry["num_frames"]), entry)


def _check_ssv2_test(entry: dict) -> None:
    indices = SAMPLERS["videomae_sparse"](entry["num_frames"], entry["num_segment"], entry["test_num_segment"])
    _check(np.sort(indices.ravel()) + 1, entry["loaded_file_numbers_1based"], entry)
    assert {str(clip): (frames + 1).tolist() for clip, frames in enumerate(indices)} == entry["view_files"]


def _check_ssv2(entry: dict) -> None:
    if "numpy_seed" in entry:
        generator = np.random.RandomState(entry["numpy_seed"])
        indices = SAMPLERS["videomae_ssv2_train"](entry["num_frames"], entry["num_segment"], generator=generator)
    else:
        indices = SAMPLERS["videomae_ssv2_validation"](entry["num_frames"], entry["num_segment"])
    _check(indices[0] + 1, entry["file_numbers_1based"], entry)


def _check_pretrain(entry: dict) -> None:
    indices = SAMPLERS["videomae_pretrain"](
        entry["num_frames"],
        entry["new_length"],
        len(entry["start_1based"]),
        sampling_rate=entry["new_step"],
        generator=np.random.RandomState(entry["numpy_seed"]),
    )
    _check(indices[:, 0] + 1, entry["start_1based"], entry)
    _check(indices.ravel(), entry["frames_0based"], entry)


def videomae_frame_indices(folder: Path, tmp_path: Path) -> None:
    sections = {
        "kinetics_test_dense": _check_dense_test,
        "kinetics_train_dense": _check_dense,
        "kinetics_validation_dense": _check_dense,
        "kinetics_train_v4d": _check_dense,
        "kinetics_sparse_test": _check_sparse_test,
        "kinetics_sparse_train": _check_sparse_train,
        "ssv2_test": _check_ssv2_test,
        "ssv2_train": _check_ssv2,
        "ssv2_validation": _check_ssv2,
        "pretrain": _check_pretrain,
    }
    _check_sections(_load_json(folder / "frames.json"), sections)


# ---- Retrieval ------------------------------------------------------------------------------------------------------


def retrieval_frames(folder: Path, tmp_path: Path) -> None:
    rules = {"decord": "retrieval_fps", "cv2": "retrieval_seconds"}
    for entry in _load_json(folder / "frames.json"):
        options = {"fps": entry["fps"], "start": entry.get("start"), "end": entry.get("end")}
        rule = SAMPLERS[rules[entry["extractor"]]]
        frames = rule(entry["n_frames"], entry["max_frames"], **options)[0]
        taken = frames[frames != BLANK]
        if "error" in entry:
            # The original stops on a rate below one frame per two seconds; ours then takes every frame.
            assert len(taken) == min(entry["n_frames"], entry["max_frames"])
            continue
        _check(taken, entry["indices"] if "indices" in entry else entry["slice_framepos2_selected"], entry)
        assert entry.get("mask_sum", len(taken)) == len(taken)
        if "frames_read" in entry:
            read = rule(entry["n_frames"], entry["n_frames"], **options)[0]
            _check(read[read != BLANK], entry["frames_read"], entry)
