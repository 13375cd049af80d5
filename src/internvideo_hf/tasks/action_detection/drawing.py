"""Pictures of who does what: boxes with labels in frames, in a whole video, and side by side."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from internvideo_hf.data.transcoding import TranscodeSettings, write_pictures
from internvideo_hf.tasks.action_detection.detection import Detections, Person
from internvideo_hf.utils.files import check_output, remove_leftovers_of
from internvideo_hf.utils.names import clock
from internvideo_hf.utils.pictures import COLORS, INK, PAPER, contact_sheet, fitted
from internvideo_hf.video import VideoReader

LEAST_SIDE, MOST_SIDE = 360, 720
"""Pixels of the shorter side of a picture: smaller ones are enlarged for the letters, larger ones reduced."""
TILES, COLUMNS, TILE_SIDE = 12, 3, 360
"""Key frames of a montage at most, those in a row, and pixels of the shorter side of each."""
REACH = 1.0
"""Seconds before and after a key frame in which its boxes are shown."""
_LETTERS = 1 / 26  # of the shorter side
_WIDEST = 0.45  # fraction of the picture's width that a label may take beyond its box

_Rectangle = tuple[float, float, float, float]


class _Label(NamedTuple):
    lines: list[str]
    color: tuple[int, int, int]
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
    size = round(width * scale), round(height * scale)
    picture = Image.fromarray(frame)
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(max(12, round(min(size) * _LETTERS)))
    labels = [_label(person, size) for person in people]
    for label in labels:
        draw.rectangle(label.box, outline=label.color, width=max(2, min(size) // 180))
    taken: list[_Rectangle] = [label.box for label in labels]
    placed: list[_Rectangle] = []
    for label in sorted(labels, key=lambda label: label.box[1]):
        widest = max(label.box[2] - label.box[0], _WIDEST * size[0])
        lines = [fitted(line, font, int(widest)) for line in label.lines]
        place = _free_place(label.box, _measure(lines, font), size, placed, taken)
        placed.append(place)
        draw.rectangle(place, fill=label.color)
        dark = sum(label.color) > 400
        draw.multiline_text((place[0] + 3, place[1] + 1), "\n".join(lines), INK if dark else PAPER, font, spacing=2)
    return picture


def _label(person: Person, size: tuple[int, int]) -> _Label:
    left, top, right, bottom = (edge * side for edge, side in zip(person.box, size * 2, strict=True))
    actions = [f"{action.label} {action.score:.0%}" for action in person.actions]
    lines = [f"{person.track}: {actions[0]}", *actions[1:]] if actions else [str(person.track)]
    color = COLORS[(person.track - 1) % len(COLORS)]
    return _Label(lines, color, (left, top, max(right - 1, left), max(bottom - 1, top)))


def _measure(lines: Sequence[str], font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> tuple[float, float]:
    line = font.getbbox("Ágy")[3] + 2
    return max(map(font.getlength, lines)) + 6, line * len(lines) + 4


def _free_place(
    box: _Rectangle,
    measure: tuple[float, float],
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


def draw_montage(video: str, found: Detections, top_k: int | None = None, min_score: float = 0.0) -> Image.Image:
    """Draw key frames with people beside each other, evenly over the video; of one without people, its key frames.

    Args:
        video: path or address.
        found: its people.
        top_k: actions of a person to name.
        min_score: least score of an action to name, 0-1.

    Raises:
        VideoDecodeError: if the video cannot be read.
    """
    whole = np.flatnonzero(found.is_whole)
    busy = np.unique(found.key_frames.numpy())
    candidates = busy if len(busy) else whole
    if not len(candidates):
        return contact_sheet(
            [(Image.new("RGB", (TILE_SIDE, TILE_SIDE // 2)), ["no key frame is known"])], (360, 180), 1
        )
    chosen = candidates[np.unique(np.linspace(0, len(candidates) - 1, TILES).round().astype(int))].tolist()
    with VideoReader(video) as reader:
        frames = (reader.read([found.frames[place]])[0] for place in chosen)
        people = [found.people_at(place, top_k, min_score) for place in chosen]
        pictures = [draw_people(frame, one, (TILE_SIDE, TILE_SIDE)) for frame, one in zip(frames, people, strict=True)]
    tiles = [
        (picture, [f"{clock(found.times[place])}   {_count(one)}"])
        for place, picture, one in zip(chosen, pictures, people, strict=True)
    ]
    return contact_sheet(tiles, pictures[0].size, COLUMNS)


def _count(people: Sequence[Person]) -> str:
    return "1 person" if len(people) == 1 else f"{len(people)} people"


def draw_video(video: str, found: Detections, target: Path, top_k: int | None = None, min_score: float = 0.0) -> None:
    """Write a video with the boxes and labels of its people, without sound; damaged frames are left out.

    Between two key frames the box of a person in both moves evenly, and the labels are those of the nearer one.

    Args:
        video: path or address.
        found: its people.
        target: the file to write, .mp4; atomically, its folder is created.
        top_k: actions of a person to name.
        min_score: least score of an action to name, 0-1.

    Raises:
        VideoDecodeError: if the video cannot be read.
        OSError: if the file cannot be written.
    """
    check_output(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers_of(target)
    people = [found.people_at(place, top_k, min_score) for place in range(len(found.times))]
    with VideoReader(video) as reader:
        settings = TranscodeSettings(MOST_SIDE, keyframe_interval=50)
        write_pictures(_pictures(reader, found, people), target, reader.fps, settings)


def _pictures(
    reader: VideoReader, found: Detections, people: Sequence[Sequence[Person]]
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    timeline = reader.timeline
    assert timeline is not None
    times = found.times.tolist()
    frames = reader.frames(range(reader.num_frames), skip_damaged=True)
    for time, frame in zip(timeline[:-1].tolist(), frames, strict=True):
        if frame is not None:
            yield time, np.asarray(draw_people(frame, people_between(times, people, time), (LEAST_SIDE, MOST_SIDE)))


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
