"""Synthetic videos of a shape whose way can be foreseen: where will it be in one second?

It is the task of Ego4D's future hand prediction without hands. A model sees `OBSERVED` frames, and predicts the place
of the shape at five moments: in the next frame, and then every quarter of a second, the last one a second later. The
shapes are those of `internvideo_hf.demo.synthetic`; its backgrounds are fainter here, and its camera shakes less. The
whole way lies in the frame. Splits are made by composition: the sum of the positions of shape, color, background and
motion in their lists is 0 modulo 6 in `test` and 1 in `val`, so that no composition of theirs is in `train`. Videos
depend only on the seed, their split and their number.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from internvideo_hf.demo.synthetic import (
    BACKGROUNDS,
    COLORS,
    SHAPES,
    WIDTH,
    Scene,
    Track,
    plan_videos,
    sizes_of_splits,
    tremble,
    write_data_set,
    write_frames,
)
from internvideo_hf.utils.files import atomic_write_text

Floats = NDArray[np.float64]

RATE = 16
"""Frames per second."""
OBSERVED = 16
"""Frames that a model sees, the first ones."""
MOMENTS = {"pre_45": 16, "pre_30": 20, "pre_15": 24, "pre_frame": 28, "contact_frame": 32}
"""Moment to predict, as Ego4D names those of its hands -> frame."""
SUBSETS = ("train", "val", "test")
"""Names of the splits, in the order of their files."""
VIDEOS = 3000
"""Videos of `train`, by default."""
RADII = (10, 16)
"""Least and greatest circumradius of a shape in pixels."""

_CONSTRUCTION = 2  # version; increment it when videos look different or their ways change
_NUM_FRAMES = max(MOMENTS.values()) + 1
_TIMES = np.arange(_NUM_FRAMES) / RATE
_HELD_OUT = 10  # training videos for one of each other split
_VIDEO_BYTES = 90_000  # of a video's file, on average
_CONTRAST = 0.35  # of a background, of what it is elsewhere: places are to be foreseen here, not to be found
# Camera shake, of what it is elsewhere, which would hide the bend of a curve: a network that is given the true places
# in 27,000 ways misses curves by 0.51 of what the place seen last misses them by, and by 0.35 with this much.
_SHAKE = 0.3
_MARGIN = 5  # pixels at the border that are left to the shake: beyond them, a shape would enter on the other side
_SCRIPT, _WAY, _SCENE = range(3)  # independent random streams of a video


# ---- motions --------------------------------------------------------------------------------------------------------
# Ways in pixels from any start, in each frame, `(frames, 2)`.


def _along(rng: np.random.Generator, distance: Floats) -> Floats:
    angle = rng.uniform(0, 2 * np.pi)
    way: Floats = distance[:, None] * np.array([np.cos(angle), np.sin(angle)])
    return way


def _glide(rng: np.random.Generator) -> Floats:
    return _along(rng, rng.uniform(30, 42) * _TIMES)


def _speed_up(rng: np.random.Generator) -> Floats:
    return _along(rng, rng.uniform(5, 15) * _TIMES + rng.uniform(10, 17) * _TIMES**2)


def _slow_down(rng: np.random.Generator) -> Floats:
    lasts = rng.uniform(1.2, 2.0)
    return _along(rng, rng.uniform(55, 75) * lasts * (1 - np.exp(-_TIMES / lasts)))


def _curve(rng: np.random.Generator) -> Floats:
    turned = rng.choice([-1, 1]) * np.radians(rng.uniform(40, 80)) * _TIMES + rng.uniform(0, 2 * np.pi)
    way: Floats = rng.uniform(26, 38) * np.stack([np.cos(turned), np.sin(turned)], axis=1)
    return way


def _bounce(rng: np.random.Generator) -> Floats:
    return _along(rng, rng.uniform(35, 55) * _TIMES)


MOTIONS: dict[str, Callable[[np.random.Generator], Floats]] = {
    "glides": _glide,
    "speeds up": _speed_up,
    "slows down": _slow_down,
    "curves": _curve,
    "bounces": _bounce,
}
"""Name -> way. What bounces goes straight until it comes to the border, and from there as light from a mirror."""


@dataclass(frozen=True)
class Script:
    """What happens in a video. Together with a seed it determines the pixels.

    Args:
        subset: one of `SUBSETS`.
        index: number within the split, from 0.
        shape: name in `SHAPES`.
        color: name in `COLORS`.
        background: name in `BACKGROUNDS`.
        motion: name in `MOTIONS`.
    """

    subset: str
    index: int
    shape: str
    color: str
    background: str
    motion: str

    @property
    def name(self) -> str:
        """Id of the video."""
        return f"{self.subset}_{self.index:05d}"

    @property
    def video(self) -> str:
        """Path of the file, relative to the data set, as the clips of Ego4D lie."""
        return f"clips/{self.name}.mp4"


def split_sizes(videos: int = VIDEOS) -> dict[str, int]:
    """Return the number of videos per split.

    Args:
        videos: videos of `train`, at least 1; the other splits have a tenth of that each, at least one.

    Raises:
        ValueError: if there is none.
    """
    return sizes_of_splits(videos, SUBSETS, _HELD_OUT)


def split_of(shape: str, color: str, background: str, motion: str) -> str:
    """Return the split of a composition; see the module."""
    tables = ((SHAPES, shape), (COLORS, color), (BACKGROUNDS, background), (MOTIONS, motion))
    return {0: "test", 1: "val"}.get(sum(list(table).index(name) for table, name in tables) % 6, "train")


def script_at(subset: str, index: int, seed: int = 0) -> Script:
    """Return what happens in the video with a given number; motions are balanced over any range of numbers.

    Args:
        subset: one of `SUBSETS`.
        index: from 0.
        seed: at least 0.
    """
    rng, motion = _generator(seed, subset, index, _SCRIPT), list(MOTIONS)[index % len(MOTIONS)]
    looks = [(s, c, b) for s in SHAPES for c in COLORS for b in BACKGROUNDS if split_of(s, c, b, motion) == subset]
    return Script(subset, index, *looks[rng.integers(len(looks))], motion)


def _generator(seed: int, subset: str, index: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng((seed, SUBSETS.index(subset), index, purpose))


def track(script: Script, seed: int = 0) -> Track:
    """Sample the shape's size and its way through the video, without camera shake.

    Args:
        script: what happens.
        seed: at least 0.
    """
    rng = _generator(seed, script.subset, script.index, _WAY)
    radius = rng.uniform(*RADII)
    low, high = radius + _MARGIN, WIDTH - radius - _MARGIN
    while not _fits(way := MOTIONS[script.motion](rng), low, high, script.motion):
        pass
    if script.motion == "bounces":
        start = rng.uniform(low, high, 2)
        # There and back again, as often as it takes.
        folded = (start + way - low) % (2 * (high - low))
        x, y = (low + np.minimum(folded, 2 * (high - low) - folded)).T
    else:
        x, y = (way + rng.uniform(low - way.min(axis=0), high - way.max(axis=0))).T
    still = np.ones(_NUM_FRAMES)
    return Track(x, y, rng.uniform(0, 2 * np.pi) * still, radius * still)


def _fits(way: Floats, low: float, high: float, motion: str) -> bool:
    return motion == "bounces" or bool((np.ptp(way, axis=0) < high - low).all())


# ---- pixels and places ----------------------------------------------------------------------------------------------


def render(script: Script, seed: int = 0) -> Iterator[np.ndarray]:
    """Render a video, with camera shake, light and noise that carry no information.

    Args:
        script: what happens.
        seed: at least 0.

    Yields:
        Frames: RGB, uint8, shape (height, width, 3).
    """
    rng, pose = _generator(seed, script.subset, script.index, _SCENE), track(script, seed)
    shakes = _SHAKE * tremble(rng, _NUM_FRAMES)
    scene = Scene.sample(rng, script.background, [(script.color, script.shape)])
    light = scene.texture.mean()
    scene = replace(scene, texture=light + np.float32(_CONTRAST) * (scene.texture - light))
    for t, shake in enumerate(shakes):
        yield scene.draw(rng, [pose], t, shake, shake)


def places(script: Script, seed: int = 0) -> Floats:
    """Return the center of the shape in every frame, as it is seen, with camera shake.

    Args:
        script: what happens.
        seed: at least 0.

    Returns:
        Shape (frames, 2): x and y in pixels from the left and the upper edge of the frame.
    """
    pose = track(script, seed)
    shakes = _SHAKE * tremble(_generator(seed, script.subset, script.index, _SCENE), _NUM_FRAMES)
    # The center of the first pixel is half a pixel from the edge.
    centers: Floats = np.stack([pose.x, pose.y], axis=1) + shakes + 0.5
    return centers


# ---- files ----------------------------------------------------------------------------------------------------------

_CARD = """---
license: apache-2.0
task_categories:
- video-classification
language:
- en
---

