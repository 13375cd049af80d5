"""Lists of videos, in every layout that the released recipes use, as rows with the same columns.

A row is a dict of `COLUMNS`; unknown values are None. `read_manifest` yields rows with the standard library only
(parquet apart); `load_manifest` makes a `datasets.Dataset` of them. Reading is strict: the first invalid row stops it,
with the file and the line.

The FORMAT of a file is detected from its content, and its name must agree: text (a row a line), json (a list of
objects, or a published document: MSR-VTT's, or one that has something for each id), jsonl, parquet, pickle (MSVD's
captions; only lists, dicts and texts are unpickled). The LAYOUT says what its rows mean; `LAYOUTS` lists them.
"""

import csv
import json
import math
import os
import pickle
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from internvideo_hf.data.finding import VideoTree, read_ids
from internvideo_hf.utils.names import lookup, nearest, with_article
from internvideo_hf.video.sources import is_url

if TYPE_CHECKING:
    import datasets

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

_CHUNK = 20_000  # rows that are Python objects at a time, on their way into Arrow's memory


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


class _BadRow(Exception):
    """Cause and advice of a `ManifestError`, whose file and place are known further out."""


# ---- from a file to records -----------------------------------------------------------------------------------------

Record = Mapping[str, Any]
_NAMES_OF_FORMATS = {
    ".csv": ("text",),
    ".tsv": ("text",),
    ".txt": ("text",),
    ".list": ("text",),
    ".json": ("json", "jsonl"),
    ".jsonl": ("jsonl",),
    ".parquet": ("parquet",),
    ".pkl": ("pickle",),
    ".pickle": ("pickle",),
}
MANIFEST_SUFFIXES = tuple(_NAMES_OF_FORMATS)
"""What the name of a list of videos ends in."""


