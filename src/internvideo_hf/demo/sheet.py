"""The contact sheet of the tour: every task in one picture."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from internvideo_hf.data.failures import one_video
from internvideo_hf.demo import tour
from internvideo_hf.demo.tour import Labeled, Labeler
from internvideo_hf.search.hits import montage
from internvideo_hf.tasks.action_detection.drawing import draw_montage
from internvideo_hf.tasks.temporal_localization.timeline import draw_timeline
from internvideo_hf.utils.names import distinct_names
from internvideo_hf.utils.pictures import FAINT, FONT_SIZE, GAP, INK, LINE, MISSING, PAPER, fitted, wrapped
from internvideo_hf.video import VideoReader
from internvideo_hf.video.errors import VideoDecodeError

_FRAMES, _FRAME, _TEXT = 6, 96, 640  # of a row: frames of the clip, pixels of their sides, pixels of the text column
_TITLE = 17  # pixels of the letters of a title
_INKS = {"+": (20, 120, 50), "-": (180, 30, 30), "": FAINT}  # by `Answer.mark`


@dataclass(frozen=True)
class Part:
    """A part of the tour.

    Args:
        title: above its picture on the sheet.
        picture: of the answers.
        tables: key in JSON -> the answers as text.
        values: key in JSON -> the answers as plain values.
    """

    title: str
    picture: Image.Image
    tables: dict[str, str]
    values: dict[str, Any]


def labels_part(labeled: Sequence[Labeled]) -> Part:
    """Show labels, captions and answers about videos."""
    tables = {
        "labels": tour.label_table(labeled),
        "captions": tour.caption_table(labeled),
        "answers": tour.reply_table(labeled),
    }
    title = "Labels, captions and answers: demo-classifier, demo-mm, demo-captioner, demo-answers"
    return Part(title, rows(labeled), tables, {"labels": [asdict(entry) for entry in labeled]})


def search_part(labeled: Sequence[Labeled]) -> Part:
    """Search videos by the caption of each."""
    found = tour.search(labeled)
    picture = montage(found[0].hits, title=found[0].query)
    values = [hits.to_dict() for hits in found]
    title = "Search: demo-mm, by the caption of the first clip"
    return Part(title, picture, {"search": tour.search_table(found, labeled)}, {"search": values})


def actions_part(folder: Path, seed: int) -> Part:
    """Draw a long video, and find its actions."""
    script, video = tour.draw_long_video(folder, seed), str(folder / tour.LONG)
    found = tour.localize(video)
    table = tour.action_table(found, script)
    title = "Actions in a long video: demo-actionformer"
    return Part(title, draw_timeline(video, found), {"actions": table}, {"actions": found.to_dict()})


def boxes_part(folder: Path, seed: int) -> Part:
    """Draw a video of several shapes, and find what each does."""
    script, video = tour.draw_crowd(folder, seed), str(folder / tour.CROWD)
    found = tour.detect(video, script, seed)
    picture = draw_montage(video, found, top_k=1, noun=("shape", "shapes"))
    table = tour.crowd_table(found, script)
    return Part(
        "Actions of several shapes: demo-detector", picture, {"boxes": table}, {"boxes": found.to_dict(top_k=1)}
    )


def unknown_part(label: Labeler, folder: Path, seed: int) -> Part:
    """Draw videos without a shape, and find that their action is unknown."""
    labeled = [label.label_or_doubt(*drawn) for drawn in tour.draw_backgrounds(folder, seed).items()]
    table = tour.label_table(labeled, tour.BY_CLASSIFIER)
    title = "Videos without a known action: demo-classifier"
    return Part(title, rows(labeled), {"unknown": table}, {"unknown": [asdict(entry) for entry in labeled]})


def stacked(parts: Sequence[Part]) -> Image.Image:
    """Draw the pictures of parts below each other, each below its title, then the limits of the toy models."""
    title, font = ImageFont.load_default(_TITLE), ImageFont.load_default(FONT_SIZE)
    width = max(part.picture.width for part in parts)
    limits = wrapped(tour.LIMITS.replace("`", ""), font, width - 2 * GAP)
    heights = [_TITLE + 2 * GAP + part.picture.height for part in parts]
    sheet = Image.new("RGB", (width, sum(heights) + (len(limits) + 1) * LINE), PAPER)
    draw, top = ImageDraw.Draw(sheet), 0
    for part, height in zip(parts, heights, strict=True):
        draw.text((GAP, top + GAP), part.title, INK, title)
        sheet.paste(part.picture, (0, top + height - part.picture.height))
        top += height
    for line, text in enumerate(limits):
        draw.text((GAP, top + GAP + line * LINE), text, INK, font)
    return sheet


def rows(labeled: Sequence[Labeled]) -> Image.Image:
    """Draw a row per video: frames, the truth and the answers, green if right and red if wrong.

    Frames that cannot be read are left gray: a model may have answered from others.
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


def _lines(clip: str, entry: Labeled) -> list[tuple[str, tuple[int, ...]]]:
    lines: list[tuple[str, tuple[int, ...]]] = [(": ".join(filter(None, (clip, entry.truth))), INK)]
    for name, answer in entry.answers.items():
        lines.append((f"{answer.mark} {name}: {answer.label} ({answer.score:.0%})".strip(), _INKS[answer.mark]))
    if entry.caption:
        lines.append((f"caption: {entry.caption}", INK))
    if entry.reply is not None:
        reply = entry.reply
        lines.append((f"{reply.mark} {entry.question} {reply.label} ({reply.score:.0%})".strip(), _INKS[reply.mark]))
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
