"""Subsets of InternVid: DIV (diverse sources), FLT (captions that fit), AES (high aesthetic score).

`div_sample` and `best` work on arrays. `div_subset` and `score_subset` work on files, which they read twice: once for
the columns that decide, once to copy the chosen records. These columns are held: about 100 bytes per record for DIV (1
GB for ten million records, 24 GB for the 234 million of the whole set), 50 for a cut by score, 80 for both. Records
themselves are not held, but those of a .json file, which is one value; a draw, whose order is not that of the table,
goes through a temporary file beside the output.
"""

import json
import mmap
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from internvideo_hf.data.internvid import (
    duration_of,
    names_its_source,
    number_of,
    score_column,
    source_of,
    speaks,
    value_of,
)
from internvideo_hf.data.layouts import BadRow, Record
from internvideo_hf.data.record_files import check_record_file, json_line, write_records
from internvideo_hf.data.records import ManifestError, read_records

DIV_COUNT = 10_647_458
"""Clips of the released subset."""
DIV_SEED = 42
_BLOCK = 100_000  # values on their way into an array
_Progress = Callable[[], object]


def div_sample(sources: Sequence[str] | NDArray[Any], count: int, seed: int = DIV_SEED) -> NDArray[np.int64]:
    """Draw clips without replacement, each with a weight of 1 / clips of its source video, as the released script.

    Every source has the same total weight in the first draw; later draws follow it only roughly, for a source that has
    given a clip has less left. The draws are those of NumPy's legacy generator, in its order.

    Args:
        sources: id of the source video of each clip, `(clips,)`.
        count: clips to draw, at least 1 and at most as many as there are.
        seed: of the generator; 42 in the released script.

    Returns:
        Numbers of the clips in the order drawn, int64 `(count,)`.

    Raises:
        ValueError: if there are fewer clips than `count`.
    """
    if not 1 <= count <= len(sources):
        raise ValueError(f"count is {count}, expected 1 to {len(sources)}, the number of clips. Draw fewer.")
    _, source_of_clip, clips_of_source = np.unique(np.asarray(sources), return_inverse=True, return_counts=True)
    weights = 1 / clips_of_source[source_of_clip]
    drawn = np.random.RandomState(seed).choice(len(weights), count, replace=False, p=weights / weights.sum())
    return drawn.astype(np.int64)


