"""A synthetic data set: colored shapes that move over textured backgrounds, with captions.

It makes training visible on a laptop: a model must see color, background, size and, over time, the action.

No single frame reveals the action, by construction. The world is a torus of `WIDTH` pixels: a shape that leaves on one
side enters on the other, and every background is periodic. Start position, start angle and relative size have the same
distribution for every action, and no action changes it at a later frame: moving, turning, circling and swinging keep a
uniform distribution uniform, and growing and shrinking run through the range of sizes in a circle, so that they jump
back once at its end.

Splits are made by composition, from the positions s, c and a of shape, color and action in their lists. `hard` has the
shape-color pairs with s = c, and no other split has them. For the others, (s + c + a) % 6 decides: 0 is `test`, 1 is
`val`, the rest is `train`. So no shape-color-action triple of `test` is in `train`, but each of its pairs is.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np

from internvideo_hf.data.executors.processes import map_unordered
from internvideo_hf.utils.files import (
    atomic_path,
    atomic_write_lines,
    atomic_write_text,
    check_output,
    is_temporary_of,
    remove_leftovers,
)
from internvideo_hf.utils.locks import is_lock, lock_folder
from internvideo_hf.utils.names import lookup
from internvideo_hf.utils.settings import changed_settings

WIDTH = 128
"""Width and height of a frame in pixels."""
NUM_FRAMES = 32
"""Frames per clip."""
RATE = 16
"""Frames per second."""
SPLITS = ("train", "val", "test", "hard")
"""Names of the splits, in the order of their files."""
SETTINGS = "settings.json"
"""File with the settings of the data set; it marks the folder as ours."""
ATTRIBUTES_LIST = "attributes.jsonl"
"""File with the attributes of every clip, one line each, with the fields of `Clip`."""
CHANGING = "changing"
"""Label of the size of a clip whose action changes it, in lists where each clip has one."""

_CONSTRUCTION = 2  # version; increment it when clips look different or their captions read differently
_CLIPS = 4000
_CLIP_BYTES = 50_000  # of a clip's file, on average
_HELD_OUT = 20  # clips per action in each held-out split, for `_CLIPS` training clips
_POSE, _SCENE, _WORDS, _ORDER, _ASKING = range(5)  # independent random streams of a clip
_TIMES = np.arange(NUM_FRAMES)

_Plan = TypeVar("_Plan")


# ---- shapes and backgrounds -----------------------------------------------------------------------------------------
# Shapes: signed distances to the outline, below 0 inside, of points (x to the right, y down) in units of the
# circumradius.


def _square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(abs(x), abs(y)) - 0.707


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(y, 0.866 * abs(x) - 0.5 * y) - 0.5


def _heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = abs(x), y - 0.2
    return np.minimum((x + abs(y)) * 0.707 - 0.56, np.hypot(x - 0.396, y + 0.396) - 0.56)


def _moon(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(np.hypot(x - 0.276, y) - 0.791, 0.594 - np.hypot(x - 0.672, y))


def _arrow(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x = abs(x)
    head = np.maximum(y, 0.768 * x - 0.64 * y - 0.64)
    shaft = np.maximum(x - 0.26, abs(y - 0.45) - 0.5)
    return np.minimum(head, shaft)


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = abs(x), abs(y)
    return np.minimum(np.maximum(x - 0.28, y - 0.96), np.maximum(x - 0.96, y - 0.28))


SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "square": _square,
    "triangle": _triangle,
    "heart": _heart,
    "moon": _moon,
    "arrow": _arrow,
    "cross": _cross,
}
"""Name -> outline. No shape is round, so that rotations are visible."""

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (222, 42, 42),
    "green": (38, 170, 60),
    "blue": (45, 80, 228),
    "yellow": (238, 216, 45),
    "purple": (152, 48, 190),
    "white": (242, 242, 242),
}
"""Name -> red, green and blue, 0 to 255."""


# Backgrounds: brightness from -1 to 1, of a pixel's angles on the torus.


def _edged(wave: np.ndarray) -> np.ndarray:
    return np.clip(2.5 * wave, -1, 1)


def _plain(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.zeros(np.broadcast(x, y).shape)


def _striped(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    waves_x, waves_y = rng.choice([(7, 0), (0, 7), (5, 5), (5, -5), (9, 3), (3, -9)])
    return _edged(np.sin(waves_x * x + waves_y * y))


def _checkered(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    waves = rng.choice([3, 4, 5])
    return _edged(2 * np.sin(waves * x) * np.sin(waves * y))


def _dotted(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    waves = rng.choice([7, 8, 9])
    return _edged(np.cos(waves * x) + np.cos(waves * y) - 1)


def _cloudy(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # Not a sum of a few waves, which looks like cloth. Periodic, as every discrete spectrum is.
    frequency = np.hypot(np.fft.fftfreq(WIDTH)[:, None], np.fft.rfftfreq(WIDTH)) * WIDTH
    spectrum = np.fft.rfft2(rng.standard_normal((WIDTH, WIDTH))) / np.maximum(frequency, 1) ** 1.5
    spectrum[0, 0] = 0
    clouds = np.fft.irfft2(spectrum)
    return np.clip(clouds / (2 * clouds.std()), -1, 1)


BACKGROUNDS: dict[str, Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]] = {
    "plain": _plain,
    "striped": _striped,
    "checkered": _checkered,
    "dotted": _dotted,
    "cloudy": _cloudy,
}
"""Name -> texture."""


@dataclass(frozen=True)
class Size:
    """A named range of sizes.

    Args:
        other_words: synonyms in captions.
        radii: minimum and maximum circumradius in pixels.
    """

    other_words: tuple[str, str]
    radii: tuple[float, float]


SIZES: dict[str, Size] = {
    "small": Size(("little", "tiny"), (13, 17)),
    "large": Size(("big", "huge"), (22, 30)),
}
"""Name -> size. The ranges leave a gap between them."""


# ---- actions --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Change:
    """Offsets that an action adds to the start pose; numbers or arrays of shape (frames,)."""

    x: np.ndarray | float = 0.0  # pixels
    y: np.ndarray | float = 0.0
    angle: np.ndarray | float = 0.0  # radians, clockwise
    place: np.ndarray | float = 0.0  # in the range of all sizes, 0-1


def _move(rng: np.random.Generator, x: int, y: int) -> _Change:
    way = rng.uniform(1.5, 2.6) * _TIMES
    return _Change(x=x * way, y=y * way)


def _rotate(rng: np.random.Generator, sign: int) -> _Change:
    return _Change(angle=sign * np.radians(rng.uniform(5, 8)) * _TIMES)


def _change_size(rng: np.random.Generator, sign: int) -> _Change:
    return _Change(place=sign * rng.uniform(0.6, 0.9) * _TIMES / (NUM_FRAMES - 1))


def _circle(rng: np.random.Generator, sign: int) -> _Change:
    radius, turns, start = rng.uniform(16, 24), rng.uniform(0.9, 1.3), rng.uniform()
    angle = 2 * np.pi * (start + sign * turns * _TIMES / NUM_FRAMES)
    return _Change(x=radius * np.cos(angle), y=radius * np.sin(angle))


def _swing(rng: np.random.Generator, x: int, y: int) -> _Change:
    amplitude, periods, start = rng.uniform(13, 20), rng.uniform(1.8, 2.4), rng.uniform()
    way = amplitude * np.sin(2 * np.pi * (start + periods * _TIMES / NUM_FRAMES))
    return _Change(x=x * way, y=y * way)


@dataclass(frozen=True)
class Action:
    """An action of a shape.

    Args:
        other_words: synonyms in captions.
        change: samples the change of the pose.
        changes_size: whether captions must leave out the size.
    """

    other_words: tuple[str, str]
    change: Callable[[np.random.Generator], _Change]
    changes_size: bool = False


ACTIONS: dict[str, Action] = {
    "moves to the left": Action(("travels left", "slides leftward"), partial(_move, x=-1, y=0)),
    "moves to the right": Action(("travels right", "slides rightward"), partial(_move, x=1, y=0)),
    "moves up": Action(("travels upward", "slides up"), partial(_move, x=0, y=-1)),
    "moves down": Action(("travels downward", "slides down"), partial(_move, x=0, y=1)),
    "rotates clockwise": Action(("turns clockwise", "spins clockwise"), partial(_rotate, sign=1)),
    "rotates counterclockwise": Action(
        ("turns counterclockwise", "spins counterclockwise"), partial(_rotate, sign=-1)
    ),
    "grows": Action(("expands", "becomes bigger"), partial(_change_size, sign=1), changes_size=True),
    "shrinks": Action(("contracts", "becomes smaller"), partial(_change_size, sign=-1), changes_size=True),
    "circles around clockwise": Action(("orbits clockwise", "goes in a circle clockwise"), partial(_circle, sign=1)),
    "circles around counterclockwise": Action(
        ("orbits counterclockwise", "goes in a circle counterclockwise"), partial(_circle, sign=-1)
    ),
    "shakes from side to side": Action(("swings left and right", "wobbles sideways"), partial(_swing, x=1, y=0)),
    "bounces up and down": Action(("hops up and down", "jumps up and down"), partial(_swing, x=0, y=1)),
}
"""Name -> action, in the order of the labels."""


@dataclass(frozen=True)
class Clip:
    """The attributes of a clip. Together with a seed they determine its pixels.

    The fields are those of `ATTRIBUTES_LIST`, in its spelling.

    Args:
        split: one of `SPLITS`.
        index: number within the split, from 0.
        shape: name in `SHAPES`.
        color: name in `COLORS`.
        action: name in `ACTIONS`.
        background: name in `BACKGROUNDS`.
        size: name in `SIZES`; None if the action changes it.

    Raises:
        ValueError: if a name is unknown.
    """

    split: str
    index: int
    shape: str
    color: str
    action: str
    background: str
    size: str | None

    def __post_init__(self) -> None:
        lookup(dict.fromkeys(SPLITS), self.split, "split")
        lookup(SHAPES, self.shape, "shape")
        lookup(COLORS, self.color, "color")
        lookup(ACTIONS, self.action, "action")
        lookup(BACKGROUNDS, self.background, "background")
        if self.size is not None:
            lookup(SIZES, self.size, "size")

    @property
    def video(self) -> str:
        """Path of the file, relative to the data set."""
        return f"{self.split}/{self.index:05d}.mp4"

    @property
    def label(self) -> int:
        """Index of the action in `ACTIONS`."""
        return list(ACTIONS).index(self.action)


# ---- splits ---------------------------------------------------------------------------------------------------------


def split_of(shape: str, color: str, action: str) -> str:
    """Return the split of a composition; see the module."""
    places = [list(table).index(name) for table, name in ((SHAPES, shape), (COLORS, color), (ACTIONS, action))]
    if places[0] == places[1]:
        return "hard"
    return {0: "test", 1: "val"}.get(sum(places) % 6, "train")


def split_sizes(clips: int = _CLIPS) -> dict[str, int]:
    """Return the number of clips per split.

    Args:
        clips: clips of `train`, at least one per action. From 4,000 on, the other splits have 240 each, 20 per action;
            below that, proportionally fewer, but at least one per action.

    Raises:
        ValueError: if `clips` is too small.
    """
    if clips < len(ACTIONS):
        raise ValueError(f"clips: got {clips}, expected at least {len(ACTIONS)}, one per action. Ask for more.")
    held_out = len(ACTIONS) * min(max(round(clips * _HELD_OUT / _CLIPS), 1), _HELD_OUT)
    return {split: clips if split == "train" else held_out for split in SPLITS}


def clip_at(split: str, index: int, seed: int = 0) -> Clip:
    """Return the clip with a given number. Actions, compositions and looks are balanced over any range of numbers.

    Args:
        split: one of `SPLITS`.
        index: from 0.
        seed: at least 0.

    Raises:
        ValueError: if the split is unknown, or a number is negative.
    """
    lookup(dict.fromkeys(SPLITS), split, "split")
    if index < 0 or seed < 0:
        raise ValueError(f"index: got {index}, seed: got {seed}; expected both to be at least 0.")
    turn, label = divmod(index, len(ACTIONS))
    action = list(ACTIONS)[label]
    pairs = [(s, c) for s in SHAPES for c in COLORS if split_of(s, c, action) == split]
    rng = _generator(seed, split, label, _ORDER)
    first, order = rng.integers(len(BACKGROUNDS) * len(SIZES)), rng.permutation(len(pairs))
    visit, place = divmod(turn, len(pairs))
    shape, color = pairs[order[place]]
    # Five and two are coprime: ten visits of a pair show it with every background in every size, and the held-out
    # splits, with at most five visits, hold no caption twice.
    look = first + place + visit
    size = None if ACTIONS[action].changes_size else list(SIZES)[look % len(SIZES)]
    return Clip(split, index, shape, color, action, list(BACKGROUNDS)[look % len(BACKGROUNDS)], size)


def _generator(seed: int, split: str, number: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng((seed, SPLITS.index(split), number, purpose))


# ---- captions -------------------------------------------------------------------------------------------------------

_TEMPLATES = (
    "a {thing} {action} over a {background} background",
    "on a {background} background a {thing} {action}",
    "there is a {thing} that {action} and the background is {background}",
)


def _sentence(clip: Clip, template: str, action: str, size: str | None) -> str:
    thing = " ".join(filter(None, (size, clip.color, clip.shape)))
    return template.format(thing=thing, action=action, background=clip.background)


def canonical_caption(clip: Clip) -> str:
    """Return the evaluation caption, such as "a small red heart moves to the left over a dotted background".

    To change one attribute only: `canonical_caption(dataclasses.replace(clip, action=action))`.
    """
    return _sentence(clip, _TEMPLATES[0], clip.action, clip.size)


def shapeless_caption(clip: Clip) -> str:
    """Return the evaluation caption with "shape" for the shape's name, as in "a small red shape moves up ..."."""
    return canonical_caption(clip).replace(clip.shape, "shape")


