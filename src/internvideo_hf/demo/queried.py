"""Untrimmed synthetic videos with sentences: one shape after the other, and when each does what it does.

The shapes, backgrounds and actions are those of `internvideo_hf.demo.synthetic`, at the frame rate of
`internvideo_hf.demo.untrimmed`. One shape is there at a time. It stands still, performs its action, stands still
again, and gives way to the next one in the middle of the pause, so that its color alone does not tell when it acts.

A sentence names color, shape and action. In its video, no other shape of this color does the same; but one of this
color does something else, and one of another color does the same, so that it takes both words to find it. Splits are
made by pairs of color and action, by their positions c and a in their lists: (c + a) % 6 is 0 for `testing`, 1 for
`validation`, and another number for `training`. Sentences of a split are of its pairs alone, whatever else its videos
show. Videos depend only on the seed, their split and their number.
"""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
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
    plan_videos,
    radius_at,
    sizes_of_splits,
    tremble,
    ways,
    write_data_set,
    write_frames,
)
from internvideo_hf.demo.untrimmed import RATE, SUBSETS
from internvideo_hf.utils.files import atomic_write_text

ACTION_SECONDS = (2, 6)
"""Minimum and maximum duration of an action."""
PAUSE_SECONDS = (1, 4)
"""Minimum and maximum duration of a stretch where nothing moves."""
ASKED = 2
"""Pairs of color and action of its split that a video has for sure."""
VIDEOS = 150
"""Videos of `training`, by default."""

_CONSTRUCTION = 1  # version; increment it when videos look different or their sentences change
_STEPS = 2  # time steps of an action from one frame to the next
_HELD_OUT = 3  # training videos for one of each other split
_SECOND_BYTES = 16_000  # of a video's file, on average
_PARTS = 6  # by which pairs of color and action are divided into splits
_WORDINGS = 2  # sentences about each action of a training video
_TEMPLATES = ("a {} {} {}", "the {} {} {}", "there is a {} {} that {}")
_SCRIPT, _POSE, _SCENE, _WORDS = range(4)  # independent random streams of a video


@dataclass(frozen=True)
class Turn:
    """What one shape of a video does, and when.

    Args:
        start: first frame of its action.
        end: frame behind the last one of its action.
        shape: name in `SHAPES`.
        color: name in `COLORS`.
        action: name in `ACTIONS`.
    """

    start: int
    end: int
    shape: str
    color: str
    action: str


