"""Records of the files that `datasets` and WebDataset write: parquet and Arrow with a column of videos, tar shards.

A video that lies in such a file is named by a path through it, see `video.members`. Numbers of a `ClassLabel` become
its names. Of parquet, no bytes of videos are read but where only some rows have them; of tar, headers, texts and rows.
"""

import json
import posixpath
import tarfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from internvideo_hf.data.finding import VIDEO_SUFFIXES
from internvideo_hf.data.layouts import BadRow, DatasetRecord, Record
from internvideo_hf.utils.names import printable, reason_of, with_article
from internvideo_hf.utils.storage import AnyPath
from internvideo_hf.video.members import (
    MemberError,
    features_of,
    member_name,
    open_arrow,
    split_sample,
    tar_members,
    video_column,
)

Columns: TypeAlias = Callable[[Any], Sequence[str]]
"""Chooses columns of a `pyarrow.Schema`."""
_CHUNK = 20_000  # rows of a table that are Python objects at a time
_LONGEST_TEXT = 16 << 20  # bytes of a row in a tar file
_ABOUT = (".json", ".txt", ".cls")


def parquet_records(path: AnyPath, columns: Columns | None = None) -> Iterator[Record]:
    """Yield the rows of a parquet file; of one with a column of videos, `video` is text and rows are `DatasetRecord`.

    Args:
        path: the file.
        columns: returns those to read, of a schema in which `video` is text; the others are not fetched.

    Raises:
        BadRow: if several columns are videos.
        pyarrow.ArrowException, OSError: if the file cannot be read.
    """
    from pyarrow.parquet import ParquetFile

    # A row group at a time, and of an object in a store only the bytes of these columns.
    with path.open("rb") as file, ParquetFile(file) as parquet:
        schema = parquet.schema_arrow
        if (column := _video_column(schema)) is None:
            names, classes = None if columns is None else columns(schema), _class_labels(schema)
            for batch in parquet.iter_batches(_CHUNK, columns=names or None):
                yield from (_named_classes(record, classes) for record in batch.to_pylist())
            return
        plain = _plain_schema(schema, column)
        names = [name for name in (plain.names if columns is None else columns(plain)) if name != "video"]
        has_paths = _is_struct(schema, column)
        named, row = _namer(path, schema, column), 0
        for group in range(parquet.num_row_groups):
            there = _bytes_there(parquet, group, f"{column}.bytes" if has_paths else column)
            wanted = [*names, f"{column}.path"] if has_paths else names
            for batch in _batches(parquet, group, wanted):
                for record in batch:
                    video = record.get(column) or {}
                    others = {name: value for name, value in record.items() if name != column}
                    yield named(row, next(there), video.get("path"), others)
                    row += 1


def _batches(parquet: Any, group: int, names: Sequence[str]) -> Iterator[list[Record]]:
    """Yield the rows of a row group, a chunk at a time; rows of no columns are empty."""
    if names:
        for batch in parquet.iter_batches(_CHUNK, row_groups=[group], columns=names):
            yield batch.to_pylist()
    else:
        yield [{} for _ in range(parquet.metadata.row_group(group).num_rows)]


def _bytes_there(parquet: Any, group: int, leaf: str) -> Iterator[bool]:
    """Yield for each row of a row group whether it has bytes; they are read only if the statistics do not decide."""
    about = parquet.metadata.row_group(group)
    chunk = next(chunk for chunk in map(about.column, range(about.num_columns)) if chunk.path_in_schema == leaf)
    nulls = chunk.statistics.null_count if chunk.statistics is not None and chunk.statistics.has_null_count else None
    if nulls in (0, about.num_rows):
        yield from (nulls == 0 for _ in range(about.num_rows))
        return
    for batch in parquet.iter_batches(1, row_groups=[group], columns=[leaf]):
        value = batch.column(0)[0].as_py()
        yield (value.get("bytes") if isinstance(value, dict) else value) is not None


