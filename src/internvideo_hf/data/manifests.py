"""Lists of videos, in every layout that the released recipes use, as rows with the same columns.

A row is a dict of `COLUMNS`; unknown values are None. `read_manifest` yields rows with the standard library only
(parquet apart); `load_manifest` makes a `datasets.Dataset` of them. Reading is strict: the first invalid row stops it,
with the file and the line.

The FORMAT of a file is detected from its content, and its name must agree: text (a row a line), json (a list of
objects, or a published document: MSR-VTT's, or one that has something for each id), jsonl, parquet (a file, a folder
of shards, or a pattern such as `train-*.parquet`), pickle (MSVD's captions; only lists, dicts and texts are
unpickled). The LAYOUT says what its rows mean; `LAYOUTS` lists them. A folder of clips in folders by class is a list,
too; so is a folder with the metadata.csv of `datasets`' "videofolder". Parquet and Arrow with a column of videos, as
`datasets` writes them, and tar shards of WebDataset are lists of the videos in them, see `dataset_files`. Lists and
videos may be in object stores, see `utils.storage`.
"""

import math
import os
import posixpath
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers.utils import logging

from internvideo_hf.data.contents import exists
from internvideo_hf.data.finding import VideoTree, read_ids
from internvideo_hf.data.layouts import (
    LAYOUTS,
    BadRow,
    DatasetRecord,
    Layout,
    Record,
    is_missing,
    layout_of,
    missing_columns,
    seconds_of,
    split_extra,
    whole_number,
)
from internvideo_hf.data.records import MANIFEST_SUFFIXES, ManifestError, class_names, read_records, require_datasets
from internvideo_hf.data.shard_files import shards_of
from internvideo_hf.utils.names import lookup, nearest
from internvideo_hf.utils.storage import AnyPath, StoragePath, as_path
from internvideo_hf.video.sources import is_url

if TYPE_CHECKING:
    import datasets

logger = logging.get_logger(__name__)
COLUMNS = {
    "video": "string",
    "label": "int64",
    "caption": "string",
    "start": "float64",
    "end": "float64",
    "num_frames": "int64",
}
"""Column -> its type. video: path or address of a video file, or path of a folder of frame files. label: class, from
0. start, end: segment of the video in seconds; both or none. num_frames: of a folder, by the list."""

_UNKNOWN = -100  # label of a head, or number, that a row does not have; losses leave it out
_CHUNK = 20_000  # rows that are Python objects at a time, on their way into Arrow's memory


class TextLabelError(ManifestError):
    """A list has names for labels, and nobody said which numbers they have."""


class _TextLabel(BadRow):
    """What becomes a `TextLabelError`."""


class _NoFile(BadRow):
    """A row whose video is missing."""


