"""A tour of what the package does, by the models that come with it: clips are drawn, labeled, and searched."""

import json
import os
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from transformers import AutoModel, AutoModelForVideoClassification, AutoProcessor, AutoVideoProcessor, pipeline

from internvideo_hf.demo.synthetic import (
    ATTRIBUTES_LIST,
    BACKGROUNDS,
    COLORS,
    SETTINGS,
    SHAPES,
    Clip,
    canonical_caption,
    clip_at,
    write_clip,
)
from internvideo_hf.demo.weights import demo_path
from internvideo_hf.models.common.loading import load_strict
from internvideo_hf.search.hits import Hits
from internvideo_hf.search.index import VideoIndex
from internvideo_hf.utils.pictures import FAINT, FONT_SIZE, GAP, INK, LINE, MISSING, PAPER, fitted
from internvideo_hf.video import VideoReader
from internvideo_hf.video.errors import VideoDecodeError

LIMITS = (
    "These small models know the drawn shapes of `internvideo make-demo-data` only; what they say of other videos "
    "means nothing. For those, convert a released checkpoint."
)
"""What must be said with every answer."""

WORDS = {"colour": COLORS, "shape": SHAPES, "background": BACKGROUNDS}
"""What demo-mm is asked about, and the words to choose from. The action is the classifier's to tell."""

_SENTENCES = 24  # around each word; the words beside it are others in each
_FRAMES, _FRAME, _TEXT = 6, 96, 580  # of the sheet: frames of a clip, pixels of a side, pixels of the text beside
_INKS = {"+": (20, 120, 50), "-": (180, 30, 30), "": FAINT}  # by the mark of an answer


@dataclass(frozen=True)
class Answer:
    """What a model says.

    Attributes:
        label: the best one.
        score: its probability among the labels, 0-1.
        truth: the right one; None where nobody knows.
    """

    label: str
    score: float
    truth: str | None

    @property
    def mark(self) -> str:
        """`+` where it is right, `-` where it is wrong, nothing where nobody knows."""
        return "" if self.truth is None else "+" if self.label == self.truth else "-"


@dataclass(frozen=True)
class Labeled:
    """A video and what the models say about it.

    Attributes:
        video: its path.
        truth: the sentence that is true of it; None where nobody knows.
        answers: by what was asked: "action", by demo-classifier; those of `WORDS`, by demo-mm.
    """

    video: str
    truth: str | None
    answers: dict[str, Answer]


def draw_clips(folder: Path, clips: int, seed: int, on_done: Callable[[], object] = lambda: None) -> list[Clip]:
    """Write clips of unseen compositions, `folder/test/00000.mp4` and so on, and beside them a list of what they show.

    Clips that an earlier call left in the folder are replaced.

    Args:
        clips: how many, from 1 on; their actions take turns.
        seed: at least 0; another one, other clips. Those of seed 0 are the test clips of the models' cards.
        on_done: is called after each.

    Raises:
        FileExistsError: if the folder holds other videos, which these would replace.
        OSError: if they cannot be written.
    """
    there, listed = folder / "test", folder / ATTRIBUTES_LIST
    if (folder / SETTINGS).exists() or (there.exists() and not listed.exists()):
        raise FileExistsError(
            f"{folder} holds videos that no demo has drawn. They would be overwritten; give another."
        )
    drawn = [clip_at("test", index, seed) for index in range(clips)]
    if listed.exists():
        for line in listed.read_text(encoding="utf-8").splitlines():
            (there / Path(json.loads(line)["video"]).name).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"video": clip.video, **asdict(clip)} for clip in drawn]
    listed.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    for clip in drawn:
        path = folder / clip.video
        path.parent.mkdir(parents=True, exist_ok=True)
        write_clip(clip, path, seed)
        on_done()
    return drawn


class Labeler:
    """Asks demo-classifier for the action of a video, and demo-mm, by sentences, for colour, shape and background.

    >>> Labeler()("clip.mp4").answers["colour"].label
    'red'
    """

    def __init__(self) -> None:
        path = demo_path("demo-classifier")
        self._classify = pipeline(
            "multi-view-video-classification",
            model=load_strict(AutoModelForVideoClassification, path),
            video_processor=AutoVideoProcessor.from_pretrained(path),
        )
        path = demo_path("demo-mm")
        model, processor = load_strict(AutoModel, path), AutoProcessor.from_pretrained(path)
        # One for each question: a pipeline keeps the embeddings of the sentences that it was asked last.
        self._compare = {
            name: pipeline(
                "zero-shot-video-classification",
                model=model,
                processor=processor,
                candidate_labels=list(words),
                prompts=_sentences_around(name),
                top_k=1,
            )
            for name, words in WORDS.items()
        }

    def __call__(self, video: str, clip: Clip | None = None) -> Labeled:
        """Label a video.

        Args:
            video: a file.
            clip: what it shows, where that is known.

        Raises:
            VideoDecodeError: if it cannot be read.
        """
        best = {"action": self._classify(video, top_k=1)[0]}
        best |= {name: compare(video)[0] for name, compare in self._compare.items()}
        answers = {
            name: Answer(answer["label"], answer["score"], None if clip is None else getattr(clip, name))
            for name, answer in best.items()
        }
        return Labeled(video, None if clip is None else canonical_caption(clip), answers)


