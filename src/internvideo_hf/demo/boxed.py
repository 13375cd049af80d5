"""Synthetic videos of several shapes, each of which does its own thing, with a box around each every second.

The shapes, backgrounds and actions are those of `internvideo_hf.demo.synthetic`, smaller and at half its frame rate:
a window of 16 consecutive frames around a key frame shows two seconds, as much as one of its clips. No shape leaves
the frame or covers another. Splits are made by composition, as there: no shape of `test` with its color and action is
in `train`. Videos depend only on the seed, their split and their number.
"""

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from internvideo_hf.demo.synthetic import (
    ACTIONS,
    BACKGROUNDS,
    COLORS,
    SHAPES,
    WIDTH,
    Scene,
    Track,
    cover,
    plan_videos,
    radius_at,
    sizes_of_splits,
    split_of,
    tremble,
    ways,
    write_data_set,
    write_frames,
)
from internvideo_hf.utils.files import atomic_write_lines, atomic_write_text

RATE = 8
"""Frames per second."""
SECONDS = 3
"""Duration of a video."""
KEY_SECONDS = (1, 2)
"""Times of the key frames, whose boxes are known."""
ACTORS = (2, 4)
"""Minimum and maximum number of shapes."""
SUBSETS = ("train", "val", "test")
"""Names of the splits, in the order of their files."""
VIDEOS = 2000
"""Videos of `train`, by default."""

_CONSTRUCTION = 1  # version; increment it when videos look different or their actions change
_SCALE = 0.64  # of sizes and ways, so that four shapes find room
_STEPS = 2  # time steps of an action from one frame to the next
_NUM_FRAMES = SECONDS * RATE
_HELD_OUT = 10  # training videos for one of each other split
_VIDEO_BYTES = 50_000  # of a video's file, on average
_MOVES = 0.1  # of a box's width or height, by which a detector misplaces an edge
_SHAKE = 5  # pixels at the border that are left to camera shake: beyond them, a shape would enter on the other side
_TRIES = 200  # to place a shape, before all of a video are placed again
_SCRIPT, _SCENE, _DETECTOR = range(3)  # independent random streams of a video


@dataclass(frozen=True)
class Actor:
    """A shape and what it does.

    Args:
        shape: name in `SHAPES`.
        color: name in `COLORS`.
        action: name in `ACTIONS`.
        pose: its way through the video, without camera shake.
    """

    shape: str
    color: str
    action: str
    pose: Track


@dataclass(frozen=True)
class Script:
    """What happens in a video. Together with a seed it determines the pixels.

    Args:
        subset: one of `SUBSETS`.
        index: number within the split, from 0.
        background: name in `BACKGROUNDS`.
        actors: the shapes.
    """

    subset: str
    index: int
    background: str
    actors: tuple[Actor, ...]

    @property
    def name(self) -> str:
        """Id of the video."""
        return f"{self.subset}_{self.index:05d}"

    @property
    def video(self) -> str:
        """Path of the file, relative to the data set."""
        return f"videos/{self.name}.mp4"


def split_sizes(videos: int = VIDEOS) -> dict[str, int]:
    """Return the number of videos per split.

    Args:
        videos: videos of `train`, at least 1; the other splits have a tenth of that each, at least one.

    Raises:
        ValueError: if there is none.
    """
    return sizes_of_splits(videos, SUBSETS, _HELD_OUT)


def script_at(subset: str, index: int, seed: int = 0) -> Script:
    """Return what happens in the video with a given number.

    Args:
        subset: one of `SUBSETS`.
        index: from 0.
        seed: at least 0.
    """
    rng = _generator(seed, subset, index, _SCRIPT)
    background = str(rng.choice(list(BACKGROUNDS)))
    actions = rng.permutation(list(ACTIONS))[: rng.integers(*ACTORS, endpoint=True)].tolist()
    looks = []
    for action in actions:
        pairs = [(s, c) for s in SHAPES for c in COLORS if split_of(s, c, action) == subset]
        looks.append(pairs[rng.integers(len(pairs))])
    while (poses := _placed(rng, actions)) is None:
        pass
    actors = [Actor(*look, action, pose) for look, action, pose in zip(looks, actions, poses, strict=True)]
    return Script(subset, index, background, tuple(actors))