def arrow_records(path: AnyPath, columns: Columns | None = None) -> Iterator[Record]:
    """Yield the rows of an Arrow file, as `save_to_disk` writes it; see `parquet_records`.

    Args:
        path: the file, on a disk.
        columns: as of `parquet_records`.

    Raises:
        BadRow: if no column holds videos, or several do.
        pyarrow.ArrowException, OSError: if the file cannot be read.
    """
    try:
        table = open_arrow(str(path))
    except MemberError as error:
        raise BadRow(str(error), "Name another list.") from error
    schema = table.schema
    if (column := _video_column(schema)) is None:
        raise BadRow(f"no column holds videos; there are {', '.join(schema.names)}", "Name another list.")
    plain = _plain_schema(schema, column)
    names = [name for name in (plain.names if columns is None else columns(plain)) if name != "video"]
    videos, row = table.column(column), 0
    named, has_paths = _namer(path, schema, column), _is_struct(schema, column)
    batches = table.select(names).to_batches(_CHUNK) if names else []
    chunks = (batch.to_pylist() for batch in batches) if names else [[{} for _ in range(table.num_rows)]]
    for chunk in chunks:
        for record in chunk:
            video = videos[row]
            content, name = (video["bytes"], video["path"].as_py()) if has_paths and video.is_valid else (video, None)
            yield named(row, content.is_valid, name, record)
            row += 1


def _video_column(schema: Any) -> str | None:
    try:
        return video_column(schema)
    except MemberError as error:
        raise BadRow(str(error), "Rename the one that is meant to video.") from error


def _is_struct(schema: Any, column: str) -> bool:
    from pyarrow import types

    return bool(types.is_struct(schema.field(column).type))


def _plain_schema(schema: Any, column: str) -> Any:
    """Return a schema in which the column of videos is text, and called so; another of that name is left out."""
    import pyarrow

    kept = [field for field in schema if field.name not in (column, "video")]
    return pyarrow.schema([pyarrow.field("video", pyarrow.string()), *kept])


def _namer(path: AnyPath, schema: Any, column: str) -> Callable[[int, bool, str | None, Record], Record]:
    """Return what makes the record of a row: of its number, whether it has bytes, its path, its other columns."""
    file, classes = str(path.absolute()), _class_labels(schema)

    def named(row: int, has_bytes: bool, name: str | None, others: Record) -> Record:
        video = member_name(file, row, name) if has_bytes or not name else name
        return DatasetRecord({"video": video, **_named_classes(others, classes)})

    return named


def _named_classes(record: Record, classes: Mapping[str, list[str]]) -> Record:
    return {key: _with_names(value, classes[key]) if key in classes else value for key, value in record.items()}


def _class_labels(schema: Any) -> dict[str, list[str]]:
    """Return the names of classes of each column that is a `ClassLabel`, or a list of such."""
    return {name: names for name, about in features_of(schema).items() if (names := _names_in(about))}


def _names_in(feature: Any) -> list[str] | None:
    if isinstance(feature, list):  # as older versions of datasets write a list
        return _names_in(feature[0]) if len(feature) == 1 else None
    if not isinstance(feature, Mapping):
        return None
    if feature.get("_type") in ("List", "Sequence", "LargeList"):
        return _names_in(feature.get("feature"))
    names = feature.get("names") if feature.get("_type") == "ClassLabel" else None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _with_names(value: Any, names: Sequence[str]) -> Any:
    """Return names in place of class numbers; None for -1, which means unknown; other numbers as they are."""
    if isinstance(value, list):
        return [_with_names(entry, names) for entry in value]
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    return None if value == -1 else names[value] if 0 <= value < len(names) else value


def class_names(path: AnyPath) -> list[str] | None:
    """Return the names of the classes of a parquet or Arrow file, in the order of its `ClassLabel`; None without.

    Args:
        path: the file.

    Raises:
        pyarrow.ArrowException, OSError: if the file cannot be read.
    """
    from pyarrow.parquet import read_schema

    if path.suffix.lower() == ".arrow":
        schema = open_arrow(str(path)).schema
    else:
        with path.open("rb") as file:
            schema = read_schema(file)
    classes = _class_labels(schema)
    known, _ = DatasetRecord(classes).sorted_out()
    names: list[str] | None = known.get("label")
    return names


