"""An index in LanceDB (extra `lance`), in a folder or a bucket: columns that Ray, DuckDB and `datasets` read, too."""

import contextlib
import gc
import hashlib
import json
import os
import weakref
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch

from internvideo_hf.search.stores.base import Info, Known, from_text, to_text
from internvideo_hf.search.stores.database import DatabaseStore
from internvideo_hf.search.stores.nearest import MIN_APPROXIMATE_ROWS, OVERSAMPLING, best_of
from internvideo_hf.search.stores.segments import Clip, Segment, Video
from internvideo_hf.search.where import All, Any_, Compare, IsNull, Not, Where, columns_of
from internvideo_hf.utils.locks import is_own_file, lock_folder
from internvideo_hf.utils.passwords import without_passwords
from internvideo_hf.utils.storage import as_path, is_stored
from internvideo_hf.video.sources import is_url

SCHEME = "lance:"
FORMAT = 1
CLIPS, STATE = "clips", "state"  # tables
_VIDEO = ("path", "size", "mtime", "content", "clips")
_CLIP = ("number", "start", "end", "vector")
_PATHS_AT_ONCE = 500
_COMMITS_A_FILE = 64  # each commit writes a file, and a list of all files
_META = "meta_"  # begins the names of the columns of metadata


_FORKED = object()  # in place of the connection of a store
_opened: "weakref.WeakSet[LanceStore]" = weakref.WeakSet()
_left: list[Any] = []  # connections of the process that this one was forked from


