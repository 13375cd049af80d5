"""Records of lists of videos, from files of any format and from folders of clips by class."""

import contextlib
import csv
import json
import os
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from internvideo_hf.data import dataset_files
from internvideo_hf.data.class_folders import METADATA, describe_folder, find_list, read_class_folders
from internvideo_hf.data.dataset_files import Columns
from internvideo_hf.data.layouts import (
    FILE_NAMES,
    READ_LISTS,
    BadRow,
    DatasetRecord,
    Record,
    delimiter_of,
    named_layout,
)
from internvideo_hf.data.shard_files import is_pattern, shards_of, split_of
from internvideo_hf.utils.names import reason_of, with_article
from internvideo_hf.utils.storage import AnyPath, StoragePath, as_path
from internvideo_hf.video.members import MemberError


class ManifestError(ValueError):
    """A list of videos is not as it should be.

    Args:
        file: the list.
        place: such as "line 3"; None for the whole file.
        cause: what is wrong, as a clause without a full stop.
        advice: what to do about it, as a full sentence.
    """

    def __init__(self, file: str, place: str | None = None, cause: str | None = None, advice: str | None = None):
        self.file, self.place, self.cause, self.advice = file, place, cause, advice
        # A DataLoader raises a worker's error again from its message alone, so that must do, too.
        where = file if place is None else f"{file}, {place}"
        super().__init__(file if cause is None else f"{where}: {cause}. {advice}")

    def __reduce__(self) -> tuple[type, tuple[str | None, ...]]:
        return type(self), (self.file, self.place, self.cause, self.advice)


def read_text(path: AnyPath) -> str:
    """Return a file of text in UTF-8, with or without a byte-order mark.

    Args:
        path: the file.

    Raises:
        ManifestError: if it cannot be read, or holds something else.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ManifestError(str(path), None, f"it cannot be opened ({reason_of(error)})", "Check the path.") from error
    except UnicodeDecodeError as error:
        raise ManifestError(str(path), None, f"it is not text in UTF-8 ({error.reason})", "Convert it.") from error


def read_json(path: AnyPath) -> Any:
    """Return what a JSON file holds.

    Args:
        path: the file.

    Raises:
        ManifestError: if it cannot be read, or is not valid JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # also of a number of more than 4,300 digits
        raise ManifestError(
            str(path), None, f"it is not valid JSON ({error})", "Correct it, or download it again."
        ) from error


def is_finite(number: float) -> bool:
    """Return whether a number of JSON is a finite float; whole ones there may be larger than any.

    Args:
        number: int or float.
    """
    return -sys.float_info.max <= number <= sys.float_info.max


def are_numbers(value: Any, count: int | None = None) -> bool:
    """Return whether a value is a list or tuple of finite numbers; True and False are none.

    Args:
        value: from JSON.
        count: how many there must be; None for any number, also none.
    """
    return (
        isinstance(value, list | tuple)
        and (count is None or len(value) == count)
        and all(type(number) in (int, float) and is_finite(number) for number in value)
    )


_NAMES_OF_FORMATS = {
    ".csv": ("text",),
    ".tsv": ("text",),
    ".txt": ("text",),
    ".list": ("text",),
    ".json": ("json", "jsonl"),
    ".jsonl": ("jsonl",),
    ".parquet": ("parquet",),
    ".arrow": ("arrow",),
    ".tar": ("tar",),
    ".pkl": ("pickle",),
    ".pickle": ("pickle",),
}
MANIFEST_SUFFIXES = tuple(_NAMES_OF_FORMATS)
"""What the name of a list of videos ends in."""


