"""Stages of building a data set: rows in, rows and failures out, in parts, so that a restarted run goes on.

A stage's input is a table, a file with a JSON row a line. A unit of work is a shard of it, some lines; its key is a
hash of the lines, the stage's settings and those of all stages before. Whoever does a shard writes its part,
`parts/STAGE/KE/KEY.jsonl`, atomically, with a row or a failure a line. So a resume is a listing, a shard that is done
twice does no harm, and neither does a worker that dies. One process commits: it joins the parts in the order of the
shards to `stages/STAGE.jsonl` and `failures/STAGE.jsonl`. Nothing holds the rows of a table.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from internvideo_hf.data.executors.base import Refusal
from internvideo_hf.data.executors.parts import Engine
from internvideo_hf.data.executors.processes import WHOLE_TIMEOUT, map_unordered, time_limit
from internvideo_hf.data.record_files import json_line
from internvideo_hf.utils.files import atomic_path, remove_leftovers
from internvideo_hf.utils.fingerprints import json_sha256
from internvideo_hf.video.errors import VideoDecodeError

Row = dict[str, Any]
Outcome = Row | VideoDecodeError
_Item = TypeVar("_Item")
_KEY = 32  # hexadecimal digits
_FOLDER = 2  # of them name a folder: none then holds millions of files


class Stage(Protocol):
    """What turns rows into rows; it is pickled into other processes unless it runs a model.

    Attributes:
        name: also of its files.
        rows_per_shard: rows of a unit of work, at least 1.
        runs_model: whether it runs on an accelerator: in this process, one shard at a time, or in the workers of an
            engine.
    """

    @property
    def name(self) -> str:
        """Return the name."""

    @property
    def rows_per_shard(self) -> int:
        """Return the rows of a shard."""

    @property
    def runs_model(self) -> bool:
        """Return whether it runs a model."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Everything that its rows depend on, beside its input, as JSON: options, fingerprints of models."""

    def on_device(self, device: Any) -> "Stage":
        """Return the stage without what it has loaded, for a worker.

        Args:
            device: where its model runs; None for the default.
        """

    def load(self) -> None:
        """Load the model, if it runs one, before the first shard: its mistakes are none of a row's."""

    def run(self, rows: Sequence[Row]) -> list[Outcome]:
        """Return the rows and the failures that come of some rows; of one of them any number, in their order."""

    def files(self, row: Row) -> list[Path]:
        """Return the files that were written for a row that came out; a part whose files are gone is done again."""


@dataclass(frozen=True)
class Table:
    """A committed table of rows.

    Attributes:
        path: a JSON row a line.
        rows: how many.
        lineage: hash of what made it, but for the list that the build began with.
    """

    path: Path
    rows: int
    lineage: str = ""

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows."""
        return read_lines(self.path)


@dataclass(frozen=True)
class StageReport:
    """What a stage did.

    Attributes:
        name: of the stage.
        rows_in: rows of its input.
        rows_out: rows that came out.
        failures: rows, or clips, that failed.
    """

    name: str
    rows_in: int
    rows_out: int
    failures: int


@dataclass(frozen=True)
class _Shard:
    """A unit of work: lines of a table, by their place in the file, and the part that it becomes."""

    table: Path
    begin: int
    end: int
    rows: int
    part: Path

    def read(self) -> list[Row]:
        with self.table.open("rb") as file:
            file.seek(self.begin)
            return [json.loads(line) for line in file.read(self.end - self.begin).splitlines()]


def read_lines(path: Path) -> Iterator[Row]:
    """Yield the JSON objects of a file with one a line; none if there is no file."""
    if path.exists():
        with path.open(encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)


def name_of(row: Row) -> str:
    """Return the name of a row's video for messages."""
    return str(row.get("clip") or row.get("video") or row.get("url") or row.get("source"))


def run_stage(
    stage: Stage,
    table: Table,
    folder: Path,
    *,
    jobs: int = 1,
    engine: Engine | None = None,
    timeout: float | None = None,
    retry: bool = False,
    on_rows: Callable[[int], object] = lambda count: None,
) -> tuple[Table, StageReport]:
    """Run a stage over a table, except for the shards that are done, and commit.

    Args:
        stage: what to do.
        table: its input.
        folder: of the build.
        jobs: processes of this machine for a stage without a model.
        engine: runs a model in its workers, or a stage without one in their decoders; None for this machine.
        timeout: seconds after which a row counts as one that hangs its decoder; by default 3600, and no limit in this
            process.
        retry: do shards with failures again.
        on_rows: called with the number of input rows that are done, at once for those of earlier runs.

    Returns:
        The table of its rows, and the counts.

    Raises:
        DiskFullError, ImportError: if the stage raises one, which concerns all rows.
        Exception: whatever the stage raises when it loads its model, here or in a worker.
    """
    parts, lineage = folder / "parts" / stage.name, json_sha256([table.lineage, stage.name, stage.settings])
    for place in parts.glob("??"):
        remove_leftovers(place)
    shards = list(_shards(table.path, stage.rows_per_shard, lineage, parts))
    waiting = [shard for shard in shards if not _is_done(shard.part, stage, retry)]
    on_rows(sum(shard.rows for shard in shards) - sum(shard.rows for shard in waiting))
    workers = _Workers(stage, jobs, engine, timeout)
    if waiting and engine is None:
        stage.load()
    for shard, result in workers.run(_work, waiting, lambda shard: shard.part.name, stage.rows_per_shard):
        if isinstance(result, VideoDecodeError):
            _work_singly(shard, stage, workers)
        on_rows(shard.rows)
    return _commit(stage, table, [shard.part for shard in shards], folder, lineage)


