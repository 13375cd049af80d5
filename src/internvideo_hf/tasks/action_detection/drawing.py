"""Pictures of who does what: boxes with labels in frames, in a whole video, and side by side."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from internvideo_hf.data.transcoding import TranscodeSettings, write_pictures
from internvideo_hf.tasks.action_detection.detection import Detections, Person
from internvideo_hf.utils.files import check_output, remove_leftovers_of
from internvideo_hf.utils.names import clock
from internvideo_hf.utils.pictures import COLORS, INK, PAPER, contact_sheet, wrapped
from internvideo_hf.video import VideoReader

LEAST_SIDE, MOST_SIDE = 360, 720
"""Pixels of the shorter side of a picture: smaller ones are enlarged for the letters, larger ones reduced."""
TILES, COLUMNS, TILE_SIDE = 12, 3, 300
"""Key frames of a montage at most, those in a row, and pixels of the shorter side of each."""
REACH = 1.0
"""Seconds before and after a key frame in which its boxes are shown."""
_LETTERS = 1 / 26  # of the shorter side
_WIDEST = 0.45  # fraction of the picture's width that a label has, or its box, if that is wider
_LINES = 2  # of an action's name
_LUMINANCE = 0.299, 0.587, 0.114  # of red, green and blue

_Rectangle = tuple[float, float, float, float]


class _Label(NamedTuple):
    lines: tuple[tuple[str, str], ...]  # text, which may be shortened, and score
    color: tuple[int, ...]
    box: _Rectangle  # in pixels


def draw_people(frame: NDArray[np.uint8], people: Sequence[Person], side: tuple[int, int]) -> Image.Image:
    """Draw a box around each person, and beside it number, actions and scores.

    Args:
        frame: uint8 `(height, width, 3)`, RGB.
        people: boxes as fractions of the frame. Each number has its color.
        side: the least and the most pixels of the picture's shorter side; a frame between them keeps its size.
    """
    height, width = frame.shape[:2]
    scale = np.clip(min(height, width), *side) / min(height, width)
    size = 2 * round(width * scale / 2), 2 * round(height * scale / 2)  # as videos need it
    picture = Image.fromarray(frame)
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(picture)
    labels = [_label(person, size) for person in people]
    for label in labels:
        draw.rectangle(label.box, outline=label.color, width=max(2, min(size) // 180))
    boxes = [label.box for label in labels]
    placed: list[_Rectangle] = []
    for label in sorted(labels, key=lambda label: label.box[1]):
        widest = max(label.box[2] - label.box[0], _WIDEST * size[0])
        sign = _sign(label.lines, label.color, max(12, round(min(size) * _LETTERS)), round(widest))
        place = _free_place(label.box, sign.size, size, placed, boxes)
        placed.append(place)
        picture.paste(sign, (round(place[0]), round(place[1])))
    return picture


def _label(person: Person, size: tuple[int, int]) -> _Label:
    left, top, right, bottom = (edge * side for edge, side in zip(person.box, size * 2, strict=True))
    actions = [(action.label, f" {action.score:.0%}") for action in person.actions]
    (first, score), *others = actions or [("", "")]
    lines = ((f"{person.track}: {first}" if first else str(person.track), score), *others)
    color = COLORS[(person.track - 1) % len(COLORS)]
    return _Label(lines, color, (left, top, max(right - 1, left), max(bottom - 1, top)))


@lru_cache(256)  # of a video: a person's label is the same in many frames
def _sign(lines: tuple[tuple[str, str], ...], color: tuple[int, ...], letters: int, widest: int) -> Image.Image:
    """Return a label by itself: lines of text on a color."""
    font = ImageFont.load_default(letters)
    shown: list[str] = []
    for text, score in lines:
        *above, last = wrapped(text, font, round(widest - font.getlength(score)), _LINES)
        shown += *above, last + score
    height = round(font.getbbox("\u00c1gy")[3]) + 2
    sign = Image.new("RGB", (int(max(map(font.getlength, shown))) + 6, height * len(shown) + 3), color)
    draw = ImageDraw.Draw(sign)
    for number, line in enumerate(shown):
        draw.text((3, 1 + number * height), line, INK if np.dot(color, _LUMINANCE) > 140 else PAPER, font)
    return sign


def _free_place(
    box: _Rectangle,
    measure: tuple[int, int],
    size: tuple[int, int],
    placed: Sequence[_Rectangle],
    boxes: Sequence[_Rectangle],
) -> _Rectangle:
    """Return where a label covers least of the labels before it, and then of the boxes; of equal places the first."""
    left, top, right, bottom = box
    width, height = measure
    corners = [
        (left, top - height),
        (left, bottom),
        (right - width, top - height),
        (right - width, bottom),
        (right, top),
        (left - width, top),
        (left, top),
        (left, bottom - height),
        *((left, y) for other in placed for y in (other[1] - height - 1, other[3] + 1)),
    ]
    best: tuple[float, float] | None = None
    found = box
    for x, y in corners:
        x, y = max(0.0, min(x, size[0] - 1 - width)), max(0.0, min(y, size[1] - 1 - height))
        place = x, y, x + width, y + height
        cost = sum(_common(place, other) for other in placed), sum(_common(place, other) for other in boxes)
        if best is None or cost < best:
            best, found = cost, place
    return found


def _common(one: _Rectangle, other: _Rectangle) -> float:
    """Return the area that two rectangles share."""
    width, height = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)


def draw_montage(
    video: str,
    found: Detections,
    top_k: int | None = None,
    min_score: float = 0.0,
    noun: tuple[str, str] = ("person", "people"),
) -> Image.Image:
    """Draw key frames with people beside each other, evenly over the video; of one without people, its key frames.

    Args:
        video: path or address.
        found: its people.
        top_k: actions of a person to name.
        min_score: least score of an action to name, 0-1.
        noun: word for what is in a box, and its plural.

    Raises:
        VideoDecodeError: if the video cannot be read.
    """
    busy = np.unique(found.key_frames.numpy())
    candidates = busy if len(busy) else np.flatnonzero(found.is_whole)
    if not len(candidates):
        blank = Image.new("RGB", (TILE_SIDE, TILE_SIDE))
        return contact_sheet([(blank, ["no key frame is known"])], blank.size, 1)
    chosen = candidates[np.unique(np.linspace(0, len(candidates) - 1, TILES).round().astype(int))].tolist()
    tiles = []
    with VideoReader(video) as reader:
        for place in chosen:
            people = found.people_at(place, top_k, min_score)
            picture = draw_people(reader.read([found.frames[place]])[0], people, (TILE_SIDE, TILE_SIDE))
            count = f"{len(people)} {noun[len(people) != 1]}"
            tiles.append((picture, [f"{clock(found.times[place])}   {count}"]))
    return contact_sheet(tiles, tiles[0][0].size, COLUMNS)


def draw_video(
    video: str,
    found: Detections,
    target: Path,
    top_k: int | None = None,
    min_score: float = 0.0,
    on_frames: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write a video with the boxes and labels of its people, without sound; damaged frames are left out.

    Between two key frames the box of a person in both moves evenly, and the labels are those of the nearer one.

    Args:
        video: path or address.
        found: its people.
        target: the file to write, .mp4; atomically, its folder is created.
        top_k: actions of a person to name.
        min_score: least score of an action to name, 0-1.
        on_frames: progress callback `(frames done, all frames)`.

    Raises:
        VideoDecodeError: if the video cannot be read.
        OSError: if the file cannot be written.
    """
    check_output(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers_of(target)
    people = [found.people_at(place, top_k, min_score) for place in range(len(found.times))]
    with VideoReader(video, backend="pyav") as reader:
        settings = TranscodeSettings(MOST_SIDE, keyframe_interval=50)
        write_pictures(_pictures(reader, found, people, on_frames), target, reader.fps, settings)


def _pictures(
    reader: VideoReader,
    found: Detections,
    people: Sequence[Sequence[Person]],
    on_frames: Callable[[int, int], None],
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    timeline = reader.timeline
    assert timeline is not None
    times = found.times.tolist()
    frames = reader.frames(range(reader.num_frames), skip_damaged=True)
    for number, (time, frame) in enumerate(zip(timeline[:-1].tolist(), frames, strict=True), 1):
        if frame is not None:
            yield time, np.asarray(draw_people(frame, people_between(times, people, time), (LEAST_SIDE, MOST_SIDE)))
        on_frames(number, reader.num_frames)


def people_between(times: Sequence[float], people: Sequence[Sequence[Person]], time: float) -> list[Person]:
    """Return the people at a time of a video, by the key frames around it.

    Args:
        times: of the key frames, in seconds, rising.
        people: of each key frame.
        time: in seconds.
    """
    after = bisect_right(times, time)
    before = after - 1
    sides = [place for place in (before, after) if 0 <= place < len(times)]
    shown: dict[int, Person] = {}
    for place in sorted(sides, key=lambda place: abs(times[place] - time)):
        other = before + after - place
        reach = REACH if not 0 <= other < len(times) else min(REACH, (times[after] - times[before]) / 2)
        if abs(times[place] - time) > max(reach, 1e-6):
            continue
        for person in people[place]:
            shown.setdefault(person.track, person)
    if len(sides) == 2 and times[after] - times[before] <= 2 * REACH:
        part = (time - times[before]) / (times[after] - times[before])
        ends = [{person.track: person.box for person in people[place]} for place in sides]
        for track in shown.keys() & ends[0].keys() & ends[1].keys():
            moved = (1 - part) * np.array(ends[0][track]) + part * np.array(ends[1][track])
            shown[track] = shown[track]._replace(box=tuple(moved.tolist()))
    return [shown[track] for track in sorted(shown)]