def _format_of(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in _NAMES_OF_FORMATS:
        raise ManifestError(
            str(path),
            None,
            f"the name ends in {suffix!r}" if suffix else "the name has no ending",
            f"Name a list of videos by what it holds: {', '.join(_NAMES_OF_FORMATS)}.",
        )
    try:
        with path.open("rb") as file:
            start = file.read(1 << 16)
    except OSError as error:
        raise ManifestError(
            str(path), None, f"it cannot be opened ({error.strerror})", "Check the path and its rights."
        ) from error
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


def _text_lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, line in enumerate(file, 1):
                line = line.rstrip("\r\n")
                if not line.strip():
                    raise ManifestError(str(path), f"line {number}", "it is empty", "Delete the line.")
                yield number, line
    except UnicodeDecodeError as error:
        raise ManifestError(str(path), None, f"it is not text in UTF-8 ({error.reason})", "Convert it.") from error


def _text_records(path: Path) -> Iterator[tuple[str, Record]]:
    _, first = next(_text_lines(path))
    delimiter = next((mark for mark in ("\t", ",") if mark in first), " ")
    header = next(csv.reader([first], delimiter=delimiter))
    if not any(layout.needs and layout.needs <= set(header) for layout in LAYOUTS.values()):
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


def _json_records(path: Path) -> Iterator[tuple[str, Record]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ManifestError(str(path), None, f"it is not valid JSON ({error})", "Download it again.") from error
    if isinstance(content, dict):
        content = _document(path, content)
    for number, record in enumerate(content, 1):
        if not isinstance(record, dict):
            raise ManifestError(
                str(path),
                f"record {number}",
                f"it is {with_article(type(record).__name__)}, expected an object",
                "Correct it.",
            )
        yield f"record {number}", record


def _document(path: Path, document: Mapping[str, Any]) -> list[Record]:
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


def _jsonl_records(path: Path) -> Iterator[tuple[str, Record]]:
    for number, line in _text_lines(path):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ManifestError(
                str(path), f"line {number}", f"it is not valid JSON ({error})", "Write an object a line."
            ) from error
        if not isinstance(record, dict):
            raise ManifestError(
                str(path),
                f"line {number}",
                f"it is {with_article(type(record).__name__)}, expected an object",
                "Write an object a line.",
            )
        yield f"line {number}", record


def _parquet_records(path: Path) -> Iterator[tuple[str, Record]]:
    _require_datasets()
    import pyarrow
    import pyarrow.parquet

    try:
        number = 0
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(_CHUNK):
            for record in batch.to_pylist():
                number += 1
                yield f"row {number}", record
    except pyarrow.ArrowException as error:
        raise ManifestError(
            str(path), None, f"it is not valid parquet ({error})"[:300], "Download it again."
        ) from error


class _PlainUnpickler(pickle.Unpickler):
    """Unpickles what needs no code: dicts, lists, tuples, texts, numbers."""

    def find_class(self, module: str, name: str) -> Any:
        # All that could run code, or make an object of a class, comes by here.
        raise pickle.UnpicklingError(f"it wants {module}.{name}, and nothing but lists, dicts and texts is let in")


def _pickle_records(path: Path) -> Iterator[tuple[str, Record]]:
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


_FORMATS: dict[str, Callable[[Path], Iterator[tuple[str, Record]]]] = {
    "text": _text_records,
    "json": _json_records,
    "jsonl": _jsonl_records,
    "parquet": _parquet_records,
    "pickle": _pickle_records,
}


def read_records(path: str | Path) -> Iterator[tuple[str, Record]]:
    """Read a list of any format record by record, unchanged; a line of text has "line" and "delimiter".

    Yields:
        The place of a record, such as "line 3", for messages; and the record.

    Raises:
        ManifestError: if the list cannot be read.
    """
    return _FORMATS[_format_of(Path(path))](Path(path))


# ---- from records to rows -------------------------------------------------------------------------------------------


def _split_line(record: Record, count: int) -> list[str]:
    line, delimiter = record["line"], record["delimiter"]
    # From the right: a path may hold spaces.
    fields = line.rsplit(maxsplit=count - 1) if delimiter == " " else next(csv.reader([line], delimiter=delimiter))
    if len(fields) != count:
        mark = {" ": "spaces", ",": "commas", "\t": "tabs"}[delimiter]
        raise _BadRow(f"it has {len(fields)} fields between {mark}, expected {count}", "Quote fields with commas.")
    return fields


def _path_only(record: Record) -> Iterator[Record]:
    yield {"video": record["line"]}


def _path_and_label(record: Record) -> Iterator[Record]:
    yield dict(zip(("video", "label"), _split_line(record, 2), strict=True))


def _frame_folder(record: Record) -> Iterator[Record]:
    yield dict(zip(("video", "num_frames", "label"), _split_line(record, 3), strict=True))


def _pretraining_line(record: Record) -> Iterator[Record]:
    video, first, total, label = _split_line(record, 4)
    numbers = [_whole_number(value, "line's second and third field") for value in (first, total)]
    if None in numbers:
        raise _BadRow(f"{first!r} and {total!r} are not both whole numbers", "Expected `path start total label`.")
    if int(total) < 0:
        yield {"video": video, "label": label}
    elif int(first) in (0, 1):
        yield {"video": video, "num_frames": total, "label": label}
    else:
        raise _BadRow(
            f"it begins at frame file {first}", "Put the files of each clip into a folder of its own, from 0 or 1."
        )


_NAMES_OF_COLUMNS = {
    "video": ("video", "path", "video_path"),
    "label": ("label", "label_id"),
    "caption": ("caption", "sentence", "text"),
    "start": ("start", "start_time"),
    "end": ("end", "end_time"),
    "num_frames": ("num_frames", "total_frames"),
}
_MEANING_OF = {name: column for column, names in _NAMES_OF_COLUMNS.items() for name in names}


def _named(record: Record) -> Iterator[Record]:
    row: dict[str, Any] = {}
    for name, value in record.items():
        if name == "split":
            continue
        if name not in _MEANING_OF:
            raise _BadRow(
                f"there is no column {name!r}; known are {', '.join([*_MEANING_OF, 'split'])}",
                f"Rename it, or pass ignore=[{name!r}].",
            )
        if _MEANING_OF[name] in row:
            raise _BadRow(f"several columns mean {_MEANING_OF[name]!r}, one is {name!r}", "Keep one of them.")
        row[_MEANING_OF[name]] = value
    captions = row.get("caption")
    # ViCLIP's lists can hold several captions of a video.
    for caption in captions if isinstance(captions, list) else [captions]:
        yield {**row, "caption": caption}


def _something_something(record: Record) -> Iterator[Record]:
    # "Holding [something] next to [something]": the class is the template without its brackets.
    template = str(record["template"]).replace("[", "").replace("]", "")
    yield {"video": record, "label": template, "caption": record.get("label")}


def _sentence(record: Record) -> Iterator[Record]:
    yield {"video": record, "caption": record["caption"] if "caption" in record else record["sentence"]}


def _captions(record: Record) -> Iterator[Record]:
    if not isinstance(record["captions"], list) or not record["captions"]:
        raise _BadRow(f"the captions are {record['captions']!r}", "Expected a list of them.")
    for caption in record["captions"]:
        if isinstance(caption, list) and all(isinstance(word, str) for word in caption):
            caption = " ".join(caption)
        yield {"video": record, "caption": caption}


def _paragraph(record: Record) -> Iterator[Record]:
    sentences = record["sentences"]
    if not isinstance(sentences, list) or not all(isinstance(sentence, str) for sentence in sentences):
        raise _BadRow(f"the sentences are {sentences!r}", "Expected a list of texts.")
    bare = {**record, "youtube_id": str(record["video_id"]).removeprefix("v_")}
    yield {"video": bare, "caption": " ".join(sentence.strip() for sentence in sentences)}


def _description(record: Record) -> Iterator[Record]:
    yield {"video": record, "caption": record["description"]}


def _english_captions(record: Record) -> Iterator[Record]:
    yield from (
        {"video": record, "caption": row["caption"]} for row in _captions({**record, "captions": record["enCap"]})
    )


def _movie_line(record: Record) -> Iterator[Record]:
    # Not by the reader of csv: sentences hold quotes that are nothing but quotes.
    fields = record["line"].split("\t")
    if len(fields) != _FIELDS_OF_LSMDC:
        raise _BadRow(f"it has {len(fields)} fields between tabs, expected {_FIELDS_OF_LSMDC}", "Download it again.")
    yield {"video": {"clip": fields[0]}, "caption": fields[-1]}


def _internvid(record: Record) -> Iterator[Record]:
    yield {
        "video": record,
        "caption": record["Caption"],
        "start": record["Start_timestamp"],
        "end": record["End_timestamp"],
    }


@dataclass(frozen=True)
class Layout:
    """What the rows of a list mean.

    Args:
        rows: a record -> rows whose values are not checked yet. `video` is the record where a name is made of it.
        needs: names that a record of this layout has; none for lines without a header.
        file_name: how a video's file is called, with the record's names in braces; None where the list has paths.
        may_repeat: whether the published list holds a row several times.
        id: which of the names is the video's id, for lists of captions. A file of that name, and any ending, is looked
            for in the data root and all folders below.
        other_name: how the file may be called besides.
        joined: whether all captions of a video are one text.
    """

    rows: Callable[[Record], Iterator[Record]]
    needs: frozenset[str] = field(default_factory=frozenset)
    file_name: str | None = None
    may_repeat: bool = False
    id: str | None = None
    other_name: str | None = None
    joined: bool = False


_FIELDS_OF_LSMDC = 6

LAYOUTS: dict[str, Layout] = {
    "paths": Layout(_path_only),
    "kinetics": Layout(_path_and_label),
    "frames": Layout(_frame_folder),
    "videomae_pretraining": Layout(_pretraining_line),
    "lsmdc": Layout(_movie_line, file_name="{clip}.avi", may_repeat=True, id="clip"),
    "didemo": Layout(
        _description, frozenset({"video", "description"}), "{video}", may_repeat=True, id="video", joined=True
    ),
    "vatex": Layout(
        _english_captions, frozenset({"videoID", "enCap"}), "{videoID}.mp4", may_repeat=True, id="videoID"
    ),
    "msvd": Layout(_captions, frozenset({"video_id", "captions"}), "{video_id}.avi", may_repeat=True, id="video_id"),
    "activitynet": Layout(
        _paragraph,
        frozenset({"video_id", "sentences"}),
        "{video_id}.mp4",
        id="video_id",
        other_name="{youtube_id}.mp4",
    ),
    **{f"named_{name}": Layout(_named, frozenset({name})) for name in _NAMES_OF_COLUMNS["video"]},
    "internvid": Layout(
        _internvid,
        frozenset({"YoutubeID", "Start_timestamp", "End_timestamp", "Caption"}),
        "{YoutubeID}.mp4",
        may_repeat=True,
    ),
    "something_something": Layout(_something_something, frozenset({"id", "template"}), "{id}.webm"),
    "msrvtt": Layout(_sentence, frozenset({"video_id", "caption"}), "{video_id}.mp4", may_repeat=True, id="video_id"),
    "msrvtt_csv": Layout(
        _sentence, frozenset({"video_id", "sentence"}), "{video_id}.mp4", may_repeat=True, id="video_id"
    ),
}
"""Name -> layout. paths: a path a line. kinetics: `path label` or `path,label` (VideoMAE, UniFormerV2). frames:
`folder num_frames label` (UniFormerV2's Something-Something). videomae_pretraining: `path start total label`, a total
below 0 for a video file. named_...: columns with names (`video` or `path`, `label`, `caption`, ...). internvid: the
public table. something_something, msrvtt: the published json. msrvtt_csv: the test list of 1k-A. lsmdc: lines of 6
fields between tabs, clip first and sentence last. didemo: descriptions, joined to one text a video. vatex: the json
with `videoID` and `enCap`. msvd: captions by video id, as lists of words (pickle) or as texts (json). activitynet: the
json with `sentences` by video id, which are joined to one text."""

_LINE_LAYOUTS = ("paths", "kinetics", "frames", "videomae_pretraining")


def _layout_of(record: Record) -> Layout:
    if "line" in record and "delimiter" in record:
        line, delimiter = record["line"], record["delimiter"]
        if delimiter == "\t" and line.count("\t") == _FIELDS_OF_LSMDC - 1:
            return LAYOUTS["lsmdc"]
        if delimiter == " ":
            # How many numbers end the line; spaces within the path are no separators.
            extra = len(re.findall(r"(?:\s-?\d+){0,3}$", line)[0].split())
        else:
            extra = len(next(csv.reader([line], delimiter=delimiter))) - 1
        if extra < len(_LINE_LAYOUTS):
            return LAYOUTS[_LINE_LAYOUTS[extra]]
        raise _BadRow(f"it has {extra + 1} fields", "Expected a path, `path,label`, or a header with known names.")
    for layout in LAYOUTS.values():
        if layout.needs and layout.needs <= set(record):
            return layout
    raise _BadRow(
        f"nothing says which video is meant: there are {', '.join(map(str, record)) or 'no columns'}",
        "Expected a column 'video', or the columns of a published list.",
    )


# ---- checks of values -----------------------------------------------------------------------------------------------


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _whole_number(value: Any, column: str) -> int | None:
    """Read an integer, from text too, and from the floats of pandas beside missing ones; None for other text."""
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"\s*[+-]?\d+\s*", value) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1:
        raise _BadRow(f"the {column} is {value!r}, expected a whole number", "Correct it.")
    return int(value)


def _label(value: Any, labels: Sequence[str] | None, numbers: Mapping[str, int]) -> int | None:
    if _is_missing(value):
        return None
    number = _whole_number(value, "label")
    if number is None:
        if labels is None:
            raise _BadRow(
                f"the label is the text {value!r}",
                'Pass the class names in order, such as labels=internvideo_hf.recipes.labels.load_labels("k400").',
            )
        if value not in numbers:
            near = nearest(value, labels, n=3)
            hint = f"the nearest are {', '.join(map(repr, near))}" if near else "nothing is near it"
            raise _BadRow(f"the label {value!r} is none of the {len(labels)} class names; {hint}", "Correct the name.")
        return numbers[value]
    if number < 0 or (labels is not None and number >= len(labels)):
        expected = "at least 0" if labels is None else f"0 to {len(labels) - 1}"
        raise _BadRow(f"the label is {number}, expected {expected}", "Check that list and classes belong together.")
    return number


def _seconds(value: Any, column: str) -> float | None:
    """Read seconds, or text such as "00:01:02.500"."""
    if _is_missing(value):
        return None
    try:
        parts = [float(part) for part in str(value).split(":")]
    except ValueError:
        parts = [math.nan]
    seconds = sum(part * 60**power for power, part in enumerate(reversed(parts)))
    if not (len(parts) <= 3 and math.isfinite(seconds) and seconds >= 0):
        raise _BadRow(f"the {column} is {value!r}", 'Expected seconds from 0, or "HH:MM:SS.mmm".')
    return seconds


def _file_named(record: Record, file_name: str) -> str:
    try:
        return file_name.format_map(record)
    except (KeyError, IndexError, ValueError) as error:
        raise _BadRow(f"no file name can be made by {file_name!r} ({error!r})", "Correct file_name.") from error


def _address(video: Any, data_root: Path, check_files: bool) -> str:
    if not isinstance(video, str) or not video.strip():
        raise _BadRow(f"the video is {video!r}, expected a path or an address", "Correct it.")
    video = video.strip()
    if is_url(video):
        return video
    path = os.path.join(data_root, os.path.expanduser(video))
    if check_files and not os.path.exists(path):
        raise _BadRow(
            f"there is no {path}",
            "Pass the folder that paths begin in as data_root; `internvideo scan` lists all that is missing, and "
            "check_files=False leaves it to the training.",
        )
    return path


@dataclass(frozen=True)
class ManifestOptions:
    """What a list of videos means and which of its rows are kept.

    Args:
        layout: a name in `LAYOUTS`; detected from the first row where None.
        labels: class names in label order, which turn text into labels and bound numbers. None: numbers from 0.
        file_name: how a video's file is called, where the list has ids: names of its columns in braces, such as
            "{YoutubeID}_{Start_timestamp}.mp4". A name with the start in it means a clip that is cut already, so that
            `start` and `end` are left empty.
        split: rows to keep, where the list names a split (MSR-VTT: "train", "validate", "test").
        keep: predicate on the record as the list has it, e.g. on a score of InternVid; records it refuses are dropped.
        only: a list of the ids of the videos to keep, such as MSRVTT_train.9k.csv or test_list.txt, for layouts whose
            videos have ids (`read_ids` says what it may look like). Every id must have a row.
        ignore: columns to leave out.
        check_files: whether a path where nothing is, is an error. Addresses are not asked.
        check_labels: whether labels are read. False leaves them empty, where only the files matter.
        allow_duplicates: whether a row may come twice. The published lists of captions have such rows anyway.
    """

    layout: str | None = None
    labels: Sequence[str] | None = None
    file_name: str | None = None
    split: str | None = None
    keep: Callable[[Record], bool] | None = None
    only: str | Path | None = None
    ignore: Sequence[str] = ()
    check_files: bool = True
    check_labels: bool = True
    allow_duplicates: bool = False


class _Checks:
    """Turns what a layout gives into a row with `COLUMNS`."""

    def __init__(self, layout: Layout, data_root: Path, options: ManifestOptions):
        self.layout, self.data_root, self.options = layout, data_root, options
        self.numbers = {name: number for number, name in enumerate(options.labels or ())}
        self.file_name = options.file_name or layout.file_name or ""
        # Whoever says how files are called has said where they are.
        searches = layout.id is not None and options.file_name is None
        self.tree = VideoTree(data_root) if searches else None

    def row(self, given: Record) -> dict[str, Any]:
        video, start, end = given["video"], given.get("start"), given.get("end")
        if isinstance(video, Mapping):
            record, video = video, _file_named(video, self.file_name)
            if self.tree is not None and not os.path.exists(self.data_root / video):
                video = self._find(self.tree, record, video)
            if "{Start_timestamp" in self.file_name and "Start_timestamp" in record:
                start = end = None  # such a file is the clip itself
        start, end = _seconds(start, "start"), _seconds(end, "end")
        if (start is None) != (end is None) or (start is not None and end is not None and end <= start):
            raise _BadRow(f"the clip goes from {start} to {end} seconds", "Give a start and a later end, or neither.")
        caption, num_frames = given.get("caption"), given.get("num_frames")
        if not _is_missing(caption) and not isinstance(caption, str):
            raise _BadRow(f"the caption is {caption!r}, expected text", "Correct it.")
        count = None if _is_missing(num_frames) else _whole_number(num_frames, "num_frames")
        if not _is_missing(num_frames) and (count is None or count < 1):
            raise _BadRow(f"num_frames is {num_frames!r}, expected at least 1", "Correct it.")
        return {
            "video": _address(video, self.data_root, self.options.check_files),
            "label": self._label(given.get("label")),
            "caption": None if _is_missing(caption) else caption,
            "start": start,
            "end": end,
            "num_frames": count,
        }

    def _label(self, value: Any) -> int | None:
        return _label(value, self.options.labels, self.numbers) if self.options.check_labels else None

    def _find(self, tree: VideoTree, record: Record, name: str) -> str:
        """Find the file of a video below the data root; its plain name where there is none."""
        other = self.layout.other_name
        names = [name] if other is None else [name, _file_named(record, other)]
        try:
            return tree.find(names) or name
        except LookupError as error:
            raise _BadRow(str(error), "Give a data_root that holds one of them.") from None


# ---- whole lists ----------------------------------------------------------------------------------------------------


def read_manifest(path: str | Path, data_root: str | Path | None = None, **options: Any) -> Iterator[dict[str, Any]]:
    """Read a list of videos row by row.

    Args:
        path: the list; see the module for what it may be.
        data_root: folder that its relative paths begin in; the list's own folder where None.
        **options: fields of `ManifestOptions`.

    Yields:
        Dicts of `COLUMNS`.

    Raises:
        ManifestError: if the list cannot be read, holds an empty line, an unknown or missing column, a label, time or
            path that is none, a row twice, or no row at all; if a video of `only` has no row.
        ValueError: if the layout is unknown.
    """
    return _read(Path(path).expanduser(), data_root, ManifestOptions(**options))


def _read(path: Path, data_root: str | Path | None, options: ManifestOptions) -> Iterator[dict[str, Any]]:
    root = path.parent if data_root is None else Path(data_root).expanduser()
    if data_root is not None and not root.is_dir():
        raise ManifestError(str(path), None, f"its data_root {data_root} is not a folder", "Check the path.")
    layout = None if options.layout is None else lookup(LAYOUTS, options.layout, "layout")
    selection, checks, count = _Selection(path, options), None, 0
    seen: dict[int, str] = {}
    joined: dict[str, tuple[str, dict[str, Any]]] = {}
    for place, record in read_records(path):
        record = {name: value for name, value in record.items() if name not in options.ignore}
        try:
            checks = checks or _Checks(layout or _layout_of(record), root, options)
            for given in selection.rows(record, checks.layout):
                if checks.layout.joined:
                    _join(given, place, joined, checks.layout)
                    continue
                row = checks.row(given)
                if not (options.allow_duplicates or checks.layout.may_repeat):
                    _check_new(row, place, seen)
                count += 1
                yield row
        except _BadRow as bad:
            raise ManifestError(str(path), place, *bad.args) from None
    for place, given in joined.values():
        assert checks is not None  # made with the first record
        try:
            row = checks.row(given)
        except _BadRow as bad:
            raise ManifestError(str(path), place, *bad.args) from None
        count += 1
        yield row
    selection.check_complete(count)


class _Selection:
    """Which rows of a list are kept, and what of the choice was met."""

    def __init__(self, path: Path, options: ManifestOptions):
        self.path, self.options = path, options
        self.wanted = None if options.only is None else _wanted(path, options.only)
        self.found: set[str] = set()
        self.splits: set[str] = set()

    def rows(self, record: Record, layout: Layout) -> Iterator[Record]:
        """Yield what a record says of the videos that are kept."""
        if missing := layout.needs - set(record):
            raise _BadRow(f"there is no {', '.join(sorted(missing))}", "Every row needs it.")
        split, keep = self.options.split, self.options.keep
        if split is not None:
            if "split" not in record:
                raise _BadRow("no split is named", "Leave out split, or use keep.")
            self.splits.add(str(record["split"]))
        if (split is not None and record["split"] != split) or (keep is not None and not keep(record)):
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
            raise ManifestError(str(self.path), None, f"no row is left{named}", "Check split and keep.")


def _wanted(path: Path, only: str | Path) -> dict[str, None]:
    try:
        return dict.fromkeys(read_ids(only))
    except ValueError as error:
        raise ManifestError(str(path), None, f"its videos are chosen by a bad list: {error}", "Correct it.") from error


def _id_of(given: Record, layout: Layout) -> str:
    if layout.id is None:
        raise _BadRow("videos have no ids in this layout", "Leave out `only`, or use keep.")
    return str(given["video"][layout.id])


def _join(given: Record, place: str, joined: dict[str, tuple[str, dict[str, Any]]], layout: Layout) -> None:
    """Append a caption to those of its video."""
    if not isinstance(given["caption"], str):
        raise _BadRow(f"the caption is {given['caption']!r}, expected text", "Correct it.")
    _, row = joined.setdefault(_id_of(given, layout), (place, {**given, "caption": ""}))
    row["caption"] = f"{row['caption']} {given['caption'].strip()}".strip()


def _check_new(row: Record, place: str, seen: dict[int, str]) -> None:
    key = hash(tuple(row.values()))
    if key in seen:
        raise _BadRow(f"it is the same as {seen[key]}", "Delete one of them, or pass allow_duplicates=True.")
    seen[key] = place


def load_manifest(
    path: str | Path, data_root: str | Path | None = None, *, streaming: bool = False, **options: Any
) -> "datasets.Dataset | datasets.IterableDataset":
    """Make a `datasets.Dataset` of a list of videos.

    Args:
        path: as of `read_manifest`.
        data_root: as of `read_manifest`.
        streaming: make a `datasets.IterableDataset` that reads the list as it is iterated over, for lists that do not
            fit memory; errors then come where they are met, and repeated rows are not looked for.
        **options: fields of `ManifestOptions`.

    Raises:
        ManifestError: as `read_manifest`.
        ImportError: if `datasets` is not installed.
    """
    datasets = _require_datasets()
    import pyarrow

    features = datasets.Features({name: datasets.Value(kind) for name, kind in COLUMNS.items()})
    if streaming:
        arguments = {"path": path, "data_root": data_root, "options": options | {"allow_duplicates": True}}
        return datasets.IterableDataset.from_generator(_generate, features=features, gen_kwargs=arguments)
    # Chunk by chunk, because Python's objects take several times the room of Arrow's. Not `Dataset.from_generator`,
    # which would find the rows of an earlier state of the list in its cache.
    rows, tables = read_manifest(path, data_root, **options), []
    while chunk := list(islice(rows, _CHUNK)):
        tables.append(pyarrow.Table.from_pylist(chunk, schema=features.arrow_schema))
    return datasets.Dataset(datasets.table.InMemoryTable(pyarrow.concat_tables(tables)))


def _generate(path: str | Path, data_root: str | Path | None, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from read_manifest(path, data_root, **options)


def _require_datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            "This needs the library datasets, which comes with the extra [train]: pip install 'internvideo-hf[train]'"
        ) from error
    return datasets