# Where will it be?

Synthetic videos of {frames} frames, {width} x {width} pixels, {rate} frames per second, without sound. In each, one
shape moves on a way that its first {observed} frames foretell. Made by

    internvideo make-demo-data OUT --future --clips {videos} --seed {seed}

The command gives identical files with the same versions of numpy, PyAV and x264 on the same kind of processor.

## Content

- Motions: {motions}. What bounces is reflected by the border of the frame.
- train {train} videos, val {val}, test {test}. From the positions of shape, color, background and motion in their
  lists: test has those whose sum modulo 6 is 0, val those with 1, train the others.
- The whole way lies in the frame. Camera shake, light and noise vary at random.

## Files

- `clips/ID.mp4`.
- `hands_train.json`, `hands_val.json`, `hands_test.json`: the layout of Ego4D's `fho_hands_train.json`. The shape
  stands in for the left hand; there is no right one. Moments are the frames {moments}: a model sees the frames before
  the first of them, and the last is a second later.
- `hands_val_last.json`, `hands_test_last.json`: predictions that the shape stays where it was seen last.
- `settings.json`: the settings of the data set.

To train a model that foresees the way, to score it, and to score the place seen last for comparison:

    internvideo train demo/hand_prediction --data-root OUT --output-dir run
    internvideo evaluate ego4d/hand_prediction data.list=hands_test.json --model run/final --data-root OUT
    internvideo evaluate ego4d/hand_prediction data.list=hands_test.json data.hands.predictions=hands_test_last.json \\
      --data-root OUT