@dataclass(frozen=True)
class _Labels:
    """Reads labels as numbers from 0.

    Args:
        names: of the classes, in order; None for labels that are numbers.
        has_names: labels are names, even where they look like numbers.
    """

    names: Sequence[str] | None
    has_names: bool

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Name -> number."""
        return {name: number for number, name in enumerate(self.names or ())}

    @cached_property
    def are_numbered(self) -> bool:
        """Whether a class is called by a number, so that a label that is one must be a name."""
        return any(whole_number(name, "class") is not None for name in self.numbers)

    def number(self, value: Any) -> int | None:
        if is_missing(value):
            return None
        if isinstance(value, list | dict):
            raise BadRow(
                f"the label is {value!r}, expected one name or number",
                "Several labels of a video are for the task multi_label (in Python, several=True), and numbers for "
                "regression (numbers=True).",
            )
        if self.are_numbered or isinstance(value, str):
            value = _text_of(value)
        number = None if value in self.numbers or self.are_numbered else whole_number(value, "label")
        if self.names is None and (number is None or self.has_names):
            raise _TextLabel(
                f"the label is the text {value!r}",
                'Give the class names in order, such as data.labels=k400 (in Python, labels=load_labels("k400")); '
                "`load_manifest` and training find them by themselves.",
            )
        if number is None:
            return self._named(value)
        if number < 0 or (self.names is not None and number >= len(self.names)):
            expected = "at least 0" if self.names is None else f"0 to {len(self.names) - 1}"
            raise BadRow(f"the label is {number}, expected {expected}", "Check that list and classes belong together.")
        return number

    def _named(self, value: str) -> int:
        if value not in self.numbers:
            near = nearest(value, list(self.numbers), n=3)
            hint = f"the nearest are {', '.join(map(repr, near))}" if near else "nothing is near it"
            raise BadRow(
                f"the label {value!r} is none of the {len(self.numbers)} class names; {hint}", "Correct the name."
            )
        return self.numbers[value]


@dataclass(frozen=True)
class _LabelLists:
    """Reads several labels of a row, from a list or from text with "|" between them, as numbers from 0.

    Args:
        labels: of one of several classes, which come sorted and each once.
        heads: name of a head -> its classes; a row then has one label of each, in their order. None for no heads.
    """

    labels: _Labels
    heads: Mapping[str, _Labels] | None

    def number(self, value: Any) -> tuple[int, ...] | None:
        entries = _entries(value)
        if entries is None:
            return None
        if self.heads is None:
            return tuple(sorted({known for entry in entries if (known := self.labels.number(entry)) is not None}))
        if len(entries) != len(self.heads):
            raise BadRow(
                f"it has {len(entries)} labels, expected {len(self.heads)}: {', '.join(self.heads)}",
                'Write a list of one of each, in text with "|" between them.',
            )
        numbers = [head.number(entry) for head, entry in zip(self.heads.values(), entries, strict=True)]
        return tuple(_UNKNOWN if number is None else number for number in numbers)


class _Numbers:
    """Reads the numbers of a row that a model is to estimate: one, a list, or text with "|" between them."""

    def number(self, value: Any) -> tuple[float, ...] | None:
        entries = _entries(value)
        return None if entries is None else tuple(map(self._float, entries))

    def _float(self, value: Any) -> float:
        if is_missing(value):
            return float(_UNKNOWN)
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise BadRow(f"the label is {value!r}, expected a finite number", "Correct it.")
        if number == _UNKNOWN:
            raise BadRow(
                f"the label is {value!r}, which stands for an unknown number",
                "Leave an unknown one empty, or write the numbers of the list in another unit.",
            )
        return number


def _entries(value: Any) -> list[Any] | None:
    """Return the labels of a row with several, None for a row without; an empty list is one of no class."""
    if isinstance(value, list | tuple):
        return list(value)
    if is_missing(value):
        return None
    return [part.strip() for part in value.split("|")] if isinstance(value, str) else [value]


def _text_of(label: Any) -> str:
    return (label if isinstance(label, str) else str(whole_number(label, "label"))).strip()


def _file_named(record: Record, file_name: str) -> str:
    try:
        return file_name.format_map(record)
    except (KeyError, IndexError, ValueError) as error:
        raise BadRow(f"no file name can be made by {file_name!r} ({error!r})", "Correct file_name.") from error


def _address(video: Any, data_root: AnyPath, check_files: bool) -> str:
    if not isinstance(video, str) or not video.strip():
        raise BadRow(f"the video is {video!r}, expected a path or an address", "Correct it.")
    video = video.strip()
    if is_url(video):
        return video
    path = os.path.join(data_root, os.path.expanduser(video))
    if is_url(path):  # below a data root in a store, whose keys know no `..`
        scheme, _, rest = path.partition("://")
        bucket, _, key = rest.partition("/")
        return f"{scheme}://{bucket}{posixpath.normpath(f'/{key}')}"
    if check_files and not exists(path):
        raise _NoFile(
            f"there is no {path}",
            "Give the folder that paths begin in by --data-root (in Python, data_root). `internvideo scan LIST` lists "
            "all that is missing, and data.missing=skip (in Python, skip_missing) trains without.",
        )
    return path


@dataclass(frozen=True)
class ManifestOptions:
    """What a list of videos means and which of its rows are kept.

    Args:
        layout: a name in `LAYOUTS`; detected from the first row where None.
        labels: class names in label order, which turn text into labels and bound numbers; if one is called by a
            number, all labels are names. None: numbers from 0.
        several: whether a row has a list of labels, or text with "|" between them, such as "run|jump".
        heads: of several labels, name of a head -> its class names in label order; each row then has one label of
            each, in this order or in columns by their names, and an empty one is unknown. None: any number of the same
            classes.
        numbers: whether a row has numbers in place of classes: one, a list, or text with "|" between them.
        file_name: how a video's file is called, where the list has ids: names of its columns in braces, such as
            "{YoutubeID}_{Start_timestamp}.mp4". A name with the start in it means a clip that is cut already, so that
            `start` and `end` are left empty.
        split: rows to keep, where the list names a split (MSR-VTT: "train", "validate", "test").
        keep: predicate on the record as the list has it, e.g. on a score of InternVid; records it refuses are dropped.
        only: a list of the ids of the videos to keep, such as MSRVTT_train.9k.csv or test_list.txt, for layouts whose
            videos have ids (`read_ids` says what it may look like). Every id must have a row.
        ignore: columns to leave out.
        check_files: whether a path where nothing is, is an error. Addresses and stores are not asked.
        skip_missing: whether such rows are left out, with a warning that counts them, instead.
        check_labels: whether labels are read. False leaves them empty, where only the files matter.
        allow_duplicates: whether a row may come twice. The published lists of captions have such rows anyway.
        keep_extra: whether a named list may have columns without a meaning for videos; a row then has `extra`, these
            columns, and label, caption and split as the list has them.
        drop_extra: whether such columns are left out; those of parquet are not read.
    """

    layout: str | None = None
    labels: Sequence[str] | None = None
    several: bool = False
    heads: Mapping[str, Sequence[str]] | None = None
    numbers: bool = False
    file_name: str | None = None
    split: str | None = None
    keep: Callable[[Record], bool] | None = None
    only: str | AnyPath | None = None
    ignore: Sequence[str] = ()
    check_files: bool = True
    skip_missing: bool = False
    check_labels: bool = True
    allow_duplicates: bool = False
    keep_extra: bool = False
    drop_extra: bool = False

    def columns(self, schema: Any) -> list[str]:
        """Choose the columns of a parquet file that are read.

        Args:
            schema: its `pyarrow.Schema`.
        """
        from pyarrow import types

        names = [name for name in schema.names if name not in self.ignore]
        if not (self.keep_extra or self.drop_extra) or self.keep is not None:
            return names
        known, extra = split_extra(dict.fromkeys(names))
        if self.drop_extra:
            return [name for name in names if name in known]
        # Only numbers and text say something of a video that is kept.
        plain = {f.name for f in schema if not (types.is_nested(f.type) or types.is_binary(f.type))}
        return [name for name in names if name in known or name in plain]


class _Checks:
    """Turns what a layout gives into a row with `COLUMNS`."""

    def __init__(self, layout: Layout, data_root: AnyPath, options: ManifestOptions):
        self.layout, self.data_root, self.options = layout, data_root, options
        self.labels: _Labels | _LabelLists | _Numbers = _Labels(options.labels, layout.has_names)
        if options.numbers:
            self.labels = _Numbers()
        elif options.several:
            of_head = {name: _Labels(names, False) for name, names in (options.heads or {}).items()}
            self.labels = _LabelLists(_Labels(options.labels, layout.has_names), of_head or None)
        self.file_name = options.file_name or layout.file_name or ""
        # Whoever says how files are called has said where they are.
        searches = layout.id is not None and options.file_name is None
        self.tree = VideoTree(data_root) if searches else None
        self.missing: list[str] = []  # causes

    def row(self, given: Record) -> dict[str, Any] | None:
        """Return the row, or None if its video is missing and is to be left out."""
        try:
            return self._row(given)
        except _NoFile as missing:
            if not self.options.skip_missing:
                raise
            self.missing.append(missing.args[0])
            return None

    def _row(self, given: Record) -> dict[str, Any]:
        video, start, end = given["video"], given.get("start"), given.get("end")
        if isinstance(video, Mapping):
            record, video = video, _file_named(video, self.file_name)
            if self.tree is not None and not (isinstance(self.data_root, Path) and (self.data_root / video).exists()):
                video = self._find(self.tree, record, video)
            if "{Start_timestamp" in self.file_name and "Start_timestamp" in record:
                start = end = None  # such a file is the clip itself
        start, end = seconds_of(start, "start"), seconds_of(end, "end")
        if (start is None) != (end is None) or (start is not None and end is not None and end <= start):
            raise BadRow(f"the clip goes from {start} to {end} seconds", "Give a start and a later end, or neither.")
        caption, num_frames = given.get("caption"), given.get("num_frames")
        if not is_missing(caption) and not isinstance(caption, str):
            raise BadRow(f"the caption is {caption!r}, expected text", "Correct it.")
        count = None if is_missing(num_frames) else whole_number(num_frames, "num_frames")
        if not is_missing(num_frames) and (count is None or count < 1):
            raise BadRow(f"num_frames is {num_frames!r}, expected at least 1", "Correct it.")
        return {
            "video": _address(video, self.data_root, self.options.check_files),
            "label": self.labels.number(given.get("label")) if self.options.check_labels else None,
            "caption": None if is_missing(caption) else caption,
            "start": start,
            "end": end,
            "num_frames": count,
            **({"extra": given["extra"]} if self.options.keep_extra else {}),
        }

    def _find(self, tree: VideoTree, record: Record, name: str) -> str:
        """Find the file of a video below the data root; its plain name where there is none."""
        other = self.layout.other_name
        names = [name] if other is None else [name, _file_named(record, other)]
        try:
            return tree.find(names) or name
        except LookupError as error:
            raise BadRow(str(error), "Give a data_root (--data-root) that holds one of them.") from None


# ---- whole lists ----------------------------------------------------------------------------------------------------


def read_manifest(
    path: str | AnyPath, data_root: str | AnyPath | None = None, **options: Any
) -> Iterator[dict[str, Any]]:
    """Read a list of videos row by row.

    Args:
        path: the list, or a folder of clips by class; see the module for what it may be.
        data_root: folder that its relative paths begin in; the list's own folder where None.
        **options: fields of `ManifestOptions`.

    Yields:
        Dicts of `COLUMNS`.

    Raises:
        TextLabelError: if labels are names, and `labels` is None.
        ManifestError: if the list cannot be read, holds an empty line, an unknown or missing column, a label, time or
            path that is none, a row twice, or no row at all; if a video of `only` has no row.
        ValueError: if the layout is unknown.
    """
    settings = ManifestOptions(**options)
    path = as_path(path).expanduser()
    return _read(path, data_root, replace(settings, labels=_known_classes(path, settings) or settings.labels))


def _read(path: AnyPath, data_root: str | AnyPath | None, options: ManifestOptions) -> Iterator[dict[str, Any]]:
    root = path.parent if data_root is None else as_path(data_root).expanduser()
    if data_root is not None and isinstance(root, Path) and not root.is_dir():
        raise ManifestError(str(path), None, f"the data root {data_root} is not a folder", "Check the path.")
    is_list = isinstance(path, StoragePath) and path.suffix.lower() in MANIFEST_SUFFIXES
    if not is_list and path.is_dir() and not (data_root is not None and shards_of(path)):
        root = path  # of clips, which are named from there
    checks, count = None, 0
    selection = _Selection(path, options)
    seen: dict[int, str] = {}
    joined: dict[str, tuple[str, dict[str, Any]]] = {}
    for place, layout, given in _given_rows(path, options, selection):
        try:
            checks = checks or _Checks(layout, root, options)
            if layout.joined:
                _join(given, place, joined, layout)
                continue
            row = checks.row(given)
            if row is None:
                continue
            if not (options.allow_duplicates or layout.may_repeat):
                _check_new(row, place, seen)
        except BadRow as bad:
            raise _error(path, place, bad) from None
        count += 1
        yield row
    for place, given in joined.values():
        assert checks is not None  # made with the first record
        try:
            row = checks.row(given)
        except BadRow as bad:
            raise _error(path, place, bad) from None
        if row is not None:
            count += 1
            yield row
    if checks is not None and checks.missing:
        first = checks.missing[0].removeprefix("there is no ")
        logger.warning(
            f"{path}: {len(checks.missing)} of its videos have no file and are left out, the first {first}."
        )
    selection.check_complete(count)


def _error(path: AnyPath, place: str, bad: BadRow) -> ManifestError:
    kind = TextLabelError if isinstance(bad, _TextLabel) else ManifestError
    return kind(str(path), place, *bad.args)


def _given_rows(
    path: AnyPath, options: ManifestOptions, selection: "_Selection"
) -> Iterator[tuple[str, Layout, Record]]:
    """Yield the place, the layout and what the list says of each video that is kept; nothing is checked yet."""
    layout = None if options.layout is None else lookup(LAYOUTS, options.layout, "layout")
    for place, record in read_records(path, options.columns):
        is_loose = options.keep_extra or options.drop_extra or isinstance(record, DatasetRecord)
        record = _like(record, {name: value for name, value in record.items() if name not in options.ignore})
        extra: Record = {}
        try:
            whole = record = _with_labels_of(record, options.heads or ())
            if is_loose:
                record, extra = split_extra(record)
            layout = layout or layout_of(record)
            for given in selection.rows(record, layout, whole):
                yield place, layout, {**given, "extra": extra} if options.keep_extra else given
        except BadRow as bad:
            raise _error(path, place, bad) from None


def _with_labels_of(record: Record, heads: Collection[str]) -> Record:
    """Return a record whose columns by the names of heads, if it has such, are the list of its labels."""
    names = {name.strip().lower(): name for name in record}
    columns = [names.get(head.strip().lower()) for head in heads]
    if not any(columns):
        return record
    if None in columns:
        raise BadRow(
            f"it has columns for some of {', '.join(heads)}, and not for all",
            'Add the others, or write one column "labels" with all of them, such as `cut|onion`.',
        )
    others = {name: value for name, value in record.items() if name not in columns}
    return _like(record, {**others, "labels": [record[str(name)] for name in columns]})


def _like(record: Record, content: Record) -> Record:
    return DatasetRecord(content) if isinstance(record, DatasetRecord) else content


def find_classes(path: str | AnyPath, **options: Any) -> list[str]:
    """Return the names that the labels of a list are, each once: in the order of its `ClassLabel`, or sorted.

    Args:
        path: as of `read_manifest`.
        **options: fields of `ManifestOptions`.

    Raises:
        ManifestError: if the list cannot be read.
    """
    path, settings = as_path(path).expanduser(), ManifestOptions(**options)
    if (known := class_names(path)) is not None:
        return known
    rows = _given_rows(path, settings, _Selection(path, settings))
    labels = (_entries(row.get("label")) if settings.several else [row.get("label")] for _, _, row in rows)
    return sorted({_text_of(label) for entries in labels for label in entries or () if not is_missing(label)})


class _Selection:
    """Which rows of a list are kept, and what of the choice was met."""

    def __init__(self, path: AnyPath, options: ManifestOptions):
        self.path, self.options = path, options
        self.wanted = None if options.only is None else _ids(options.only)
        self.found: set[str] = set()
        self.splits: set[str] = set()

    def rows(self, record: Record, layout: Layout, whole: Record) -> Iterator[Record]:
        """Yield what a record says of the videos that are kept; the predicate sees the whole record."""
        if missing := missing_columns(layout, record):
            raise BadRow(f"there is no {', '.join(sorted(missing))}", "Every row needs it.")
        split, keep = self.options.split, self.options.keep
        if split is not None:
            if "split" not in record:
                raise BadRow("no split is named", "Leave out split, or use keep.")
            self.splits.add(str(record["split"]))
        if (split is not None and record["split"] != split) or (keep is not None and not keep(whole)):
            return
        for given in layout.rows(record):
            if self.wanted is not None:
                if (name := _id_of(given, layout)) not in self.wanted:
                    continue
                self.found.add(name)
            yield given

    def check_complete(self, count: int) -> None:
        """Refuse a list that lacks a video of the choice, or all."""
        if self.wanted is not None and (lost := [name for name in self.wanted if name not in self.found]):
            cause = f"{len(lost)} of the {len(self.wanted)} videos of {self.options.only} have no row, the first is"
            raise ManifestError(
                str(self.path), None, f"{cause} {lost[0]}", "Check that the two files belong together."
            )
        if not count:
            named = f"; splits are {', '.join(sorted(self.splits))}" if self.splits else ""
            raise ManifestError(
                str(self.path), None, f"no row is left{named}", "Check the list and the choice of rows."
            )


def _ids(only: str | AnyPath) -> dict[str, None]:
    try:
        return dict.fromkeys(read_ids(only))
    except ValueError as error:
        raise ManifestError(str(error)) from error  # it names that list, which is at fault


def _id_of(given: Record, layout: Layout) -> str:
    if layout.id is None:
        raise BadRow("videos have no ids in this layout", "Leave out the list of ids (data.only; in Python, only).")
    return str(given["video"][layout.id])


def _join(given: Record, place: str, joined: dict[str, tuple[str, dict[str, Any]]], layout: Layout) -> None:
    """Append a caption to those of its video."""
    if not isinstance(given["caption"], str):
        raise BadRow(f"the caption is {given['caption']!r}, expected text", "Correct it.")
    _, row = joined.setdefault(_id_of(given, layout), (place, {**given, "caption": ""}))
    row["caption"] = f"{row['caption']} {given['caption'].strip()}".strip()


def _check_new(row: Record, place: str, seen: dict[int, str]) -> None:
    key = hash(tuple(row.values()))
    if key in seen:
        raise BadRow(
            f"it is the same as {seen[key]}", "Delete one of them; in Python, allow_duplicates=True keeps both."
        )
    seen[key] = place


def load_manifest(
    path: str | AnyPath, data_root: str | AnyPath | None = None, *, streaming: bool = False, **options: Any
) -> "datasets.Dataset | datasets.IterableDataset":
    """Make a `datasets.Dataset` of a list of videos.

    Labels that are names become numbers in the order of the sorted names, or of `labels`; the feature "label" is then
    a `datasets.ClassLabel` that has them. With `several`, it is a list of such.

    Args:
        path: as of `read_manifest`.
        data_root: as of `read_manifest`.
        streaming: make a `datasets.IterableDataset` that reads the list as it is iterated over, for lists that do not
            fit memory; errors then come where they are met, repeated rows are not looked for, and names of labels
            must be given.
        **options: fields of `ManifestOptions`.

    Raises:
        ManifestError: as `read_manifest`.
        ImportError: if `datasets` is not installed.
    """
    datasets = require_datasets()
    features = datasets.Features({name: datasets.Value(kind) for name, kind in COLUMNS.items()})
    if known := _known_classes(as_path(path), ManifestOptions(**options)):
        options["labels"] = known
    if options.get("numbers"):
        features["label"] = datasets.Sequence(datasets.Value("float64"))
    elif options.get("several"):
        features["label"] = datasets.Sequence(features["label"])
    if known:
        features["label"] = _class_label(known, options)
    if streaming:
        arguments = {"path": path, "data_root": data_root, "options": options | {"allow_duplicates": True}}
        return datasets.IterableDataset.from_generator(_generate, features=features, gen_kwargs=arguments)
    try:
        return datasets.Dataset(_table(read_manifest(path, data_root, **options), features.arrow_schema))
    except TextLabelError:
        options["labels"] = find_classes(path, **options)
    features["label"] = _class_label(options["labels"], options)
    return datasets.Dataset(_table(read_manifest(path, data_root, **options), features.arrow_schema))


def _class_label(names: Sequence[str], options: Mapping[str, Any]) -> Any:
    import datasets

    label = datasets.ClassLabel(names=list(names))
    return datasets.Sequence(label) if options.get("several") else label


def _known_classes(path: AnyPath, options: ManifestOptions) -> list[str] | None:
    """Return the names of classes that a list brings, where nobody has given others and labels are classes."""
    if options.labels is not None or options.heads is not None or options.numbers or not options.check_labels:
        return None
    return class_names(path.expanduser())


def _table(rows: Iterator[dict[str, Any]], schema: Any) -> Any:
    """Return rows as Arrow's table.

    Chunk by chunk, because Python's objects take several times the room. Not `Dataset.from_generator`, which
    would find the rows of an earlier state of the list in its cache.
    """
    import datasets
    import pyarrow

    tables = []
    while chunk := list(islice(rows, _CHUNK)):
        tables.append(pyarrow.Table.from_pylist(chunk, schema=schema))
    return datasets.table.InMemoryTable(pyarrow.concat_tables(tables))


def _generate(
    path: str | AnyPath, data_root: str | AnyPath | None, options: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    yield from read_manifest(path, data_root, **options)
