"""A picture of a video's actions: frames along the time, and a colored bar for each action below."""

from collections.abc import Sequence
from contextlib import suppress

from PIL import Image, ImageDraw, ImageFont

from internvideo_hf.tasks.temporal_localization.localization import Action, Localization
from internvideo_hf.utils.pictures import COLORS, FAINT, FONT_SIZE, GAP, INK, LINE, MISSING, PAPER, fitted
from internvideo_hf.video import VideoReader
from internvideo_hf.video.errors import VideoDecodeError

WIDTH, GUTTER, FRAMES = 1200, 160, 10  # pixels of the time, and of the labels to its left; frames along it
BAR, SPACE = 18, 4  # pixels: height of a bar, between bars
_STEPS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)  # seconds from a tick to the next
_TICKS = 12  # at most


def draw_timeline(video: str, found: Localization) -> Image.Image:
    """Draw frames along the time, and below them a bar for each action, paler the lower its score.

    Args:
        video: path or address.
        found: its actions.

    Raises:
        VideoDecodeError: if the video cannot be read.
    """
    font = ImageFont.load_default(FONT_SIZE)
    with VideoReader(video) as reader:
        duration = found.duration or reader.duration or 1.0
        strip = _strip(reader)
    lanes = _lanes(found.actions)
    top = GAP + strip.height + LINE + 2 * SPACE
    height = top + len(lanes) * (BAR + SPACE) + GAP
    picture = Image.new("RGB", (GUTTER + WIDTH + 2 * GAP, height), PAPER)
    draw = ImageDraw.Draw(picture)
    left = GAP + GUTTER
    picture.paste(strip, (left, GAP))
    _draw_ticks(draw, font, left, GAP + strip.height, height, duration)
    labels = list(dict.fromkeys(label for label, _ in lanes))
    before = None
    for row, (label, actions) in enumerate(lanes):
        upper = top + row * (BAR + SPACE)
        if label != before:
            draw.text((GAP, upper + 1), fitted(label, font, GUTTER - GAP), INK, font)
        before = label
        for action in actions:
            _draw_bar(draw, font, (left, upper), action, duration, COLORS[labels.index(label) % len(COLORS)])
    for start, end in found.gaps:
        _draw_gap(draw, font, left, (GAP, height - GAP), (start / duration, end / duration))
    return picture


def _strip(reader: VideoReader) -> Image.Image:
    """Return frames beside each other, each the one in the middle of its part of the video; gray for damaged ones."""
    frames: dict[int, Image.Image] = {}
    for number in range(FRAMES):
        place = min(int((number + 0.5) * reader.num_frames / FRAMES), reader.num_frames - 1)
        with suppress(VideoDecodeError):
            frames[number] = Image.fromarray(reader.read([place])[0])
    example = next(iter(frames.values()), Image.new("RGB", (16, 9)))
    size = (WIDTH // FRAMES, max(1, round(WIDTH / FRAMES * example.height / example.width)))
    strip = Image.new("RGB", (WIDTH, size[1]), MISSING)
    for number, frame in frames.items():
        strip.paste(frame.resize(size, Image.Resampling.LANCZOS), (number * size[0], 0))
    return strip


def _lanes(actions: Sequence[Action]) -> list[tuple[str, list[Action]]]:
    """Return the rows of bars: those of a label together, the best label first; bars of one row do not overlap."""
    labels = dict.fromkeys(action.label for action in actions)
    rows: list[tuple[str, list[Action]]] = []
    for label in labels:
        own: list[list[Action]] = []
        for action in (action for action in actions if action.label == label):
            free = (row for row in own if all(action.start >= one.end or action.end <= one.start for one in row))
            row = next(free, None)
            if row is None:
                own.append(row := [])
            row.append(action)
        rows += [(label, row) for row in own]
    return rows


def _draw_bar(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    place: tuple[int, int],
    action: Action,
    duration: float,
    color: tuple[int, ...],
) -> None:
    begin, end = (place[0] + min(time / duration, 1) * WIDTH for time in (action.start, action.end))
    share = 0.35 + 0.65 * max(0.0, min(action.score, 1.0))
    fill = tuple(round(255 + (part - 255) * share) for part in color)
    draw.rectangle((begin, place[1], max(end, begin + 2), place[1] + BAR), fill=fill)
    text = f"{action.score:.0%}"
    if font.getlength(text) + 4 <= end - begin:
        draw.text((begin + 3, place[1] + 1), text, PAPER if sum(fill) < 380 else INK, font)


def _draw_ticks(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    left: int,
    top: int,
    bottom: int,
    duration: float,
) -> None:
    step = next((step for step in _STEPS if duration / step <= _TICKS), _STEPS[-1])
    for number in range(int(duration / step) + 1):
        time = number * step
        place = left + round(time / duration * WIDTH)
        draw.line((place, top, place, bottom - GAP), fill=MISSING)
        text = _clock(time, step)
        draw.text((min(place + 2, left + WIDTH - round(font.getlength(text))), top + 2), text, FAINT, font)


def _clock(time: float, step: float) -> str:
    whole = int(time)
    hours, minutes, seconds = whole // 3600, whole // 60 % 60, whole % 60
    text = f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
    return f"{text}.{round(time % 1 * 10)}" if step < 1 else text


def _draw_gap(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    left: int,
    rows: tuple[int, int],
    part: tuple[float, float],
) -> None:
    begin, end = (left + max(0.0, min(share, 1.0)) * WIDTH for share in part)
    draw.rectangle((begin, rows[0], max(end, begin + 2), rows[1]), fill=MISSING, outline=FAINT)
    if font.getlength("damaged") + 4 <= end - begin:
        draw.text((begin + 3, rows[0] + 3), "damaged", FAINT, font)
