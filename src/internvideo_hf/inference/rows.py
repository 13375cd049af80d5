"""Answers of a model to the rows of a list, by this process or by several workers.

Batches are those of the list from its beginning, and shards are whole batches. So the answers have the same bits
whoever computes them.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from inspect import signature
from itertools import groupby
from operator import attrgetter
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from internvideo_hf.data.contents import stamp_if_there
from internvideo_hf.data.executors import processes
from internvideo_hf.data.executors.parts import Engine, Part, PartFolder, Shard, run_shards, shard_key
from internvideo_hf.data.failures import lost_among_others, one_video
from internvideo_hf.data.samples import Row
from internvideo_hf.inference.runner import RunSettings, Views, check_damaged, read_videos, stack_views
from internvideo_hf.models.common.loading import check_revision, revision
from internvideo_hf.processing.video_processing import RawPixels
from internvideo_hf.utils.devices import default_device
from internvideo_hf.utils.journal import Journal, delete_parts
from internvideo_hf.utils.storage import AnyPath
from internvideo_hf.video.errors import VideoDecodeError

_LAYOUT = 2  # of the parts
SHARD_ROWS = 32  # at least, where a batch has no more: what a lost worker costs

Subject = TypeVar("Subject")
Read = tuple[Row, Any]
"""A row, and its inputs as `Work.read` made them."""


def video_of(row: Row) -> str:
    """Return path or address of the video of a row."""
    return str(row["video"])


class Loader(NamedTuple):
    """How a worker loads the model that this process has loaded.

    Args:
        function: of an importable module: (name, `device`, options) -> the subject.
        name: folder or name of the model.
        options: names and values of the others, which can be hashed.
        attribute: of the subject that is the model, such as "classifier.model"; the subject itself if empty.
    """

    function: Callable[..., Any]
    name: str
    options: tuple[tuple[str, Any], ...] = ()
    attribute: str = ""

    def revision(self, subject: Any) -> str:
        """Return what identifies the weights of a subject."""
        return revision(self.name, attrgetter(self.attribute)(subject) if self.attribute else subject)


@dataclass(frozen=True)
class Work(Generic[Subject]):
    """What a model does with the rows of a list; workers receive a copy.

    Args:
        read: makes the inputs of a row, such as `Views`; it holds no model.
        answer: (subject, readable rows of a batch with their inputs) -> answers, `(entries, ...)` by name, on the CPU;
            a `partial` of a function of an importable module.
        loader: loads the subject in a worker.
        views: of one row.
        blanks: numbers that stand for the answers to an unreadable row, by name; NaN for those that are not here.
        file: (row) -> path or address of what `read` reads, by whose size and time a changed one is seen. What else
            reads it may be the row's `source`; a row with a `failure` is unreadable.
        entries: (row) -> answers to it, such as its boxes; 1 without.
        together: `read` takes rows of one file that follow each other in a batch, and returns as many inputs or
            `VideoDecodeError`s, so that frames between them are decoded once.
    """

    read: Callable[..., Any]
    answer: Callable[[Subject, Sequence[Read]], Mapping[str, Tensor]]
    loader: Loader
    views: int = 1
    blanks: Mapping[str, float] = field(default_factory=dict)
    file: Callable[[Row], str] = video_of
    entries: Callable[[Row], int] | None = None
    together: bool = False

    def counts(self, rows: Sequence[Row]) -> list[int]:
        """Return the number of answers to each row."""
        return [1] * len(rows) if self.entries is None else list(map(self.entries, rows))


def of_views(
    subject: Subject, batch: Sequence[Read], compute: Callable[[Subject, Views], Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """Answer for rows whose inputs are views, those of one shape at once; a `partial` of this is `Work.answer`.

    Args:
        subject: as of `compute`.
        batch: rows with their views.
        compute: (subject, views of several rows, see `stack_views`) -> answers, `(rows, ...)` by name.
    """
    found: dict[str, Tensor] = {}
    for places, views in stack_views([(place, views) for place, (_, views) in enumerate(batch)]):
        for name, answers in compute(subject, views).items():
            table = found.setdefault(name, answers.new_empty((len(batch), *answers.shape[1:])))
            table[torch.tensor(places)] = answers
    return found


def video_name(row: Row) -> str:
    """Return the name of a row's clip: its path, with its seconds if it is a part of a video."""
    if row.get("start") is None:
        return str(row["video"])
    return f"{row['video']} {row['start']:g}-{row['end']:g} s"