@dataclass(frozen=True)
class Script:
    """What happens in a video. Together with a seed it determines the pixels.

    Args:
        subset: one of `SUBSETS`.
        index: number within the split, from 0.
        num_frames: frames of the video.
        turns: of the shapes, in order.
        background: name in `BACKGROUNDS`.
    """

    subset: str
    index: int
    num_frames: int
    turns: tuple[Turn, ...]
    background: str

    @property
    def name(self) -> str:
        """Id of the video."""
        return f"{self.subset}_{self.index:04d}"

    @property
    def video(self) -> str:
        """Path of the file, relative to the data set."""
        return f"videos/{self.name}.mp4"

    @property
    def changes(self) -> list[int]:
        """First frame of each shape, and the number of frames."""
        middles = [(turn.end + following.start) // 2 for turn, following in pairwise(self.turns)]
        return [0, *middles, self.num_frames]


def subset_of(color: str, action: str) -> str:
    """Return the split whose sentences name a color and an action together."""
    number = (list(COLORS).index(color) + list(ACTIONS).index(action)) % _PARTS
    return {0: "testing", 1: "validation"}.get(number, "training")


def split_sizes(videos: int = VIDEOS) -> dict[str, int]:
    """Return the number of videos per split.

    Args:
        videos: videos of `training`, at least 1; the other splits have a third of that each, at least one.

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
    turns = []
    place = _frames(rng, PAUSE_SECONDS)
    for color, action in _pairs(rng, subset):
        end = place + _frames(rng, ACTION_SECONDS)
        turns.append(Turn(place, end, str(rng.choice(list(SHAPES))), color, action))
        place = end + _frames(rng, PAUSE_SECONDS)
    return Script(subset, index, place, tuple(turns), str(rng.choice(list(BACKGROUNDS))))


def _pairs(rng: np.random.Generator, subset: str) -> list[tuple[str, str]]:
    """Sample the pairs of color and action of a video, no two the same, in their order."""
    of_subset = [(color, action) for color in COLORS for action in ACTIONS if subset_of(color, action) == subset]
    pairs = [of_subset[number] for number in rng.permutation(len(of_subset))[:ASKED]]
    for color, action in pairs[:ASKED]:
        for others in ([(color, other) for other in ACTIONS], [(other, action) for other in COLORS]):
            others = [pair for pair in others if pair not in pairs]
            pairs.append(others[rng.integers(len(others))])
    return [pairs[number] for number in rng.permutation(len(pairs))]


def _frames(rng: np.random.Generator, seconds: tuple[int, int]) -> int:
    return int(rng.integers(seconds[0] * RATE, seconds[1] * RATE, endpoint=True))


def _generator(seed: int, subset: str, index: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng((seed, SUBSETS.index(subset), index, purpose))


def queries(script: Script, seed: int = 0) -> list[tuple[str, float, float]]:
    """Return the sentences about a video, each with its stretch in seconds; in training two of an action.

    Args:
        script: what happens.
        seed: at least 0.
    """
    rng = _generator(seed, script.subset, script.index, _WORDS)
    found = []
    for turn in script.turns:
        if subset_of(turn.color, turn.action) != script.subset:
            continue
        ways_to_say = [(template, words) for template in _TEMPLATES for words in _words(turn.action)]
        chosen = rng.permutation(len(ways_to_say))[:_WORDINGS] if script.subset == "training" else [0]
        for template, words in (ways_to_say[number] for number in chosen):
            sentence = template.format(turn.color, turn.shape, words)
            found.append((sentence, turn.start / RATE, turn.end / RATE))
    return found


def _words(action: str) -> tuple[str, ...]:
    return (action, *ACTIONS[action].other_words)


# ---- pixels ---------------------------------------------------------------------------------------------------------


def tracks(script: Script, seed: int = 0) -> list[Track]:
    """Return the pose of each shape in every frame of the video, without camera shake; it counts while it is there.

    Args:
        script: what happens.
        seed: at least 0.
    """
    rng = _generator(seed, script.subset, script.index, _POSE)
    found = []
    for turn in script.turns:
        pose = np.empty((script.num_frames, 4))  # x, y, angle, place in the range of sizes
        pose[:] = [*rng.uniform(0, WIDTH, 2), rng.uniform(0, 2 * np.pi), rng.uniform()]
        way = ways(turn.action, rng, (turn.end - turn.start) * _STEPS + 1)[::_STEPS]
        pose[turn.start : turn.end] += way[:-1]
        pose[turn.end :] += way[-1]
        x, y, angle, place = pose.T
        found.append(Track(x % WIDTH, y % WIDTH, angle % (2 * np.pi), radius_at(place)))
    return found


def render(script: Script, seed: int = 0) -> Iterator[np.ndarray]:
    """Render a video, with camera shake, light and noise that carry no information.

    Args:
        script: what happens.
        seed: at least 0.

    Yields:
        Frames: RGB, uint8, shape (height, width, 3).
    """
    poses, rng = tracks(script, seed), _generator(seed, script.subset, script.index, _SCENE)
    shakes = tremble(rng, script.num_frames)
    scene = Scene.sample(rng, script.background, [(turn.color, turn.shape) for turn in script.turns])
    for pose, look, (first, last) in zip(poses, scene.shapes, pairwise(script.changes), strict=True):
        alone = replace(scene, shapes=[look])
        for t in range(first, last):
            yield alone.draw(rng, [pose], t, shakes[t], shakes[t])


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

# Torus shapes, asked for by sentences

Synthetic videos of about {seconds:.0f} seconds, {width} x {width} pixels, {rate} frames per second, without sound. In
each, several shapes appear one after the other, and each performs an action; sentences ask for them. Made by

    internvideo make-demo-data OUT --queries --clips {videos} --seed {seed}

The command gives identical files with the same versions of numpy, PyAV and x264 on the same kind of processor.

## Content

- Actions: {actions}. Each lasts {action[0]} to {action[1]} seconds, between pauses of {pause[0]} to {pause[1]}.
- {sentences} sentences about {hours:.2f} hours of video: training {training} videos, validation {validation}, testing
  {testing}. Each sentence is true of one stretch of its video; the same color does something else in another, and
  another color the same.
- No color and action that validation or testing name together are named together in another split.

## Files

- `videos/ID.mp4`.
- `training.csv`, `validation.csv`, `testing.csv`: `video`, `query`, `start` and `end` in seconds.
- `settings.json`: the settings of the data set.

To train a head that finds sentences:

    internvideo extract OUT/videos --model demo-mm --window 8 --stride 2 --fps 4 --out OUT/features
    internvideo train demo/temporal_grounding --data-root OUT --output-dir run

## Intended use

To show in minutes, without any other data set, that training works, and to test programs. Results do not transfer to
real videos.

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
    """Write the data set: videos, lists of sentences and a card. Resumable.

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
        for subset in SUBSETS:
            atomic_write_text(out / f"{subset}.csv", _list([one for one in scripts if one.subset == subset], seed))
        atomic_write_text(out / "README.md", _card(scripts, videos, seed))

    settings = {"queried": _CONSTRUCTION, "videos": videos, "seed": seed}
    write = partial(write_video, seed=seed)
    return write_data_set(out, scripts, write, settings, _bytes_of, write_lists, jobs, on_done)


def _bytes_of(script: Script) -> int:
    return _SECOND_BYTES * script.num_frames // RATE


def _list(scripts: Sequence[Script], seed: int) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["video", "query", "start", "end"])
    writer.writerows([script.video, *query] for script in scripts for query in queries(script, seed))
    return text.getvalue()


def _card(scripts: Sequence[Script], videos: int, seed: int) -> str:
    seconds = sum(script.num_frames for script in scripts) / RATE
    return _CARD.format(
        seconds=seconds / len(scripts),
        width=WIDTH,
        rate=RATE,
        videos=videos,
        seed=seed,
        actions=", ".join(ACTIONS),
        action=ACTION_SECONDS,
        pause=PAUSE_SECONDS,
        sentences=sum(len(queries(script, seed)) for script in scripts),
        hours=seconds / 3600,
        **split_sizes(videos),
    )