def captions(clip: Clip, seed: int = 0) -> list[str]:
    """Return five training captions: three complete ones, one of shape and action, one of size and background.

    The complete ones use each template and each synonym once. The other two exist because a few attributes suffice to
    distinguish most clips: a model that relies on them never learns the others, or forgets them.
    """
    rng = _generator(seed, clip.split, clip.index, _WORDS)
    actions = [clip.action, *ACTIONS[clip.action].other_words]
    sizes: list[str | None] = [None] * 3 if clip.size is None else [clip.size, *SIZES[clip.size].other_words]
    orders = [rng.permutation(3) for _ in range(2)]
    complete = [
        _sentence(clip, template, actions[a], sizes[s]) for template, a, s in zip(_TEMPLATES, *orders, strict=True)
    ]
    something = " ".join(filter(None, ("something", sizes[rng.integers(3)])))
    return [*complete, f"the {clip.shape} {rng.choice(actions)}", f"{something} over a {clip.background} background"]


# ---- questions ------------------------------------------------------------------------------------------------------

QUESTIONS: dict[str, tuple[str, str, str]] = {
    "color": ("what color is it?", "which color does the shape have?", "what is the color of the shape?"),
    "action": ("what does it do?", "how does it move?", "what is the shape doing?"),
    "background": ("what is behind it?", "what does the background look like?", "which background is there?"),
}
"""Attribute of a clip -> wordings of the question about it, the one of evaluations first."""

