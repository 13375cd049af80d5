"""The command that finds who does what, and where: `detect-actions`."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from internvideo_hf.cli.completion import model_names
from internvideo_hf.cli.inference import Writer, unique_videos, writers_of
from internvideo_hf.cli.lines import Lines, Workers, check_no_source, write_list
from internvideo_hf.cli.options import (
    MODEL_HELP,
    SAVED,
    Address,
    AnswerTimeout,
    AsJson,
    BatchSize,
    Device,
    Dtype,
    EngineName,
    Gpus,
    Quiet,
    Retry,
    Videos,
    parse_device,
    parse_dtype,
    resolve_model,
)
from internvideo_hf.cli.reporting import DAMAGED, VideoReport, show_progress, silence_transformers
from internvideo_hf.inference.kinds import ACTION_DETECTOR
from internvideo_hf.utils.names import clock, printable

if TYPE_CHECKING:
    from internvideo_hf.inference.answering import Question
    from internvideo_hf.tasks.action_detection.detection import ActionDetector, Detections, Person
    from internvideo_hf.tasks.action_detection.detectors import GivenBoxes

_OF_SEVERAL = "of several videos a folder"
_SECONDS = re.compile(r"(\d+\.?\d*|\.\d+) ?s?")


def detect_actions(
    videos: Videos,
    model: Annotated[
        str,
        typer.Option(
            help=MODEL_HELP.replace("converted model", "converted action detector"), autocompletion=model_names
        ),
    ],
    detector: Annotated[
        str | None,
        typer.Option(
            help="Detector of objects that finds the people: a folder or a Hub repository id of any that transformers "
            "loads, such as PekingU/rtdetr_r50vd or hustvl/yolos-tiny. No code of it runs."
        ),
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(
            help="Boxes of people in place of a detector, for the key frames that it names: csv in AVA's format "
            '(video,time,x1,y1,x2,y2,,score), or JSON: {VIDEO: [{"time": 3, "boxes": [[x1, y1, x2, y2]]}]}; in '
            "seconds, and as fractions of the frame. JSON may have boxes beyond the frame, which are cut or left out."
        ),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(
            help="From a key frame to the next, in seconds, such as 0.5s for people who move fast: a person keeps a "
            "number where the boxes of two key frames overlap.",
            show_default="1s",
        ),
    ] = None,
    person_class: Annotated[
        str | None, typer.Option(help="Name of the detector's class of people.", show_default="person")
    ] = None,
    min_person_score: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least score of a person.", show_default="0.8")
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Actions of a person to show, the best first.")] = 3,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Least score of an action to show.")] = 0.1,
    csv: Annotated[
        Path | None,
        typer.Option(help="File of all people and actions in AVA's format: video,time,x1,y1,x2,y2,action,score."),
    ] = None,
    video: Annotated[
        Path | None, typer.Option(help=f"Video with boxes and labels, such as out.mp4, without sound; {_OF_SEVERAL}.")
    ] = None,
    montage: Annotated[
        Path | None, typer.Option(help=f"Picture of key frames with boxes and labels, such as out.png; {_OF_SEVERAL}.")
    ] = None,
    batch_size: BatchSize = 8,
    dtype: Dtype = SAVED,
    out: Lines = None,
    engine: EngineName = "local",
    address: Address = None,
    gpus: Gpus = None,
    video_timeout: AnswerTimeout = None,
    retry: Retry = False,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find who does what in videos, and where: people in key frames, and what each of them does.

    The detector finds people in a key frame every second, and the model looks at the frames around it to score what
    each of them does. Scores of actions are independent: a person may stand and talk. A person keeps a number through
    the video. Beyond an end of the video, its first or last frame is repeated. A damaged stretch leaves a gap, which
    the answer names. Resumable: rerun the same command after an interruption.

    Example: internvideo detect-actions office.mp4 --model ava --detector PekingU/rtdetr_r50vd --video office-boxes.mp4

    Example: internvideo detect-actions videos --model ava --boxes people.csv --csv actions.csv --json

    Example: internvideo detect-actions videos --model ava --detector hustvl/yolos-tiny --out actions.jsonl --gpus 8
    """
    workers = Workers(engine, address, gpus, video_timeout, device, retry)
    workers.check(out, {"--json": as_json, "--csv": csv, "--video": video, "--montage": montage})
    number_type, named = parse_dtype(dtype, device), unique_videos(videos, quiet)
    seconds = 1.0 if every is None else _parse_every(every)
    of_detector = {"--every": every, "--person-class": person_class, "--min-person-score": min_person_score}
    given = _given_boxes(boxes, detector, of_detector)
    if given is not None:
        given.check_videos(len(named))
    writers = writers_of(videos, named, {"--montage": (".png", montage), "--video": (".mp4", video)})
    if csv is not None:
        from internvideo_hf.utils.files import check_output_file

        check_output_file(csv)
        check_no_source([csv], [*(path for path, _ in named), *([] if boxes is None else [str(boxes)])], "--csv")
    from internvideo_hf.data.finding import distinct_ids

    folder = resolve_model(model, ACTION_DETECTOR)
    how: dict[str, Any] = {"detector": detector, "every": seconds, "batch_size": batch_size, "dtype": number_type}
    how |= {"person_class": person_class, "threshold": min_person_score}
    ids = distinct_ids([name for _, name in named])
    if out is not None:
        paths = [path for path, _ in named]
        known = None if boxes is None else (str(boxes), tuple(zip(paths, ids, strict=True)))
        asked = _question(folder, {**how, "boxes": known, "top_k": top_k, "min_score": min_score})
        write_list(out, paths, asked, workers, quiet=quiet, description="Detecting")
        return
    answers = _Answers(_load(folder, parse_device(device), **how), given, writers, top_k, min_score, as_json, quiet)
    for (path, name), own in zip(named, ids, strict=True):
        answers.add(path, own, partial(answers.answer, name, own))
    answers.report(csv)