def best(scores: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Return the numbers of the highest scores, rising; of equal scores at the edge, the first ones.

    Args:
        scores: `(clips,)`; NaN for a clip without, which is never taken.
        count: how many; all that have a score if there are fewer.
    """
    order = np.argsort(-scores, kind="stable")  # NaN comes last
    return np.sort(order[: min(count, int(np.count_nonzero(~np.isnan(scores))))])


@dataclass(frozen=True)
class ScoreCut:
    """What a clip must have to stay.

    Args:
        column: of the score; None for the first of `known` that the table has.
        known: columns to look for, see `internvid.SPELLINGS`.
        fraction: of the clips that are dropped for nothing else, those with the highest scores, in (0, 1]; rounded.
        min_score: the lowest score that stays, instead of a fraction.
        min_seconds: shorter clips are dropped.
        max_seconds: longer clips are dropped. Clips of unknown length stay.
        languages: clips of others are dropped, see `internvid.speaks`; None for any.

    Raises:
        ValueError: if a number is out of range, or not one of `fraction` and `min_score` is given.
    """

    column: str | None
    known: tuple[str, ...]
    fraction: float | None = None
    min_score: float | None = None
    min_seconds: float = 0.0
    max_seconds: float = np.inf
    languages: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if (self.fraction is None) == (self.min_score is None):
            raise ValueError("fraction, min_score (--fraction, --min-score): give one of the two.")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise ValueError(f"fraction (--fraction) is {self.fraction}, expected more than 0 and at most 1.")
        if not 0 <= self.min_seconds < self.max_seconds:
            raise ValueError(
                f"min_seconds, max_seconds: got {self.min_seconds} and {self.max_seconds}, expected the first to be "
                "at least 0 and less than the second."
            )


@dataclass
class SubsetReport:
    """What became of the records.

    Attributes:
        read: records of the tables.
        kept: records that were written.
        sources: source videos that these come from; None where they were not counted.
        dropped: number of records by cause.
        unsure: records whose file name does not begin with an id; sources may be mixed up.
        threshold: the lowest score that was kept; None for DIV.
        score: the column of the score; None for DIV.
    """

    read: int = 0
    kept: int = 0
    sources: int | None = None
    dropped: dict[str, int] = field(default_factory=dict)
    unsure: int = 0
    threshold: float | None = None
    score: str | None = None


def div_subset(
    paths: Sequence[str | Path],
    out: str | Path,
    count: int,
    *,
    seed: int = DIV_SEED,
    by: str | None = None,
    on_record: _Progress = lambda: None,
) -> SubsetReport:
    """Write a DIV subset of tables, in the order drawn; see `div_sample`.

    Args:
        paths: tables of records, read in this order.
        out: file to write, atomically; see `record_files.SUFFIXES`.
        count: clips to draw.
        seed: of the generator.
        by: column that says which clips belong together, such as a channel; None for the source video.
        on_record: called for each record that is read, twice in all.

    Raises:
        ManifestError: if a table cannot be read, or a record has no source.
        ValueError: if there are fewer records than `count`.
        OSError: if `out` cannot be written.
    """
    check_record_file(out)
    sources, report = _Texts(), SubsetReport()

    def take(record: Record) -> None:
        sources.append(_group(record, by))
        report.unsure += by is None and not names_its_source(record)

    _scan(paths, take, on_record)
    names = sources.array()
    report.read = len(names)
    chosen = div_sample(names, count, seed)
    report.kept, report.sources = count, len(np.unique(names[chosen]))
    report.dropped = {"not drawn": report.read - count}
    _copy(paths, chosen, out, on_record)
    return report


def score_subset(
    paths: Sequence[str | Path],
    out: str | Path,
    cut: ScoreCut,
    *,
    count: int | None = None,
    seed: int = DIV_SEED,
    on_record: _Progress = lambda: None,
) -> SubsetReport:
    """Write the records of tables that a cut by score and length leaves, in their order.

    Args:
        paths: tables of records, read in this order.
        out: file to write, atomically; see `record_files.SUFFIXES`.
        cut: what stays.
        count: clips to draw from these, see `div_sample`, in the order drawn; None for all.
        seed: of the draw.
        on_record: called for each record that is read, twice in all.

    Raises:
        ManifestError: if a table cannot be read, has no such score, or holds an invalid value.
        ValueError: if nothing is left, or less than `count`.
        OSError: if `out` cannot be written.
    """
    check_record_file(out)
    scores, dropped, sources, report = array("d"), array("B"), _Texts(), SubsetReport()

    def take(record: Record) -> None:
        report.score = report.score or score_column(record, cut.column, cut.known)
        score, cause = _judge(record, report.score, cut)
        scores.append(score)
        dropped.append(cause)
        if count is not None:
            sources.append(source_of(record))
            report.unsure += not names_its_source(record)

    _scan(paths, take, on_record)
    values, causes = np.array(scores), np.array(dropped)
    report.read = len(values)
    report.dropped = {name: int(np.count_nonzero(causes == number)) for number, name in enumerate(_CAUSES) if number}
    allowed = np.where(causes == 0, values, np.nan)
    chosen = _above(allowed, cut)
    report.dropped["low score"] = int(np.count_nonzero(causes == 0)) - len(chosen)
    if not len(chosen):
        raise ValueError(f"none of {report.read:,} records is left; {_counts(report.dropped)}. Cut less.")
    report.threshold = float(allowed[chosen].min())
    if count is not None:
        names = sources.array()[chosen]
        drawn = div_sample(names, count, seed)
        report.dropped["not drawn"] = len(chosen) - count
        report.sources, chosen = len(np.unique(names[drawn])), chosen[drawn]
    report.kept = len(chosen)
    _copy(paths, chosen, out, on_record)
    return report


_CAUSES = ("", "no score", "too short", "too long", "other language")


def _judge(record: Record, column: str, cut: ScoreCut) -> tuple[float, int]:
    """Return the score of a clip, NaN for none, and the number of the cause that drops it, 0 for none."""
    score, seconds = number_of(record, column), duration_of(record)
    if score is None or np.isnan(score):
        return np.nan, _CAUSES.index("no score")
    if seconds is not None and seconds < cut.min_seconds:
        return score, _CAUSES.index("too short")
    if seconds is not None and seconds > cut.max_seconds:
        return score, _CAUSES.index("too long")
    if not speaks(record, cut.languages):
        return score, _CAUSES.index("other language")
    return score, 0


def _above(scores: NDArray[np.float64], cut: ScoreCut) -> NDArray[np.int64]:
    if cut.min_score is not None:
        return np.flatnonzero(scores >= cut.min_score)
    assert cut.fraction is not None  # one of the two is given
    return best(scores, round(cut.fraction * int(np.count_nonzero(~np.isnan(scores)))))


def _counts(dropped: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {cause}" for cause, count in dropped.items() if count) or "the table is empty"


def _group(record: Record, by: str | None) -> str:
    if by is None:
        return source_of(record)
    if (value := value_of(record, by)) is None:
        raise BadRow(f"there is no {by}; columns are {', '.join(record)}", "Every record needs it.")
    return str(value)


class _Texts:
    """An array of short texts, as bytes of UTF-8, appended one by one."""

    def __init__(self) -> None:
        self._blocks: list[NDArray[np.bytes_]] = []
        self._waiting: list[bytes] = []

    def append(self, text: str) -> None:
        self._waiting.append(text.encode(errors="surrogatepass"))
        if len(self._waiting) == _BLOCK:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._blocks.append(np.array(self._waiting, np.bytes_))
            self._waiting = []

    def array(self) -> NDArray[np.bytes_]:
        self._flush()
        texts = np.concatenate(self._blocks) if self._blocks else np.empty(0, "S1")
        self._blocks = []
        return texts


def _scan(paths: Sequence[str | Path], take: Callable[[Record], None], on_record: _Progress) -> None:
    """Hand all records of tables to a function, whose `BadRow` is named by its place."""
    for path in paths:
        for place, record in read_records(path):
            try:
                if "line" in record and "delimiter" in record:
                    raise BadRow("it has no header", "Give a table with columns, such as YoutubeID or video.")
                take(record)
            except BadRow as bad:
                raise ManifestError(str(path), place, *bad.args) from None
            on_record()


def _records(paths: Sequence[str | Path], on_record: _Progress) -> Iterator[Record]:
    for path in paths:
        for _, record in read_records(path):
            on_record()
            yield record


def _copy(paths: Sequence[str | Path], chosen: NDArray[np.int64], out: str | Path, on_record: _Progress) -> None:
    order = np.argsort(chosen, kind="stable")
    in_order = _pick(_records(paths, on_record), chosen[order])
    if np.array_equal(order, np.arange(len(order))):
        write_records(out, in_order)
        return
    folder = Path(out).parent
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as spool:
        write_records(out, _reordered(in_order, order, spool))


def _pick(records: Iterable[Record], numbers: NDArray[np.int64]) -> Iterator[Record]:
    """Yield the records of rising numbers."""
    wanted = chain(map(int, numbers), [-1])
    following = next(wanted)
    for number, record in enumerate(records):
        if number == following:
            yield record
            following = next(wanted)


def _reordered(records: Iterator[Record], order: NDArray[np.int64], spool: Any) -> Iterator[Record]:
    """Yield records so that record i comes at place `order[i]`, by way of a file."""
    begins = np.zeros(len(order) + 1, np.int64)
    for number, record in enumerate(records):
        line = json_line(record).encode(errors="surrogatepass")
        spool.write(line)
        begins[number + 1] = begins[number] + len(line)
    spool.flush()
    lines = np.empty(len(order), np.int64)
    lines[order] = np.arange(len(order))
    with mmap.mmap(spool.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for number in lines.tolist():
            yield json.loads(content[begins[number] : begins[number + 1]])