ANSWERS: tuple[str, ...] = (*COLORS, *ACTIONS, *BACKGROUNDS)
"""All answers, in the order of the labels."""


def questions(clip: Clip, seed: int = 0) -> list[tuple[str, str]]:
    """Return a question about each attribute of `QUESTIONS`, with its answer; in training clips in any wording."""
    rng = _generator(seed, clip.split, clip.index, _ASKING)
    chosen = rng.integers(3, size=len(QUESTIONS)) if clip.split == "train" else [0] * len(QUESTIONS)
    return [
        (wordings[number], getattr(clip, name))
        for number, (name, wordings) in zip(chosen, QUESTIONS.items(), strict=True)
    ]


# ---- pixels ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Track:
    """The pose of a shape in each frame, without camera shake; arrays of shape (frames,).

    Args:
        x: pixels from the left, 0 to `WIDTH`.
        y: pixels from the top, 0 to `WIDTH`.
        angle: radians clockwise from upright, 0 to 2 pi.
        radius: circumradius in pixels.
    """

    x: np.ndarray
    y: np.ndarray
    angle: np.ndarray
    radius: np.ndarray


def track(clip: Clip, seed: int = 0) -> Track:
    """Sample the start pose of a clip's shape and the change by its action."""
    rng = _generator(seed, clip.split, clip.index, _POSE)
    x, y = rng.uniform(0, WIDTH, 2)
    angle, place = rng.uniform(0, 2 * np.pi), rng.uniform()
    if clip.size is not None:
        place = (list(SIZES).index(clip.size) + place) / len(SIZES)
    change = ACTIONS[clip.action].change(rng)
    still = np.zeros(NUM_FRAMES)
    return Track(
        x=(x + change.x + still) % WIDTH,
        y=(y + change.y + still) % WIDTH,
        angle=(angle + change.angle + still) % (2 * np.pi),
        radius=radius_at(place + change.place + still),
    )