def _question(folder: str, how: dict[str, Any]) -> "Question":
    """Return what a worker asks about each video; see `_Detector`."""
    from internvideo_hf.inference.answering import Question
    from internvideo_hf.inference.rows import Loader

    models = (folder, *([] if how["detector"] is None else [how["detector"]]))
    files = () if how["boxes"] is None else (how["boxes"][0],)
    return Question(Loader(_Detector, folder, tuple(how.items())), models, files, decodes_apart=False)


class _Detector:
    """Finds the people of each video in a worker; see `answering.Answerer`.

    Args:
        folder: of the model.
        device: of the worker.
        boxes: value of --boxes, and the id of each video in it; None for a detector.
        top_k: value of --top-k.
        min_score: value of --min-score.
        how: other options of the command, see `_load`.
    """

    def __init__(
        self,
        folder: str,
        *,
        device: str | None,
        boxes: tuple[str, tuple[tuple[str, str], ...]] | None,
        top_k: int,
        min_score: float,
        **how: Any,
    ):
        from internvideo_hf.tasks.action_detection.detectors import GivenBoxes

        self._detector, self._best = _load(folder, parse_device(device), **how), (top_k, min_score)
        self._given = None if boxes is None else GivenBoxes(Path(boxes[0]))
        self._ids = {} if boxes is None else dict(boxes[1])

    def reader(self) -> None:
        """Return none: frames are decoded where people are found in them."""

    def answer(self, video: str, inputs: None) -> dict[str, Any]:
        """Return the people of a video."""
        with _people_of(self._detector, self._given, video, self._ids.get(video, "")) as found:
            return found.to_dict(*self._best)


@contextmanager
def _people_of(
    detector: "ActionDetector",
    given: "GivenBoxes | None",
    video: str,
    own_id: str,
    on_key_frames: Callable[[int, int], None] = lambda done, total: None,
) -> "Iterator[Detections]":
    """Yield the people of a video; a block that fails leaves what has been done, with which the next call goes on."""
    from internvideo_hf.tasks.action_detection.detection import unfinished_parts
    from internvideo_hf.video import VideoReader

    with VideoReader(video, backend="pyav") as reader:  # first: it says what is wrong with a file
        boxes = None if given is None else given.of(video, own_id)
        with unfinished_parts(detector, video, boxes) as parts:
            yield detector.detect(reader, boxes, parts, on_key_frames)


def _load(
    folder: str,
    device: Any,
    *,
    detector: str | None,
    every: float,
    batch_size: int,
    dtype: str | None,
    **people: float | str | None,
) -> "ActionDetector":
    """Load the model, and before it what finds the people: a detector without people is refused at once."""
    silence_transformers()
    from transformers import AutoVideoProcessor

    from internvideo_hf.auto import auto_class
    from internvideo_hf.inference.runner import load_model
    from internvideo_hf.tasks.action_detection.detection import ActionDetector
    from internvideo_hf.tasks.action_detection.detectors import PersonDetector
    from internvideo_hf.utils.pretrained import load_pretrained

    finder = None
    if detector is not None:
        given: dict[str, Any] = {name: value for name, value in people.items() if value is not None}
        finder = PersonDetector(detector, device=device, **given)
    model = load_model(auto_class("AutoModelForVideoActionDetection"), folder, device, dtype)
    return ActionDetector(model, load_pretrained(AutoVideoProcessor, folder), finder, every, batch_size)


def _parse_every(text: str) -> float:
    from internvideo_hf.tasks.action_detection.detection import LEAST_EVERY

    match = _SECONDS.fullmatch(text)
    if match is None or float(match[1]) < LEAST_EVERY:
        raise ValueError(f"--every {text}: expected seconds, {LEAST_EVERY:g} or more, such as 0.5s.")
    return float(match[1])


