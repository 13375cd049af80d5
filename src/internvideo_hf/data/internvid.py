"""Records of InternVid: clips of YouTube videos with captions and scores, as rows, `datasets.Dataset`, training lists.

Two layouts are in use. The public tables have `YoutubeID`, `Start_timestamp`, `End_timestamp` ("HH:MM:SS.mmm"),
`Caption`, `Aesthetic_Score` and `UMT_Score` (or `UMT_Sim`); the -INFO table adds columns such as the language. The
lists of the training code have `video`, a path whose file name begins with the 11-character YouTube id, and `caption`.
Neither is defined by released code, so columns may be missing, and unknown ones are kept.
"""

import posixpath
import re
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from internvideo_hf.data.layouts import BadRow, Record, is_missing, seconds_of
from internvideo_hf.data.manifests import read_manifest
from internvideo_hf.data.records import ManifestError, read_records, require_datasets
from internvideo_hf.utils.names import nearest

if TYPE_CHECKING:
    import datasets

ID_LENGTH = 11
"""Characters of a YouTube id."""
SPELLINGS = {
    "youtube_id": ("YoutubeID", "youtube_id"),
    "start": ("Start_timestamp", "start"),
    "end": ("End_timestamp", "end"),
    "caption": ("Caption",),
    "aesthetic_score": ("Aesthetic_Score",),
    "umt_score": ("UMT_Score", "UMT_Sim"),
    "similarity": ("Similarity",),
    "language": ("Language",),
    "video": ("video",),
}
"""Column of this package -> its names in published tables, in capitals or not. similarity is that of
`internvideo dataset build`, by a model of the user's choice."""
_KINDS = {
    "youtube_id": "string",
    "start": "float64",
    "end": "float64",
    "caption": "string",
    "aesthetic_score": "float64",
    "umt_score": "float64",
    "similarity": "float64",
    "language": "string",
    "video": "string",
}
_MEANING_OF = {name.lower(): column for column, names in SPELLINGS.items() for name in names}
_CHUNK = 20_000  # rows that are Python objects at a time
_BEGINS_WITH_ID = re.compile(rf"[\w-]{{{ID_LENGTH}}}(?![A-Za-z0-9])")


def value_of(record: Record, column: str) -> Any:
    """Return a value of a record by a column of `SPELLINGS`, or by its own name; None where there is none.

    Args:
        record: of any of the layouts.
        column: a key of `SPELLINGS`, or the name of a column as the table has it.
    """
    names = SPELLINGS.get(column, (column,))
    for name in names:
        if not is_missing(record.get(name)):
            return record[name]
    lower = {name.lower() for name in names}
    return next((value for name, value in record.items() if name.lower() in lower and not is_missing(value)), None)


def number_of(record: Record, column: str) -> float | None:
    """Return a number of a record, see `value_of`.

    Args:
        record: of any of the layouts.
        column: as of `value_of`.

    Raises:
        BadRow: if it is no number.
    """
    value = value_of(record, column)
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        raise BadRow(f"{column} is {value!r}, expected a number", "Correct it.") from None


def source_of(record: Record) -> str:
    """Return the id of the video that a clip comes from: `YoutubeID`, or the first 11 characters of its file's name.

    Args:
        record: of any of the layouts.

    Raises:
        BadRow: if it has neither.
    """
    name = value_of(record, "youtube_id")
    if name is not None:
        return str(name)
    video = record.get("video")
    if not isinstance(video, str) or not video:
        raise BadRow("nothing says which video the clip is of", "Give a column YoutubeID, or video.")
    return posixpath.basename(video)[:ID_LENGTH]


def names_its_source(record: Record) -> bool:
    """Return whether `source_of` is sure: the record has an id, or its file's name begins with 11 characters of one.

    Args:
        record: of any of the layouts.
    """
    if value_of(record, "youtube_id") is not None:
        return True
    return _BEGINS_WITH_ID.match(posixpath.basename(str(record.get("video")))) is not None


def duration_of(record: Record) -> float | None:
    """Return the seconds of a clip, None where the record does not say.

    Args:
        record: of any of the layouts.

    Raises:
        BadRow: if the times are none, or the end is not behind the start.
    """
    start, end = (seconds_of(value_of(record, name), name) for name in ("start", "end"))
    if start is None or end is None:
        return None
    if end <= start:
        raise BadRow(f"the clip goes from {start} to {end} seconds", "Give a later end.")
    return end - start


def speaks(record: Record, languages: Collection[str] | None) -> bool:
    """Return whether a record is of one of some languages, as the table writes them, in capitals or not.

    Args:
        record: of any of the layouts.
        languages: such as "en"; None for any, of records without a language, too.
    """
    if languages is None:
        return True
    return str(value_of(record, "language")).lower() in {language.lower() for language in languages}