def radius_at(place: np.ndarray) -> np.ndarray:
    """Return circumradii in pixels.

    Args:
        place: of any shape, in the range of all sizes, of which 0-1 is one round.
    """
    number, fraction = np.divmod(place % 1 * len(SIZES), 1)
    least, greatest = np.moveaxis(np.array([size.radii for size in SIZES.values()])[number.astype(int)], -1, 0)
    radii: np.ndarray = least + fraction * (greatest - least)
    return radii


def ways(action: str, rng: np.random.Generator, steps: int) -> np.ndarray:
    """Sample what an action adds to the start pose, for longer than a clip lasts.

    Args:
        action: name in `ACTIONS`.
        rng: the source of chance.
        steps: time steps; a clip has `NUM_FRAMES`.

    Returns:
        Shape (steps, 4), 0 at first: pixels to the right and down, radians clockwise, place in the range of sizes.
    """
    change = ACTIONS[action].change(rng)
    values = (change.x, change.y, change.angle, change.place)
    way = np.stack([_extended(value, steps) for value in values], axis=1)
    return way - way[0]


def _extended(values: np.ndarray | float, steps: int) -> np.ndarray:
    """Continue a coordinate of an action, which is linear in time or a sine of it: both obey one recurrence."""
    if not isinstance(values, np.ndarray) or not values.any():
        return np.zeros(steps)
    middle = 1 + int(np.abs(values[1:-1]).argmax())
    factor = (values[middle - 1] + values[middle + 1]) / values[middle]
    found = values[:2].tolist()
    while len(found) < steps:
        found.append(factor * found[-1] - found[-2])
    return np.array(found[:steps])


