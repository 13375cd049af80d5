"""A tour with the bundled toy models: draw clips, label, describe and search them; find actions in a long video."""

import json
import os
import re
import textwrap
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from transformers import (
    AutoModel,
    AutoModelForMultimodalLM,
    AutoModelForVideoClassification,
    AutoProcessor,
    AutoVideoProcessor,
    pipeline,
)

from internvideo_hf.checkpoints.model_names import demo_path
from internvideo_hf.data.failures import one_video
from internvideo_hf.demo.scores import ATTRIBUTES, attributes_in
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
from internvideo_hf.demo.untrimmed import RATE, Script, script_at, write_video
from internvideo_hf.models.common.loading import load_strict
from internvideo_hf.search.hits import Hits
from internvideo_hf.search.index import VideoIndex
from internvideo_hf.tasks.detections import overlap_in_time
from internvideo_hf.tasks.temporal_localization.localization import Action, Localization
from internvideo_hf.utils.files import atomic_write_text, remove_leftovers
from internvideo_hf.utils.locks import lock_folder
from internvideo_hf.utils.names import distinct_names, printable
from internvideo_hf.utils.pictures import FAINT, FONT_SIZE, GAP, INK, LINE, MISSING, PAPER, fitted
from internvideo_hf.utils.pretrained import load_pretrained
from internvideo_hf.video import VideoReader
from internvideo_hf.video.errors import VideoDecodeError

LIMITS = (
    "These toy models know the drawn shapes of `internvideo make-demo-data` only; on real videos their answers are "
    "meaningless. For real videos, convert a released checkpoint."
)
"""Shown with every answer."""

WORDS: dict[str, Collection[str]] = {"colour": COLORS, "shape": SHAPES, "background": BACKGROUNDS}
"""Attributes that demo-mm labels, and the words for each. The action is left to demo-classifier."""

LONG = "long.mp4"
"""Name of the long video."""

_SHORTEST_OF = 8  # long videos, since a tour should take seconds
_MIN_SCORE, _MIN_OVERLAP = 0.3, 0.5  # of actions to show; in time, of those that count as found
_SENTENCES = 24  # per word, each with other words around it
_FRAMES, _FRAME, _TEXT = 6, 96, 580  # contact sheet: frames per clip, pixels of their sides, pixels of the text column
_INKS = {"+": (20, 120, 50), "-": (180, 30, 30), "": FAINT}  # by `Answer.mark`


@dataclass(frozen=True)
class Answer:
    """The answer of a model.

    Attributes:
        label: the best label.
        score: its probability among the labels, 0-1.
        truth: the true label; None if unknown.
    """

    label: str
    score: float
    truth: str | None

    @property
    def mark(self) -> str:
        """`+` if right, `-` if wrong, empty if the truth is unknown."""
        return "" if self.truth is None else "+" if self.label == self.truth else "-"


@dataclass(frozen=True)
class Labeled:
    """A video with the models' answers.

    Attributes:
        video: its path.
        truth: its true caption; None if unknown.
        answers: "action", by demo-classifier, and the keys of `WORDS`, by demo-mm.
        caption: by demo-captioner.
    """

    video: str
    truth: str | None
    answers: dict[str, Answer]
    caption: str = ""


def draw_clips(folder: Path, clips: int, seed: int, on_done: Callable[[], object] = lambda: None) -> list[Clip]:
    """Write clips of compositions unseen in training, `folder/test/00000.mp4` and so on, and list their attributes.

    Clips of an earlier call are replaced.

    Args:
        folder: the folder to write.
        clips: number of clips, at least 1; they go through the actions in turn.
        seed: at least 0. Seed 0 gives the test clips of the model cards.
        on_done: called after each clip.

    Raises:
        FileExistsError: if the folder holds videos that no demo has drawn.
        LockedError: if another process writes into the folder.
        OSError: if a file cannot be written.
    """
    videos, listed = folder / "test", folder / ATTRIBUTES_LIST
    if (folder / SETTINGS).exists() or (videos.exists() and not listed.exists()):
        raise FileExistsError(
            f"{folder} holds videos that no demo has drawn and that would be overwritten. Give another folder."
        )
    with lock_folder(folder):
        return _draw(folder, [clip_at("test", index, seed) for index in range(clips)], seed, on_done)


def _draw(folder: Path, drawn: list[Clip], seed: int, on_done: Callable[[], object]) -> list[Clip]:
    videos, listed = folder / "test", folder / ATTRIBUTES_LIST
    remove_leftovers(videos)
    if listed.exists():
        for line in listed.read_text(encoding="utf-8").splitlines():
            (videos / Path(json.loads(line)["video"]).name).unlink(missing_ok=True)
    rows = [{"video": clip.video, **asdict(clip)} for clip in drawn]
    atomic_write_text(listed, "".join(f"{json.dumps(row)}\n" for row in rows))
    for clip in drawn:
        path = folder / clip.video
        path.parent.mkdir(parents=True, exist_ok=True)
        write_clip(clip, path, seed)
        on_done()
    return drawn