def _format_of(path: AnyPath) -> str:
    suffix = path.suffix.lower()
    if suffix not in _NAMES_OF_FORMATS and (isinstance(path, StoragePath) or path.exists()):
        raise ManifestError(
            str(path),
            None,
            f"the name ends in {suffix!r}" if suffix else "the name has no ending",
            f"Give a folder of clips by class, or a list whose name says its format: {', '.join(_NAMES_OF_FORMATS)}.",
        )
    try:
        with path.open("rb") as file:
            start = file.read(1 << 16)
    except OSError as error:
        cause, advice = f"it cannot be opened ({reason_of(error)})", "Check the path and its rights."
        if isinstance(error, FileNotFoundError) and isinstance(path, Path):
            cause, advice = f"{cause}; {describe_folder(path.parent)}", "Check the path."
        raise ManifestError(str(path), None, cause, advice) from error
    if not start.removeprefix(b"\xef\xbb\xbf").strip():
        raise ManifestError(str(path), None, "it is empty", "Write it again, a row for each video.")
    found = _format_of_content(start)
    if found not in _NAMES_OF_FORMATS[suffix]:
        raise ManifestError(
            str(path), None, f"the name says {suffix}, the content is {found}", "Give the file its true ending."
        )
    return found


def _format_of_content(start: bytes) -> str:
    if start[:4] == b"PAR1":
        return "parquet"
    if start[:1] == pickle.PROTO:
        return "pickle"
    if start[:6] == b"ARROW1" or start[:4] == b"\xff\xff\xff\xff":
        return "arrow"
    if start[257:262] == b"ustar":
        return "tar"
    text = start.decode("utf-8", errors="replace").lstrip("\ufeff").lstrip()
    if text[:1] == "[":
        return "json"
    if text[:1] != "{":
        return "text"
    # A line that is an object by itself is JSON lines, but for a whole document without line breaks.
    first, _, rest = text.partition("\n")
    try:
        content = json.loads(first)
    except json.JSONDecodeError:
        return "json"
    is_document = "sentences" in content or all(isinstance(value, dict | list) for value in content.values())
    return "json" if is_document and not rest.strip() else "jsonl"


def _text_lines(path: AnyPath) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, line in enumerate(file, 1):
                line = line.rstrip("\r\n")
                if not line.strip():
                    raise ManifestError(str(path), f"line {number}", "it is empty", "Delete the line.")
                yield number, line
    except UnicodeDecodeError as error:
        raise ManifestError(str(path), None, f"it is not text in UTF-8 ({error.reason})", "Convert it.") from error


def _text_records(path: AnyPath) -> Iterator[tuple[str, Record]]:
    _, first = next(_text_lines(path))
    delimiter = delimiter_of(first)
    header = [name.strip() for name in next(csv.reader([first], delimiter=delimiter))]
    if not named_layout(header):
        for number, line in _text_lines(path):
            yield f"line {number}", {"line": line, "delimiter": delimiter}
        return
    # By the reader of whole files: a quoted caption may go on in the next line.
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        next(reader)
        try:
            for fields in reader:
                place = f"line {reader.line_num}"
                if len(fields) != len(header):
                    cause = "it is empty" if not fields else f"it has {len(fields)} fields, the header {len(header)}"
                    raise ManifestError(str(path), place, cause, "Quote fields that hold the separator.")
                yield place, dict(zip(header, fields, strict=True))
        except csv.Error as error:
            raise ManifestError(
                str(path), f"line {reader.line_num}", f"it is not valid csv ({error})", "Correct the quotes."
            ) from error


def _json_records(path: AnyPath) -> Iterator[tuple[str, Record]]:
    content = read_json(path)
    if isinstance(content, dict):
        content = _document(path, content)
    for number, record in enumerate(content, 1):
        yield (place := f"record {number}"), _object(record, path, place, "Correct it.")


def _object(record: Any, path: AnyPath, place: str, advice: str) -> Record:
    if not isinstance(record, dict):
        cause = f"it is {with_article(type(record).__name__)}, expected an object"
        raise ManifestError(str(path), place, cause, advice)
    return record


