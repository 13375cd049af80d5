"""The contact sheet of the tour: every task in one picture."""

import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from internvideo_hf.data.failures import one_video
from internvideo_hf.demo.tour import LIMITS, Labeled
from internvideo_hf.tasks.action_detection.detection import Detections
from internvideo_hf.tasks.action_detection.drawing import draw_people
from internvideo_hf.utils.names import distinct_names
from internvideo_hf.utils.pictures import FAINT, FONT_SIZE, GAP, INK, LINE, MISSING, PAPER, contact_sheet, fitted
from internvideo_hf.video import VideoReader
from internvideo_hf.video.errors import VideoDecodeError

_FRAMES, _FRAME, _TEXT = 6, 96, 580  # of a row: frames of the clip, pixels of their sides, pixels of the text column
_TILE = 300  # pixels of the sides of a key frame
_TITLE = 17  # pixels of the letters of a title
_INKS = {"+": (20, 120, 50), "-": (180, 30, 30), "": FAINT}  # by `Answer.mark`


def stacked(parts: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Draw pictures below each other, each below its title, and the limits of the toy models below all.

    Args:
        parts: title and picture.
    """
    title, font = ImageFont.load_default(_TITLE), ImageFont.load_default(FONT_SIZE)
    limits = textwrap.wrap(LIMITS, 120)
    heights = [_TITLE + 2 * GAP + picture.height for _, picture in parts]
    width = max(picture.width for _, picture in parts)
    sheet = Image.new("RGB", (width, sum(heights) + (len(limits) + 1) * LINE), PAPER)
    draw, top = ImageDraw.Draw(sheet), 0
    for (text, picture), height in zip(parts, heights, strict=True):
        draw.text((GAP, top + GAP), text, INK, title)
        sheet.paste(picture, (0, top + height - picture.height))
        top += height
    for line, text in enumerate(limits):
        draw.text((GAP, top + GAP + line * LINE), text, INK, font)
    return sheet


def rows(labeled: Sequence[Labeled]) -> Image.Image:
    """Draw a row per video: frames, the truth and the answers, green if right and red if wrong.

    Frames that cannot be read are left grey: a model may have answered from others.
    """
    font = ImageFont.load_default(FONT_SIZE)
    clips = distinct_names([entry.video for entry in labeled])
    texts = [_lines(clip, entry) for clip, entry in zip(clips, labeled, strict=True)]
    height = max(_FRAME, max(map(len, texts)) * LINE) + GAP
    picture = Image.new("RGB", (GAP + _FRAMES * (_FRAME + 2) + GAP + _TEXT, len(labeled) * height), PAPER)
    draw = ImageDraw.Draw(picture)
    for row, (entry, lines) in enumerate(zip(labeled, texts, strict=True)):
        for column, frame in enumerate(_frames(entry.video)):
            picture.paste(frame, (GAP + column * (_FRAME + 2), row * height))
        for line, (text, ink) in enumerate(lines):
            place = (picture.width - _TEXT, row * height + line * LINE)
            draw.text(place, fitted(text, font, _TEXT - GAP), ink, font)
    return picture


def crowd(video: str, found: Detections) -> Image.Image:
    """Draw each key frame with a box and the best action of each shape.

    Args:
        video: path.
        found: what the shapes do.
    """
    tiles = []
    with VideoReader(video) as reader:
        for place, (frame, time) in enumerate(zip(found.frames, found.times.tolist(), strict=True)):
            picture = draw_people(reader.read([frame])[0], found.people_at(place, top_k=1), (_TILE, _TILE))
            tiles.append((picture, [f"{time:.1f} s"]))
    return contact_sheet(tiles, (_TILE, _TILE), len(tiles))


def _lines(clip: str, entry: Labeled) -> list[tuple[str, tuple[int, ...]]]:
    lines: list[tuple[str, tuple[int, ...]]] = [(": ".join(filter(None, (clip, entry.truth))), INK)]
    for name, answer in entry.answers.items():
        lines.append((f"{answer.mark} {name}: {answer.label} ({answer.score:.0%})".strip(), _INKS[answer.mark]))
    if entry.caption:
        lines.append((f"caption: {entry.caption}", INK))
    if entry.reply is not None:
        reply = entry.reply
        lines.append((f"{reply.mark} {entry.question} {reply.label} ({reply.score:.0%})".strip(), _INKS[reply.mark]))
    if entry.doubt is not None and entry.doubt.is_unknown:
        lines.append((f"unknown: {entry.doubt.share:.0%} of videos with a known action are better known", INK))
    return lines


def _frames(video: str) -> list[Image.Image]:
    with VideoReader(video) as reader:
        wanted = np.linspace(0, reader.num_frames - 1, _FRAMES).round().astype(int).tolist()
        try:
            with one_video(video):
                pictures = [Image.fromarray(frame) for frame in reader.read(wanted)]
        except VideoDecodeError:  # one by one only now, since each is decoded from its keyframe on
            pictures = [_frame(reader, video, index) for index in wanted]
    for picture in pictures:
        picture.thumbnail((_FRAME, _FRAME), Image.Resampling.LANCZOS)
    return pictures


def _frame(reader: VideoReader, video: str, index: int) -> Image.Image:
    try:
        with one_video(video):
            return Image.fromarray(reader.read([index])[0])
    except VideoDecodeError:
        return Image.new("RGB", (_FRAME, _FRAME), MISSING)
