"""Untrimmed synthetic videos: where something moves is where the annotations say so; reliable files."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from program import run
from video.clips import decode_in_order

from internvideo_hf.demo import untrimmed
from internvideo_hf.demo.synthetic import ACTIONS, SIZES, clip_at, ways
from internvideo_hf.demo.synthetic import track as track_of_clip
from internvideo_hf.demo.untrimmed import RATE, SUBSETS, make_data_set, render, script_at, split_sizes, track
from internvideo_hf.tasks.temporal_localization.annotations import read_annotations

SCRIPTS = [script_at("training", index) for index in range(40)]


def test_actions_lie_apart_in_videos_of_half_a_minute_to_one_and_a_half():
    for script in SCRIPTS:
        assert 30 <= script.num_frames / RATE <= 90 and len(script.segments) >= 2
        ends = [0, *(end for segment in script.segments for end in (segment.start, segment.end)), script.num_frames]
        lengths = np.diff(ends) / RATE
        assert (lengths >= 2).all() and (lengths[1::2] <= 6).all() and (lengths[:-1:2] <= 8).all()
    count = Counter(segment.action for script in SCRIPTS for segment in script.segments)
    assert count.keys() == ACTIONS.keys() and min(count.values()) > 0.5 * max(count.values())


def test_the_shape_moves_in_its_actions_and_only_there():
    for script in SCRIPTS[:10]:
        pose = track(script)
        steps = np.abs(np.diff(np.stack([pose.x, pose.y, pose.angle, pose.radius]), axis=1)).max(axis=0) > 1e-9
        moving = np.zeros(script.num_frames - 1, dtype=bool)
        for segment in script.segments:
            moving[segment.start : segment.end] = True
        assert not steps[~moving].any() and steps[moving].mean() > 0.99


def test_an_action_is_that_of_a_clip_at_half_the_rate(monkeypatch):
    clip = clip_at("train", list(ACTIONS).index("circles around clockwise"))
    pose = track_of_clip(clip)
    change = ACTIONS[clip.action].change(np.random.default_rng(3))
    longer = ways(clip.action, np.random.default_rng(3), 100)
    for values, extended in zip((change.x, change.y), longer[:, :2].T, strict=True):
        assert extended[:32] == pytest.approx(values - values[0])
        # A sine of that period goes on: a full turn later it is where it was.
        assert np.abs(extended + values[0]).max() == pytest.approx(np.abs(values).max(), rel=0.1)
    moves = ACTIONS["moves up"].change(np.random.default_rng(3))
    longer = ways("moves up", np.random.default_rng(3), 65)
    assert longer[[32, 64], 1] == pytest.approx(moves.y[1] * np.array([32, 64]))
    assert not longer[:, 0].any() and len(pose.x) == 32
    assert pose.radius.max() <= max(size.radii[1] for size in SIZES.values())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("long") / "shapes"
    patch = pytest.MonkeyPatch()
    patch.setattr(untrimmed, "SECONDS", (9, 10))  # of half a minute, they take long to draw
    assert make_data_set(out, 1) == 0
    patch.undo()
    return out


def test_annotations_are_of_activitynet_and_name_the_videos(folder):
    found = read_annotations(folder / "annotations.json")
    assert set(found.classes.values()) <= set(ACTIONS) and list(found.of_subset("testing")) == ["testing_0000"]
    for name, video in found.videos.items():
        frames = decode_in_order(folder / f"videos/{name}.mp4")
        assert len(frames) == video.duration * video.fps and frames[0].shape == (128, 128, 3)
        assert (video.segments[:, 1] <= video.duration).all()
    assert "internvideo make-demo-data OUT --untrimmed --clips 1 --seed 0" in (folder / "README.md").read_text()


def test_what_is_rendered_depends_on_the_seed_alone():
    script = script_at("validation", 3, seed=1)
    first, second = (next(render(script, seed)) for seed in (1, 2))
    assert np.array_equal(first, next(render(script, 1))) and not np.array_equal(first, second)
    assert script_at("validation", 3, seed=1) == script != script_at("validation", 3, seed=2)


def test_a_stopped_run_goes_on_and_others_files_stay(folder, monkeypatch):
    monkeypatch.setattr(untrimmed, "SECONDS", (9, 10))
    (folder / "videos/testing_0000.mp4").unlink()
    done: list[int] = []
    assert make_data_set(folder, 1, on_done=lambda: done.append(1)) == 2 and len(done) == 3
    with pytest.raises(FileExistsError, match="other settings"):
        make_data_set(folder, 2)
    with pytest.raises(ValueError, match="videos: got 0"):
        make_data_set(folder, 0)
    with pytest.raises(ValueError, match="seed: got -1"):
        make_data_set(folder, 1, seed=-1)
    assert split_sizes() == dict(zip(SUBSETS, (200, 40, 40), strict=True)) and split_sizes(3)["testing"] == 1


def test_a_folder_of_clips_is_refused_by_the_command(tmp_path):
    (tmp_path / "settings.json").write_text(json.dumps({"construction": 2, "clips": 12, "seed": 0}))
    result = run("make-demo-data", tmp_path, "--untrimmed", "--clips", 1)
    assert result.returncode == 2 and "other settings" in result.stderr