## Intended use

To show in minutes, without any other data set, that training works, and to test programs. Results do not transfer to
real videos.

## License

Apache-2.0. The data set contains no filmed material, and none of other data sets.
"""


def annotation(script: Script, seed: int = 0) -> dict[str, Any]:
    """Return a video's entry in Ego4D's layout.

    Args:
        script: what happens.
        seed: at least 0.
    """
    way = places(script, seed)
    moments = {
        name: {"frame": frame, "clip_frame": frame, "boxes": [{"left_hand": way[frame].round(3).tolist()}]}
        for name, frame in MOMENTS.items()
    }
    return {"clip_id": script.name, "clip_uid": script.name, "video_uid": script.name, "frames": [moments]}


def last_seen(script: Script, seed: int = 0) -> dict[str, list[float]]:
    """Return the prediction that the shape stays where it is, by the name of the clip: 0 for the right hand.

    Args:
        script: what happens.
        seed: at least 0.
    """
    x, y = places(script, seed)[OBSERVED - 1].round(3).tolist()
    return {f"{script.name}_{OBSERVED - 1}": [x, y, 0.0, 0.0] * len(MOMENTS)}


def make_data_set(
    out: str | Path,
    videos: int = VIDEOS,
    *,
    seed: int = 0,
    jobs: int = 1,
    on_done: Callable[[], object] = lambda: None,
) -> int:
    """Write the data set: videos, where the shape is, and a card. Resumable.

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
            mine = [script for script in scripts if script.subset == subset]
            document = {
                "version": "1",
                "description": "drawn shapes",
                "split": subset,
                "clips": [annotation(script, seed) for script in mine],
            }
            atomic_write_text(out / f"hands_{subset}.json", json.dumps(document))
            if subset != "train":
                stays = {name: row for script in mine for name, row in last_seen(script, seed).items()}
                atomic_write_text(out / f"hands_{subset}_last.json", json.dumps(stays))
        atomic_write_text(out / "README.md", _card(videos, seed))

    settings = {"future": _CONSTRUCTION, "videos": videos, "seed": seed}
    write = partial(_write_video, seed=seed)
    return write_data_set(out, scripts, write, settings, lambda script: _VIDEO_BYTES, write_lists, jobs, on_done)


def _write_video(script: Script, path: Path, seed: int) -> None:
    write_frames(render(script, seed), path, RATE)


def _card(videos: int, seed: int) -> str:
    return _CARD.format(
        frames=_NUM_FRAMES,
        observed=OBSERVED,
        width=WIDTH,
        rate=RATE,
        videos=videos,
        seed=seed,
        motions=", ".join(MOTIONS),
        moments=", ".join(map(str, MOMENTS.values())),
        **split_sizes(videos),
    )
