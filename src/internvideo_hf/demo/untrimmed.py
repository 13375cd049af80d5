"""Untrimmed synthetic videos: actions of a drawn shape between stretches where nothing moves, with annotations.

The shapes, backgrounds and actions are those of `internvideo_hf.demo.synthetic`, at half its frame rate: a window of
16 consecutive frames shows two seconds, as much as one of its clips. The shape keeps the place, angle and size at
which an action ends; the camera always trembles. Videos depend only on the seed, their split and their number.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from internvideo_hf.demo.synthetic import (
    ACTIONS,
    BACKGROUNDS,
    COLORS,
    SHAPES,
    WIDTH,
    Scene,
    Track,
    plan_videos,
    radius_at,
    sizes_of_splits,
    ways,
    write_data_set,
    write_frames,
)
from internvideo_hf.utils.files import atomic_write_lines, atomic_write_text

RATE = 8
"""Frames per second."""
SECONDS = (30, 90)
"""Minimum and maximum duration of a video."""
ACTION_SECONDS = (2, 6)
"""Minimum and maximum duration of an action."""
PAUSE_SECONDS = (2, 8)
"""Minimum and maximum duration of a stretch where nothing moves, but for the last one of a video."""
SUBSETS = ("training", "validation", "testing")
"""Names of the splits."""
VIDEOS = 200
"""Videos of `training`, by default."""
ANNOTATIONS = "annotations.json"
"""File with the actions of all videos, in ActivityNet's layout."""

_CONSTRUCTION = 1  # version; increment it when videos look different or their actions change
_STEPS = 2  # time steps of an action from one frame to the next
_HELD_OUT = 5  # training videos for one of each other split
_SECOND_BYTES = 16_000  # of a video's file, on average
_SCRIPT, _POSE, _SCENE = range(3)  # independent random streams of a video


@dataclass(frozen=True)
class Segment:
    """An action in a video.

    Args:
        start: first frame of the action.
        end: frame behind its last.
        action: name in `ACTIONS`.
    """

    start: int
    end: int
    action: str


@dataclass(frozen=True)
class Script:
    """What happens in a video. Together with a seed it determines the pixels.

    Args:
        subset: one of `SUBSETS`.
        index: number within the split, from 0.
        num_frames: frames of the video.
        segments: the actions, in order.
        shape: name in `SHAPES`.
        color: name in `COLORS`.
        background: name in `BACKGROUNDS`.
    """

    subset: str
    index: int
    num_frames: int
    segments: tuple[Segment, ...]
    shape: str
    color: str
    background: str

    @property
    def name(self) -> str:
        """Id of the video."""
        return f"{self.subset}_{self.index:04d}"

    @property
    def video(self) -> str:
        """Path of the file, relative to the data set."""
        return f"videos/{self.name}.mp4"


def split_sizes(videos: int = VIDEOS) -> dict[str, int]:
    """Return the number of videos per split.

    Args:
        videos: videos of `training`, at least 1; the other splits have a fifth of that each, at least one.

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
    num_frames = int(rng.integers(SECONDS[0] * RATE, SECONDS[1] * RATE, endpoint=True))
    segments, names = [], list(ACTIONS)
    order = iter(rng.permutation(len(names)).tolist() * 2)  # a video of 90 seconds has room for 22 actions at most
    start = _duration(rng, PAUSE_SECONDS)
    while (end := start + _duration(rng, ACTION_SECONDS)) + PAUSE_SECONDS[0] * RATE <= num_frames:
        segments.append(Segment(start, end, names[next(order)]))
        start = end + _duration(rng, PAUSE_SECONDS)
    shape, color, background = (str(rng.choice(list(table))) for table in (SHAPES, COLORS, BACKGROUNDS))
    return Script(subset, index, num_frames, tuple(segments), shape, color, background)


def _duration(rng: np.random.Generator, seconds: tuple[int, int]) -> int:
    return int(rng.integers(seconds[0] * RATE, seconds[1] * RATE, endpoint=True))


def _generator(seed: int, subset: str, index: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng((seed, SUBSETS.index(subset), index, purpose))


# ---- pixels ---------------------------------------------------------------------------------------------------------


def track(script: Script, seed: int = 0) -> Track:
    """Return the pose of a video's shape in each frame, without camera shake.

    Args:
        script: what happens.
        seed: at least 0.
    """
    rng = _generator(seed, script.subset, script.index, _POSE)
    pose = np.empty((script.num_frames, 4))  # x, y, angle, place in the range of sizes
    pose[:] = [*rng.uniform(0, WIDTH, 2), rng.uniform(0, 2 * np.pi), rng.uniform()]
    for segment in script.segments:
        way = ways(segment.action, rng, (segment.end - segment.start) * _STEPS + 1)[::_STEPS]
        pose[segment.start : segment.end] += way[:-1]
        pose[segment.end :] += way[-1]
    return Track(
        x=pose[:, 0] % WIDTH,
        y=pose[:, 1] % WIDTH,
        angle=pose[:, 2] % (2 * np.pi),
        radius=radius_at(pose[:, 3]),
    )


def render(script: Script, seed: int = 0) -> Iterator[np.ndarray]:
    """Render a video, with camera shake, light and noise that carry no information.

    Args:
        script: what happens.
        seed: at least 0.

    Yields:
        Frames: RGB, uint8, shape (height, width, 3).
    """
    pose, rng = track(script, seed), _generator(seed, script.subset, script.index, _SCENE)
    scene, shake = Scene.sample(rng, script.background, [(script.color, script.shape)]), np.zeros(2)
    for t in range(script.num_frames):
        shake = 0.7 * shake + rng.normal(0, 0.8, 2)
        yield scene.draw(rng, [pose], t, shake, shake)


def write_video(script: Script, path: str | Path, seed: int = 0) -> None:
    """Render a video into an MP4 file (H.264, every frame a keyframe), written atomically.

    Args:
        script: what happens.
        path: the file.
        seed: at least 0.

    Raises:
        OSError: if the file cannot be written.
    """
    write_frames(render(script, seed), path, RATE)


# ---- files ----------------------------------------------------------------------------------------------------------

_CARD = """---
license: apache-2.0
task_categories:
- video-classification
language:
- en
---