class Labeler:
    """Labels the action of a video with demo-classifier, its color, shape and background zero-shot with demo-mm.

    It describes the video with demo-captioner.

    >>> Labeler()("clip.mp4").answers["colour"].label
    'red'
    """

    def __init__(self) -> None:
        path = demo_path("demo-classifier")
        self._classify = pipeline(  # type: ignore[call-overload]  # the stub knows transformers' own tasks only
            "multi-view-video-classification",
            model=load_strict(AutoModelForVideoClassification, path),
            video_processor=load_pretrained(AutoVideoProcessor, path),
        )
        path = demo_path("demo-mm")
        model, processor = load_strict(AutoModel, path), load_pretrained(AutoProcessor, path)
        # One pipeline per attribute: each caches the embeddings of its last sentences.
        self._compare = {
            name: pipeline(  # type: ignore[call-overload]  # as above
                "zero-shot-video-classification",
                model=model,
                processor=processor,
                candidate_labels=list(words),
                prompts=_sentences_around(name),
                top_k=1,
            )
            for name, words in WORDS.items()
        }

        path = demo_path("demo-captioner")
        self._describe = pipeline(  # type: ignore[call-overload]  # as above
            "video-to-text",
            model=load_strict(AutoModelForMultimodalLM, path),
            processor=load_pretrained(AutoProcessor, path),
        )

    def __call__(self, video: str, clip: Clip | None = None) -> Labeled:
        """Label and describe a video.

        Args:
            video: a file.
            clip: its true attributes, if known.

        Raises:
            VideoDecodeError: if the video cannot be read.
        """
        best = {"action": self._classify(video, top_k=1)[0]}
        best |= {name: compare(video)[0] for name, compare in self._compare.items()}
        answers = {
            name: Answer(answer["label"], answer["score"], None if clip is None else getattr(clip, name))
            for name, answer in best.items()
        }
        truth = None if clip is None else canonical_caption(clip)
        return Labeled(video, truth, answers, self._describe(video)[0]["generated_text"])


def search(labeled: Sequence[Labeled], top_k: int = 3) -> list[Hits]:
    """Index videos with demo-mm, in memory, and search for the true caption of each.

    Args:
        labeled: videos whose truth is known.
        top_k: hits per search.

    Raises:
        VideoDecodeError: if a video can no longer be read.
    """
    index = VideoIndex(demo_path("demo-mm"))
    for failure in index.add([entry.video for entry in labeled]).failures:
        raise failure
    return [index.search(entry.truth, top_k=top_k) for entry in labeled]


def label_table(labeled: Sequence[Labeled]) -> str:
    """Format the answers as a table with one line per video, next to the truth if it is known."""
    known = labeled[0].truth is not None
    names = list(labeled[0].answers)
    rows = [["clip", *names, *(["truth"] if known else [])]]
    for clip, entry in zip(distinct_names([entry.video for entry in labeled]), labeled, strict=True):
        answers = [f"{a.mark or ' '} {a.label} {a.score:.0%}" for a in entry.answers.values()]
        rows.append([printable(clip), *answers, *([entry.truth] if entry.truth is not None else [])])
    lines = [_aligned(rows)]
    if known:
        right = {name: sum(entry.answers[name].mark == "+" for entry in labeled) for name in names}
        counts = ", ".join(f"{name} {count}" for name, count in right.items())
        lines.append(
            f"+ right, - wrong; right of {len(labeled)}: {counts}. demo-classifier labels the action, demo-mm the "
            "rest; it can hardly distinguish shapes."
        )
    return "\n".join(lines)


def caption_table(labeled: Sequence[Labeled]) -> str:
    """Format the captions as a table with one line per video, next to what they get wrong if the truth is known."""
    known = labeled[0].truth is not None
    rows, wrong = [["clip", "caption", *(["wrong"] if known else [])]], dict.fromkeys(ATTRIBUTES, 0)
    for clip, entry in zip(distinct_names([entry.video for entry in labeled]), labeled, strict=True):
        rows.append([printable(clip), entry.caption])
        if entry.truth is not None:
            said, true = attributes_in(entry.caption), attributes_in(entry.truth)
            missed = [name for name in ATTRIBUTES if true[name] is not None and said[name] != true[name]]
            rows[-1].append(", ".join(missed))
            wrong |= {name: wrong[name] + 1 for name in missed}
    counts = ", ".join(f"{name} {count}" for name, count in wrong.items())
    return _aligned(rows) + (f"\nBy demo-captioner; wrong of {len(labeled)}: {counts}." if known else "")