def run_rows(
    rows: Sequence[Row],
    subject: Subject,
    work: Work[Subject],
    settings: RunSettings,
    *,
    parts: AnyPath | None = None,
    description: str = "Videos",
    noun: str = "videos",
) -> tuple[dict[str, Tensor], dict[int, str]]:
    """Run a model over the rows of a list, and keep its answers.

    Args:
        rows: see `read_views`.
        subject: the loaded model, and what belongs to it.
        work: what it does.
        settings: batches, workers, unreadable videos, progress bar.
        parts: a folder for finished parts, so that the same call continues after an interruption. The caller puts
            everything that affects the result into its name, and deletes it afterwards. None keeps nothing.
        description: of the progress bar.
        noun: what rows are, in messages.

    Returns:
        Answers, `(entries, ...)` by name; and the causes of unreadable rows by number.

    Raises:
        TooManyFailuresError: if more than `settings.max_damaged` of the rows are unreadable.
        ValueError: if several workers have no folder for their parts.
    """
    if not rows:
        return {}, {}
    rows = _marked(rows, work, settings)
    if settings.engine is not None:
        return _run_shards(rows, work, settings, work.loader.revision(subject), parts, description, noun)
    journal = Journal(None if parts is None else parts / "answers")
    if settings.failures is not None and settings.failures.retry and journal.notes:
        delete_parts(journal.directory)
        journal = Journal(journal.directory)
    ends = np.cumsum(work.counts(rows))
    for key, note in journal.notes.items():
        _report(rows[int(key)], VideoDecodeError(*note), work, settings)
    batches = read_videos(
        rows,
        work.read,
        settings,
        at_once=settings.videos_at_once(work.views),
        first=int(np.searchsorted(ends, len(journal), side="right")),
        failed=len(journal.notes),
        description=description,
        noun=noun,
        read_several=partial(_read_rows, work=work),
    )
    held = _Held({name: tensor[:1] for name, tensor in journal.tensors().items()}, work.blanks)
    for batch in batches:
        notes = {number: item for number, item in batch if isinstance(item, VideoDecodeError)}
        for number, error in notes.items():
            _report(rows[number], error, work, settings)
        inputs = [(rows[number], item) for number, item in batch if number not in notes]
        answers = work.answer(subject, inputs) if inputs else {}
        readable = [number not in notes for number, _ in batch]
        counts = work.counts([rows[number] for number, _ in batch])
        reasons = {str(number): _note(error) for number, error in notes.items()}
        for table, causes in held.add(counts, readable, answers, reasons):
            journal.append(table, causes)
    journal.write()
    return journal.tensors(), {int(number): _cause(note) for number, note in journal.notes.items()}


Note = Sequence[str | None]
"""Source, cause and advice of a `VideoDecodeError`."""


def _note(error: VideoDecodeError) -> list[str | None]:
    return [error.source, error.cause, error.advice]


def _cause(note: Note) -> str:
    return str(VideoDecodeError(*note))  # type: ignore[arg-type]  # the source is a text


def _marked(rows: Sequence[Row], work: Work[Any], settings: RunSettings) -> Sequence[Row]:
    """Return the rows; those whose file is not to be tried again have why as `failure`."""
    if settings.failures is None:
        return rows
    files = [_file_of(row, work) for row in rows]
    _, held = settings.failures.divide(dict.fromkeys(files))
    if not held:
        return rows
    return [{**row, "failure": held[file]} if file in held else row for row, file in zip(rows, files, strict=True)]