# Torus shapes, untrimmed

Synthetic videos of {shortest} to {longest} seconds, {width} x {width} pixels, {rate} frames per second, without
sound. In each, one shape performs several actions, one after the other; before, between and behind them it stands
still. Made by

    internvideo make-demo-data OUT --untrimmed --clips {videos} --seed {seed}

The command gives identical files with the same versions of numpy, PyAV and x264 on the same kind of processor.

## Content

- Actions: {actions}. Each lasts {action[0]} to {action[1]} seconds.
- Pauses: {pause[0]} to {pause[1]} seconds. The shape keeps place, angle and size; camera shake and noise go on.
- {segments} actions in {hours:.2f} hours of video: training {training} videos, validation {validation}, testing
  {testing}. Shapes, colors and backgrounds are the same in all splits.

## Files

- `videos/ID.mp4`.
- `annotations.json`: ActivityNet's layout: for each video `subset`, `duration` in seconds, `fps`, and `annotations`,
  each with `segment` (start and end in seconds), `label` and `label_id`.
- `labels.txt`: the names of the actions. `settings.json`: the settings of the data set.

To train a head that localizes the actions:

    internvideo extract OUT/videos --model demo-classifier --window 16 --stride 2 --out OUT/features
    internvideo train demo/actionformer --data-root OUT --output-dir run

## Intended use

To show in minutes, without any other data set, that training works, and to test programs. Results do not transfer to
real videos.

## License

Apache-2.0. The data set contains no filmed material, and none of other data sets.
"""


def annotations(scripts: Sequence[Script]) -> dict[str, Any]:
    """Return the actions of videos in ActivityNet's layout.

    Args:
        scripts: of the videos.
    """
    names = list(ACTIONS)
    database = {
        script.name: {
            "subset": script.subset,
            "duration": script.num_frames / RATE,
            "fps": RATE,
            "annotations": [
                {
                    "segment": [segment.start / RATE, segment.end / RATE],
                    "label": segment.action,
                    "label_id": names.index(segment.action),
                }
                for segment in script.segments
            ],
        }
        for script in scripts
    }
    return {"version": f"torus shapes, untrimmed, {_CONSTRUCTION}", "database": database}


def make_data_set(
    out: str | Path,
    videos: int = VIDEOS,
    *,
    seed: int = 0,
    jobs: int = 1,
    on_done: Callable[[], object] = lambda: None,
) -> int:
    """Write the data set: videos, annotations, label names and a card. Resumable.

    `OUT/README.md` describes the files.

    Args:
        out: the folder to write: new, empty, or with a part of the same data set.
        videos: videos of `training`; see `split_sizes`.
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
        atomic_write_text(out / ANNOTATIONS, json.dumps(annotations(scripts), indent=1) + "\n")
        atomic_write_lines(out / "labels.txt", ACTIONS)
        atomic_write_text(out / "README.md", _card(scripts, videos, seed))

    settings = {"untrimmed": _CONSTRUCTION, "videos": videos, "seed": seed}
    write = partial(write_video, seed=seed)
    return write_data_set(out, scripts, write, settings, _bytes_of, write_lists, jobs, on_done)


def _bytes_of(script: Script) -> int:
    return _SECOND_BYTES * script.num_frames // RATE


def _card(scripts: Sequence[Script], videos: int, seed: int) -> str:
    return _CARD.format(
        shortest=SECONDS[0],
        longest=SECONDS[1],
        width=WIDTH,
        rate=RATE,
        videos=videos,
        seed=seed,
        actions=", ".join(ACTIONS),
        action=ACTION_SECONDS,
        pause=PAUSE_SECONDS,
        segments=sum(len(script.segments) for script in scripts),
        hours=sum(script.num_frames for script in scripts) / RATE / 3600,
        **split_sizes(videos),
    )