def search(labeled: Sequence[Labeled], top_k: int = 3) -> list[Hits]:
    """Index videos by demo-mm, in memory, and search them for the sentence that is true of each.

    Args:
        labeled: videos whose truth is known.
        top_k: hits of each search.

    Raises:
        VideoDecodeError: if a video cannot be read any more.
    """
    index = VideoIndex(demo_path("demo-mm"))
    for failure in index.add([entry.video for entry in labeled]).failures:
        raise failure
    return [index.search(entry.truth, top_k=top_k) for entry in labeled]


def label_table(labeled: Sequence[Labeled]) -> str:
    """What the models say, a video a line, beside the truth where it is known."""
    known = labeled[0].truth is not None
    names = list(labeled[0].answers)
    rows = [["clip", *names, *(["truth"] if known else [])]]
    for entry in labeled:
        answers = [f"{a.mark or ' '} {a.label} {a.score:.0%}" for a in entry.answers.values()]
        rows.append([Path(entry.video).name, *answers, *([entry.truth] if known else [])])
    lines = [_aligned(rows)]
    if known:
        right = {name: sum(entry.answers[name].mark == "+" for entry in labeled) for name in names}
        told = ", ".join(f"{name} {count}" for name, count in right.items())
        lines.append(
            f"+ right, - wrong; right of {len(labeled)}: {told}. The action says demo-classifier, the rest demo-mm, "
            "which can hardly tell shapes apart."
        )
    return "\n".join(lines)


def search_table(found: Sequence[Hits], labeled: Sequence[Labeled]) -> str:
    """The first hit of each search of `search`, a sentence a line."""
    rows = [["search", "first hit", "cosine"]]
    true = [hits[0].video == os.path.abspath(entry.video) for hits, entry in zip(found, labeled, strict=True)]
    for hits, is_true in zip(found, true, strict=True):
        rows.append([hits.query, f"{'+' if is_true else '-'} {Path(hits[0].video).name}", f"{hits[0].similarity:.3f}"])
    return f"{_aligned(rows)}\n+ that clip, - another one; {sum(true)} of {len(true)} found."


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def contact_sheet(labeled: Sequence[Labeled]) -> Image.Image:
    """Draw frames of each video in a row, and beside them the truth and what the models say: green right, red wrong.

    Frames that cannot be read, though a model has answered by others, are left grey.
    """
    font = ImageFont.load_default(FONT_SIZE)
    width, height = GAP + _FRAMES * (_FRAME + 2) + GAP + _TEXT, _FRAME + GAP
    limits = textwrap.wrap(LIMITS, 120)
    foot = GAP + len(labeled) * height
    sheet = Image.new("RGB", (width, foot + len(limits) * LINE + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    for row, entry in enumerate(labeled):
        top = GAP + row * height
        for column, frame in enumerate(_frames(entry.video)):
            sheet.paste(frame, (GAP + column * (_FRAME + 2), top))
        answers = [
            (f"{a.mark} {name}: {a.label} ({a.score:.0%})".strip(), _INKS[a.mark]) for name, a in entry.answers.items()
        ]
        title = ": ".join(filter(None, (Path(entry.video).name, entry.truth)))
        for line, (text, ink) in enumerate([(title, INK), *answers]):
            draw.text((width - _TEXT, top + line * LINE), fitted(text, font, _TEXT - GAP), ink, font)
    for line, text in enumerate(limits):
        draw.text((GAP, foot + line * LINE), text, INK, font)
    return sheet


def _frames(video: str) -> list[Image.Image]:
    with VideoReader(video) as reader:
        wanted = np.linspace(0, reader.num_frames - 1, _FRAMES).round().astype(int).tolist()
        try:
            pictures = [Image.fromarray(frame) for frame in reader.read(wanted)]
        except VideoDecodeError:  # one by one only then: each would be decoded from its keyframe on
            pictures = [_frame(reader, index) for index in wanted]
    for picture in pictures:
        picture.thumbnail((_FRAME, _FRAME), Image.Resampling.LANCZOS)
    return pictures


def _frame(reader: VideoReader, index: int) -> Image.Image:
    try:
        return Image.fromarray(reader.read([index])[0])
    except VideoDecodeError:
        return Image.new("RGB", (_FRAME, _FRAME), MISSING)


def _sentences_around(name: str) -> list[str]:
    """Sentences with a gap for a word, about things that were there in training."""
    some = [clip_at("train", index) for index in range(_SENTENCES)]
    return [re.sub(rf"\b{getattr(clip, name)}\b", "{}", canonical_caption(clip)) for clip in some]