def _file_of(row: Row, work: Work[Any]) -> str:
    try:
        return work.file(row)
    except VideoDecodeError:  # there is none, as its reader will say
        return video_of(row)


def _report(row: Row, error: VideoDecodeError, work: Work[Any], settings: RunSettings) -> None:
    """Add a failure to the table of failures."""
    if settings.failures is not None:
        settings.failures.add(error, _file_of(row, work))


class _Held:
    """Answers with blanks for unreadable rows; batches without any answer wait until their shape is known.

    Args:
        known: answers to some rows, `(entries, ...)` by name; empty if there are none yet.
        blanks: as of `Work`.
    """

    def __init__(self, known: Mapping[str, Tensor], blanks: Mapping[str, float]):
        self._known, self._blanks = known, blanks
        self._waiting: list[tuple[int, Mapping[str, Note]]] = []

    def add(
        self,
        counts: Sequence[int],
        readable: Sequence[bool],
        answers: Mapping[str, Tensor],
        notes: Mapping[str, Note],
    ) -> Iterator[tuple[dict[str, Tensor], Mapping[str, Note]]]:
        """Take the answers to the rows of a batch, and yield whole tables with their notes.

        Args:
            counts: entries of each row.
            readable: whether it could be read.
            answers: to those that could, `(entries, ...)` by name.
            notes: why others are unreadable.
        """
        self._known = self._known or answers
        if not self._known:
            self._waiting.append((sum(counts), notes))
            return
        none = torch.zeros(0, dtype=torch.bool)
        yield from ((self._table(none.new_zeros(count), {}), causes) for count, causes in self._waiting)
        self._waiting = []
        yield self._table(torch.tensor(readable).repeat_interleave(torch.tensor(counts)), answers), notes

    def _table(self, places: Tensor, answers: Mapping[str, Tensor]) -> dict[str, Tensor]:
        table = {
            name: tensor.new_full((len(places), *tensor.shape[1:]), self._blanks.get(name, np.nan))
            for name, tensor in self._known.items()
        }
        for name, tensor in answers.items():
            table[name][places] = tensor
        return table


# ---- reading --------------------------------------------------------------------------------------------------------


def _units(rows: Sequence[Row], work: Work[Any]) -> list[tuple[Row, ...]]:
    """Return rows as they are read: one by one, or those of one file together."""
    if not work.together:
        return [(row,) for row in rows]
    groups = groupby(rows, lambda row: (_file_of(row, work), "failure" in row))
    return [tuple(group) for _, group in groups]


def _read_rows(rows: Sequence[Row], work: Work[Any]) -> list[Any]:
    """Return the inputs of the rows of a batch, or why they cannot be read."""
    return [item for unit in _units(rows, work) for item in _read_unit(unit, work.read, work.together)]


def _read_unit(rows: Sequence[Row], read: Callable[..., Any], together: bool) -> list[Any]:
    try:
        with one_video(video_of(rows[0])):
            if (failure := rows[0].get("failure")) is not None:
                raise failure
            return list(read(rows)) if together else [read(rows[0])]
    except VideoDecodeError as error:
        return _failures(rows, error)


def _failures(rows: Sequence[Row], error: VideoDecodeError) -> list[VideoDecodeError]:
    """Return the failure of each of several rows that were read together."""
    return [error, *(VideoDecodeError(video_of(row), error.cause, error.advice) for row in rows[1:])]


def _read_arrays(rows: Sequence[Row], read: Callable[..., Any], together: bool, folder: str) -> list[Any]:
    """Read rows in a decoder; see `read_arrays`."""
    _enter_decoder(folder)
    return [to_arrays(inputs) for inputs in _read_unit(rows, _raw(read), together)]


# ---- several workers ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan(Generic[Subject]):
    """What a worker needs to know.

    Args:
        work: of the list.
        engine: whose worker it is.
        at_once: rows of a batch.
        timeout: seconds after which a decoder counts as hung; None for no limit.
        threads: of the process that runs the list; sums have other bits with others.
        folder: from which relative paths start.
        revision: of the model there; a worker that finds another one refuses.
    """

    work: Work[Subject]
    engine: Engine
    at_once: int
    timeout: float | None
    threads: int
    folder: str
    revision: str