def _document(path: AnyPath, document: Mapping[str, Any]) -> list[Record]:
    """Read MSR-VTT's sentences, which name their video, and videos, which name their split; or something by id."""
    if isinstance(document.get("sentences"), list):
        splits = {video.get("video_id"): video.get("split") for video in document.get("videos", [])}
        # Not "start time" and "end time" of its videos: those are places in the source that the files were cut from.
        return [{**sentence, "split": splits.get(sentence.get("video_id"))} for sentence in document["sentences"]]
    if document and all(isinstance(value, dict) and "sentences" in value for value in document.values()):
        return [{**value, "video_id": name} for name, value in document.items()]
    if document and all(isinstance(value, list) for value in document.values()):
        return [{"video_id": name, "captions": value} for name, value in document.items()]
    raise ManifestError(
        str(path),
        None,
        f"it is one object with {', '.join(map(str, list(document)[:5])) or 'nothing'}",
        "Expected a list of objects, MSR-VTT's document with 'videos' and 'sentences', or captions by video id.",
    )


def _jsonl_records(path: AnyPath) -> Iterator[tuple[str, Record]]:
    for number, line in _text_lines(path):
        place, advice = f"line {number}", "Write an object a line."
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ManifestError(str(path), place, f"it is not valid JSON ({error})", advice) from error
        yield place, _object(record, path, place, advice)


def _table_records(path: AnyPath, kind: str, columns: Columns | None = None) -> Iterator[tuple[str, Record]]:
    pyarrow = None if kind == "tar" else require_pyarrow()
    damaged = () if pyarrow is None else pyarrow.ArrowException
    try:
        for number, record in enumerate(_TABLES[kind](path, columns), 1):
            yield f"row {number}", record
    except BadRow as bad:
        raise ManifestError(str(path), None, *bad.args) from bad
    except damaged as error:
        raise ManifestError(
            str(path), None, f"it is not valid {kind} ({error})"[:300], "Download it again."
        ) from error


class _PlainUnpickler(pickle.Unpickler):
    """Unpickles what needs no code: dicts, lists, tuples, texts, numbers."""

    def find_class(self, module: str, name: str) -> Any:
        # All that could run code, or make an object of a class, comes by here.
        raise pickle.UnpicklingError(f"it wants {module}.{name}, and nothing but lists, dicts and texts is let in")


def _pickle_records(path: AnyPath) -> Iterator[tuple[str, Record]]:
    # MSVD's captions are published as a pickle, and who had to make a JSON of it first would unpickle it unguarded.
    try:
        with path.open("rb") as file:
            content = _PlainUnpickler(file, encoding="utf-8").load()
    except Exception as error:  # a damaged pickle raises all kinds
        raise ManifestError(
            str(path), None, f"it cannot be unpickled safely ({error})", "Write its captions as JSON: {id: [caption]}."
        ) from error
    if not isinstance(content, dict):
        raise ManifestError(
            str(path), None, f"it holds {with_article(type(content).__name__)}", "Expected captions by video id."
        )
    for number, record in enumerate(_document(path, content), 1):
        yield f"record {number}", record


_TABLES: dict[str, Callable[[AnyPath, Columns | None], Iterator[Record]]] = {
    "parquet": dataset_files.parquet_records,
    "arrow": dataset_files.arrow_records,
    "tar": dataset_files.tar_records,
}
_FORMATS: dict[str, Callable[[AnyPath], Iterator[tuple[str, Record]]]] = {
    "text": _text_records,
    "json": _json_records,
    "jsonl": _jsonl_records,
    "pickle": _pickle_records,
}


def _folder_records(path: AnyPath, columns: Columns | None) -> Iterator[tuple[str, Record]]:
    for name in METADATA:
        if (path / name).is_file():
            yield from _metadata_records(path / name, columns)
            return
    if shards := shards_of(path):
        if len(splits := {split: file for file in reversed(shards) if (split := split_of(file))}) > 1:
            raise ManifestError(
                str(path),
                None,
                f"it holds the splits {', '.join(sorted(splits))}",
                f"Name the shards of one, such as {_pattern_of(*next(iter(splits.items())))}.",
            )
        yield from _shard_records(shards, columns)
        return
    try:
        for record in read_class_folders(path):
            yield str(record["file"]), record
    except LookupError as error:
        raise ManifestError(str(path), None, str(error), READ_LISTS) from None


