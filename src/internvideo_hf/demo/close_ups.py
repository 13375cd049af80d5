"""Synthetic stills of the demo's shapes at three distances, with labels.

A small transformer that starts from nothing hardly learns to tell the shapes of `internvideo_hf.demo.synthetic` apart:
they turn to any angle, stand anywhere and cover few patches. From near, in the middle of the picture, the model learns
them in minutes; what it has learned then helps with those that are farther away.

Each frame of a video is a still: shape, color, background and size stay the same, and everything else is resampled. A
still shows no action, so that a model cannot learn which actions went with a shape and a color in training.
"""

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from internvideo_hf.demo.synthetic import (
    BACKGROUNDS,
    COLORS,
    SHAPES,
    SIZES,
    WIDTH,
    Scene,
    Track,
    plan_videos,
    radius_at,
    sizes_of_splits,
    write_data_set,
    write_frames,
)
from internvideo_hf.utils.files import atomic_write_lines, atomic_write_text
from internvideo_hf.utils.names import lookup

DISTANCES: dict[str, int] = {"near": 64, "middle": 96, "far": WIDTH}
"""Name -> pixels that a frame shows, in width and height; a far one is as large as the frames of clips."""
SUBSETS = ("train", "val")
"""Names of the splits, in the order of their files."""
VIDEOS = 6000
"""Videos of `train`, by default, a third of them from each distance."""
NUM_FRAMES = 16
"""Stills of a video."""

_CONSTRUCTION = 1  # version; increment it when videos look different
_RATE = 16  # frames per second; any would do
_HELD_OUT = 10  # training videos for one of `val`
_VIDEO_BYTES = 16_000  # of a video's file, on average
_LARGEST = max(size.radii[1] for size in SIZES.values())  # pixels
_CUT = 3  # pixels of the largest shape that may lie outside a frame
_STILLS = 16  # random stream of the pixels
_WORDS: dict[str, Collection[str]] = {"shape": SHAPES, "color": COLORS, "background": BACKGROUNDS, "size": SIZES}


@dataclass(frozen=True)
class Look:
    """What the stills of a video have in common.

    Args:
        subset: one of `SUBSETS`.
        index: number within the split, from 0.
        distance: name in `DISTANCES`.
        shape: name in `SHAPES`.
        color: name in `COLORS`.
        background: name in `BACKGROUNDS`.
        size: name in `SIZES`.
    """

    subset: str
    index: int
    distance: str
    shape: str
    color: str
    background: str
    size: str

    @property
    def video(self) -> str:
        """Path of the file, relative to the data set."""
        return f"{self.subset}/{self.index:05d}.mp4"


def split_sizes(videos: int = VIDEOS) -> dict[str, int]:
    """Return the number of videos per split.

    Args:
        videos: videos of `train`, at least one from each distance; `val` has a tenth of that, and as many at least.

    Raises:
        ValueError: if there are fewer.
    """
    least = len(DISTANCES)
    if videos < least:
        raise ValueError(f"clips: got {videos}, expected at least {least}, one from each distance. Ask for more.")
    return {subset: max(size, least) for subset, size in sizes_of_splits(videos, SUBSETS, _HELD_OUT).items()}


def look_at(subset: str, index: int, seed: int = 0) -> Look:
    """Return the look of the video with a given number. Looks are balanced, and distances take turns.

    As in all splits but one of the clips, no shape has the color at its own place in the list; see
    `internvideo_hf.demo.synthetic`.

    Args:
        subset: one of `SUBSETS`.
        index: from 0.
        seed: at least 0.

    Raises:
        ValueError: if the split is unknown, or a number is negative.
    """
    lookup(dict.fromkeys(SUBSETS), subset, "split")
    if index < 0 or seed < 0:
        raise ValueError(f"index: got {index}, seed: got {seed}; expected both to be at least 0.")
    number, place = divmod(index, len(DISTANCES))
    looks = [
        (shape, color, background, size)
        for s, shape in enumerate(SHAPES)
        for c, color in enumerate(COLORS)
        if s != c
        for background in BACKGROUNDS
        for size in SIZES
    ]
    order = np.random.default_rng((seed, SUBSETS.index(subset), place)).permutation(len(looks))
    return Look(subset, index, list(DISTANCES)[place], *looks[order[number % len(looks)]])