def search_table(found: Sequence[Hits], labeled: Sequence[Labeled]) -> str:
    """Format the first hit of each search as a table with one line per sentence."""
    rows = [["search", "first hit", "cosine"]]
    true = [hits[0].video == os.path.abspath(entry.video) for hits, entry in zip(found, labeled, strict=True)]
    for hits, is_true in zip(found, true, strict=True):
        rows.append(
            [
                hits.query,
                f"{'+' if is_true else '-'} {printable(Path(hits[0].video).name)}",
                f"{hits[0].similarity:.3f}",
            ]
        )
    return f"{_aligned(rows)}\n+ right clip, - wrong clip; {sum(true)} of {len(true)} found."


def draw_long_video(folder: Path, seed: int) -> Script:
    """Write `folder/long.mp4`, in which actions begin and end, and return what happens in it.

    Args:
        folder: exists.
        seed: at least 1; videos of seed 0 were trained on.
    """
    script = min((script_at("testing", index, seed) for index in range(_SHORTEST_OF)), key=lambda one: one.num_frames)
    write_video(script, folder / LONG, seed)
    return script


def localize(video: str) -> Localization:
    """Find the actions in a video with demo-actionformer, in the order of their beginning.

    Args:
        video: a file.
    """
    find = pipeline(  # type: ignore[call-overload]  # the stub knows transformers' own tasks only
        "temporal-action-localization", model=str(demo_path("demo-actionformer"))
    )
    found = find(video, threshold=_MIN_SCORE)
    actions = sorted((Action(**segment) for segment in found["segments"]), key=lambda action: action.start)
    return Localization(actions, found["duration"], found["gaps"])


def action_table(found: Localization, script: Script) -> str:
    """Format the actions of a long video as a table, next to what happens in it."""
    true = [(one.action, one.start / RATE, one.end / RATE) for one in script.segments]
    times = np.array([[start, end] for _, start, end in true])
    rows, hit = [["from", "to", "action", "score"]], set()
    for action in found.actions:
        shares = overlap_in_time(np.array([action.start, action.end]), times)
        near = {i for i, share in enumerate(shares) if share >= _MIN_OVERLAP and true[i][0] == action.label}
        hit |= near
        mark = "+" if near else "-"
        rows.append([f"{action.start:.1f} s", f"{action.end:.1f} s", f"{mark} {action.label}", f"{action.score:.0%}"])
    missed = ", ".join(
        f"{name} ({start:.1f} - {end:.1f} s)" for i, (name, start, end) in enumerate(true) if i not in hit
    )
    end = f" Missed: {missed}." if missed else ""
    return f"{_aligned(rows)}\nBy demo-actionformer in {LONG}; + right, - wrong; {len(hit)} of {len(true)} found.{end}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def contact_sheet(labeled: Sequence[Labeled]) -> Image.Image:
    """Draw a row per video: frames, the truth and the answers, green if right and red if wrong.

    Frames that cannot be read are left grey: a model may have answered from others.
    """
    font = ImageFont.load_default(FONT_SIZE)
    lines = 2 + max(len(entry.answers) for entry in labeled)  # truth, answers and caption
    width, height = GAP + _FRAMES * (_FRAME + 2) + GAP + _TEXT, max(_FRAME, lines * LINE) + GAP
    limits = textwrap.wrap(LIMITS, 120)
    foot = GAP + len(labeled) * height
    sheet = Image.new("RGB", (width, foot + len(limits) * LINE + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    clips = distinct_names([entry.video for entry in labeled])
    for row, entry in enumerate(labeled):
        top = GAP + row * height
        for column, frame in enumerate(_frames(entry.video)):
            sheet.paste(frame, (GAP + column * (_FRAME + 2), top))
        answers = [
            (f"{a.mark} {name}: {a.label} ({a.score:.0%})".strip(), _INKS[a.mark]) for name, a in entry.answers.items()
        ]
        title = ": ".join(filter(None, (clips[row], entry.truth)))
        caption = [(f"caption: {entry.caption}", INK)] if entry.caption else []
        for line, (text, ink) in enumerate([(title, INK), *answers, *caption]):
            draw.text((width - _TEXT, top + line * LINE), fitted(text, font, _TEXT - GAP), ink, font)
    for line, text in enumerate(limits):
        draw.text((GAP, foot + line * LINE), text, INK, font)
    return sheet


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


def _sentences_around(name: str) -> list[str]:
    """Return captions of training clips with a gap for one attribute."""
    clips = [clip_at("train", index) for index in range(_SENTENCES)]
    return [re.sub(rf"\b{getattr(clip, name)}\b", "{}", canonical_caption(clip)) for clip in clips]