def read_internvid(
    paths: str | Path | Sequence[str | Path], *, languages: Collection[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Read tables of InternVid row by row.

    Args:
        paths: a jsonl, json, csv or parquet file, or several in their order.
        languages: rows to keep; None for all. See `speaks`.

    Yields:
        Rows: the known columns by the keys of `SPELLINGS`, times in seconds, scores as floats, and all other columns
        as the table has them.

    Raises:
        ManifestError: if a file cannot be read, or a value is invalid.
    """
    for path in [paths] if isinstance(paths, str | Path) else paths:
        for place, record in read_records(path):
            try:
                if speaks(record, languages):
                    yield _row(record)
            except BadRow as bad:
                raise ManifestError(str(path), place, *bad.args) from None


def _row(record: Record) -> dict[str, Any]:
    if "line" in record and "delimiter" in record:
        raise BadRow("it has no header", "Give a table with columns such as YoutubeID, Start_timestamp and Caption.")
    row: dict[str, Any] = {}
    for name, value in record.items():
        column = _MEANING_OF.get(name.lower(), name)
        if row.get(column) is None:
            row[column] = None if is_missing(value) else value
    for column in row.keys() & _KINDS.keys():
        if _KINDS[column] == "string":
            row[column] = None if row[column] is None else str(row[column])
        else:
            row[column] = seconds_of(row[column], column) if column in ("start", "end") else number_of(row, column)
    duration_of(row)
    return row


def load_internvid(
    paths: str | Path | Sequence[str | Path],
    *,
    languages: Collection[str] | None = None,
    streaming: bool = False,
) -> "datasets.Dataset | datasets.IterableDataset":
    """Make a `datasets.Dataset` of tables of InternVid.

    Args:
        paths: as of `read_internvid`.
        languages: as of `read_internvid`.
        streaming: make a `datasets.IterableDataset` that reads the tables as it is iterated over; a table of ten
            million rows otherwise takes about 2 GB of memory.

    Returns:
        Rows as `read_internvid` yields them.

    Raises:
        ManifestError: as `read_internvid`; if no row is left.
        ImportError: if `datasets` is not installed.
    """
    datasets = require_datasets()
    if streaming:
        return datasets.IterableDataset.from_generator(
            read_internvid, gen_kwargs={"paths": paths, "languages": languages}
        )
    import pyarrow

    rows, tables = read_internvid(paths, languages=languages), []
    while chunk := list(islice(rows, _CHUNK)):
        tables.append(table_of(chunk))
    if not tables:
        raise ManifestError(str(paths), None, "no row is left", "Check the table and the languages.")
    return datasets.Dataset(datasets.table.InMemoryTable(pyarrow.concat_tables(tables, promote_options="permissive")))


def table_of(rows: Sequence[Record]) -> Any:
    """Return rows as a table of Arrow, with every column that one of them has.

    Args:
        rows: at least one. Known columns have their types, others those that Arrow finds.
    """
    import pyarrow

    names = dict.fromkeys(name for row in rows for name in row)
    return pyarrow.table(
        {
            name: pyarrow.array([row.get(name) for row in rows], _KINDS.get(name))  # None: found from the values
            for name in names
        }
    )


def training_rows(
    path: str | Path,
    data_root: str | Path,
    *,
    file_name: str | None = None,
    languages: Collection[str] | None = None,
    skip_missing: bool = False,
) -> Iterator[dict[str, Any]]:
    """Turn a table of InternVid into rows of a training list, as the recipes of ViCLIP take it.

    Args:
        path: a table with the columns of the public one, or a list of the training code.
        data_root: folder of the videos; paths in the list begin in it.
        file_name: how the file of a clip is called, names of the table's columns in braces, such as
            "{YoutubeID}_{Start_timestamp}.mp4". A name with the start in it is that of a clip that is cut already;
            "{YoutubeID}.mp4", the default, is that of the whole video, and rows have `start` and `end`.
        languages: rows to keep; None for all. See `speaks`.
        skip_missing: leave out rows without a file, with a warning that counts them, instead of an error.

    Yields:
        Rows with `video`, `caption`, and `start` and `end` in seconds of a clip that is not cut.

    Raises:
        ManifestError: if the table cannot be read, a row has no file, or no row is left.
    """
    options: dict[str, Any] = {"skip_missing": skip_missing, "allow_duplicates": True, "file_name": file_name}
    for row in read_manifest(path, data_root, keep=lambda record: speaks(record, languages), **options):
        video = Path(row["video"])
        below = str(video.relative_to(data_root)) if video.is_relative_to(data_root) else str(video)
        times = {name: row[name] for name in ("start", "end") if row[name] is not None}
        yield {"video": below, "caption": row["caption"], **times}


def score_column(record: Record, column: str | None, known: Sequence[str]) -> str:
    """Return the column of a table that has the score.

    Args:
        record: the first one of the table.
        column: the user's choice; None for the first of `known` that is there.
        known: keys of `SPELLINGS`.

    Raises:
        BadRow: if the table has none; the message names what there is.
    """
    there = list(record)
    found = [name for name in ([column] if column else known) if _has(record, name)]
    if not found:
        wanted = column or " or ".join(SPELLINGS[name][0] for name in known)
        near = nearest(wanted, there)
        hint = f"Did you mean {near[0]}?" if near else "Name the column of the score by --score."
        raise BadRow(f"there is no {wanted}; columns are {', '.join(there)}", hint)
    return found[0]


def _has(record: Record, column: str) -> bool:
    lower = {name.lower() for name in SPELLINGS.get(column, (column,))}
    return any(name.lower() in lower for name in record)