class _Workers:
    """Where a stage runs; see `run_stage`."""

    def __init__(self, stage: Stage, jobs: int, engine: Engine | None, timeout: float | None):
        self._stage, self._jobs, self._engine, self._timeout = stage, jobs, engine, timeout

    def run(
        self, work: Callable[..., Any], items: Sequence[_Item], name: Callable[[_Item], str], rows: int = 1
    ) -> Iterator[tuple[_Item, Any]]:
        """Run a part of the stage for items of some rows each, and yield them with results or failures."""
        stage, engine = self._stage, self._engine
        if engine is None:
            count = 1 if stage.runs_model else self._jobs
            limit = time_limit(self._timeout, WHOLE_TIMEOUT, apart=count > 1)
            limit = None if limit is None or stage.runs_model else limit * rows
            yield from map_unordered(partial(work, stage=stage), items, count, name, timeout=limit)
            return
        limit = time_limit(self._timeout, WHOLE_TIMEOUT)
        limit = None if limit is None else limit * rows
        if not stage.runs_model:
            task, count = partial(work, stage=stage), engine.workers * engine.decoders
            yield from engine.executor().map_ordered(task, items, count, name, timeout=limit)
            return
        loaded = partial(_work_loaded, work=work, stage=stage.on_device(None), engine=engine)
        for item, result in engine.map_ordered(loaded, items, engine.workers, name, timeout=limit):
            if isinstance(result, Refusal):
                raise result.error
            yield item, result


def _work_loaded(item: Any, work: Callable[..., Any], stage: Any, engine: Engine) -> Any:
    try:
        loaded = _loaded(stage, engine.device())
    except Exception as error:
        return Refusal(error)
    return work(item, stage=loaded)


@lru_cache(maxsize=1)
def _loaded(stage: Any, device: Any) -> Stage:
    loaded: Stage = stage.on_device(device)
    loaded.load()
    return loaded


def _shards(table: Path, size: int, lineage: str, parts: Path) -> Iterator[_Shard]:
    begin, lines = 0, []
    with table.open("rb") as file:
        for line in file:
            lines.append(line)
            if len(lines) == size:
                yield (shard := _shard(table, begin, lines, lineage, parts))
                begin, lines = shard.end, []
    if lines:
        yield _shard(table, begin, lines, lineage, parts)


def _shard(table: Path, begin: int, lines: list[bytes], lineage: str, parts: Path) -> _Shard:
    content = b"".join(lines)
    key = hashlib.sha256(lineage.encode() + content).hexdigest()[:_KEY]
    return _Shard(table, begin, begin + len(content), len(lines), parts / key[:_FOLDER] / f"{key}.jsonl")


def _is_done(part: Path, stage: Stage, retry: bool) -> bool:
    if not part.exists():
        return False
    entries = list(read_lines(part))
    if retry and any("failure" in entry for entry in entries):
        return False
    return all(file.exists() for entry in entries if "row" in entry for file in stage.files(entry["row"]))


def _work(shard: _Shard, stage: Stage) -> None:
    _write_part(shard.part, stage.name, stage.run(shard.read()))


def _work_singly(shard: _Shard, stage: Stage, workers: _Workers) -> None:
    """Do a shard row by row, after its worker died or raised: then the row at fault is known."""
    outcomes: dict[int, list[Outcome]] = {}
    items = list(enumerate(shard.read()))
    for (number, _), result in workers.run(_run_one, items, lambda item: name_of(item[1])):
        outcomes[number] = [result] if isinstance(result, VideoDecodeError) else result
    _write_part(shard.part, stage.name, [outcome for number in sorted(outcomes) for outcome in outcomes[number]])


def _run_one(item: tuple[int, Row], stage: Stage) -> list[Outcome]:
    return stage.run([item[1]])


def _write_part(part: Path, stage: str, outcomes: Sequence[Outcome]) -> None:
    part.parent.mkdir(parents=True, exist_ok=True)
    failures = (entry["failure"] for entry in read_lines(part) if "failure" in entry)
    before = Counter({failure["video"]: failure.get("attempts", 1) for failure in failures})
    with atomic_path(part) as temporary, temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for outcome in outcomes:
            entry: Row = {"row": outcome}
            if isinstance(outcome, VideoDecodeError):
                attempts = before[outcome.source] + 1
                known = {"video": outcome.source, "cause": outcome.cause, "advice": outcome.advice}
                entry = {"failure": {**known, "stage": stage, "attempts": attempts}}
            file.write(f"{json_line(entry)}\n")


def _commit(
    stage: Stage, table: Table, parts: Sequence[Path], folder: Path, lineage: str
) -> tuple[Table, StageReport]:
    """Join parts to the tables of a stage."""
    rows = failures = 0
    for name in ("stages", "failures"):
        (folder / name).mkdir(exist_ok=True)
        remove_leftovers(folder / name)
    good, bad = folder / "stages" / f"{stage.name}.jsonl", folder / "failures" / f"{stage.name}.jsonl"
    with atomic_path(good) as new_good, atomic_path(bad) as new_bad:
        with new_good.open("w", encoding="utf-8") as good_file, new_bad.open("w", encoding="utf-8") as bad_file:
            for part in parts:
                for entry in read_lines(part):
                    if "row" in entry:
                        good_file.write(f"{json_line(entry['row'])}\n")
                        rows += 1
                    else:
                        bad_file.write(f"{json_line(entry['failure'])}\n")
                        failures += 1
    return Table(good, rows, lineage), StageReport(stage.name, table.rows, rows, failures)