def tar_records(path: AnyPath, columns: Columns | None = None) -> Iterator[Record]:
    """Yield the samples of a tar file, which is not compressed, from its headers and rows; videos are not read.

    A sample whose row cannot be read comes under the name of the row's member, which is no video.

    Args:
        path: the file.
        columns: not asked: rows are read whole.

    Raises:
        BadRow: if the file is damaged, or holds no video, or a sample with several.
    """
    has_videos = False
    try:
        with path.open("rb") as file:
            for sample, members in _samples(file):
                try:
                    video = video_field(members)
                except ValueError as error:
                    raise BadRow(
                        f"the sample {printable(sample)}: {error}", "Rename the others, or unpack it."
                    ) from error
                has_videos |= video is not None
                texts = {field: content for field, content in members.items() if isinstance(content, bytes)}
                # A sample without a video is named without an ending: reading it says what is there.
                name = sample if video is None else str(members[video])
                try:
                    row = sample_row(texts, video)
                except (ValueError, RecursionError):
                    # A bad item, and no end of the list.
                    row, name = {}, f"{sample}{next(iter(_text_fields(texts, video).values()))}"
                yield DatasetRecord({**row, "video": posixpath.join(str(path.absolute()), name)})
    except (tarfile.TarError, OSError, EOFError) as error:
        raise BadRow(
            f"it is no whole tar file without compression ({reason_of(error)})", "Copy it again, or unpack it."
        ) from error
    if not has_videos:
        raise BadRow("it holds no videos", f"Videos in it end in {', '.join(VIDEO_SUFFIXES[:3])}, ..., .mp4, .webm.")


def _samples(file: Any) -> Iterator[tuple[str, dict[str, bytes | str]]]:
    """Yield the samples of a tar file: field -> content of what says something, name of the others."""
    last, members = "", dict[str, bytes | str]()
    for name, member in tar_members(file):
        if (split := split_sample(name)) is None:
            continue
        sample, field = split
        if sample != last and members:
            yield last, members
            members = {}
        last = sample
        if field.endswith(_ABOUT) and member.size <= _LONGEST_TEXT:
            place = file.tell()
            file.seek(member.offset_data)
            members[field] = file.read(member.size)
            file.seek(place)
        else:
            members[field] = name
    if members:
        yield last, members


def video_field(fields: Collection[str]) -> str | None:
    """Return the field of a sample of WebDataset that is its video, by its last suffix; None without one.

    Args:
        fields: of the sample, as `split_sample` returns them.

    Raises:
        ValueError: if there are several, and not just one of them is a suffix alone.
    """
    found = [field for field in fields if field[field.rindex(".") :] in VIDEO_SUFFIXES]
    # An animated preview is not taken for its video.
    found = [field for field in found if not field.endswith(".gif")] or found
    if len(found) > 1:
        plain = [field for field in found if field.count(".") == 1]
        if len(plain) != 1:
            shown = ", ".join(map(printable, found[:3])) + (", ..." if len(found) > 3 else "")
            raise ValueError(
                f"{shown} are several videos of one sample, which is named up to the first dot; expected "
                "one, or one without a second dot in its name"
            )
        found = plain
    return found[0] if found else None


def _text_fields(fields: Collection[str], video: str | None) -> dict[str, str]:
    """Return the field of each kind of `_ABOUT` that a sample has: that of its video's own name, or the plain one."""
    own = "" if video is None else video[: video.rindex(".")]
    chosen = {kind: next((field for field in (own + kind, kind) if field in fields), "") for kind in _ABOUT}
    return {kind: field for kind, field in chosen.items() if field}


def sample_row(members: Mapping[str, bytes], video: str | None) -> Record:
    """Return what a sample of WebDataset says of its video: its JSON, its text as the caption, its class as the label.

    Args:
        members: field -> its content.
        video: the field that is the video. Beside `.front.mp4`, a field such as `.front.json` counts before `.json`.

    Raises:
        ValueError, RecursionError: if the JSON is none, or no object.
    """
    texts = {kind: members[field] for kind, field in _text_fields(members, video).items()}
    row = json.loads(texts[".json"]) if ".json" in texts else {}
    if not isinstance(row, dict):
        raise ValueError(f"its JSON is {with_article(type(row).__name__)}, expected an object")
    if ".txt" in texts:
        row["caption"] = texts[".txt"].decode().strip()
    if ".cls" in texts:
        text = texts[".cls"].decode().strip()
        row["label"] = int(text) if text.isascii() and text.removeprefix("-").isdecimal() else text
    return row