def render(clip: Clip, seed: int = 0) -> np.ndarray:
    """Render a clip, with uninformative variation: camera shake, background drift, light and noise.

    Args:
        clip: its attributes.
        seed: at least 0.

    Returns:
        RGB, uint8, shape (frames, height, width, 3).
    """
    pose, rng = track(clip, seed), _generator(seed, clip.split, clip.index, _SCENE)
    camera, start, drift = tremble(rng, NUM_FRAMES), rng.uniform(0, WIDTH, 2), rng.normal(0, 0.35, 2)
    scene = Scene.sample(rng, clip.background, [(clip.color, clip.shape)])
    frames = np.empty((NUM_FRAMES, WIDTH, WIDTH, 3), np.uint8)
    # Frame by frame: all at once do not fit the processor's cache, which is slower.
    for t, frame in enumerate(frames):
        frame[:] = scene.draw(rng, [pose], t, camera[t], start + t * drift + camera[t])
    return frames


@dataclass(frozen=True)
class Scene:
    """The looks that all frames of a video share.

    Args:
        texture: of the background, periodic, `(height, width)`.
        tint: factors on it, `(3, 1, 1)`, the gain of the light included.
        shapes: color, RGB in 0-255, `(3, 1, 1)`, and name in `SHAPES`, of each shape; the last one lies on top.
        noise: standard deviation of the noise of pixels.
    """

    texture: np.ndarray
    tint: np.ndarray
    shapes: Sequence[tuple[np.ndarray, str]]
    noise: float

    @classmethod
    def sample(cls, rng: np.random.Generator, background: str, shapes: Sequence[tuple[str, str]]) -> "Scene":
        """Sample the looks: contrast, tint, light, and the shade of a color.

        Args:
            rng: the source of chance.
            background: name in `BACKGROUNDS`.
            shapes: name in `COLORS` and name in `SHAPES` of each shape.
        """
        angles = np.arange(WIDTH) * (2 * np.pi / WIDTH)
        texture = BACKGROUNDS[background](rng, angles, angles[:, None])
        texture = rng.uniform(75, 120) + rng.choice([-0.5, 0.5]) * rng.uniform(45, 80) * texture
        tint: np.ndarray = rng.uniform(0.94, 1.06, 3)
        shades = [np.array(COLORS[color]) + rng.uniform(-9, 9, 3) for color, _ in shapes]
        gain, noise = rng.uniform(0.85, 1.1), rng.uniform(3, 9)
        texture, tint, *shades = (
            values.astype(np.float32)
            for values in (texture, *(gain * color[:, None, None] for color in (tint, *shades)))
        )
        return cls(texture, tint, [(shade, shape) for shade, (_, shape) in zip(shades, shapes, strict=True)], noise)

    def draw(
        self, rng: np.random.Generator, poses: Sequence["Track"], t: int, camera: np.ndarray, ground: np.ndarray
    ) -> np.ndarray:
        """Draw a frame, with noise.

        Args:
            rng: the source of the noise.
            poses: of each shape.
            t: number of the frame.
            camera: shift of the shapes by camera shake, in pixels to the right and down.
            ground: shift of the background.

        Returns:
            RGB, uint8, shape (height, width, 3).
        """
        pixels = self.tint * _shifted(self.texture, *ground)
        for (color, shape), pose in zip(self.shapes, poses, strict=True):
            pixels += cover(shape, pose, t, camera) * (color - pixels)
        pixels += np.float32(self.noise) * rng.standard_normal(pixels.shape, dtype=np.float32)
        return np.clip(np.rint(pixels), 0, 255).astype(np.uint8).transpose(1, 2, 0)


def tremble(rng: np.random.Generator, num_frames: int) -> np.ndarray:
    """Sample camera shake: pixels to the right and down, shape (frames, 2), an AR(1) process with coefficient 0.7."""
    places = rng.normal(0, 0.8, (num_frames, 2))
    for before, place in pairwise(places):
        place += 0.7 * before
    return places


def _shifted(texture: np.ndarray, x: float, y: float) -> np.ndarray:
    """Move a periodic texture of shape (height, width) right and down, with subpixel precision."""
    (whole_x, part_x), (whole_y, part_y) = divmod(x, 1), divmod(y, 1)
    moved = np.roll(texture, (int(whole_y), int(whole_x)), (0, 1))
    moved += np.float32(part_y) * (np.roll(moved, 1, 0) - moved)
    moved += np.float32(part_x) * (np.roll(moved, 1, 1) - moved)
    return moved


