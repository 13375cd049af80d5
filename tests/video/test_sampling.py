"""Sampling rules on small tables, short videos, and properties that hold at every length."""

import inspect
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from internvideo_hf.video.sampling import BLANK, SAMPLERS, views

EVALUATION = [name for name in SAMPLERS if not name.endswith("train")]
TRAINING = [name for name in SAMPLERS if name.endswith("train")]
LENGTHS = [1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 63, 64, 65, 100, 301]


def sample(name: str, length: int, num_frames: int, num_clips: int = 1, seed: int = 0, **options) -> np.ndarray:
    """Call a rule with its required options."""
    parameters = inspect.signature(SAMPLERS[name]).parameters
    if "generator" in parameters:
        options.setdefault("generator", np.random.default_rng(seed))
    if "fps" in parameters:
        options.setdefault("fps", 25.0)
    return SAMPLERS[name](length, num_frames, num_clips, **options)


# ---- tables ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "length", "num_frames", "num_clips", "options", "expected"),
    [
        ("internvideo_mm", 37, 4, 1, {}, [[0, 12, 24, 36]]),
        ("internvideo_mm", 10, 4, 1, {}, [[0, 3, 6, 9]]),
        ("internvideo_mm", 20, 4, 2, {}, [[0, 3, 6, 9], [10, 13, 16, 19]]),
        ("internvideo_mm_intervals", 17, 4, 1, {}, [[1, 5, 9, 14]]),
        ("internvideo_mm_intervals", 16, 2, 2, {}, [[1, 5], [9, 13]]),
        ("viclip_middle", 17, 4, 1, {}, [[1, 5, 9, 14]]),
        ("viclip_stride", 11, 4, 1, {}, [[0, 2, 4, 6]]),
        ("viclip_fps", 100, 3, 1, {"sample_fps": 0.5}, [[25, 75, 75]]),
        ("viclip_fps", 300, 3, 1, {"fps": 30.0}, [[15, 45, 75]]),
        ("videomae_dense", 24, 4, 3, {"sampling_rate": 2}, [[0, 2, 4, 6], [8, 10, 12, 14], [16, 18, 20, 22]]),
        ("videomae_dense", 24, 4, 1, {"sampling_rate": 2}, [[8, 10, 12, 14]]),
        ("videomae_dense_validation", 100, 4, 1, {"sampling_rate": 4}, [[42, 47, 52, 57]]),
        ("videomae_sparse", 16, 4, 2, {}, [[0, 4, 8, 12], [2, 6, 10, 14]]),
        ("videomae_ssv2_validation", 18, 4, 1, {}, [[2, 6, 10, 14]]),
        # int(s * tick / S + tick * x) of the last 60 frames, tick 7.5
        ("ego4d_hands", 100, 8, 1, {"fps": 30.0}, [[40, 47, 55, 62, 70, 77, 85, 92]]),
        ("ego4d_hands", 100, 4, 2, {"fps": 10.0, "seconds": 1.6}, [[84, 88, 92, 96], [86, 90, 94, 98]]),
        ("ego4d_hands", 16, 4, 2, {"fps": 10.0, "seconds": 9}, [[0, 4, 8, 12], [2, 6, 10, 14]]),
        ("uniformerv2", 97, 4, 1, {}, [[12, 36, 60, 84]]),
        ("uniformerv2", 97, 4, 3, {}, [[6, 30, 54, 78], [12, 36, 60, 84], [18, 42, 66, 90]]),
        ("retrieval_fps", 250, 4, 1, {}, [[0, 75, 150, 225]]),
        ("retrieval_seconds", 250, 4, 1, {"position": "tail"}, [[150, 175, 200, 225]]),
        ("retrieval_seconds", 250, 4, 1, {"position": "head"}, [[0, 25, 50, 75]]),
        ("retrieval_seconds", 250, 4, 1, {"fps": 29.97}, [[0, 58, 145, 232]]),
        ("openset", 20, 4, 1, {}, [[6, 8, 10, 12]]),
        ("openset", 20, 4, 2, {}, [[3, 5, 7, 9], [9, 11, 13, 15]]),
        ("openset_dense", 20, 4, 3, {"sample_range": 8}, [[0, 2, 4, 6], [6, 8, 10, 12], [12, 14, 16, 18]]),
    ],
)
def test_evaluation_table(name, length, num_frames, num_clips, options, expected) -> None:
    assert sample(name, length, num_frames, num_clips, **options).tolist() == expected


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("internvideo_mm", {}, [0, 0, 0, 1, 1, 2]),
        ("internvideo_mm_intervals", {}, [0, 1, 2, 2, 2, 2]),
        ("viclip_stride", {}, [0, 1, 2, 2, 2, 2]),
        ("viclip_middle", {}, [0, 1, 2, 2, 2, 2]),
        ("viclip_fps", {}, [2, 2, 2, 2, 2, 2]),
        ("videomae_dense", {"sampling_rate": 2}, [0, 2, 2, 2, 2, 2]),
        ("videomae_dense_validation", {"sampling_rate": 1}, [0, 1, 2, 2, 2, 2]),
        ("videomae_dense_validation", {"sampling_rate": 4}, [2, 2, 2, 2, 2, 2]),
        ("videomae_sparse", {}, [0, 0, 1, 1, 2, 2]),
        ("videomae_ssv2_validation", {}, [0, 0, 0, 0, 1, 2]),
        ("uniformerv2", {}, [0, 0, 1, 1, 1, 2]),
        ("retrieval_fps", {"fps": 1.0}, [0, 1, 2, BLANK, BLANK, BLANK]),
        ("retrieval_fps", {"fps": 1.0, "padding": "last"}, [0, 1, 2, 2, 2, 2]),
        ("retrieval_seconds", {"fps": 2.9}, [0, 2, BLANK, BLANK, BLANK, BLANK]),
        ("openset", {}, [0, 2, 1, 0, 2, 1]),
        ("openset_dense", {}, [0, 2, 1, 0, 2, 1]),
        ("videomae_dense_train", {"sampling_rate": 1}, [0, 1, 2, 2, 2, 2]),
        ("videomae_sparse_train", {}, [2, 2, 2, 2, 2, 2]),
        ("videomae_ssv2_train", {}, [0, 0, 0, 0, 1, 2]),
        ("videomae_pretrain", {"sampling_rate": 1}, [0, 1, 1, 1, 1, 1]),
        ("viclip_train", {}, [0, 1, 2, 2, 2, 2]),
        ("openset_train", {}, [0, 2, 1, 0, 2, 1]),
        ("openset_dense_train", {}, [0, 2, 1, 0, 2, 1]),
    ],
)
def test_six_frames_of_a_video_of_three(name: str, options: dict, expected: list[int]) -> None:
    assert sample(name, 3, 6, **options).tolist() == [expected]