def _given_boxes(boxes: Path | None, detector: str | None, of_detector: dict[str, Any]) -> "GivenBoxes | None":
    """Return the boxes of --boxes; refuse options that do not go with each other, before anything is loaded."""
    if (boxes is None) == (detector is None):
        raise ValueError(
            "Say where the people are: by a detector of objects (--detector PekingU/rtdetr_r50vd), or by their boxes "
            "(--boxes FILE), one of the two."
        )
    if boxes is None:
        return None
    for option, value in of_detector.items():
        if value is not None:
            raise ValueError(f"{option} is for --detector; --boxes {boxes} says where people are, and when.")
    from internvideo_hf.tasks.action_detection.detectors import GivenBoxes

    return GivenBoxes(boxes)


class _Answers(VideoReport["Detections"]):
    """Prints and writes the people of each video."""

    def __init__(
        self,
        detector: "ActionDetector",
        given: "GivenBoxes | None",
        writers: list[Writer],
        top_k: int,
        min_score: float,
        as_json: bool,
        quiet: bool,
    ):
        super().__init__(as_json)
        self._detector, self._given, self._writers = detector, given, writers
        self._top_k, self._min_score, self._quiet = top_k, min_score, quiet

    def entry(self, found: "Detections") -> dict[str, Any]:
        return found.to_dict(self._top_k, self._min_score)

    def lines(self, found: "Detections") -> list[str]:
        nobody = "no people (--min-person-score)" if self._given is None else "no boxes in the frame (--boxes)"
        return _table(found, self._top_k, self._min_score, nobody)

    def answer(self, name: str, own_id: str, video: str) -> "Detections":
        """Return the people of a video after its files are written, whose failure is the video's."""
        from tqdm import tqdm

        from internvideo_hf.tasks.action_detection.drawing import draw_montage, draw_video
        from internvideo_hf.utils.pictures import save_picture

        with (
            tqdm(desc=printable(name), unit=" key frames", disable=self._quiet) as bar,
            _people_of(self._detector, self._given, video, own_id, partial(show_progress, bar)) as found,
        ):
            for suffix, files in self._writers:
                if suffix == ".png":
                    save_picture(draw_montage(video, found, self._top_k, self._min_score), files[video])
                else:
                    with tqdm(desc="Drawing", unit="frame", disable=self._quiet) as frames:
                        progress = partial(show_progress, frames)
                        draw_video(video, found, files[video], self._top_k, self._min_score, progress)
            return found

    def report(self, csv: Path | None) -> None:
        """Write what concerns all videos, and end."""
        if csv is not None and self.found:
            from internvideo_hf.tasks.action_detection.answers import write_predictions
            from internvideo_hf.tasks.action_detection.detection import joined_table

            csv.parent.mkdir(parents=True, exist_ok=True)
            write_predictions(csv, joined_table(self.found))
        self.end()


def _table(found: "Detections", top_k: int, min_score: float, nobody: str) -> list[str]:
    """Return the lines of gaps and people in the order of time and of number; `nobody` where there are none."""
    lines = [(start, 0, f"{clock(start)} - {clock(end)}  {DAMAGED}") for start, end in found.gaps]
    lines += [(one.first, one.person.track, one.line(found.size)) for one in _stretches(found, top_k, min_score)]
    return [f"  {line}" for _, _, line in sorted(lines)] or [f"  {nobody}"]


@dataclass
class _Stretch:
    """Key frames in a row in which a person does the same.

    Args:
        first: time of the first, in seconds.
        last: time of the last.
        place: of the last among the key frames.
        person: in the first.
        scores: of each action, in each key frame.
    """

    first: float
    last: float
    place: int
    person: "Person"
    scores: dict[str, list[float]]

    def line(self, size: tuple[int, int]) -> str:
        """Return the person, the box at the beginning, and the actions with their mean scores, the best first."""
        left, top, right, bottom = (
            round(edge * side) for edge, side in zip(self.person.box, size[::-1] * 2, strict=True)
        )
        means = {label: sum(scores) / len(scores) for label, scores in self.scores.items()}
        ranked = sorted(means.items(), key=lambda one: -one[1])
        actions = ", ".join(f"{label} {score:.1%}" for label, score in ranked) or "nothing above --min-score"
        where = f"{left},{top} - {right},{bottom}"
        return f"{clock(self.first)} - {clock(self.last)}  person {self.person.track:<3} {where:21}  {actions}"


def _stretches(found: "Detections", top_k: int, min_score: float) -> Iterator[_Stretch]:
    """Yield what each person does, with equal key frames in a row together."""
    open_ones: dict[int, _Stretch] = {}
    for place, time in enumerate(found.times.tolist()):
        for person in found.people_at(place, top_k, min_score):
            one = open_ones.get(person.track)
            if (
                one is None
                or one.place != place - 1
                or one.scores.keys() != {action.label for action in person.actions}
            ):
                if one is not None:
                    yield one
                one = open_ones[person.track] = _Stretch(
                    time, time, place, person, {a.label: [] for a in person.actions}
                )
            one.last, one.place = time, place
            for action in person.actions:
                one.scores[action.label].append(action.score)
    yield from open_ones.values()