def cover(shape: str, pose: Track, t: int, camera: np.ndarray) -> np.ndarray:
    """Return how much of each pixel a shape covers.

    Args:
        shape: name in `SHAPES`.
        pose: of the shape.
        t: number of the frame.
        camera: shift of the shape by camera shake, in pixels to the right and down.

    Returns:
        0-1, shape (height, width).
    """
    x, y, angle, radius = pose.x[t] + camera[0], pose.y[t] + camera[1], pose.angle[t], pose.radius[t]
    pixels = np.arange(WIDTH)
    # From the shape's center, the short way round the torus.
    right, down = (((pixels - center + WIDTH / 2) % WIDTH - WIDTH / 2).astype(np.float32) for center in (x, y))
    down = down[:, None]
    cos, sin = np.float32(np.cos(angle) / radius), np.float32(np.sin(angle) / radius)
    distance = np.float32(radius) * SHAPES[shape](cos * right + sin * down, cos * down - sin * right)
    return np.clip(np.float32(0.5) - distance, 0, 1)


# ---- the card -------------------------------------------------------------------------------------------------------

_CARD = """---
license: apache-2.0
task_categories:
- video-classification
- zero-shot-classification
language:
- en
configs:
- config_name: default
  data_files:
  - {{split: train, path: train.jsonl}}
  - {{split: validation, path: val.jsonl}}
  - {{split: test, path: test.jsonl}}
  - {{split: hard, path: hard.jsonl}}
- config_name: captions
  data_files:
  - {{split: train, path: train_captions.jsonl}}
---

# Torus shapes

Synthetic videos of {width} x {width} pixels and {frames} frames at {rate} frames per second, without sound. In each,
one shape performs one action over a textured background. Made by

    internvideo make-demo-data OUT --clips {clips} --seed {seed}

The command gives identical files with the same versions of numpy, PyAV and x264 on the same kind of processor.

## Content

| | |
|---|---|
| shapes | {shapes} |
| colors | {colors} |
| actions | {actions} |
| backgrounds | {backgrounds} |
| sizes | {sizes} |

Camera shake, background drift, light and noise vary at random and carry no information.

**A single frame does not reveal the action.** The world is a torus: a shape that leaves on one side enters on the
other. Position, angle and size have the same distribution in every frame of every action; growing and shrinking shapes
jump back once at the end of the range. A frame does show shape and color, and not every pair of them performs every
action in `train`: a model that learns this gains nothing on `hard`, and loses on `val` and `test`. Compression changes
none of this: every frame is a keyframe.

## Splits

By composition, from the positions s, c and a of shape, color and action in the lists above, counted from 0:

| split | clips | content |
|---|---|---|
| hard | {hard} | s = c: pairs of shape and color that no other split has |
| test | {test} | (s + c + a) % 6 = 0: each pair of the three is in `train`, the triple is not |
| val | {val} | (s + c + a) % 6 = 1: likewise |
| train | {train} | the rest |

Actions, compositions, backgrounds and sizes are balanced. In `val`, `test` and `hard` every `caption` is unique.
`train` has all its 240 compositions from 240 clips on.

## Files

- `train.jsonl`, `val.jsonl`, `test.jsonl`, `hard.jsonl`: one line per clip. `video`: relative path; `label`: the
  action, from 0, in the order of `labels.txt`; `caption`: one sentence from a fixed template.
- `train_shapeless.jsonl`, `val_shapeless.jsonl`: the same, but the caption says "shape" for the shape's name.
- `train_captions.jsonl`: five lines per clip of `train`, with captions of different form and wording; the last two
  are incomplete: one names shape and action only, one size and background.
- `attributes.jsonl`: one line per clip of all splits: `video`, `split`, `index`, `shape`, `color`, `action`,
  `background`, `size` (null if the action changes it), and the five `captions` of `train_captions.jsonl`.
- `train_attributes.jsonl`, `val_attributes.jsonl`: one line per clip: `video`, and one name each of `shape.txt`,
  `color.txt`, `action.txt`, `background.txt` and `size.txt`, where a size that the action changes is "changing".
- `train_questions.jsonl`, and so on: three lines per clip: a `question` about its color, action or background, and its
  `answer`, a line of `answers.txt`. In `train` the wording varies.
- `labels.txt`: the names of the actions. `settings.json`: the settings of the data set.

`internvideo_hf.data.manifests.load_manifest` reads all lists of captions.

## Intended use

To show in minutes, without any other data set, that training works, and to test programs. Results do not transfer to
real videos. Do not augment by flips, by reversing time, or by changing hues: they make captions false.

## License

Apache-2.0. The data set contains no filmed material, and none of other data sets.
"""


