"""A tour with the bundled toy models, one task after the other.

It draws clips, labels and describes them, asks about them and searches them; it finds actions in a long video, what
each of several shapes does, and which videos show none of the known actions.
"""

import json
import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from transformers import (
    AutoModel,
    AutoModelForMultimodalLM,
    AutoModelForVideoClassification,
    AutoModelForVisualQuestionAnswering,
    AutoProcessor,
    AutoVideoProcessor,
    pipeline,
)

from internvideo_hf.checkpoints.model_names import demo_path
from internvideo_hf.demo import boxed
from internvideo_hf.demo.scores import TOLD, attributes_in
from internvideo_hf.demo.synthetic import (
    ATTRIBUTES_LIST,
    BACKGROUNDS,
    COLORS,
    NUM_FRAMES,
    QUESTIONS,
    SETTINGS,
    SHAPES,
    Clip,
    Scene,
    canonical_caption,
    clip_at,
    write_clip,
    write_frames,
)
from internvideo_hf.demo.synthetic import RATE as CLIP_RATE
from internvideo_hf.demo.untrimmed import RATE, Script, script_at, write_video
from internvideo_hf.inference.open_set.scorer import UNKNOWN
from internvideo_hf.models.common.loading import load_strict
from internvideo_hf.search.hits import Hits
from internvideo_hf.search.index import VideoIndex
from internvideo_hf.tasks.action_detection.detection import Detections
from internvideo_hf.tasks.action_detection.detectors import GivenBoxes
from internvideo_hf.tasks.detections import overlap_in_time
from internvideo_hf.tasks.temporal_localization.localization import Action, Localization
from internvideo_hf.utils.files import atomic_write_lines, remove_leftovers
from internvideo_hf.utils.locks import lock_folder
from internvideo_hf.utils.names import distinct_names, printable
from internvideo_hf.utils.pretrained import load_pretrained

LIMITS = (
    "These toy models know the drawn shapes of `internvideo make-demo-data` only; on real videos their answers are "
    "meaningless. For real videos, convert a released checkpoint."
)
"""Shown with every answer."""

WORDS: dict[str, Collection[str]] = {"color": COLORS, "shape": SHAPES, "background": BACKGROUNDS}
"""Attributes that demo-mm labels, and the words for each. The action is left to demo-classifier."""

LONG, CROWD, NO_SHAPE = "long.mp4", "crowd.mp4", "no_shape"
"""Names of the long video, of that with several shapes, and of the folder of videos without a shape."""
BY_CLASSIFIER = (
    "By demo-classifier; unknown: the percentage of videos with a known action of which it is surer, from 95 % on"
)
"""Last words of the table of videos without a shape."""
BY_BOTH = "By demo-classifier (action) and demo-mm (the rest)"
"""Last words of the table of labels."""

_SHORTEST_OF = 8  # long videos, since a tour should take seconds
_LARGEST_OF = 8  # crowds
_MIN_SCORE, _MIN_OVERLAP = 0.3, 0.5  # of actions to show; in time, of those that count as found
_SENTENCES = 24  # per word, each with other words around it
# Backgrounds; the others, which it doubts less, are in the card of demo-classifier.
_NO_SHAPE = "plain", "dotted", "striped"


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
        caption: the caption by demo-captioner; empty if none was asked for.
        question: the question asked; empty if none was.
        reply: the answer to it by demo-answers.
    """

    video: str
    truth: str | None
    answers: dict[str, Answer]
    caption: str = ""
    question: str = ""
    reply: Answer | None = None


def draw_clips(folder: Path, clips: int, seed: int, on_done: Callable[[], object] = lambda: None) -> list[Clip]:
    """Write clips of compositions unseen in training, `folder/test/00000.mp4` and so on, and list their attributes.

    Clips of an earlier call are replaced.

    Args:
        folder: the folder to write.
        clips: number of clips, at least 1; they go through the actions in turn.
        seed: at least 0. Seed 0 gives the test clips of the model cards.
        on_done: called after each clip.

    Raises:
        FileExistsError: if the folder holds videos of the names of a tour's that no tour has drawn.
        LockedError: if another process writes into the folder.
        OSError: if a file cannot be written.
    """
    drawn = any((folder / name).exists() for name in ("test", LONG, CROWD, NO_SHAPE))
    if (folder / SETTINGS).exists() or (drawn and not (folder / ATTRIBUTES_LIST).exists()):
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
    atomic_write_lines(listed, map(json.dumps, rows))
    for clip in drawn:
        path = folder / clip.video
        path.parent.mkdir(parents=True, exist_ok=True)
        write_clip(clip, path, seed)
        on_done()
    return drawn


class Labeler:
    """Labels the action of a video with demo-classifier, its color, shape and background zero-shot with demo-mm.

    It describes the video with demo-captioner, and asks demo-answers about it.

    >>> Labeler()("clip.mp4").answers["color"].label
    'red'
    """

    def __init__(self) -> None:
        self._known = path = demo_path("demo-classifier")
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
        path = demo_path("demo-answers")
        self._ask = pipeline(  # type: ignore[call-overload]  # as above
            "video-question-answering",
            model=load_strict(AutoModelForVisualQuestionAnswering, path),
            processor=load_pretrained(AutoProcessor, path),
        )

    def __call__(self, video: str, clip: Clip | None = None, asked: str = "color") -> Labeled:
        """Label and describe a video, and ask about it.

        Args:
            video: a file.
            clip: its true attributes, if known.
            asked: name in `QUESTIONS`.

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
        question = QUESTIONS[asked][0]
        found = self._ask(video, question=question, top_k=1)[0]
        reply = Answer(found["answer"], found["score"], None if clip is None else getattr(clip, asked))
        return Labeled(video, truth, answers, self._describe(video)[0]["generated_text"], question, reply)

    def label_or_doubt(self, video: str, background: str) -> Labeled:
        """Label the action of a video without a shape, or say that it is unknown, which is right.

        Args:
            video: a file.
            background: name in `BACKGROUNDS`.

        Raises:
            VideoDecodeError: if the video cannot be read.
        """
        best = self._classify(video, top_k=1, open_set=str(self._known))[0]
        answer = Answer(best["label"], best["score"], UNKNOWN)
        return Labeled(video, f"no shape on a {background} background", {"action": answer})


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