class LanceStore(DatabaseStore):
    """A `VectorStore` in a LanceDB database of its own.

    A row's key is its video and number, declared as Lance's primary key, so that writing a row again replaces it. One
    process at a time may change the store. In a bucket, that is a lock of this package, written by the package of its
    scheme (`storage.SCHEMES`); LanceDB itself opens others, too, where nothing keeps two writers apart. A process that
    was forked cannot use a store that was open before.

    Args:
        settings: of the index, see `base.SETTINGS`.
        address: `lance:PATH`, a new or empty folder, or `lance:s3://bucket/path` and the like. The first rows create
            it.

    Raises:
        ImportError: if lancedb is not installed (extra `lance`).
        ValueError: if there is something already.
    """

    def __init__(self, settings: dict[str, Any], address: str):
        self._open(address)
        self.settings = settings
        if self._has_index():
            raise ValueError(f"{self.place} holds an index: open it with VideoIndex.load, or name a new folder.")
        if self.folder is not None and self.folder.exists():
            if not self.folder.is_dir() or not all(map(is_own_file, self.folder.iterdir())):
                raise ValueError(f"{self.place} holds something else. Name a new folder for a new index.")

    def _open(self, address: str) -> None:
        require_lancedb()
        if not (uri := address.removeprefix(SCHEME)):
            raise ValueError(f"{address} names no folder: expected lance:PATH.")
        self._uri = uri
        self.place = without_passwords(address)
        self.folder = None if is_url(self._uri) else Path(self._uri).absolute()
        self._database: Any = None
        self._cached: dict[str, torch.Tensor] = {}
        self._numbers: tuple[int, dict[str, int]] | None = None  # as `_known_numbers` returns them
        self._commits = 0

    def _connect(self) -> Any:
        if self._database is _FORKED:
            raise RuntimeError(
                f"{self.place} was opened before this process was forked, and the threads of LanceDB are not in it. "
                'Start processes by "spawn", and open the index in them.'
            )
        if self._database is None:
            _opened.add(self)
            uri = self._uri if self.folder is None else str(self.folder)
            # Each read sees what other processes have written before it.
            self._database = require_lancedb().connect(uri, read_consistency_interval=timedelta(0))
        return self._database

    def _has_index(self) -> bool:
        if self.folder is not None and not (self.folder / f"{CLIPS}.lance").is_dir():
            return False  # connecting would create the folder
        return {CLIPS, STATE} <= set(self._connect().list_tables().tables)

    def _table(self, name: str = CLIPS) -> Any:
        return self._connect().open_table(name)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the right to change the folder, also of an object store."""
        place = as_path(self._uri) if self.folder is None else self.folder
        with lock_folder(place) if self.folder is not None or is_stored(self._uri) else contextlib.nullcontext():
            self._agree()
            yield

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self._table().count_rows()) if self._has_index() else 0

    def info(self) -> Info:
        """Return what the store holds."""
        return Info(len(self.known().videos), len(self))

    def known(self) -> Known:
        """Return the videos, and the clips that they lack."""
        if not self._has_index():
            return Known({}, {})
        table = self._table()
        columns = _video_columns(table)
        rows = table.search().select([*columns, "number"]).to_arrow()
        counted = rows.group_by("path", use_threads=False).aggregate(
            [(name, "first") for name in columns[1:]] + [("number", "list")]
        )
        videos, missing = {}, {}
        for entry in counted.to_pylist():
            video = _video({name: entry[f"{name}_first"] for name in columns[1:]} | {"path": entry["path"]})
            videos[path := video.path] = video
            if len(entry["number_list"]) < videos[path].clips:
                missing[path] = tuple(sorted({*range(videos[path].clips)} - {*entry["number_list"]}))
        return Known(videos, missing)

    def rows(self, videos: Collection[str] | None = None) -> Iterator[Segment]:
        """Yield the rows of some videos, or all."""
        if not self._has_index():
            return
        table = self._table()
        for among in [None] if videos is None else _in_pieces([*videos]):
            query = table.search().select([*_video_columns(table), *_CLIP])
            query = query if among is None else query.where(_is_among(among))
            for batch in query.to_batches():
                if batch.num_rows:
                    yield _segment(batch)

    def upsert(self, segment: Segment) -> None:
        """Add rows, in place of those of the same video and number."""
        new = columns_of([video.metadata for video in segment.videos])
        if self._has_index():
            self._add_columns(new)
            new = _kinds(self._table().schema)
        rows = _arrow(segment, getattr(torch, self.settings["dtype"]), new)
        if not self._has_index():
            database = self._connect()
            # The clips come last: without them, the folder holds no index.
            for name, schema in ((STATE, _state_schema()), (CLIPS, rows.schema)):
                database.create_table(name, schema=schema, mode="overwrite")
        self._put("settings", json.dumps({"format": FORMAT, **self.settings}).encode())
        self._commit(rows)

    def _commit(self, rows: Any) -> None:
        """Write rows of Arrow; a merge reads the keys of all rows, so that new ones are added without it."""
        table = self._table()
        version, known = self._known_numbers(table)
        new = _numbers(rows)
        if any(known.get(path, 0) & numbers for path, numbers in new.items()):
            _merge(table, "id", rows)
        else:
            table.add(rows)
        is_alone = table.version == version + 1  # else another process has written
        known.update((path, known.get(path, 0) | numbers) for path, numbers in new.items())
        self._commits += 1
        if self._commits % _COMMITS_A_FILE == 0:
            table.optimize()
        self._numbers = (table.version, known) if is_alone else None

    def _known_numbers(self, table: Any) -> tuple[int, dict[str, int]]:
        """Return the version of a table, and the numbers of its clips by path; see `_numbers`."""
        if self._numbers is None or self._numbers[0] != table.version:
            version = table.version
            self._numbers = version, _numbers(table.search().select(["path", "number"]).to_arrow())
        return self._numbers

    def _add_columns(self, new: Mapping[str, str]) -> None:
        import pyarrow

        there, table = _kinds(self._table().schema), self._table()
        for name, kind in new.items():
            if there.get(name, kind) != kind:
                raise ValueError(f"The column {name} of {self.place} is of {there[name]}, now of {kind}. Rename it.")
        if fields := [pyarrow.field(_META + name, _type(kind)) for name, kind in new.items() if name not in there]:
            table.add_columns(fields)

    def rewrite(
        self,
        *,
        removed: Collection[str] = (),
        renamed: Mapping[str, Video] | None = None,
        copied: Sequence[tuple[str, Video]] = (),
    ) -> None:
        """Remove, rename and copy videos: new rows first, so that an interruption loses none."""
        if not self._has_index():
            return
        renamed = renamed or {}
        for entries in _rounds([*renamed.items(), *copied]):
            for segment in self.rows(entries):
                self.upsert(segment.renamed(entries))
        moved = {path for path, video in renamed.items() if video.path != path}
        for among in _in_pieces([*{*removed, *moved}]):
            self._table().delete(_is_among(among))
        self._put("settings", json.dumps({"format": FORMAT, **self.settings}).encode())

    def compact(self) -> None:
        """Merge small files, and add new rows to the approximate index, if there is one."""
        if self._has_index():
            self._table().optimize()

    def gather(self, rows: Sequence[int] | torch.Tensor) -> torch.Tensor:
        """Return the embeddings of some rows."""
        return _vectors(self._take(rows, ["vector"])["vector"]).float()

    def clips(self, rows: Sequence[int] | torch.Tensor) -> list[Clip]:
        """Return the clips of some rows, their times rounded to milliseconds."""
        return _segment(self._take(rows, [*_VIDEO, "number", "start", "end"])).clips()

    def columns(self) -> dict[str, str]:
        """Return the names and kinds of the videos' metadata."""
        return _kinds(self._table().schema) if self._has_index() else {}

    def _count(self, where: Where) -> int:
        return int(self._table().count_rows(_condition(where)))

    def _has_approximate(self) -> bool:
        return bool(self._table().list_indices())

    def _nearest(
        self, queries: torch.Tensor, count: int, approximate: bool, where: Where | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        table = self._table()
        # In float16, Lance rounds the query as well: float32 decides among more candidates.
        many = count * OVERSAMPLING if approximate or self.settings["dtype"] == "float16" else count
        answers = []
        for query in queries:
            search = table.search(query.numpy()).distance_type("dot").select(["vector", "_distance"]).with_row_id(True)
            search = search if approximate else search.bypass_vector_index()
            search = search if where is None else search.where(_condition(where), prefilter=True)
            found = search.limit(many).to_arrow()
            similar = _vectors(found["vector"]).float() @ query
            rows = torch.from_numpy(found["_rowid"].to_numpy().astype(np.int64))
            answers.append(best_of(similar[None], rows[None], count))
        fewest = min(rows.shape[1] for _, rows in answers)
        similar, rows = (torch.cat([part[:, :fewest] for part in parts]) for parts in zip(*answers, strict=True))
        return similar, rows

    def build_approximate(self) -> None:
        """Build Lance's index of cells and graphs.

        Raises:
            ValueError: if there are too few rows.
        """
        if len(self) < MIN_APPROXIMATE_ROWS:
            raise ValueError(
                f"The index has {len(self)} clips; an approximate one pays from {MIN_APPROXIMATE_ROWS} on, really "
                "from a million. The exact search is as fast here."
            )
        from lancedb.index import HnswSq

        self._table().create_index("vector", config=HnswSq(distance_type="dot"), replace=True)

    def _take(self, rows: Sequence[int] | torch.Tensor, columns: list[str]) -> Any:
        """Return columns of some rows in the order given."""
        import pyarrow

        wanted = [int(row) for row in rows]
        found = self._table().take_row_ids(wanted).select(columns).with_row_id().to_arrow()
        place = {row: i for i, row in enumerate(found["_rowid"].to_pylist())}
        return found.take(pyarrow.array([place[row] for row in wanted], pyarrow.int64()))

    def _refusals(self) -> tuple[type[Exception], ...]:
        return (OSError, RuntimeError)

    def _read_settings(self) -> dict[str, Any]:
        stored = self._get("settings")
        settings: dict[str, Any] = {} if stored is None else json.loads(stored)
        if settings.pop("format", None) != FORMAT:
            raise ValueError(
                f"{self.place} has another format than {FORMAT}, which this version reads. Build it again."
            )
        return settings

    def _get(self, key: str) -> bytes | None:
        from lancedb.expr import col, lit

        found = self._table(STATE).search().where(col("key") == lit(key)).to_arrow()["value"].to_pylist()
        return found[0] if found else None

    def _put(self, key: str, value: bytes) -> None:
        import pyarrow

        if self._get(key) != value:
            rows = pyarrow.Table.from_pylist([{"key": key, "value": value}], schema=_state_schema())
            _merge(self._table(STATE), "key", rows)


def _close_in_fork() -> None:
    """Refuse the stores that were open when this process was forked, and free nothing of them: that may hang."""
    for store in _opened:
        _left.append(store._database)
        store._database = _FORKED
    if _left:
        gc.freeze()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_fork)