def _placed(rng: np.random.Generator, actions: list[str]) -> list[Track] | None:
    """Sample ways that stay in the frame and apart from each other; None if there is no room left."""
    poses: list[Track] = []
    for action in actions:
        for _ in range(_TRIES):
            pose = _pose(rng, action)
            if all(_apart(pose, other) for other in poses):
                poses.append(pose)
                break
        else:
            return None
    return poses


def _pose(rng: np.random.Generator, action: str) -> Track:
    x, y, angle, place = ways(action, rng, _NUM_FRAMES * _STEPS)[::_STEPS].T
    radius = _SCALE * radius_at(place + rng.uniform())
    x, y = (_within(rng, _SCALE * way, radius) for way in (x, y))
    return Track(x, y, (angle + rng.uniform(0, 2 * np.pi)) % (2 * np.pi), radius)


def _within(rng: np.random.Generator, way: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Start a way at random so that the shape stays in the frame."""
    room = radius + _SHAKE
    start: float = rng.uniform((room - way).max(), (WIDTH - room - way).min())
    return way + start


def _apart(one: Track, other: Track) -> bool:
    return bool((np.hypot(one.x - other.x, one.y - other.y) > one.radius + other.radius).all())


def _generator(seed: int, subset: str, index: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng((seed, SUBSETS.index(subset), index, purpose))


# ---- pixels and boxes -----------------------------------------------------------------------------------------------


def render(script: Script, seed: int = 0) -> Iterator[np.ndarray]:
    """Render a video, with camera shake, light and noise that carry no information.

    Args:
        script: what happens.
        seed: at least 0.

    Yields:
        Frames: RGB, uint8, shape (height, width, 3).
    """
    rng = _generator(seed, script.subset, script.index, _SCENE)
    shakes = tremble(rng, _NUM_FRAMES)
    scene = Scene.sample(rng, script.background, [(actor.color, actor.shape) for actor in script.actors])
    for t, shake in enumerate(shakes):
        yield scene.draw(rng, [actor.pose for actor in script.actors], t, shake, shake)


def boxes(script: Script, second: float, seed: int = 0) -> np.ndarray:
    """Return the smallest box around each shape of a frame.

    Args:
        script: what happens.
        second: time of the frame.
        seed: at least 0.

    Returns:
        Shape (shapes, 4): left, top, right and bottom edge, as fractions of the frame.
    """
    t = round(second * RATE)
    shake = tremble(_generator(seed, script.subset, script.index, _SCENE), _NUM_FRAMES)[t]
    found = []
    for actor in script.actors:
        covered = cover(actor.shape, actor.pose, t, shake) > 0.5
        (y, x) = (np.flatnonzero(covered.any(axis=axis)) for axis in (1, 0))
        found.append([x[0], y[0], x[-1] + 1, y[-1] + 1])
    return np.array(found) / WIDTH


# ---- files ----------------------------------------------------------------------------------------------------------

_CARD = """---
license: apache-2.0
task_categories:
- video-classification
- object-detection
language:
- en
---

# Shapes in boxes

Synthetic videos of {seconds} seconds, {width} x {width} pixels, {rate} frames per second, without sound. In each,
{fewest} to {most} shapes perform an action each, all of them different. Made by

    internvideo make-demo-data OUT --boxed --clips {videos} --seed {seed}

The command gives identical files with the same versions of numpy, PyAV and x264 on the same kind of processor.

## Content

- Actions: {actions}.
- train {train} videos, val {val}, test {test}. From the positions s, c and a of shape, color and action in their
  lists: test has the shapes with (s + c + a) % 6 = 0, val those with 1, train the others; none has s = c.
- No shape leaves the frame or covers another. Camera shake, light and noise vary at random.

## Files

- `videos/ID.mp4`.
- `train.csv`, `val.csv`, `test.csv`: AVA's layout, without a header: id of the video; time of the key frame in
  seconds; left, top, right and bottom edge of the box, 0-1; number of the action, from 1; number of the shape, from 0.
- `val_detections.csv`, `test_detections.csv`: a box of each shape as a detector finds it, in the same layout: the true
  box, each edge moved by up to a tenth of its width or height, no action, and a score between 0.8 and 1.
- `labels.txt`: the names of the actions. `settings.json`: the settings of the data set.

To train a model that tells what each shape does, and to score it on the boxes of the detector:

    internvideo train demo/action_detection --data-root OUT --output-dir run
    internvideo evaluate action_detection/custom --model run/final --data-root OUT data.list=test.csv \\
      data.boxes.detections=test_detections.csv

## Intended use

To show in minutes, without any other data set, that training works, and to test programs. Results do not transfer to
real videos. Do not augment by flips: they make labels false.

## License

Apache-2.0. The data set contains no filmed material, and none of other data sets.
"""


def annotations(script: Script, seed: int = 0) -> list[list[str]]:
    """Return a video's rows in AVA's layout.

    Args:
        script: what happens.
        seed: at least 0.
    """
    numbers = {action: str(number) for number, action in enumerate(ACTIONS, start=1)}
    return [
        [script.name, f"{second:04d}", *(f"{edge:.4f}" for edge in box), numbers[actor.action], str(person)]
        for second in KEY_SECONDS
        for person, (actor, box) in enumerate(zip(script.actors, boxes(script, second, seed), strict=True))
    ]


def detections(script: Script, seed: int = 0) -> list[list[str]]:
    """Return a video's boxes in AVA's layout as a detector would find them: near the true ones, with scores.

    Args:
        script: what happens.
        seed: at least 0.
    """
    rng, found = _generator(seed, script.subset, script.index, _DETECTOR), []
    for second in KEY_SECONDS:
        for box in boxes(script, second, seed):
            moved = box + _MOVES * rng.uniform(-1, 1, 4) * np.tile(box[2:] - box[:2], 2)
            score = rng.uniform(0.8, 1)
            found.append(
                [script.name, f"{second:04d}", *(f"{edge:.4f}" for edge in moved.clip(0, 1)), "", f"{score:.4f}"]
            )
    return found


def make_data_set(
    out: str | Path,
    videos: int = VIDEOS,
    *,
    seed: int = 0,
    jobs: int = 1,
    on_done: Callable[[], object] = lambda: None,
) -> int:
    """Write the data set: videos, boxes with their actions, label names and a card. Resumable.

    `OUT/README.md` describes the files.

    Args:
        out: the folder to write: new, empty, or with a part of the same data set.
        videos: videos of `train`; see `split_sizes`.
        seed: at least 0.
        jobs: processes.
        on_done: called after each video.

    Returns:
        The number of videos that already existed.

    Raises:
        FileExistsError: if `out` holds other files.
        LockedError: if another process writes into `out`.
        OSError: if a file cannot be written; a DiskFullError if there is no room.
        ValueError: if a number is out of range.
    """
    out, scripts = Path(out), plan_videos(script_at, split_sizes(videos), seed)

    def write_lists() -> None:
        for subset in SUBSETS:
            _write_rows(out / f"{subset}.csv", annotations, scripts, subset, seed)
            if subset != "train":
                _write_rows(out / f"{subset}_detections.csv", detections, scripts, subset, seed)
        atomic_write_lines(out / "labels.txt", ACTIONS)
        atomic_write_text(out / "README.md", _card(videos, seed))

    settings = {"boxed": _CONSTRUCTION, "videos": videos, "seed": seed}
    write = partial(_write_video, seed=seed)
    return write_data_set(out, scripts, write, settings, lambda script: _VIDEO_BYTES, write_lists, jobs, on_done)


def _write_video(script: Script, path: Path, seed: int) -> None:
    write_frames(render(script, seed), path, RATE)


def _write_rows(
    path: Path, rows_of: Callable[[Script, int], list[list[str]]], scripts: list[Script], subset: str, seed: int
) -> None:
    table = io.StringIO()
    rows = (row for script in scripts if script.subset == subset for row in rows_of(script, seed))
    csv.writer(table, lineterminator="\n").writerows(rows)
    atomic_write_text(path, table.getvalue())


def _card(videos: int, seed: int) -> str:
    return _CARD.format(
        seconds=SECONDS,
        width=WIDTH,
        rate=RATE,
        fewest=ACTORS[0],
        most=ACTORS[1],
        videos=videos,
        seed=seed,
        actions=", ".join(ACTIONS),
        **split_sizes(videos),
    )
