"""An index in PostgreSQL with pgvector (extra `postgres`): one server for many processes and machines."""

import contextlib
import hashlib
import json
import os
import re
import socket
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, LiteralString

import numpy as np
import torch

from internvideo_hf.search.stores.base import Info, Known, from_text, to_text
from internvideo_hf.search.stores.database import DatabaseStore
from internvideo_hf.search.stores.nearest import OVERSAMPLING
from internvideo_hf.search.stores.segments import Clip, Segment, Video
from internvideo_hf.search.where import All, Any_, Compare, IsNull, Not, Where
from internvideo_hf.utils.locks import LockedError
from internvideo_hf.utils.passwords import without_passwords

if TYPE_CHECKING:
    from psycopg import sql

SCHEMES = ("postgresql://", "postgres://")
FORMAT = 1
DEFAULT_SCHEMA = "internvideo"
_LOCK_CLASS = 0x1D071DE0  # of our advisory locks, among those of other programs
_ROWS_AT_ONCE = 4096
_LARGEST_EF = 1000  # rows that pgvector's graph may keep in view

# No bound parameter can stand for a type or its size: both are put in as literals of psycopg's.
_TABLES = """
CREATE TABLE state (key text PRIMARY KEY, value bytea NOT NULL);
CREATE TABLE videos (
    id bigserial PRIMARY KEY, path text NOT NULL UNIQUE,
    size bigint NOT NULL, mtime bigint NOT NULL, content text NOT NULL, clips integer NOT NULL, metadata jsonb NOT NULL
);
CREATE TABLE clips (
    id bigserial PRIMARY KEY, video bigint NOT NULL REFERENCES videos ON DELETE CASCADE, number integer NOT NULL,
    start double precision, "end" double precision, embedding {type}({dim}) NOT NULL, UNIQUE (video, number)
);
"""