def _run_shards(
    rows: Sequence[Row],
    work: Work[Any],
    settings: RunSettings,
    found_revision: str,
    parts: AnyPath | None,
    description: str,
    noun: str,
) -> tuple[dict[str, Tensor], dict[int, str]]:
    engine = settings.engine
    assert engine is not None
    if parts is None:
        raise ValueError("Several workers leave their parts in a folder beside the result. Name its file (--out).")
    at_once = settings.videos_at_once(work.views)
    timeout = processes.time_limit(settings.timeout, processes.TIMEOUT)
    plan = _Plan(work, engine, at_once, timeout, torch.get_num_threads(), os.getcwd(), found_revision)
    about = [_LAYOUT, found_revision, settings.batch_size, at_once]
    facts = partial(_facts, work=work, states={})
    shards = [Shard(shard_key(map(facts, items), about), items) for items in _cut(rows, at_once)]
    held = _Held({}, work.blanks)
    causes: dict[int, str] = {}
    tables: list[dict[str, Tensor]] = []
    seen = 0
    with tqdm(total=len(rows), desc=description, unit="video", disable=settings.quiet) as bar:
        folder = PartFolder(parts.absolute() / "shards")
        if settings.failures is not None and settings.failures.retry:
            folder.delete_if(lambda part: bool(part.notes))
        for shard, part in run_shards(partial(answer_shard, plan=plan), shards, engine, folder):
            if isinstance(part, VideoDecodeError):
                part = _lost(shard)
            for place, note in part.notes.items():
                _report(shard.items[int(place)], VideoDecodeError(*note), work, settings)
            found = {seen + int(place): _cause(note) for place, note in part.notes.items()}
            causes |= found
            readable = [seen + place not in found for place in range(len(shard.items))]
            tables += (table for table, _ in held.add(work.counts(shard.items), readable, part.tensors, {}))
            seen += len(shard.items)
            check_damaged(len(causes), seen, len(rows), next(reversed(found.values()), None), settings, noun)
            bar.update(len(shard.items))
    names = tables[0] if tables else {}
    return {name: torch.cat([table[name] for table in tables]) for name in names}, causes