def _metadata_records(file: AnyPath, columns: Columns | None) -> Iterator[tuple[str, Record]]:
    """Yield the rows of the list in a folder of "videofolder"."""
    for place, row in read_records(file, columns):
        if not any(name.strip().lower() in FILE_NAMES for name in row):
            raise ManifestError(
                str(file), place, f"there is no file_name, but {', '.join(map(str, row))}", "Add it to each row."
            )
        yield place, DatasetRecord(row)


def _pattern_of(split: str, shard: AnyPath) -> AnyPath:
    return shard.parent if shard.parent.name == split else shard.with_name(f"{split}-*{shard.suffix}")


def _shard_records(shards: list[AnyPath], columns: Columns | None) -> Iterator[tuple[str, Record]]:
    for shard in shards:
        for place, record in read_records(shard, columns):
            yield f"{place} of {shard.name}", record


def read_records(path: str | AnyPath, columns: Columns | None = None) -> Iterator[tuple[str, Record]]:
    """Read a list of any format record by record, unchanged; a line of text has "line" and "delimiter".

    Lists in object stores are read as those of the disk. A list may be a folder of shards or a pattern, see
    `shard_files`; parquet is read a row group at a time.

    Args:
        path: the list, or a folder.
        columns: returns those to read of the schema of a parquet file; the others are not fetched. All where None.

    Yields:
        The place of a record, such as "line 3", for messages; and the record.

    Raises:
        ManifestError: if the list cannot be read.
    """
    path = as_path(path)
    if shards := shards_of(path) if path.suffix.lower() in MANIFEST_SUFFIXES and is_pattern(path) else []:
        return _shard_records(shards, columns)
    # A store is not asked whether an object with the name of a list is a folder.
    if (isinstance(path, Path) or path.suffix.lower() not in MANIFEST_SUFFIXES) and path.is_dir():
        return _folder_records(path, columns)
    kind = _format_of(path)
    return _table_records(path, kind, columns) if kind in _TABLES else _FORMATS[kind](path)


def class_names(path: str | AnyPath) -> list[str] | None:
    """Return the names of the classes that `datasets` has left in a list of parquet or Arrow; None without.

    Args:
        path: as of `read_records`; of several shards, the first counts.
    """
    file = as_path(path)
    if file.suffix.lower() not in MANIFEST_SUFFIXES or is_pattern(file):
        file = next(iter(shards_of(file)), file)
    if file.suffix.lower() not in (".parquet", ".arrow") or not file.exists():
        return None
    # What is damaged or none of these is refused by its reader.
    with contextlib.suppress(ManifestError, BadRow, MemberError, require_pyarrow().ArrowException):
        return dataset_files.class_names(file) if _format_of(file) == file.suffix.lower()[1:] else None
    return None


def list_path(data_root: str | AnyPath, name: str) -> Path:
    """Return the path of a list that a recipe or a protocol names; see `class_folders.find_list`.

    Args:
        data_root: folder that the name is relative to.
        name: of a list, or of a folder of clips by class.

    Raises:
        ManifestError: if there is none of this name, and several that could be meant.
    """
    try:
        # Readers of lists need what both kinds of paths have.
        return cast(Path, find_list(data_root, name, MANIFEST_SUFFIXES))
    except LookupError as error:
        raise ManifestError(os.path.join(data_root, name), None, str(error), READ_LISTS) from None


def require_pyarrow() -> Any:
    """Return the library `pyarrow`, and say how to install it if it is missing."""
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError("Lists in parquet need the library pyarrow: pip install pyarrow") from error
    return pyarrow


def require_datasets() -> Any:
    """Return the library `datasets`, and say how to install it if it is missing."""
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            "This needs the library datasets, which comes with the extra [train]: pip install 'internvideo-hf[train]'"
        ) from error
    return datasets
