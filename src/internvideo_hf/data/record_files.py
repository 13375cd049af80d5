"""Write records, one after the other, to the formats that `records` reads: jsonl, json, parquet."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from internvideo_hf.data.layouts import Record
from internvideo_hf.data.records import require_pyarrow
from internvideo_hf.utils.files import atomic_path, check_output_file, remove_leftovers_of
from internvideo_hf.utils.names import check_name

SUFFIXES = (".jsonl", ".json", ".parquet")
"""Endings of files that records are written to."""
_CHUNK = 20_000  # rows that are Python objects at a time


def check_record_file(path: str | Path) -> None:
    """Refuse a file whose suffix is none of `SUFFIXES`, or that cannot be written, before the work begins.

    Args:
        path: where records are to be written.

    Raises:
        ValueError: naming the suffixes.
        ImportError: if a library that the format needs is missing.
        OSError: see `check_output_file`.
    """
    if check_name(Path(path).suffix.lower(), SUFFIXES, f"ending of {path}") == ".parquet":
        require_pyarrow()
    check_output_file(path)


def write_records(path: str | Path, records: Iterable[Record]) -> int:
    """Write records atomically: a line each, a JSON list with a line each, or parquet.

    Args:
        path: the file, with one of `SUFFIXES`; its folder is created.
        records: read once, and not held.

    Returns:
        How many there were.

    Raises:
        ValueError: if the suffix is unknown, or a column of parquet has values of several types.
        DiskFullError, OSError: if it cannot be written.
    """
    path = Path(path)
    check_record_file(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers_of(path)
    with atomic_path(path) as temporary:
        if path.suffix.lower() == ".parquet":
            return _write_parquet(temporary, iter(records), path)
        return _write_text(temporary, records, is_list=path.suffix.lower() == ".json")


def json_line(record: Record) -> str:
    """Return a record as one line of JSON; what JSON lacks, such as a date, becomes its text."""
    return json.dumps(record, ensure_ascii=False, default=str)


def _write_text(path: Path, records: Iterable[Record], *, is_list: bool) -> int:
    count = 0
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write("[" if is_list else "")
        for record in records:
            file.write((",\n" if count else "\n") if is_list else "")
            file.write(json_line(record) + ("" if is_list else "\n"))
            count += 1
        file.write("\n]\n" if is_list else "")
    return count


def _write_parquet(path: Path, records: Iterator[Record], target: Path) -> int:
    from pyarrow.parquet import ParquetWriter

    count, chunk = 0, list(islice(records, _CHUNK))
    schema = _schema_of(chunk)
    with ParquetWriter(path, schema) as writer:
        while chunk:
            writer.write_table(_table(chunk, schema, target))
            count += len(chunk)
            chunk = list(islice(records, _CHUNK))
    return count


def _table(rows: Sequence[Record], schema: Any, target: Path) -> Any:
    import pyarrow

    if unknown := sorted({name for row in rows for name in row} - set(schema.names)):
        raise ValueError(
            f"{target}: the first {_CHUNK:,} records lack the column {unknown[0]}, which comes later. Write .jsonl."
        )
    try:
        return pyarrow.Table.from_pylist([dict(row) for row in rows], schema=schema)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
        raise ValueError(f"{target}: a column has values of several types ({error}). Write .jsonl.") from error


def _schema_of(rows: Sequence[Record]) -> Any:
    import pyarrow

    names = dict.fromkeys(name for row in rows for name in row)
    kinds = {name: pyarrow.array([row.get(name) for row in rows]).type for name in names}
    # A column without a value so far: text holds what may come.
    return pyarrow.schema(
        [(name, pyarrow.string() if pyarrow.types.is_null(kind) else kind) for name, kind in kinds.items()]
    )
