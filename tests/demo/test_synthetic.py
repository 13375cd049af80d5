"""The synthetic data set: its content, no action visible in a single frame, reliable files."""

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data.settings import settings
from program import run
from video.clips import decode_in_order

from internvideo_hf.data.answers import read_answers
from internvideo_hf.data.dataset import VideoDataset
from internvideo_hf.data.manifests import load_manifest, read_manifest
from internvideo_hf.demo.synthetic import (
    ACTIONS,
    BACKGROUNDS,
    COLORS,
    NUM_FRAMES,
    QUESTIONS,
    SHAPES,
    SIZES,
    SPLITS,
    WIDTH,
    Clip,
    canonical_caption,
    captions,
    clip_at,
    make_data_set,
    render,
    split_of,
    split_sizes,
    track,
    write_clip,
)
from internvideo_hf.tasks.question_answering.data import read_questions

EXAMPLE = Clip("train", 7, "heart", "red", "moves to the left", "dotted", "small")
IN_EACH_SPLIT = 12  # of the smallest data set


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return the smallest data set, written by this process."""
    folder = tmp_path_factory.mktemp("synthetic") / "shapes"
    assert make_data_set(folder, IN_EACH_SPLIT) == 0
    return folder


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# ---- which clips there are ------------------------------------------------------------------------------------------


def test_no_composition_is_in_two_splits_and_every_pair_of_test_is_seen_in_training():
    seen = {split: set() for split in SPLITS}
    for split, size in split_sizes().items():
        for index in range(size):
            clip = clip_at(split, index)
            seen[split].add((clip.shape, clip.color, clip.action))
    assert {split: len(triples) for split, triples in seen.items()} == {
        "train": 240,
        "val": 60,
        "test": 60,
        "hard": 72,
    }
    assert len(set.union(*seen.values())) == 6 * 6 * 12
    for pair in ([0, 1], [0, 2], [1, 2]):
        pairs = {split: {(t[pair[0]], t[pair[1]]) for t in seen[split]} for split in SPLITS}
        assert pairs["test"] | pairs["val"] <= pairs["train"]
        assert pair != [0, 1] or not pairs["hard"] & (pairs["train"] | pairs["val"] | pairs["test"])
    assert split_of("square", "red", "grows") == "hard" and split_of("square", "green", "grows") == "val"


@pytest.mark.parametrize("split", SPLITS)
def test_actions_and_looks_are_spread_evenly(split):
    clips = [clip_at(split, index, seed=3) for index in range(split_sizes()[split])]
    for action in ACTIONS:
        of_action = [clip for clip in clips if clip.action == action]
        assert abs(len(of_action) - len(clips) / 12) < 1
        backgrounds, sizes = (Counter(getattr(clip, name) for clip in of_action) for name in ("background", "size"))
        assert set(backgrounds) == set(BACKGROUNDS) and max(backgrounds.values()) - min(backgrounds.values()) <= 6
        assert set(sizes) == ({None} if ACTIONS[action].changes_size else set(SIZES))
        assert max(sizes.values()) - min(sizes.values()) <= 6
    for name, table in (("shape", SHAPES), ("color", COLORS)):
        counts = Counter(getattr(clip, name) for clip in clips)
        assert all(abs(counts[word] / len(clips) - 1 / 6) < 0.03 for word in table), counts
    triples = Counter((clip.shape, clip.color, clip.action) for clip in clips)
    assert max(triples.values()) - min(triples.values()) <= 2


def test_held_out_splits_are_as_large_as_training_lets_them_be():
    assert split_sizes() == {"train": 4000, "val": 240, "test": 240, "hard": 240}
    assert split_sizes(100_000)["test"] == 240
    assert split_sizes(1000)["test"] == 60
    assert set(split_sizes(12).values()) == {12}
    with pytest.raises(ValueError, match="at least 12"):
        split_sizes(11)


# ---- sentences ------------------------------------------------------------------------------------------------------


def test_sentences_say_what_is_there():
    assert canonical_caption(EXAMPLE) == "a small red heart moves to the left over a dotted background"
    growing = Clip("val", 0, "cross", "blue", "grows", "plain", None)
    assert canonical_caption(growing) == "a blue cross grows over a plain background"
    for sentence in captions(growing)[:3]:
        assert "blue cross" in sentence and "plain" in sentence and sentence in captions(growing, seed=0)
    with pytest.raises(ValueError, match="jumps.*moves to the left"):
        replace(EXAMPLE, action="jumps")


def test_sentences_are_short_of_few_words_and_held_out_ones_all_differ():
    clips = [clip_at(split, index) for split, size in split_sizes().items() for index in range(size)]
    words = set()
    for clip in clips:
        five = captions(clip)
        assert len(set(five)) == 5
        words |= {word for sentence in [*five, canonical_caption(clip)] for word in sentence.split()}
        assert max(len(sentence.split()) for sentence in five) <= 18
        assert five[3].startswith(f"the {clip.shape} ") and clip.color not in five[3].split()
        assert five[4].startswith("something ") and five[4].endswith(f"over a {clip.background} background")
    assert len(words) < 80
    for split in ("val", "test", "hard"):
        assert len({canonical_caption(clip) for clip in clips if clip.split == split}) == 240


# ---- that no frame tells the action, and all of them do -------------------------------------------------------------


@pytest.mark.parametrize("action", ACTIONS)
def test_no_frame_tells_the_action_by_place_angle_or_size(action):
    count = 1000
    size = None if ACTIONS[action].changes_size else "small"
    clips = [replace(EXAMPLE, index=i, action=action, size=size and list(SIZES)[i % 2]) for i in range(count)]
    tracks = [track(clip, seed=5) for clip in clips]
    x, y, angle, radius = (np.array([getattr(t, name) for t in tracks]) for name in ("x", "y", "angle", "radius"))
    place = np.where(radius < 20, (radius - 13) / 4 / 2, 0.5 + (radius - 22) / 8 / 2)
    expected = (np.arange(count) + 0.5) / count
    for values in (x / WIDTH, y / WIDTH, angle / (2 * np.pi), place):
        for frame in (0, 9, 31):
            # Kolmogorov's distance from the uniform distribution.
            assert abs(np.sort(values[:, frame]) - expected).max() < 1.9 / np.sqrt(count)


def test_a_frame_of_a_file_is_the_same_whatever_surrounds_it(tmp_path, monkeypatch):
    still, moving = (render(replace(EXAMPLE, action=action), 0) for action in ("rotates clockwise", "grows"))
    moving[16] = still[16]
    found = []
    for frames in (still, moving):
        monkeypatch.setattr("internvideo_hf.demo.synthetic.render", lambda clip, seed, frames=frames: frames)
        write_clip(EXAMPLE, tmp_path / "v.mp4")
        found.append(decode_in_order(tmp_path / "v.mp4"))
    np.testing.assert_array_equal(found[0][16], found[1][16])
    assert abs(found[0][17].astype(int) - found[1][17]).max() > 50


def red_pixels(frames: np.ndarray) -> np.ndarray:
    red, green, blue = frames.astype(int).transpose(3, 0, 1, 2)
    return red - np.maximum(green, blue) > 60


def centres(masks: np.ndarray) -> np.ndarray:
    """Return the center of pixels on the torus, unwrapped; shape (frames, 2), x first."""
    turn = np.exp(2j * np.pi * np.arange(WIDTH) / WIDTH)
    angles = [np.angle((masks.sum(axis) * turn).sum(1)) for axis in (1, 2)]
    return np.unwrap(np.array(angles), axis=1).T * WIDTH / (2 * np.pi)


def drawn(action: str, shape: str = "arrow") -> np.ndarray:
    """Return a mask of the red pixels, shape (frames, height, width)."""
    size = None if ACTIONS[action].changes_size else "large"
    masks = red_pixels(render(Clip("test", 11, shape, "red", action, "cloudy", size)))
    assert masks.any((1, 2)).all()
    return masks


@pytest.mark.parametrize(
    ("action", "direction"),
    [("moves to the left", (-1, 0)), ("moves to the right", (1, 0)), ("moves up", (0, -1)), ("moves down", (0, 1))],
)
def test_moving_shapes_go_their_way(action, direction):
    way = centres(drawn(action))
    along, across = (way[-1] - way[0]) @ direction, (way[-1] - way[0]) @ direction[::-1]
    assert 1.5 * 31 - 6 < along < 2.6 * 31 + 6 and abs(across) < 6


@pytest.mark.parametrize(("action", "sign"), [("rotates clockwise", 1), ("rotates counterclockwise", -1)])
def test_rotating_shapes_stay_and_turn(action, sign):
    masks = drawn(action)
    way = centres(masks)
    assert np.ptp(way, axis=0).max() < 10
    angles = []
    for mask, (x, y) in zip(masks, way, strict=True):
        down, right = (
            (place - centre + 64) % 128 - 64 for place, centre in zip(np.nonzero(mask), (y, x), strict=True)
        )
        # The direction of the longest axis, doubled because its two ends are the same.
        angles.append(np.angle(((right + 1j * down) ** 2).sum()))
    turned = np.degrees(np.unwrap(angles)[-1] - angles[0]) / 2
    assert 5 * 31 - 10 < sign * turned < 8 * 31 + 10


@pytest.mark.parametrize(("action", "sign"), [("grows", 1), ("shrinks", -1)])
def test_growing_and_shrinking_shapes_jump_back_at_most_once(action, sign):
    masks = drawn(action)
    assert np.ptp(centres(masks), axis=0).max() < 10
    sides = np.sqrt(masks.sum((1, 2)))[::4]
    steps = sign * np.diff(sides)
    assert (steps > 0).sum() >= len(steps) - 1
    assert steps.min() > 0 or steps.min() < -0.3 * sides.max()


@pytest.mark.parametrize(
    ("action", "sign"), [("circles around clockwise", 1), ("circles around counterclockwise", -1)]
)
def test_circling_shapes_go_around(action, sign):
    way = centres(drawn(action))
    middle = (way.max(0) + way.min(0)) / 2
    angles = np.unwrap(np.angle((way - middle) @ (1, 1j)))
    assert 0.8 < sign * (angles[-1] - angles[0]) / (2 * np.pi) < 1.4
    assert 28 < np.ptp(way, axis=0).min() and np.ptp(way, axis=0).max() < 54


@pytest.mark.parametrize(("action", "axis"), [("shakes from side to side", 0), ("bounces up and down", 1)])
def test_swinging_shapes_go_to_and_fro(action, axis):
    way = centres(drawn(action))
    assert 24 < np.ptp(way[:, axis]) < 46 and np.ptp(way[:, 1 - axis]) < 10
    signs = np.sign(way[:, axis] - way[:, axis].mean())
    assert 3 <= (np.diff(signs) != 0).sum() <= 7


def test_shapes_reach_over_the_edge_and_every_shape_fills_its_circle():
    for shape in SHAPES:
        index = next(i for i in range(100) if track(replace(EXAMPLE, index=i)).x[0] < 4)
        clip = replace(EXAMPLE, index=index, shape=shape, action="rotates clockwise", background="plain", size="large")
        masks, pose = red_pixels(render(clip)), track(clip)
        assert masks[0][:, :12].any() and masks[0][:, -12:].any()
        area = masks.sum((1, 2)) / (np.pi * pose.radius**2)
        assert 0.25 < area.min() and area.max() < 0.8 and np.ptp(area) < 0.1


# ---- files ----------------------------------------------------------------------------------------------------------


def test_videos_and_lists_are_as_the_card_says(folder):
    video = decode_in_order(folder / "train/00000.mp4")
    assert video.shape == (NUM_FRAMES, WIDTH, WIDTH, 3)
    assert abs(video.astype(int) - render(clip_at("train", 0))).mean() < 8
    labels = (folder / "labels.txt").read_text().splitlines()
    assert labels == list(ACTIONS)
    for split in SPLITS:
        rows = load_manifest(folder / f"{split}.jsonl", labels=labels)
        assert rows["label"] == list(range(12))
        assert rows["caption"] == [canonical_caption(clip_at(split, index)) for index in range(12)]
    rows = list(read_manifest(folder / "train_captions.jsonl"))
    assert len(rows) == 60 and [row["caption"] for row in rows[5:10]] == captions(clip_at("train", 1))
    attributes = [json.loads(line) for line in (folder / "attributes.jsonl").read_text().splitlines()]
    assert [row["video"] for row in attributes] == [f"{split}/{i:05d}.mp4" for split in SPLITS for i in range(12)]
    assert attributes[0]["shape"] == clip_at("train", 0).shape and attributes[0]["captions"] == captions(
        clip_at("train", 0)
    )
    untold = load_manifest(folder / "val_shapeless.jsonl")["caption"]
    assert untold == [
        re.sub("|".join(SHAPES), "shape", caption) for caption in load_manifest(folder / "val.jsonl")["caption"]
    ]
    shown = [json.loads(line) for line in (folder / "train_attributes.jsonl").read_text().splitlines()]
    names = {name: (folder / f"{name}.txt").read_text().splitlines() for name in shown[0] if name != "video"}
    assert len(shown) == 12 and [row["action"] for row in shown] == list(ACTIONS)
    assert all(row[name] in words for row in shown for name, words in names.items())
    sizes = [row["size"] for row in shown]
    assert [size == "changing" for size in sizes] == [name in ("grows", "shrinks") for name in ACTIONS]
    card = (folder / "README.md").read_text()
    assert "--clips 12 --seed 0" in card and "{" not in card.split("# Torus shapes")[1]


def test_each_clip_has_three_questions_whose_answers_are_in_the_list(folder):
    looks = {row["video"]: row for row in map(json.loads, (folder / "attributes.jsonl").read_text().splitlines())}
    rows, names = (
        read_questions(folder / "train_questions.jsonl", folder, "named"),
        read_answers(folder / "answers.txt"),
    )
    asked = [(row["question"], row["answer"], looks[str(Path(row["video"]).relative_to(folder))]) for row in rows]
    assert len(asked) == 3 * sum(look["split"] == "train" for look in looks.values())
    wordings = {wording: name for name, words in QUESTIONS.items() for wording in words}
    assert all(look[wordings[question]] == answer for question, answer, look in asked)
    assert {question for question, _, _ in asked} == set(wordings)
    assert {answer for _, answer, _ in asked} <= set(names) and len(names) == 23
    held_out = {row["question"] for row in read_questions(folder / "test_questions.jsonl", folder)}
    assert held_out == {"what color is it?", "what does it do?", "what is behind it?"}


def test_a_dataset_of_the_package_takes_them(folder):
    dataset = VideoDataset(load_manifest(folder / "train_captions.jsonl"), settings())
    sample = dataset[59]
    assert sample["pixel_values_videos"].shape[-4:] == (4, 3, 16, 16)
    assert len(dataset) == 60 and int(sample["labels"]) == 11


@pytest.mark.slow
def test_files_are_the_same_whatever_the_number_of_processes(folder, tmp_path):
    done = []
    assert make_data_set(tmp_path / "out", IN_EACH_SPLIT, jobs=2, on_done=lambda: done.append(1)) == 0
    assert len(done) == 48
    assert files_in(tmp_path / "out") == files_in(folder)


def test_the_program_goes_on_after_a_kill(folder, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(folder, out)
    for name in ("train/00003.mp4", "hard/00011.mp4", "train.jsonl", "README.md"):
        (out / name).unlink()
    (out / "train/.unfinished-00003.mp4").write_bytes(b"half of it")
    result = run("make-demo-data", out, "--clips", 12, "--jobs", 1)
    assert (result.returncode, result.stdout) == (0, f"Wrote 2 videos to {out}; 46 already existed.\n")
    assert "Drawing" in result.stderr
    assert files_in(out) == files_in(folder)
    again = run("make-demo-data", out, "--clips", 12, "--jobs", 1, "--quiet")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_another_seed_makes_other_clips():
    assert clip_at("train", 0, seed=1) != clip_at("train", 0, seed=0) or captions(EXAMPLE, 1) != captions(EXAMPLE, 0)
    assert (render(EXAMPLE, seed=0) == render(EXAMPLE, seed=0)).all()
    assert (render(EXAMPLE, seed=1) != render(EXAMPLE, seed=0)).any()


def test_what_would_be_lost_or_mixed_up_is_refused(folder, tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    for arguments, words in [
        ((folder, "--clips", 12, "--seed", 1), ("other settings", "seed 0, now 1", "another folder")),
        ((folder, "--clips", 13), ("clips 12, now 13", "another folder")),
        ((tmp_path / "note.txt", "--clips", 12), ("is a file",)),
        ((tmp_path, "--clips", 12), ("other files",)),
        ((tmp_path / "new", "--clips", 11), ("at least 12",)),
        ((tmp_path / "new", "--seed", -1), ("--seed",)),
        ((tmp_path / "new", "--jobs", 0), ("--jobs",)),
    ]:
        result = run("make-demo-data", *arguments)
        assert result.returncode == 2 and "Traceback" not in result.stderr
        for word in words:
            assert word in result.stderr
    with pytest.raises(ValueError, match="seed: got -1"):
        make_data_set(tmp_path / "new", seed=-1)
    assert [file.name for file in tmp_path.iterdir()] == ["note.txt"]


def test_a_file_that_cannot_be_written_ends_it_with_its_name(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "out")
    (tmp_path / "out/val/00002.mp4").unlink()
    (tmp_path / "out/val/00002.mp4").mkdir()
    with pytest.raises(OSError, match="val/00002.mp4 could not be made.*Rerun the same command"):
        make_data_set(tmp_path / "out", IN_EACH_SPLIT)


def test_a_folder_of_something_else_keeps_its_files(tmp_path):
    for name in (".unfinished-mine.txt", "mine.txt"):
        (tmp_path / name).touch()
    with pytest.raises(FileExistsError, match="other files"):
        make_data_set(tmp_path, IN_EACH_SPLIT)
    assert {file.name for file in tmp_path.iterdir()} == {".unfinished-mine.txt", "mine.txt"}