def _card(clips: int, seed: int) -> str:
    lists: dict[str, Collection[str]] = {
        "shapes": SHAPES,
        "colors": COLORS,
        "actions": ACTIONS,
        "backgrounds": BACKGROUNDS,
        "sizes": SIZES,
    }
    return _CARD.format(
        width=WIDTH,
        frames=NUM_FRAMES,
        rate=RATE,
        clips=clips,
        seed=seed,
        **split_sizes(clips),
        **{name: ", ".join(table) for name, table in lists.items()},
    )


# ---- files ----------------------------------------------------------------------------------------------------------


def write_clip(clip: Clip, path: str | Path, seed: int = 0) -> None:
    """Render a clip into an MP4 file (H.264), written atomically.

    The same clip and seed give the same bytes with the same libraries on the same kind of processor.

    Raises:
        OSError: if the file cannot be written.
    """
    write_frames(render(clip, seed), path, RATE)


def write_frames(frames: Iterable[np.ndarray], path: str | Path, rate: int, width: int = WIDTH) -> None:
    """Write drawn frames into an MP4 file (H.264), atomically.

    Args:
        frames: RGB, uint8, shape (width, width, 3) each.
        path: the file.
        rate: frames per second.
        width: width and height of a frame, an even number of pixels.

    Raises:
        OSError: if the file cannot be written.
    """
    with atomic_path(Path(path)) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width = stream.height = width
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # the bytes depend on the number of threads
        # Every frame is a keyframe with the same quantizer, so that decoded frames reveal no more than rendered ones:
        # predicted frames show traces of motion, and rate control depends on the neighboring frames.
        stream.codec_context.gop_size = 1
        stream.options = {"qp": "28", "preset": "superfast"}
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))


def make_data_set(
    out: str | Path,
    clips: int = _CLIPS,
    *,
    seed: int = 0,
    jobs: int = 1,
    on_done: Callable[[], object] = lambda: None,
) -> int:
    """Write the data set: videos, lists, label names and a card. Resumable.

    `OUT/README.md` describes the files.

    Args:
        out: the folder to write: new, empty, or with a part of the same data set.
        clips: clips of `train`; see `split_sizes`.
        seed: at least 0. A clip depends only on the seed, its split and its number.
        jobs: processes.
        on_done: called after each clip.

    Returns:
        The number of clips that already existed.

    Raises:
        FileExistsError: if `out` holds other files.
        LockedError: if another process writes into `out`.
        OSError: if a file cannot be written; a DiskFullError if there is no room.
        ValueError: if a number is out of range.
    """
    out, planned = Path(out), plan_videos(clip_at, split_sizes(clips), seed)

    def write_lists() -> None:
        _write_lists(out, planned, seed)
        atomic_write_text(out / "README.md", _card(clips, seed))

    settings = {"construction": _CONSTRUCTION, "clips": clips, "seed": seed}
    write = partial(write_clip, seed=seed)
    return write_data_set(out, planned, write, settings, lambda clip: _CLIP_BYTES, write_lists, jobs, on_done)


def plan_videos(plan_at: Callable[[str, int, int], _Plan], sizes: Mapping[str, int], seed: int) -> list[_Plan]:
    """Return the plans of all videos of a data set, split after split.

    Args:
        plan_at: (split, number in it, seed) gives the plan of a video.
        sizes: split -> its number of videos.
        seed: at least 0.

    Raises:
        ValueError: if the seed is negative.
    """
    if seed < 0:
        raise ValueError(f"seed: got {seed}, expected at least 0.")
    return [plan_at(split, index, seed) for split, size in sizes.items() for index in range(size)]


def sizes_of_splits(videos: int, splits: Sequence[str], ratio: int) -> dict[str, int]:
    """Return the number of videos per split of a data set whose other splits are of one size.

    Args:
        videos: videos of the first split, at least 1.
        splits: names, the one for training first.
        ratio: training videos for one of each other split, which has at least one.

    Raises:
        ValueError: if there is none.
    """
    if videos < 1:
        raise ValueError(f"videos: got {videos}, expected at least 1.")
    return {split: videos if split == splits[0] else max(1, round(videos / ratio)) for split in splits}