def label_table(labeled: Sequence[Labeled], end: str = BY_BOTH) -> str:
    """Format the answers as a table with one line per video, next to the truth if it is known.

    Args:
        labeled: the videos.
        end: the last words of the table, without a period.
    """
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
        lines.append(f"+ right, - wrong; right of {len(labeled)}: {counts}. {end}.")
    return "\n".join(lines)


def caption_table(labeled: Sequence[Labeled]) -> str:
    """Format the captions as a table with one line per video, next to what they get wrong if the truth is known."""
    known = labeled[0].truth is not None
    rows, wrong = [["clip", "caption", *(["wrong"] if known else [])]], dict.fromkeys(TOLD, 0)
    for clip, entry in zip(distinct_names([entry.video for entry in labeled]), labeled, strict=True):
        rows.append([printable(clip), entry.caption])
        if entry.truth is not None:
            said, true = attributes_in(entry.caption), attributes_in(entry.truth)
            missed = [name for name in TOLD if true[name] is not None and said[name] != true[name]]
            rows[-1].append(", ".join(missed))
            wrong |= {name: wrong[name] + 1 for name in missed}
    counts = ", ".join(f"{name} {count}" for name, count in wrong.items())
    return _aligned(rows) + (f"\nBy demo-captioner; wrong of {len(labeled)}: {counts}." if known else "")


def reply_table(labeled: Sequence[Labeled]) -> str:
    """Format questions and answers as a table with one line per video."""
    rows, right, known = [["clip", "question", "answer"]], 0, labeled[0].truth is not None
    for clip, entry in zip(distinct_names([entry.video for entry in labeled]), labeled, strict=True):
        if (reply := entry.reply) is not None:
            right += reply.mark == "+"
            rows.append([printable(clip), entry.question, f"{reply.mark or ' '} {reply.label} {reply.score:.0%}"])
    counts = f"; + right, - wrong; {right} of {len(rows) - 1} right" if known else ""
    return f"{_aligned(rows)}\nBy demo-answers{counts}."


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


def draw_backgrounds(folder: Path, seed: int) -> dict[str, str]:
    """Write videos of backgrounds without a shape, `folder/no_shape/plain.mp4` and so on.

    Args:
        folder: exists.
        seed: at least 0.

    Returns:
        Path -> name in `BACKGROUNDS`.
    """
    rng, drawn = np.random.default_rng(seed), {}
    (folder / NO_SHAPE).mkdir(exist_ok=True)
    remove_leftovers(folder / NO_SHAPE)
    for background in _NO_SHAPE:
        scene, still = Scene.sample(rng, background, []), np.zeros(2)
        path = folder / NO_SHAPE / f"{background}.mp4"
        write_frames((scene.draw(rng, [], t, still, still) for t in range(NUM_FRAMES)), path, CLIP_RATE)
        drawn[str(path)] = background
    return drawn


def draw_crowd(folder: Path, seed: int) -> boxed.Script:
    """Write `folder/crowd.mp4`, in which several shapes do something each, and return what.

    Args:
        folder: exists.
        seed: at least 0; seed 0 gives test videos of the model's card.
    """
    script = max(
        (boxed.script_at("test", index, seed) for index in range(_LARGEST_OF)), key=lambda one: len(one.actors)
    )
    write_frames(boxed.render(script, seed), folder / CROWD, boxed.RATE)
    return script


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


def detect(video: str, script: boxed.Script, seed: int) -> Detections:
    """Find what each of several shapes does with demo-detector, in boxes that are given.

    Args:
        video: of `draw_crowd`.
        script: what happens in it.
        seed: of the video.
    """
    given = [{"time": second, "boxes": boxed.boxes(script, second, seed).tolist()} for second in boxed.KEY_SECONDS]
    find = pipeline(  # type: ignore[call-overload]  # as above
        "video-action-detection", model=str(demo_path("demo-detector"))
    )
    found: Detections = find.detector.detect(video, GivenBoxes(given).of(video))
    return found


def crowd_table(found: Detections, script: boxed.Script) -> str:
    """Format what each shape does as a table, next to the truth."""
    rows, right = [["time", "box", "shape", "action", "truth"]], 0
    for place, time in enumerate(found.times.tolist()):
        for person in found.people_at(place, top_k=1):
            actor, best = script.actors[person.box_index], person.actions[0]
            is_right = best.label == actor.action
            right += is_right
            shown = f"{'+' if is_right else '-'} {best.label} {best.score:.0%}"
            rows.append([f"{time:.1f} s", str(person.track), f"{actor.color} {actor.shape}", shown, actor.action])
    return (
        f"{_aligned(rows)}\nBy demo-detector in {CROWD}, in boxes that are given; + right, - wrong; {right} of "
        f"{len(rows) - 1} right."
    )


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


def _sentences_around(name: str) -> list[str]:
    """Return captions of training clips with a gap for one attribute."""
    clips = [clip_at("train", index) for index in range(_SENTENCES)]
    return [re.sub(rf"\b{getattr(clip, name)}\b", "{}", canonical_caption(clip)) for clip in clips]
