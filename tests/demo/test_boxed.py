"""Drawn videos of several shapes: boxes lie around shapes that move, in the layout of AVA; reliable files."""

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from program import run
from video.clips import decode_in_order

from internvideo_hf.demo import boxed
from internvideo_hf.demo.boxed import RATE, SUBSETS, boxes, make_data_set, render, script_at, split_sizes
from internvideo_hf.demo.synthetic import ACTIONS, COLORS, SHAPES

SCRIPTS = [script_at(subset, index) for subset in SUBSETS for index in range(60)]


def test_two_to_four_shapes_do_different_things_and_splits_share_no_composition():
    assert Counter(len(script.actors) for script in SCRIPTS).keys() == {2, 3, 4}
    seen: dict[str, set[tuple[str, str, str]]] = {subset: set() for subset in SUBSETS}
    for script in SCRIPTS:
        assert len({actor.action for actor in script.actors}) == len(script.actors)
        seen[script.subset] |= {(actor.shape, actor.color, actor.action) for actor in script.actors}
    assert not seen["train"] & seen["val"] and not (seen["train"] | seen["val"]) & seen["test"]
    for shape, color, action in seen["test"]:
        places = (list(table).index(name) for table, name in ((SHAPES, shape), (COLORS, color), (ACTIONS, action)))
        assert sum(places) % 6 == 0
    count = Counter(actor.action for script in SCRIPTS for actor in script.actors)
    assert count.keys() == ACTIONS.keys() and min(count.values()) > 0.4 * max(count.values())


def test_shapes_stay_in_the_frame_and_apart_and_do_what_their_action_says():
    for script in SCRIPTS:
        poses = [actor.pose for actor in script.actors]
        for number, pose in enumerate(poses):
            for way in (pose.x, pose.y):
                assert (way >= pose.radius).all() and (way <= 128 - pose.radius).all() and len(way) == 24
            for other in poses[:number]:
                assert (np.hypot(pose.x - other.x, pose.y - other.y) > pose.radius + other.radius).all()
        for actor in script.actors:
            steps = {name: np.diff(getattr(actor.pose, name)) for name in ("x", "y", "angle", "radius")}
            if actor.action == "moves up":
                assert (steps["y"] < -1).all() and not steps["x"].any()
            if actor.action == "rotates clockwise":
                assert (steps["angle"] % (2 * np.pi) < np.pi / 4).all() and not steps["y"].any()
            if actor.action == "grows":  # but for where it begins again
                assert (steps["radius"] > 0).sum() >= len(steps["radius"]) - 2


def test_a_box_is_that_of_the_pixels_of_its_shape():
    for script in SCRIPTS[:5]:
        frame, empty = (list(render(one))[8].astype(int) for one in (script, _without_shapes(script)))
        changed = np.abs(frame - empty).max(axis=2) > 60
        outside = changed.copy()
        for left, top, right, bottom in (boxes(script, 1) * 128).round().astype(int):
            assert changed[top:bottom, left:right].mean() > 0.2
            assert changed[top, left:right].any() or changed[top + 1, left:right].any()
            outside[top - 1 : bottom + 1, left - 1 : right + 1] = False
        assert not outside.any()


def _without_shapes(script: boxed.Script) -> boxed.Script:
    """Return the same scene with shapes too small to be seen."""
    actors = []
    for actor in script.actors:
        pose = actor.pose
        gone = boxed.Track(pose.x, pose.y, pose.angle, np.full_like(pose.radius, 1e-3))
        actors.append(boxed.Actor(actor.shape, actor.color, actor.action, gone))
    return boxed.Script(script.subset, script.index, script.background, tuple(actors))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("many") / "shapes"
    assert make_data_set(out, 2) == 0
    return out


def test_lists_are_of_ava_and_name_the_videos(folder):
    names = (folder / "labels.txt").read_text().splitlines()
    for subset, videos in split_sizes(2).items():
        rows = list(csv.reader((folder / f"{subset}.csv").open()))
        assert {row[0] for row in rows} == {f"{subset}_{index:05d}" for index in range(videos)}
        for script in (script_at(subset, index) for index in range(videos)):
            found = [row for row in rows if row[0] == script.name]
            assert [row[1] for row in found] == [s for s in ("0001", "0002") for _ in script.actors]
            assert [names[int(row[6]) - 1] for row in found] == [actor.action for actor in script.actors] * 2
            assert [row[7] for row in found] == [str(n) for n in range(len(script.actors))] * 2
            edges = np.array([row[2:6] for row in found], dtype=float)
            assert (edges[:, 2:] - edges[:, :2] > 0.05).all() and (edges >= 0).all() and (edges <= 1).all()
            frames = decode_in_order(folder / script.video)
            assert len(frames) == 3 * RATE and frames[0].shape == (128, 128, 3)
    assert "internvideo make-demo-data OUT --boxed --clips 2 --seed 0" in (folder / "README.md").read_text()


def test_no_box_is_larger_than_its_shape():
    for script in SCRIPTS:
        for second in boxed.KEY_SECONDS:
            sizes = np.diff(boxes(script, second).reshape(-1, 2, 2) * 128, axis=1)[:, 0]
            radii = np.array([actor.pose.radius[second * RATE] for actor in script.actors])
            assert (sizes <= 2 * radii[:, None] + 2).all()


def test_detections_lie_near_the_true_boxes(folder):
    true, found = (list(csv.reader((folder / name).open())) for name in ("test.csv", "test_detections.csv"))
    assert [row[:2] for row in found] == [row[:2] for row in true] and not (folder / "train_detections.csv").exists()
    edges, moved = (np.array([row[2:6] for row in rows], dtype=float) for rows in (true, found))
    sizes = np.tile(edges[:, 2:] - edges[:, :2], 2)
    shares = np.abs(moved - edges) / sizes
    assert shares.max() <= 0.1 + 1e-3 and 0.02 < shares.mean() < 0.08
    assert all(row[6] == "" and 0.8 <= float(row[7]) <= 1 for row in found)


def test_what_is_rendered_depends_on_the_seed_alone():
    script = script_at("val", 3, seed=1)
    first, second = (next(render(script, seed)) for seed in (1, 2))
    assert np.array_equal(first, next(render(script, 1))) and not np.array_equal(first, second)
    assert boxes(script, 1, 1).tolist() == boxes(script_at("val", 3, seed=1), 1, 1).tolist()


def test_a_stopped_run_goes_on_and_others_files_stay(folder):
    (folder / "videos/test_00000.mp4").unlink()
    done: list[int] = []
    assert make_data_set(folder, 2, on_done=lambda: done.append(1)) == 3 and len(done) == 4
    with pytest.raises(FileExistsError, match="other settings"):
        make_data_set(folder, 3)
    with pytest.raises(ValueError, match="videos: got 0"):
        make_data_set(folder, 0)
    with pytest.raises(ValueError, match="seed: got -1"):
        make_data_set(folder, 1, seed=-1)
    assert split_sizes() == dict(zip(SUBSETS, (2000, 200, 200), strict=True))


def test_the_command_refuses_a_folder_of_clips_and_two_kinds_at_once(tmp_path):
    (tmp_path / "settings.json").write_text(json.dumps({"construction": 2, "clips": 12, "seed": 0}))
    result = run("make-demo-data", tmp_path, "--boxed", "--clips", 1)
    assert result.returncode == 2 and "other settings" in result.stderr
    result = run("make-demo-data", tmp_path / "new", "--boxed", "--untrimmed")
    assert result.returncode == 2 and "once for each" in result.stderr and not (tmp_path / "new").exists()
