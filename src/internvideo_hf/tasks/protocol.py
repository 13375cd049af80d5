"""Protocols: everything that makes a published evaluation of one model, as data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from internvideo_hf.data.manifests import read_manifest
from internvideo_hf.data.samples import Row
from internvideo_hf.inference.runner import RunSettings
from internvideo_hf.recipes.reading import RecipeError


@dataclass(frozen=True)
class DataSettings:
    """What is evaluated on.

    Args:
        list: the list of videos, captions or questions, below the data root.
        layout: a name in the task's table of layouts; detected from the list if None, where the task allows it.
        only: a list of the ids of the videos that count, below the data root.
        leave_out: ids of videos that do not count (multiple choice).
        labels: the classes, a name in `internvideo_hf.recipes.labels`; of classification, the model's own if None.
        num_videos: videos of the published split; another number is reported.
    """

    list: str
    layout: str | None = None
    only: str | None = None
    leave_out: list = field(default_factory=list)
    labels: str | None = None
    num_videos: int | None = None


@dataclass(frozen=True)
class MergeSettings:
    """The average with CLIP that the published model is; `internvideo merge` makes it.

    Args:
        weight: fraction of CLIP.
        variant: which tensors are averaged, a name in `internvideo_hf.checkpoints.merging.VARIANTS`.
    """

    weight: float
    variant: str


@dataclass(frozen=True)
class Published:
    """A number that was published for a protocol.

    Args:
        where: "paper", "read-me" or "model zoo".
        scores: by the names that our scores have: "R@1", ..., "MedR", "MeanR"; "top-1", "top-5", in percent.
        direction: of retrieval, "text_to_video" or "video_to_text".
        dual_softmax: of retrieval, whether it is with dual softmax.
        model: name of the released model, where it is not the protocol's.
        labels: of ensembles, on which data set, by the name of its classes.
        test: of classifiers, how the model was tested: the row's `evaluation` in `released.json`.
    """

    where: str
    scores: dict
    direction: str | None = None
    dual_softmax: bool | None = None
    model: str | None = None
    labels: str | None = None
    test: dict | None = None


@dataclass(frozen=True)
class Protocol:
    """An evaluation as data.

    Args:
        title: one line.
        source: where the numbers come from.
        task: a task that has an evaluation.
        data: what is evaluated on.
        family: of the model, a name in `internvideo_hf.auto.FAMILIES`; any if None.
        model: name of the released model that the published numbers are of. Of classification, the released model
            whose test is repeated; found by the model's configuration if None.
        processor: options of the video processor: frames and pixels.
        text_length: tokens of a text, begin and end among them; a longer text is cut.
        num_clips, num_crops: of classification, views of each video; those of the released model's test if None.
        merge: the average that the model is; None where it is not averaged.
        factor: the factor of the cosine, the "model"'s own or "one". It matters to dual softmax and to averaged
            probabilities.
        several: of retrieval, what a video finds, see `internvideo_hf.inference.ranking.retrieval_ranks`.
        caption_rule: how captions are cleaned, a name in `internvideo_hf.recipes.captions`.
        prompts: sentences around a class, a name in `internvideo_hf.recipes.load_prompts`.
        released: of classification, the data set's name in `released.json`, whose tests are published.
        published: what was published, a list of `Published`.
        notes: where sources disagree, and what else to know.
    """

    title: str
    source: list
    task: str
    data: DataSettings
    family: str | None = None
    model: str | None = None
    processor: dict = field(default_factory=dict)
    text_length: int | None = None
    num_clips: int | None = None
    num_crops: int | None = None
    merge: MergeSettings | None = None
    factor: str = "model"
    several: str = "video"
    caption_rule: str | None = None
    prompts: str | None = None
    released: str | None = None
    published: list = field(default_factory=list)
    notes: list = field(default_factory=list)


@dataclass(frozen=True)
class Samples:
    """Videos, each once, and what belongs to them.

    Args:
        videos: rows as `internvideo_hf.inference.runner.read_views` takes them.
        owners: the video of each text, of each question, or of each labelled row, int64.
        texts: captions (retrieval), or the options of all questions, one after the other (multiple choice).
        labels: the class of each row, or the right option of each question, int64.
    """

    videos: list[Row]
    owners: np.ndarray[Any, np.dtype[np.int64]]
    texts: list[str] | None = None
    labels: np.ndarray[Any, np.dtype[np.int64]] | None = None


@dataclass(frozen=True)
class Run:
    """On what a protocol runs.

    Args:
        model: a converted folder, or a name on the Hub.
        device: where the model runs; the accelerator if None.
        settings: batches, workers, unreadable videos, bars.
        parts: a folder for what is done, where a task can resume; None keeps nothing.
    """

    model: str
    device: Any
    settings: RunSettings
    parts: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """What a task's evaluation found.

    Args:
        scores: by name, in percent; of retrieval by direction and way.
        causes: why videos are unreadable, by their number in the samples.
        model: facts of the model as JSON holds them: `family`, `parameters`, `device`, ...
    """

    scores: dict[str, Any]
    causes: dict[int, str]
    model: dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """What evaluation asks of a task.

    Args:
        read: (protocol, data root, model) -> samples.
        run: (protocol, samples, run) -> outcome.
        columns: names of the scores, in the order of a table.
        check: (protocol) raises RecipeError if a value of it does not suit the task.
        complete: (protocol) -> the protocol with what it leaves to tables of the package.
        facts: (result) -> more lines about a result, by name.
        lines: (result) -> rows of its table: name, scores, and the published entries below it.
    """

    read: Callable[[Protocol, Path, str], Samples]
    run: Callable[[Protocol, Samples, Run], Outcome]
    columns: tuple[str, ...]
    check: Callable[[Protocol], None]
    complete: Callable[[Protocol], Protocol] = lambda protocol: protocol
    facts: Callable[[Mapping[str, Any]], dict[str, str]] = lambda result: {}
    lines: Callable[[Mapping[str, Any]], list[tuple[str, Mapping[str, float], list[Mapping[str, Any]]]]] = (
        lambda result: [("this model", result["scores"], result["published"])]
    )


def check_choice(key: str, value: Any, choices: Sequence[str] | Mapping[str, Any]) -> None:
    """Refuse a value that is no choice.

    Raises:
        RecipeError: if it is not.
    """
    if value not in choices:
        raise RecipeError(f"{key} is {value!r}, expected one of {', '.join(choices)}.")


def read_rows(protocol: Protocol, data_root: Path, **options: Any) -> list[dict[str, Any]]:
    """Read a protocol's list; a video without a file stays in it, to count as unreadable.

    Args:
        options: of `internvideo_hf.data.manifests.read_manifest`.

    Raises:
        ManifestError: if the list is not as it should be.
    """
    data = protocol.data
    only = None if data.only is None else data_root / data.only
    options |= {"layout": data.layout, "only": only, "check_files": False}
    return list(read_manifest(data_root / data.list, data_root, **options))


def unique_clips(rows: Sequence[Mapping[str, Any]]) -> tuple[list[Row], np.ndarray[Any, np.dtype[np.int64]]]:
    """Return the clips of rows, each once, and the clip of each row."""
    numbers: dict[tuple[Any, ...], int] = {}
    keys = [(row["video"], row.get("start"), row.get("end"), row.get("num_frames")) for row in rows]
    owners = np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)
    return [dict(zip(("video", "start", "end", "num_frames"), key, strict=True)) for key in numbers], owners


def require_column(protocol: Protocol, rows: Sequence[Mapping[str, Any]], column: str) -> None:
    """Refuse a list that lacks a value.

    Raises:
        RecipeError: if a row has none.
    """
    if any(row[column] is None for row in rows):
        raise RecipeError(f"{protocol.data.list} has rows without a {column}, which {protocol.task} needs. Add it.")