def test_uniformerv2_training_of_a_video_of_three_stays_in_its_segments() -> None:
    indices = sample("uniformerv2_train", 3, 6)[0]
    assert (indices >= [0, 0, 1, 1, 1, 2]).all() and (indices <= [0, 1, 1, 1, 2, 2]).all()


def test_dense_windows_of_open_set_group_by_window() -> None:
    starts = sample("openset_dense", 100, 4, 4, sample_range=64, clips_per_start=2)[:, 0]
    assert starts.tolist() == [0, 32, 36, 68]


def test_retrieval_time_window() -> None:
    window = {"fps": 25.0, "start": 0, "end": 5}
    assert sample("retrieval_fps", 900, 8, **window)[0].tolist() == [0, 25, 50, 75, 100, 125, BLANK, BLANK]
    reversed_window = {"fps": 25.0, "start": 5, "end": 0}
    assert (
        sample("retrieval_fps", 900, 8, **reversed_window).tolist()
        == sample("retrieval_fps", 900, 8, **window).tolist()
    )
    assert sample("retrieval_fps", 900, 3, fps=25.0, start=3, end=3)[0].tolist() == [75, 100, BLANK]
    assert sample("retrieval_seconds", 40, 3, fps=25.0, start=2, end=9)[0].tolist() == [BLANK] * 3
    assert sample("retrieval_fps", 100, 2, 2, fps=25.0).tolist() == [[0, 25], [50, 75]]


@pytest.mark.parametrize("name", ["retrieval_fps", "retrieval_seconds"])
def test_retrieval_of_a_slide_show_takes_every_frame(name: str) -> None:
    assert sample(name, 3, 3, fps=0.4).tolist() == [[0, 1, 2]]


# ---- reference tables of kinds that hold more than indices ----------------------------------------------------------


def test_viclip_tables(golden: Path) -> None:
    table = json.loads((golden / "viclip_protocol" / "frame_indices.json").read_text())
    for entry in table["middle"]:
        assert sample("viclip_middle", entry["vlen"], entry["num_frames"])[0].tolist() == entry["middle"]
    for entry in table["rand"]:
        length, num_frames = entry["vlen"], entry["num_frames"]
        # The original falls back from `random` to `numpy.random` where an interval has one frame.
        source = np.random.RandomState if length < 2 * num_frames else random.Random
        indices = sample("viclip_train", length, num_frames, generator=source(entry["py_and_numpy_seed"]))
        assert indices[0].tolist() == entry["rand"]
    for entry in table["fps"]:
        rates = {"fps": entry["input_fps"], "sample_fps": float(entry["sample"].removeprefix("fps"))}
        stored = entry["idx"]
        indices = sample("viclip_fps", entry["vlen"], len(stored), **rates)[0]
        assert indices.tolist() == stored
        if entry["max_num_frames"] < 0:
            assert set(sample("viclip_fps", entry["vlen"], len(stored) + 3, **rates)[0, len(stored) :]) == {stored[-1]}


def test_viclip_demo_frames(golden: Path) -> None:
    config = json.loads((golden / "viclip_frames2tensor" / "config.json").read_text())
    assert sample("viclip_stride", config["num_input_frames"], config["fnum"])[0].tolist() == config["selected"]


