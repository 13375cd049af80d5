"""Drawn videos of ways: they lie in the frame, are annotated where the shape is, and cannot be guessed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from program import run
from video.clips import decode_in_order

from internvideo_hf.demo.future import (
    MOMENTS,
    MOTIONS,
    OBSERVED,
    RATE,
    SUBSETS,
    make_data_set,
    places,
    render,
    script_at,
    split_of,
    split_sizes,
    track,
)
from internvideo_hf.demo.synthetic import BACKGROUNDS, COLORS, SHAPES
from internvideo_hf.tasks.hand_prediction.annotations import read_hands, read_predictions
from internvideo_hf.tasks.hand_prediction.metrics import displacement_scores

SCRIPTS = [script_at(subset, index) for subset in SUBSETS for index in range(60)]


def test_splits_share_no_composition_and_motions_are_balanced():
    seen: dict[str, set[tuple[str, ...]]] = {subset: set() for subset in SUBSETS}
    for script in SCRIPTS:
        look = script.shape, script.color, script.background, script.motion
        seen[script.subset].add(look)
        places = zip((SHAPES, COLORS, BACKGROUNDS, MOTIONS), look, strict=True)
        rest = sum(list(table).index(name) for table, name in places) % 6
        assert {"test": rest == 0, "val": rest == 1, "train": rest > 1}[script.subset]
    assert not seen["train"] & (seen["val"] | seen["test"]) and not seen["val"] & seen["test"]
    for subset in SUBSETS:
        motions = [script.motion for script in SCRIPTS if script.subset == subset]
        assert {motions.count(motion) for motion in MOTIONS} == {12}
    assert split_of("square", "red", "plain", "glides") == "test"


def test_ways_stay_in_the_frame_and_are_what_their_motion_says():
    for script in SCRIPTS:
        pose = track(script)
        way = np.stack([pose.x, pose.y], axis=1)
        assert (way >= pose.radius[0]).all() and (way <= 128 - pose.radius[0]).all() and len(way) == 33
        steps = np.linalg.norm(np.diff(way, axis=0), axis=1)
        bend = np.linalg.norm(np.diff(way, n=2, axis=0), axis=1)
        if script.motion == "glides":
            assert bend.max() < 1e-9 and steps.min() > 1.5
        if script.motion == "speeds up":
            assert (np.diff(steps) > 0).all()
        if script.motion == "slows down":
            assert (np.diff(steps) < 0).all()
        if script.motion == "curves":
            assert np.ptp(steps) < 1e-9 and bend.min() > 0.05


def test_the_shape_is_seen_where_it_is_said_to_be():
    for script in SCRIPTS[::20]:
        frames = np.stack(list(render(script))).astype(float)
        way = places(script)
        other = replace(script, color="white" if script.color != "white" else "red")
        changed = np.abs(frames - np.stack(list(render(other)))).max(axis=3) > 40  # the same scene and way
        for moment in (0, OBSERVED, 32):
            y, x = np.nonzero(changed[moment])
            middle = np.array([x.min() + x.max() + 1, y.min() + y.max() + 1]) / 2
            assert np.abs(middle - way[moment]).max() < 0.6 * track(script).radius[0]
            assert np.abs([x.mean(), y.mean()] - way[moment]).max() < 0.5 * track(script).radius[0]


def test_where_it_was_seen_last_is_far_from_where_it_will_be():
    found = {motion: [] for motion in MOTIONS}
    for script in SCRIPTS:
        way = places(script)
        found[script.motion].append(np.hypot(*(way[list(MOMENTS.values())] - way[OBSERVED - 1]).T))
    means = {motion: np.mean(rows, axis=0) for motion, rows in found.items()}
    assert 18 < np.mean([rows.mean() for rows in means.values()]) < 26
    assert 32 < np.mean([rows[-1] for rows in means.values()]) < 45 and min(rows[-1] for rows in means.values()) > 12
    assert RATE == MOMENTS["contact_frame"] - MOMENTS["pre_45"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("ways") / "shapes"
    assert make_data_set(out, 2) == 0
    return out


def test_lists_are_of_ego4d_and_name_the_videos(folder):
    for subset, videos in split_sizes(2).items():
        clips = read_hands(folder / f"hands_{subset}.json")
        assert [clip.name for clip in clips] == [f"{subset}_{index:05d}_15" for index in range(videos)]
        for index, clip in enumerate(clips):
            way = places(script_at(subset, index))
            points = clip.points.reshape(5, 2, 2)
            assert points[:, 0] == pytest.approx(way[[16, 20, 24, 28, 32]], abs=1e-3) and not points[:, 1].any()
            frames = decode_in_order(folder / f"clips/{clip.clip}.mp4")
            assert len(frames) == 33 and frames[0].shape == (128, 128, 3)
    stays = read_predictions(folder / "hands_test_last.json")
    (clip,) = read_hands(folder / "hands_test.json")
    last = places(script_at("test", 0))[15]
    assert stays[clip.name].reshape(5, 2, 2)[:, 0] == pytest.approx(np.tile(last, (5, 1)), abs=1e-3)
    assert displacement_scores(stays[clip.name][None], clip.points[None])["left C.Disp"] > 0
    assert not (folder / "hands_train_last.json").exists()
    assert "internvideo make-demo-data OUT --future --clips 2 --seed 0" in (folder / "README.md").read_text()


def test_what_is_rendered_depends_on_the_seed_alone():
    script = script_at("val", 3, seed=1)
    first, second = (next(render(script, seed)) for seed in (1, 2))
    assert np.array_equal(first, next(render(script, 1))) and not np.array_equal(first, second)


def test_a_stopped_run_goes_on_and_others_files_stay(folder):
    (folder / "clips/test_00000.mp4").unlink()
    done: list[int] = []
    assert make_data_set(folder, 2, on_done=lambda: done.append(1)) == 3 and len(done) == 4
    with pytest.raises(FileExistsError, match="other settings"):
        make_data_set(folder, 3)
    with pytest.raises(ValueError, match="videos: got 0"):
        make_data_set(folder, 0)
    with pytest.raises(ValueError, match="seed: got -1"):
        make_data_set(folder, 1, seed=-1)
    assert split_sizes() == dict(zip(SUBSETS, (3000, 300, 300), strict=True)) and set(BACKGROUNDS)


def test_the_command_refuses_a_folder_of_clips_and_two_kinds_at_once(tmp_path):
    (tmp_path / "settings.json").write_text(json.dumps({"construction": 2, "clips": 12, "seed": 0}))
    result = run("make-demo-data", tmp_path, "--future", "--clips", 1)
    assert result.returncode == 2 and "other settings" in result.stderr
    result = run("make-demo-data", tmp_path / "new", "--future", "--boxed")
    assert result.returncode == 2 and "--boxed and --future make different data sets" in result.stderr
    assert not (tmp_path / "new").exists()