def write_data_set(
    out: Path,
    planned: Sequence[Any],
    write: Callable[[Any, Path], None],
    settings: Mapping[str, int],
    bytes_of: Callable[[Any], int],
    write_lists: Callable[[], None],
    jobs: int,
    on_done: Callable[[], object],
) -> int:
    """Write those videos of a drawn data set that do not exist, then its lists.

    Args:
        out: the folder: new, empty, or with a part of the same data set.
        planned: plans with the path `video`, relative to `out`.
        write: (plan of a video, file) writes it; to be pickled.
        settings: of the data set.
        bytes_of: size of a video's file, on average.
        write_lists: writes what names the videos.
        jobs: processes.
        on_done: called after each video, written or not.

    Returns:
        The number of videos that existed.

    Raises:
        FileExistsError: if `out` holds other files.
        LockedError: if another process writes into `out`.
        OSError: if a file cannot be written; a DiskFullError if there is no room.
    """
    with lock_folder(out):
        check_output(out, sum(bytes_of(plan) for plan in planned if not (out / plan.video).is_file()))
        claim(out, settings)
        for folder in {(out / plan.video).parent for plan in planned}:
            folder.mkdir(exist_ok=True)
            remove_leftovers(folder)
        existing = write_missing(write, planned, out, jobs, on_done)
        write_lists()  # last, so that lists never name missing files
    return existing


def write_missing(
    write: Callable[[Any, Path], None], planned: Sequence[Any], out: Path, jobs: int, on_done: Callable[[], object]
) -> int:
    """Write those videos of a data set that do not exist.

    Args:
        write: (plan of a video, file) writes it; to be pickled.
        planned: plans with the path `video`, relative to `out`.
        out: folder of the data set.
        jobs: processes.
        on_done: called after each video, written or not.

    Returns:
        The number of videos that existed.

    Raises:
        OSError: if a file cannot be written.
    """
    existing = 0
    for plan, result in map_unordered(
        partial(_write_missing, write, out), planned, jobs, name_of=lambda plan: plan.video
    ):
        if isinstance(result, Exception):
            reason = getattr(result, "cause", None) or result
            raise OSError(
                f"{out / plan.video} could not be made ({reason}). Rerun the same command to resume."
            ) from result
        existing += not result
        on_done()
    return existing


def _write_missing(write: Callable[[Any, Path], None], out: Path, plan: Any) -> bool:
    if (path := out / plan.video).is_file():
        return False
    write(plan, path)
    return True


def claim(out: Path, settings: Mapping[str, int]) -> None:
    """Claim the folder, or check that it holds a part of the same data set.

    Args:
        out: the folder.
        settings: of the data set.

    Raises:
        FileExistsError: if it holds other files, or a data set with other settings.
    """
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"{out} is a file. Give the name of a folder.")
    path = out / SETTINGS
    if path.is_file():
        found = {}
        with suppress(ValueError):  # a file that someone has changed
            found = json.loads(path.read_text(encoding="utf-8"))
        if changes := changed_settings(found if isinstance(found, dict) else {}, settings):
            raise FileExistsError(
                f"{out} holds a data set with other settings ({changes}). Choose another folder, or delete this one."
            )
        return
    if out.is_dir() and any(not is_temporary_of(path, file) and not is_lock(file) for file in out.iterdir()):
        raise FileExistsError(f"{out} holds other files than a part of this data set. Choose another folder.")
    out.mkdir(parents=True, exist_ok=True)
    remove_leftovers(out)
    atomic_write_text(path, _json(settings))


def _write_lists(out: Path, planned: list[Clip], seed: int) -> None:
    def write(name: str, rows: Iterator[dict[str, Any]]) -> None:
        atomic_write_text(out / name, "".join(map(_json, rows)))

    for split in SPLITS:
        write(f"{split}.jsonl", (_row(clip, canonical_caption(clip)) for clip in planned if clip.split == split))
    in_training = (clip for clip in planned if clip.split == "train")
    write("train_captions.jsonl", (_row(clip, caption) for clip in in_training for caption in captions(clip, seed)))
    write(ATTRIBUTES_LIST, ({"video": c.video, **asdict(c), "captions": captions(c, seed)} for c in planned))
    values: dict[str, Iterable[str]] = {
        "shape": SHAPES,
        "color": COLORS,
        "action": ACTIONS,
        "background": BACKGROUNDS,
        "size": (*SIZES, CHANGING),
    }
    for split in ("train", "val"):
        clips = [clip for clip in planned if clip.split == split]
        write(f"{split}_shapeless.jsonl", (_row(clip, shapeless_caption(clip)) for clip in clips))
        rows = ({name: getattr(clip, name) or CHANGING for name in ("video", *values)} for clip in clips)
        write(f"{split}_attributes.jsonl", rows)
    for name, words in values.items():
        atomic_write_lines(out / f"{name}.txt", words)
    for split in SPLITS:
        asked = ((clip.video, *pair) for clip in planned if clip.split == split for pair in questions(clip, seed))
        write(f"{split}_questions.jsonl", ({"video": v, "question": q, "answer": a} for v, q, a in asked))
    atomic_write_lines(out / "labels.txt", ACTIONS)
    atomic_write_lines(out / "answers.txt", ANSWERS)


def _row(clip: Clip, caption: str) -> dict[str, Any]:
    return {"video": clip.video, "label": clip.label, "caption": caption}


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content) + "\n"