def render(look: Look, seed: int = 0) -> Iterator[np.ndarray]:
    """Draw the stills of a video.

    Args:
        look: what they have in common.
        seed: at least 0.

    Yields:
        RGB, uint8, shape (width, width, 3), with the width of `DISTANCES`. Near and middle frames cut at most three
        pixels off a shape; in a far one it may lie across the border, as in clips.
    """
    rng = np.random.default_rng((seed, SUBSETS.index(look.subset), look.index, _STILLS))
    width = DISTANCES[look.distance]
    off = WIDTH / 2 if look.distance == "far" else width / 2 - _LARGEST + _CUT
    cut = slice((WIDTH - width) // 2, (WIDTH + width) // 2)
    for _ in range(NUM_FRAMES):
        scene = Scene.sample(rng, look.background, [(look.color, look.shape)])
        place = (list(SIZES).index(look.size) + rng.uniform()) / len(SIZES)
        x, y = WIDTH / 2 + rng.uniform(-off, off, (2, 1))
        pose = Track(x, y, rng.uniform(0, 2 * np.pi, 1), radius_at(np.array([place])))
        yield scene.draw(rng, [pose], 0, np.zeros(2), rng.uniform(0, WIDTH, 2))[cut, cut]


_CARD = """---
license: apache-2.0
task_categories:
- video-classification
---

# Torus shapes, close-ups

Synthetic stills of the shapes of `internvideo make-demo-data`, from near ({near} x {near} pixels), from a middle
distance ({middle} x {middle}) and from far ({far} x {far}, as clips are). Each video has {frames} stills, in no order,
of the same shape, color, background and size. Made by

    internvideo make-demo-data OUT --close-ups --clips {videos} --seed {seed}

The command gives identical files with the same versions of numpy, PyAV and x264 on the same kind of processor.

## Files

- `train_near.jsonl`, `val_near.jsonl`: the videos from near. `train.jsonl`, `val.jsonl`: the others. One line per
  video: `video`, and what it shows: `shape`, `color`, `background`, `size`.
- `near.txt`: the videos of `train_near.jsonl` without labels, one a line.
- `shape.txt`, `color.txt`, `background.txt`, `size.txt`: the names, one a line. `settings.json`: the settings of the
  data set.

{train} videos to train on, {val} to validate, which show the same combinations, drawn with other poses and noise. No
shape has the color of its own place in the list: these are the pairs of `hard` of the clips. From the near ones a
model learns what shapes are, and from the others to see them in clips: recipes `demo/mm_near` and `demo/mm_stills`.

## License

Apache-2.0. The data set contains no filmed material, and none of other data sets.
"""


def make_data_set(
    out: str | Path,
    videos: int = VIDEOS,
    *,
    seed: int = 0,
    jobs: int = 1,
    on_done: Callable[[], object] = lambda: None,
) -> int:
    """Write the data set: videos, lists, names and a card. Resumable.

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
    out, sizes = Path(out), split_sizes(videos)
    looks = plan_videos(look_at, sizes, seed)

    def write_lists() -> None:
        for subset in SUBSETS:
            for name, is_near in ((f"{subset}_near", True), (subset, False)):
                rows = (_row(look) for look in looks if look.subset == subset and (look.distance == "near") == is_near)
                atomic_write_lines(out / f"{name}.jsonl", map(json.dumps, rows))
        near = (look.video for look in looks if look.subset == "train" and look.distance == "near")
        atomic_write_lines(out / "near.txt", near)
        for name, words in _WORDS.items():
            atomic_write_lines(out / f"{name}.txt", words)
        atomic_write_text(
            out / "README.md", _CARD.format(**DISTANCES, **sizes, frames=NUM_FRAMES, videos=videos, seed=seed)
        )

    settings = {"close_ups": _CONSTRUCTION, "videos": videos, "seed": seed}
    write = partial(_write_video, seed=seed)
    return write_data_set(out, looks, write, settings, lambda look: _VIDEO_BYTES, write_lists, jobs, on_done)


def _write_video(look: Look, path: Path, seed: int) -> None:
    write_frames(render(look, seed), path, _RATE, DISTANCES[look.distance])


def _row(look: Look) -> dict[str, Any]:
    return {"video": look.video, **{name: getattr(look, name) for name in _WORDS}}
