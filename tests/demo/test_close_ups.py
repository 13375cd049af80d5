"""Stills from near and far: what they show is balanced and in the picture; lists name it; reliable files."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from program import run
from video.clips import decode_in_order

from internvideo_hf.demo.close_ups import NUM_FRAMES, look_at, make_data_set, render
from internvideo_hf.demo.synthetic import BACKGROUNDS, COLORS, SHAPES, SIZES

WIDTHS = {"near": 64, "middle": 96, "far": 128}
LOOKS = [look_at("train", index) for index in range(900)]


def test_looks_are_balanced_at_every_distance_and_leave_out_the_pairs_of_hard():
    for distance in WIDTHS:
        looks = {(one.shape, one.color, one.background, one.size) for one in LOOKS if one.distance == distance}
        assert len(looks) == 300
    for table, name in ((SHAPES, "shape"), (COLORS, "color"), (BACKGROUNDS, "background"), (SIZES, "size")):
        assert set(Counter(getattr(look, name) for look in LOOKS).values()) == {900 // len(table)}
    assert all(list(SHAPES).index(look.shape) != list(COLORS).index(look.color) for look in LOOKS)


@pytest.mark.parametrize("distance", WIDTHS)
def test_stills_differ_and_show_the_color_and_from_near_all_of_the_shape(distance):
    look = replace(LOOKS[0], distance=distance, shape="square", color="red", size="large", background="plain")
    frames = np.stack(list(render(look))).astype(int)
    assert frames.shape == (NUM_FRAMES, WIDTHS[distance], WIDTHS[distance], 3)
    red = frames[..., 0] - frames[..., 1:].max(-1) > 60
    areas = red.sum((1, 2))
    # A square of circumradius r covers 2 r^2 pixels; large ones have r from 22 to 30. What leaves a far frame on one
    # side enters it on the other.
    assert (areas > 0.9 * 2 * 22**2).all() and (areas < 1.1 * 2 * 30**2).all()
    middles = np.array([np.argwhere(one).mean(0) for one in red])
    assert middles.std(0).min() > 1 and len({frame.tobytes() for frame in frames}) == NUM_FRAMES


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("close") / "ups"
    assert make_data_set(out, 30) == 0
    return out


def test_lists_name_the_videos_and_what_they_show(folder):
    rows = {
        name: list(map(json.loads, (folder / f"{name}.jsonl").read_text().splitlines()))
        for name in ("train_near", "train", "val_near", "val")
    }
    assert {name: len(found) for name, found in rows.items()} == {
        "train_near": 10,
        "train": 20,
        "val_near": 1,
        "val": 2,
    }
    for name, widths in {"train_near": {64}, "train": {96, 128}, "val_near": {64}, "val": {96, 128}}.items():
        frames = [decode_in_order(folder / row["video"]) for row in rows[name]]
        assert {one[0].shape[1] for one in frames} == widths and all(len(one) == NUM_FRAMES for one in frames)
    assert (folder / "near.txt").read_text().split() == [row["video"] for row in rows["train_near"]]
    look = look_at("train", 0)
    assert rows["train_near"][0] == {"video": "train/00000.mp4"} | {
        name: getattr(look, name) for name in ("shape", "color", "background", "size")
    }
    assert (folder / "size.txt").read_text() == "small\nlarge\n"
    assert "internvideo make-demo-data OUT --close-ups --clips 30 --seed 0" in (folder / "README.md").read_text()


def test_it_goes_on_and_gives_the_same_bytes(folder, tmp_path):
    again = tmp_path / "again"
    assert make_data_set(again, 30, jobs=2) == 0
    name = look_at("train", 1).video
    assert (again / name).read_bytes() == (folder / name).read_bytes()
    (again / name).unlink()
    assert make_data_set(again, 30) == 32
    assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_names_and_numbers_are_checked():
    for arguments, word in ((("tset", 0), "split"), (("train", -1), "index"), (("train", 0, -1), "seed")):
        with pytest.raises(ValueError, match=word):
            look_at(*arguments)


def test_the_least_set_has_no_empty_list_and_a_smaller_one_is_refused(tmp_path):
    assert make_data_set(tmp_path / "least", 3) == 0
    lists = {path.name: path.read_text() for path in (tmp_path / "least").glob("*.jsonl")}
    assert len(lists) == 4 and all(lists.values())
    result = run("make-demo-data", str(tmp_path / "none"), "--close-ups", "--clips", "2")
    assert result.returncode == 2 and "clips: got 2, expected at least 3" in result.stderr
    assert not (tmp_path / "none").exists()


def test_command(tmp_path):
    result = run("make-demo-data", str(tmp_path / "stills"), "--close-ups", "--clips", "3", "--quiet")
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "stills/train").iterdir())) == 3
    both = run("make-demo-data", str(tmp_path / "both"), "--close-ups", "--boxed")
    assert both.returncode == 2 and "--close-ups" in both.stderr