def require_lancedb() -> Any:
    """Import and return the module lancedb.

    Raises:
        ImportError: if it is not installed (extra `lance`).
    """
    os.environ.setdefault("LANCEDB_LOG", "error")  # it warns that a new table is new
    try:
        import lancedb
    except ImportError as error:
        raise ImportError(
            f"An index in LanceDB needs lancedb, which does not load ({error}): pip install 'internvideo-hf[lance]'."
        ) from error
    return lancedb


def _merge(table: Any, key: str, rows: Any) -> None:
    table.merge_insert(key).when_matched_update_all().when_not_matched_insert_all().execute(rows)


def _numbers(rows: Any) -> dict[str, int]:
    """Return the numbers of the clips of each video, by its path as text: bits of a whole number, which is small."""
    grouped = rows.select(["path", "number"]).group_by("path").aggregate([("number", "list")])
    found = zip(grouped["path"].to_pylist(), grouped["number_list"].to_pylist(), strict=True)
    return {path: sum(1 << number for number in {*numbers}) for path, numbers in found}


def _is_among(paths: Sequence[str]) -> Any:
    from lancedb.expr import col

    return col("path").isin([to_text(path) for path in paths])


def _in_pieces(paths: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(paths), _PATHS_AT_ONCE):
        yield paths[start : start + _PATHS_AT_ONCE]