# ---- what holds at every length -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("num_clips", [1, 2, 3, 10])
def test_shape_type_and_range(name: str, num_clips: int) -> None:
    lowest = BLANK if name.startswith("retrieval") else 0
    for length in LENGTHS:
        for num_frames in (1, 4, 8, 16):
            indices = sample(name, length, num_frames, num_clips)
            assert indices.shape == (num_clips, num_frames)
            assert indices.dtype == np.int64
            assert indices.min() >= lowest and indices.max() < length, (length, num_frames)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if not name.startswith(("openset", "retrieval"))])
def test_clips_ascend(name: str) -> None:
    for length in LENGTHS:
        assert (np.diff(sample(name, length, 8, 3)) >= 0).all(), length


@pytest.mark.parametrize("name", ["retrieval_fps", "retrieval_seconds"])
def test_blank_comes_last_only(name: str) -> None:
    for length in LENGTHS:
        blank = sample(name, length, 8, 2, fps=2.0) == BLANK
        assert (np.diff(blank.astype(int)) >= 0).all(), length


@pytest.mark.parametrize("name", TRAINING)
def test_draws_follow_the_seed_and_vary(name: str) -> None:
    draws = [sample(name, 301, 8, 2, seed=seed).tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize("name", TRAINING)
@pytest.mark.parametrize(
    "make",
    [np.random.default_rng, np.random.RandomState, random.Random, lambda seed: torch.Generator().manual_seed(seed)],
)
def test_every_kind_of_generator_draws(name: str, make) -> None:
    for length in (5, 301):
        indices = sample(name, length, 8, 2, generator=make(3))
        assert indices.dtype == np.int64
        assert indices.tolist() == sample(name, length, 8, 2, generator=make(3)).tolist()


def test_sampler_arguments_are_uniform() -> None:
    for name, rule in SAMPLERS.items():
        parameters = list(inspect.signature(rule).parameters.values())
        assert [parameter.name for parameter in parameters[:3]] == ["length", "num_frames", "num_clips"]
        assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters[3:])
        assert ("generator" in inspect.signature(rule).parameters) == name.endswith("train")


# ---- views ----------------------------------------------------------------------------------------------------------


def test_views_decode_each_frame_once_and_list_crops_within_clips() -> None:
    indices = np.array([[0, 4, 8], [4, 8, 8], [8, 12, BLANK]])
    frames, clips, order = views(indices, num_crops=2)
    assert frames.tolist() == [0, 4, 8, 12]
    assert clips.tolist() == [[0, 1, 2], [1, 2, 2], [2, 3, BLANK]]
    assert order.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1]]


def test_training_for_hands_draws_a_frame_of_each_part_of_the_end() -> None:
    found = [sample("ego4d_hands_train", 100, 4, seed=seed, fps=10.0, seconds=1.6)[0] for seed in range(60)]
    assert {tuple((row - 84) // 4) for row in found} == {(0, 1, 2, 3)} and len({tuple(row) for row in found}) > 30
    assert min(row.min() for row in found) == 84 and max(row.max() for row in found) == 99


def test_views_give_the_indices_back() -> None:
    for name in ("videomae_dense", "uniformerv2", "openset_dense"):
        indices = sample(name, 65, 16, 5)
        frames, clips, _ = views(indices, num_crops=3)
        assert np.array_equal(frames[clips], indices)
        assert len(frames) == len(set(indices.ravel().tolist()))


# ---- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize(("argument", "numbers"), [("length", (0, 8)), ("length", (-3, 8)), ("num_frames", (9, 0))])
def test_numbers_must_be_positive(name: str, argument: str, numbers: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"{argument}: got {min(numbers)}, expected an integer of at least 1; "):
        sample(name, *numbers)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample("internvideo_mm", 9.0, 8), "length: got 9.0"),
        (lambda: sample("internvideo_mm", 9, 8, 0), "num_clips: got 0"),
        (lambda: sample("videomae_dense", 9, 8, sampling_rate=0), "sampling_rate: got 0"),
        (lambda: sample("retrieval_fps", 9, 8, fps=None), "fps: got None"),
        (lambda: sample("retrieval_fps", 9, 8, fps=0.0), "fps: got 0.0"),
        (lambda: sample("retrieval_fps", 9, 8, start=1), "start, end: got 1, None, expected both"),
        (lambda: sample("retrieval_fps", 9, 8, padding="zero"), "padding: got 'zero', expected one of blank, last"),
        (lambda: sample("retrieval_fps", 9, 8, start=7, end=8, padding="last"), "after the end of the video"),
        (lambda: sample("retrieval_seconds", 9, 8, position="2"), "position: got '2', expected one of uniform"),
        (lambda: sample("ego4d_hands", 9, 8, seconds=0), "seconds: got 0, expected a number above 0"),
        (lambda: sample("ego4d_hands_train", 9, 8, fps=None), "fps: got None"),
        (lambda: sample("openset_dense", 9, 8, 3, clips_per_start=2), "num_clips: got 3, expected a multiple"),
        (lambda: sample("uniformerv2_train", 9, 8, generator=7), "generator: got int, expected numpy"),
        (lambda: views(np.arange(4)), r"indices: got shape \(4,\)"),
        (lambda: views(np.zeros((1, 4)), 0), "num_crops: got 0"),
    ],
)
def test_errors_name_what_was_got(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