class PostgresStore(DatabaseStore):
    """A `VectorStore` in a schema of a PostgreSQL database, which holds nothing else.

    Each change is a transaction. One process at a time may change a schema, by an advisory lock, which the server
    frees when the process ends; any number may search.

    Args:
        settings: of the index, see `base.SETTINGS`.
        address: `postgresql://user@host:port/database`, as libpq reads it; a schema other than `internvideo` follows
            behind a `#`. Leave the password to `PGPASSWORD` or `~/.pgpass`: others on the machine see command lines.
            The first rows create schema and tables.

    Raises:
        ImportError: if psycopg or pgvector is not installed (extra `postgres`).
        ConnectionError: if the server cannot be reached, or refuses.
        ValueError: if there is an index already, or the address is invalid.
    """

    def __init__(self, settings: dict[str, Any], address: str):
        self._open(address)
        self.settings = settings
        if self._has_index():
            raise ValueError(f"{self.place} holds an index: open it with VideoIndex.load, or name another schema.")

    def _open(self, address: str) -> None:
        conninfo, _, schema = address.partition("#")
        self.schema = schema or DEFAULT_SCHEMA
        self.place = without_passwords(address)
        if not re.fullmatch(r"[a-z_][a-z0-9_]{0,39}", self.schema):
            raise ValueError(
                f"{self.place}: a schema has up to 40 lower-case letters, digits and _, got {self.schema!r}."
            )
        self._connection = _connect(conninfo, self.place)
        self._cached: dict[str, torch.Tensor] = {}
        self._vectors_known = False
        self._use_schema()

    def _use_schema(self) -> None:
        """Look for names in our schema, and for pgvector's where it is installed."""
        own = "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'vector'"
        found = self._run(own).fetchone()
        places = [self.schema, *(found or ()), "public"]
        self._run("SELECT set_config('search_path', %s, false)", (", ".join(f'"{place}"' for place in places),))
        if found and not self._vectors_known:
            from pgvector.psycopg import register_vector

            register_vector(self._connection)
            self._vectors_known = True

    def _run(self, query: "LiteralString | sql.Composed", values: Sequence[Any] = ()) -> Any:
        return self._connection.execute(query, values)

    def _has_index(self) -> bool:
        query = "SELECT 1 FROM information_schema.tables WHERE table_schema = %s AND table_name = 'state'"
        found = self._run(query, (self.schema,)).fetchone() is not None
        if found and not self._vectors_known:  # another process has made the index since this one connected
            self._use_schema()
        return found

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the right to change the schema."""
        key = (_LOCK_CLASS, int(hashlib.sha256(self.schema.encode()).hexdigest()[:7], 16))
        if not self._run("SELECT pg_try_advisory_lock(%s::int, %s::int)", key).fetchone()[0]:
            raise LockedError(
                f"{self.place} is being written by {self._holder(key)}. Wait until it has finished, or stop it, and "
                "run the same command again."
            )
        try:
            self._agree()
            yield
        finally:
            with contextlib.suppress(_psycopg().OperationalError):  # without a connection, there is no lock
                self._run("SELECT pg_advisory_unlock(%s::int, %s::int)", key)

    def _holder(self, key: tuple[int, int]) -> str:
        holder = self._run(
            "SELECT a.application_name, date_trunc('second', a.backend_start)::text FROM pg_locks l "
            "JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 "
            "AND l.classid = %s::oid AND l.objid = %s::oid",
            key,
        ).fetchone()
        return f"{holder[0]} since {holder[1]}" if holder else "another process"

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self._run("SELECT count(*) FROM clips").fetchone()[0]) if self._has_index() else 0

    def info(self) -> Info:
        """Return what the store holds."""
        videos = self._run("SELECT count(*) FROM videos").fetchone()[0] if self._has_index() else 0
        return Info(int(videos), len(self))

    def known(self) -> Known:
        """Return the videos, and the clips that they lack."""
        if not self._has_index():
            return Known({}, {})
        videos = {
            from_text(path): Video(from_text(path), *entry)
            for path, *entry in self._run("SELECT path, size, mtime, content, clips, metadata FROM videos ORDER BY id")
        }
        lacking = self._run(
            "SELECT v.path, v.clips, array_agg(c.number) FROM videos v JOIN clips c ON c.video = v.id "
            "GROUP BY v.id HAVING count(*) < v.clips"
        )
        return Known(videos, {from_text(path): tuple(sorted({*range(n)} - {*there})) for path, n, there in lacking})

    def rows(self, videos: Collection[str] | None = None) -> Iterator[Segment]:
        """Yield the rows of some videos, or all, in the order of their numbers."""
        if not self._has_index():
            return
        last, paths = 0, None if videos is None else [to_text(path) for path in videos]
        while True:
            found = self._run(
                "SELECT c.id, v.path, v.size, v.mtime, v.content, v.clips, v.metadata, "
                "c.number, c.start, c.end, c.embedding FROM clips c JOIN videos v ON v.id = c.video "
                "WHERE c.id > %s AND (%s::text[] IS NULL OR v.path = ANY(%s::text[])) ORDER BY c.id LIMIT %s",
                (last, paths, paths, _ROWS_AT_ONCE),
            ).fetchall()
            if not found:
                return
            last = found[-1][0]
            yield _segment([row[1:] for row in found], getattr(torch, self.settings["dtype"]))

    def upsert(self, segment: Segment) -> None:
        """Add rows, in place of those of the same video and number."""
        with self._connection.transaction():
            if not self._has_index():
                self._create_tables(segment.embeddings.shape[1])
            self._put_settings()
            with self._connection.cursor() as cursor:
                ids = self._put_videos(cursor, segment.videos)
                cursor.execute(
                    'CREATE TEMP TABLE incoming ON COMMIT DROP AS SELECT video, number, start, "end", embedding '
                    "FROM clips WITH NO DATA"
                )
                self._copy(cursor, segment, ids)
                cursor.execute(
                    'INSERT INTO clips (video, number, start, "end", embedding) '
                    'SELECT video, number, start, "end", embedding FROM incoming '
                    "ON CONFLICT (video, number) DO UPDATE SET start = excluded.start, "
                    '"end" = excluded."end", embedding = excluded.embedding'
                )

    def _put_videos(self, cursor: Any, videos: Sequence[Video]) -> list[int]:
        """Write the entries of videos, and return their ids."""
        cursor.executemany(
            "INSERT INTO videos (path, size, mtime, content, clips, metadata) VALUES (%s, %s, %s, %s, %s, %s) "
            "ON CONFLICT (path) DO UPDATE SET size = excluded.size, mtime = excluded.mtime, "
            "content = excluded.content, clips = excluded.clips, metadata = excluded.metadata RETURNING id",
            map(_values, videos),
            returning=True,
        )
        ids = [cursor.fetchone()[0]]
        while cursor.nextset():
            ids.append(cursor.fetchone()[0])
        return ids

    def _copy(self, cursor: Any, segment: Segment, ids: Sequence[int]) -> None:
        kind, vector = self._vector_kind()
        embeddings = segment.embeddings.to(getattr(torch, self.settings["dtype"])).numpy()
        spans = [[None if second != second else second for second in span] for span in segment.spans.tolist()]
        owners, numbers = segment.video.tolist(), segment.number.tolist()
        with cursor.copy("COPY incoming FROM STDIN WITH (FORMAT BINARY)") as copy:
            copy.set_types(["int8", "int4", "float8", "float8", kind])
            for owner, number, span, row in zip(owners, numbers, spans, embeddings, strict=True):
                copy.write_row([ids[owner], number, *span, vector(row)])

    def _vector_kind(self) -> tuple[str, Callable[[np.ndarray], Any]]:
        """Return the type of the embeddings' column, and what makes its values."""
        from pgvector import HalfVector, Vector

        return ("halfvec", HalfVector) if self.settings["dtype"] == "float16" else ("vector", Vector)

    def _create_tables(self, dim: int) -> None:
        from psycopg import errors, sql

        try:
            self._run("CREATE EXTENSION IF NOT EXISTS vector")
        except (errors.FeatureNotSupported, errors.UndefinedFile, errors.InsufficientPrivilege) as error:
            raise ValueError(
                f"{self.place} has no pgvector, and it cannot be switched on ({error.diag.message_primary}). Install "
                "it on the server, and have an administrator run CREATE EXTENSION vector."
            ) from error
        self._run(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(self.schema)))
        self._use_schema()
        names = {"type": sql.Identifier(self._vector_kind()[0]), "dim": sql.Literal(dim)}
        self._run(sql.SQL(_TABLES).format(**names))
        self._put("format", str(FORMAT).encode())

    def rewrite(
        self,
        *,
        removed: Collection[str] = (),
        renamed: Mapping[str, Video] | None = None,
        copied: Sequence[tuple[str, Video]] = (),
    ) -> None:
        """Remove, rename and copy videos in one transaction."""
        if not self._has_index():
            return
        with self._connection.transaction():
            self._put_settings()
            for path, video in copied:
                self._run(
                    "WITH copy AS (INSERT INTO videos (path, size, mtime, content, clips, metadata) "
                    "VALUES (%s, %s, %s, %s, %s, %s) RETURNING id) "
                    'INSERT INTO clips (video, number, start, "end", embedding) '
                    'SELECT copy.id, c.number, c.start, c."end", c.embedding FROM copy, clips c '
                    "JOIN videos v ON v.id = c.video WHERE v.path = %s",
                    (*_values(video), to_text(path)),
                )
            self._run("DELETE FROM videos WHERE path = ANY(%s)", ([to_text(path) for path in removed],))
            for path, video in (renamed or {}).items():
                self._run(
                    "UPDATE videos SET path = %s, size = %s, mtime = %s, content = %s, clips = %s, metadata = %s "
                    "WHERE path = %s",
                    (*_values(video), to_text(path)),
                )

    def compact(self) -> None:
        """Do nothing: the server does it itself."""

    def gather(self, rows: Sequence[int] | torch.Tensor) -> torch.Tensor:
        """Return the embeddings of some rows."""
        return torch.stack([_tensor(embedding) for (embedding,) in self._take("c.embedding", rows)]).float()

    def clips(self, rows: Sequence[int] | torch.Tensor) -> list[Clip]:
        """Return the clips of some rows, their times rounded to milliseconds."""
        found = self._take("v.path, c.start, c.end", rows)
        return [(from_text(path), _rounded(start), _rounded(end)) for path, start, end in found]

    def _take(self, columns: LiteralString, rows: Sequence[int] | torch.Tensor) -> list[tuple[Any, ...]]:
        """Return columns of some rows in the order given."""
        query = "SELECT c.id, " + columns + " FROM clips c JOIN videos v ON v.id = c.video WHERE c.id = ANY(%s)"
        wanted = [int(row) for row in rows]
        found = {row: entry for row, *entry in self._run(query, (wanted,))}
        return [tuple(found[row]) for row in wanted]

    def columns(self) -> dict[str, str]:
        """Return the names and kinds of the videos' metadata; a column of several kinds is left out."""
        if not self._has_index():
            return {}
        kinds = {"string": "text", "number": "number", "boolean": "bool"}
        found = self._run(
            "SELECT key, min(jsonb_typeof(value)) FROM videos, jsonb_each(metadata) GROUP BY key "
            "HAVING count(DISTINCT jsonb_typeof(value)) = 1 ORDER BY key"
        )
        return {name: kinds[kind] for name, kind in found}

    def _count(self, where: Where) -> int:
        condition, values = _condition(where)
        query = _sql(f"SELECT count(*) FROM clips c JOIN videos v ON v.id = c.video WHERE {condition}")
        return int(self._run(query, values).fetchone()[0])

    def _has_approximate(self) -> bool:
        return self._run("SELECT to_regclass('clips_graph')").fetchone()[0] is not None

    def _nearest(
        self, queries: torch.Tensor, count: int, approximate: bool, where: Where | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        answers = [self._nearest_to(query, count, approximate, where) for query in queries]
        fewest = min(map(len, answers))
        similar = torch.tensor([[-distance for _, distance in answer[:fewest]] for answer in answers])
        rows = torch.tensor([[row for row, _ in answer[:fewest]] for answer in answers], dtype=torch.int64)
        return similar, rows

    def _nearest_to(
        self, query: torch.Tensor, count: int, approximate: bool, where: Where | None
    ) -> list[tuple[int, float]]:
        from pgvector import Vector

        vector, dim = Vector(query.numpy()), len(query)
        condition, bound = ("true", []) if where is None else _condition(where)
        rows = f"SELECT c.id, c.embedding FROM clips c JOIN videos v ON v.id = c.video WHERE {condition}"
        values: list[Any] = [vector, *bound]
        with self._connection.transaction():
            if approximate:
                rows += f" ORDER BY c.embedding::halfvec({dim}) <#> %s::halfvec({dim}) LIMIT %s"
                values += [vector, OVERSAMPLING * count]
                ef = str(min(_LARGEST_EF, OVERSAMPLING * count))
                self._run("SELECT set_config('hnsw.ef_search', %s, true)", (ef,))
                self._run("SELECT set_config('hnsw.iterative_scan', 'strict_order', true)")
            # The cast is for float16, whose product would round the query, too.
            distance = f"embedding::vector({dim}) <#> %s AS distance"
            search = f"SELECT id, {distance} FROM ({rows}) r ORDER BY distance, id LIMIT %s"
            found: list[tuple[int, float]] = self._run(_sql(search), [*values, count]).fetchall()
        return found

    def build_approximate(self) -> None:
        """Build pgvector's graph (HNSW) over the embeddings in half precision; the server keeps it up to date."""
        from psycopg import sql

        if not len(self):
            raise ValueError("The index is empty. Add videos to it first.")
        dim = self._run("SELECT vector_dims(embedding) FROM clips LIMIT 1").fetchone()[0]
        query = "CREATE INDEX IF NOT EXISTS clips_graph ON clips USING hnsw ((embedding::halfvec({})) halfvec_ip_ops)"
        self._run(sql.SQL(query).format(sql.Literal(dim)))

    def _refusals(self) -> tuple[type[Exception], ...]:
        from psycopg import errors

        return (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction)

    def _read_settings(self) -> dict[str, Any]:
        found = self._get("format")
        if found != str(FORMAT).encode():
            raise ValueError(
                f"{self.place} has another format than {FORMAT}, which this version reads. Build it again."
            )
        settings: dict[str, Any] = json.loads(self._get("settings") or b"{}")
        return settings

    def _put_settings(self) -> None:
        self._put("settings", json.dumps(self.settings).encode())

    def _get(self, key: str) -> bytes | None:
        found = self._run("SELECT value FROM state WHERE key = %s", (key,)).fetchone()
        return None if found is None else bytes(found[0])

    def _put(self, key: str, value: bytes) -> None:
        query = "INSERT INTO state VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
        self._run(query, (key, value))


def _psycopg() -> Any:
    """Import and return the module psycopg.

    Raises:
        ImportError: if it or pgvector is not installed (extra `postgres`).
    """
    try:
        import pgvector.psycopg  # noqa: F401
        import psycopg
    except ImportError as error:
        raise ImportError(
            f"An index in PostgreSQL needs psycopg and pgvector, which do not load ({error}): pip install "
            "'internvideo-hf[postgres]'."
        ) from error
    return psycopg


def _connect(conninfo: str, place: str) -> Any:
    """Connect to a server; what the errors say holds no password."""
    psycopg = _psycopg()
    who = f"process {os.getpid()} on {socket.gethostname()}"[:63]  # what the server keeps of it
    try:
        return psycopg.connect(conninfo, autocommit=True, application_name=who)
    except psycopg.OperationalError as error:
        reason = " ".join(without_passwords(str(error)).split())
        raise ConnectionError(f"{place} cannot be reached: {reason.rstrip('.')}.") from None
    except psycopg.Error:  # its message quotes the address
        raise ValueError(
            f"{place} is not an address of PostgreSQL: expected postgresql://user@host:port/database, with %40 for @ "
            "and the like in a password."
        ) from None


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _sql(query: str) -> Any:
    """Mark a query as ours: it is made of constants and whole numbers, and all values are bound."""
    from psycopg import sql

    return sql.SQL(query)  # type: ignore[arg-type, unused-ignore]


def _values(video: Video) -> tuple[Any, ...]:
    """Return the values of a row of videos."""
    from psycopg.types.json import Jsonb

    return (to_text(video.path), video.size, video.mtime, video.content, video.clips, Jsonb(dict(video.metadata)))


_OWN = {"video": "v.path", "start": "round(c.start::numeric, 3)::float8", "end": 'round(c."end"::numeric, 3)::float8'}
_JSON = {"text": ("string", "text"), "number": ("number", "float8"), "bool": ("boolean", "boolean")}
_TYPES = {kind: name for kind, (_, name) in _JSON.items()}


def _condition(where: Where) -> tuple[str, list[Any]]:
    """Return a condition, and the values to bind; names of columns are bound as well."""
    match where:
        case Not(part):
            text, values = _condition(part)
            return f"(NOT {text})", values
        case All(parts) | Any_(parts):
            texts, bound = zip(*map(_condition, parts), strict=True)
            word = " AND " if isinstance(where, All) else " OR "
            return f"({word.join(texts)})", [value for values in bound for value in values]
    name, kind = where.column.name, where.column.kind
    named: list[Any] = []
    if where.column.is_own:
        column = _OWN[name]
    else:
        json_kind, cast = _JSON[kind]
        column = (
            f"(CASE jsonb_typeof(v.metadata->%s::text) WHEN '{json_kind}' THEN (v.metadata->>%s::text)::{cast} END)"
        )
        named = [name, name]
    if isinstance(where, IsNull):
        return f"({column} IS NULL)", named
    order = ' COLLATE "C"' if kind == "text" else ""  # by code points, as elsewhere
    values = [where.value] if isinstance(where, Compare) else [*where.values]
    values = [to_text(str(value)) if name == "video" else value for value in values]
    if isinstance(where, Compare):
        sign = {"!=": "<>"}.get(where.sign, where.sign)
        return f"coalesce({column}{order} {sign} %s::{_TYPES[kind]}, false)", [*named, *values]
    return f"coalesce({column}{order} = ANY(%s::{_TYPES[kind]}[]), false)", [*named, values]


def _tensor(embedding: Any) -> torch.Tensor:
    """Return an embedding as pgvector gives it: an array, or its own types."""
    return torch.from_numpy(np.array(embedding if isinstance(embedding, np.ndarray) else embedding.to_numpy()))


def _segment(rows: Sequence[tuple[Any, ...]], dtype: torch.dtype) -> Segment:
    """Return rows of path, size, mtime, content, clips, metadata, number, start, end and embedding."""
    videos: dict[str, Video] = {}
    for path, *entry in (row[:6] for row in rows):
        if path not in videos:
            videos[path] = Video(from_text(path), *entry)
    place = {path: i for i, path in enumerate(videos)}
    return Segment(
        [*videos.values()],
        torch.stack([_tensor(row[9]) for row in rows]).to(dtype),
        torch.tensor([[torch.nan if t is None else t for t in row[7:9]] for row in rows], dtype=torch.float64),
        torch.tensor([place[row[0]] for row in rows]),
        torch.tensor([row[6] for row in rows]),
    )