def _cut(rows: Sequence[Row], at_once: int) -> Iterator[tuple[Row, ...]]:
    size = at_once * max(1, SHARD_ROWS // at_once)
    return (tuple(rows[start : start + size]) for start in range(0, len(rows), size))


def _facts(row: Row, work: Work[Any], states: dict[str, tuple[int, int]]) -> list[Any]:
    """Return what the answers to a row depend on.

    Args:
        row: of the list; its `source` only reads what the other values name.
        work: of the list.
        states: size and time of files that have been looked at.
    """
    file = _file_of(row, work)
    if file not in states:
        states[file] = stamp_if_there(file)
    return [{name: value for name, value in row.items() if name not in ("source", "failure")}, *states[file]]


def _lost(shard: Shard[Row]) -> Part:
    """Return the part of a shard whose workers died each time that it was tried."""
    failures = (lost_among_others(video_of(row), "answer") for row in shard.items)
    return Part({}, {str(place): _note(error) for place, error in enumerate(failures)})


def answer_shard(rows: Sequence[Row], plan: _Plan[Any]) -> Part:
    """Read the rows of a shard and answer; workers run this.

    Args:
        rows: of the shard, in order.
        plan: of the run.

    Returns:
        Answers to the readable rows, and as notes why others are unreadable, by their place.

    Raises:
        ValueError: if the model is not the one of the run.
    """
    work, device = plan.work, enter_worker(plan.engine, plan.folder, plan.threads)
    subject = _subject(work.loader, plan.revision, device)
    batches = (rows[first : first + plan.at_once] for first in range(0, len(rows), plan.at_once))
    units = [unit for batch in batches for unit in _units(batch, work)]
    read = partial(_read_arrays, read=work.read, together=work.together, folder=plan.folder)
    results = plan.engine.executor().map_ordered(read, units, plan.engine.decoders, _unit_name, timeout=plan.timeout)
    read_rows = (
        pair
        for unit, items in results
        for pair in zip(unit, _failures(unit, items) if isinstance(items, VideoDecodeError) else items, strict=True)
    )
    found: list[Mapping[str, Tensor]] = []
    notes: dict[str, Note] = {}
    for first, batch in _batches(read_rows, plan.at_once):
        notes |= {
            str(first + place): _note(result)
            for place, (_, result) in enumerate(batch)
            if isinstance(result, VideoDecodeError)
        }
        inputs = [
            (row, to_tensors(result, default_device(device)))
            for row, result in batch
            if not isinstance(result, VideoDecodeError)
        ]
        found += [work.answer(subject, inputs)] if inputs else []
    return Part({name: torch.cat([part[name] for part in found]) for name in (found[0] if found else {})}, notes)


def _unit_name(rows: Sequence[Row]) -> str:
    return video_of(rows[0])


@lru_cache(maxsize=1)
def _subject(loader: Loader, expected: str, device: str | None) -> Any:
    subject = loader.function(loader.name, device=device, **dict(loader.options))
    check_revision(loader.name, loader.revision(subject), expected)
    return subject


def _batches(results: Iterable[Any], size: int) -> Iterator[tuple[int, list[Any]]]:
    """Yield what comes in batches, with the number of the first of each."""
    first, batch = 0, []
    for result in results:
        batch.append(result)
        if len(batch) == size:
            yield first, batch
            first, batch = first + size, []
    if batch:
        yield first, batch


def read_arrays(row: Any, read: Callable[..., Any], folder: str) -> Any:
    """Read a row in a decoder; arrays, unlike tensors, outlive the process that made them.

    Args:
        row: what `read` takes.
        read: makes the inputs of a row; with an argument `raw`, before they are normalized.
        folder: from which relative paths start.
    """
    _enter_decoder(folder)
    return to_arrays(_raw(read)(row))


def _raw(read: Callable[..., Any]) -> Callable[..., Any]:
    """Return what makes inputs before they are normalized, if it can."""
    return partial(read, raw=True) if "raw" in signature(read).parameters else read


def _enter_decoder(folder: str) -> None:
    enter_folder(folder)
    torch.set_num_threads(1)  # the processes share the cores


def to_arrays(inputs: Any) -> Any:
    """Return inputs of a model for another process; `to_tensors` undoes it.

    Args:
        inputs: by name; anything else stays as it is.
    """
    if isinstance(inputs, dict):
        return {name: value.numpy() if isinstance(value, Tensor) else value for name, value in inputs.items()}
    return inputs


def to_tensors(inputs: Any, device: str | torch.device | None = None) -> Any:
    """Return inputs of `read_arrays` as the model takes them.

    Args:
        inputs: of a row.
        device: normalizes pixels; the CPU by default.
    """
    if isinstance(inputs, dict):
        return {name: _as_tensor(value, device) for name, value in inputs.items()}
    return inputs


def _as_tensor(value: Any, device: str | torch.device | None) -> Any:
    if isinstance(value, RawPixels):
        return value.normalized(device)
    return _tensor(value) if isinstance(value, np.ndarray) else value


def _tensor(array: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(array if array.flags.writeable else array.copy())  # a cluster's are shared


def enter_worker(engine: Engine, folder: str, threads: int) -> str | None:
    """Make a worker compute as the process of the run would, and return the device of its model.

    Args:
        engine: whose worker this is.
        folder: from which relative paths start.
        threads: of that process; on a CPU, sums have other bits with others.
    """
    enter_folder(folder)
    device = engine.device()
    if device == "cpu":
        torch.set_num_threads(threads)
    return device


def enter_folder(folder: str) -> None:
    """Go where relative paths of the list start, which is elsewhere than where a cluster starts its workers."""
    with suppress(OSError):  # a machine without it, where paths must be absolute
        os.chdir(folder)