def _rounds(entries: Iterable[tuple[str, Video]]) -> list[dict[str, Video]]:
    """Divide new entries of videos, by their present path, of which a video may have several."""
    rounds: list[dict[str, Video]] = []
    given: Counter[str] = Counter()
    for path, video in entries:
        if given[path] == len(rounds):
            rounds.append({})
        rounds[given[path]][path] = video
        given[path] += 1
    return rounds


def _key(name: str, kind: Any) -> Any:
    """Return a field that Lance takes for the primary key; it does not enforce it, but merges by it."""
    import pyarrow

    return pyarrow.field(name, kind, nullable=False, metadata={"lance-schema:unenforced-primary-key": "true"})


def _state_schema() -> Any:
    import pyarrow

    return pyarrow.schema([_key("key", pyarrow.string()), pyarrow.field("value", pyarrow.binary())])


def _video_columns(table: Any) -> list[str]:
    return [*_VIDEO, *(_META + name for name in _kinds(table.schema))]


def _video(entry: Mapping[str, Any]) -> Video:
    """Return a video from the values of its columns."""
    values = {name.removeprefix(_META): v for name, v in entry.items() if name.startswith(_META) and v is not None}
    size, mtime, content, clips = (entry[name] for name in _VIDEO[1:])
    return Video(from_text(entry["path"]), size, mtime, content, clips, values)


def _type(kind: str) -> Any:
    import pyarrow

    return {"text": pyarrow.string(), "number": pyarrow.float64(), "bool": pyarrow.bool_()}[kind]


def _kinds(schema: Any) -> dict[str, str]:
    """Return the names and kinds of the columns of metadata."""
    names = {_type(kind): kind for kind in ("text", "number", "bool")}
    return {field.name.removeprefix(_META): names[field.type] for field in schema if field.name.startswith(_META)}


def _condition(where: Where) -> str:
    """Return a condition for Lance, which binds no parameters: lancedb itself writes the values."""
    from lancedb.expr import lit

    match where:
        case Not(part):
            return f"(NOT {_condition(part)})"
        case All(parts):
            return f"({' AND '.join(map(_condition, parts))})"
        case Any_(parts):
            return f"({' OR '.join(map(_condition, parts))})"
    # Names come from the schema, or are our own.
    column = f"`{where.column.name if where.column.is_own else _META + where.column.name}`"
    column = {"video": "`path`", "start": "round(`start`, 3)", "end": "round(`end`, 3)"}.get(where.column.name, column)
    if isinstance(where, IsNull):
        return f"({column} IS NULL)"
    values = (where.value,) if isinstance(where, Compare) else where.values
    shown = [lit(to_text(str(value)) if where.column.name == "video" else value).to_sql() for value in values]
    test = f"{where.sign} {shown[0]}" if isinstance(where, Compare) else f"IN ({', '.join(shown)})"
    return f"coalesce({column} {test}, false)"


def _arrow(segment: Segment, dtype: torch.dtype, metadata: Mapping[str, str]) -> Any:
    """Return rows as a table of Arrow, with the columns of metadata given by their kinds."""
    import pyarrow

    owners = segment.video.tolist()
    videos = [segment.videos[owner] for owner in owners]
    vectors = segment.embeddings.to(dtype).numpy()
    begin, end = (pyarrow.array(segment.spans[:, side].numpy(), from_pandas=True) for side in (0, 1))  # NaN: null
    columns = {
        "id": [_row_key(video.path, n) for video, n in zip(videos, segment.number.tolist(), strict=True)],
        "path": [to_text(video.path) for video in videos],
        **{name: [getattr(video, name) for video in videos] for name in _VIDEO[1:]},
    }
    kinds = {"size": pyarrow.int64(), "mtime": pyarrow.int64(), "clips": pyarrow.int64()}
    arrays = {name: pyarrow.array(values, kinds.get(name, pyarrow.string())) for name, values in columns.items()}
    arrays |= {"number": pyarrow.array(segment.number.numpy()), "start": begin, "end": end}
    arrays["vector"] = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.ravel()), vectors.shape[1])
    for name, kind in metadata.items():
        arrays[_META + name] = pyarrow.array([video.metadata.get(name) for video in videos], _type(kind))
    fields = [_key(name, a.type) if name == "id" else pyarrow.field(name, a.type) for name, a in arrays.items()]
    return pyarrow.table([*arrays.values()], schema=pyarrow.schema(fields))


def _row_key(path: str, number: int) -> str:
    return f"{hashlib.sha256(to_text(path).encode()).hexdigest()[:32]}-{number}"


def _segment(rows: Any) -> Segment:
    """Return rows of Arrow, a table or a batch; without embeddings where there is no column of vectors."""
    columns = {name: rows.column(name).to_pylist() for name in rows.schema.names if name not in ("vector", "_rowid")}
    of_video = [name for name in columns if name in _VIDEO or name.startswith(_META)]
    videos: dict[str, Video] = {}
    for i, path in enumerate(columns["path"]):
        if path not in videos:
            videos[path] = _video({name: columns[name][i] for name in of_video})
    place = {path: i for i, path in enumerate(videos)}
    spans = [[np.nan if second is None else second for second in columns[name]] for name in ("start", "end")]
    has_vectors = "vector" in rows.schema.names
    return Segment(
        [*videos.values()],
        _vectors(rows.column("vector")) if has_vectors else torch.empty(rows.num_rows, 0),
        torch.tensor(spans, dtype=torch.float64).T.contiguous(),
        torch.tensor([place[path] for path in columns["path"]]),
        torch.tensor(columns["number"]),
    )


def _vectors(column: Any) -> torch.Tensor:
    chunks = column.chunks if hasattr(column, "chunks") else [column]
    found = [chunk.flatten().to_numpy(zero_copy_only=False).reshape(len(chunk), -1) for chunk in chunks if len(chunk)]
    return torch.from_numpy(np.concatenate(found)) if found else torch.empty(0, column.type.list_size)
