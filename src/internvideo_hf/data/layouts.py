"""What the rows of a list of videos mean: the layouts of the published lists, and those of your own.

A record is a line, an object or a row of a file; a layout turns it into rows whose values are not checked yet.
"""

import csv
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from internvideo_hf.data.finding import VIDEO_SUFFIXES
from internvideo_hf.video.sources import is_url

Record = Mapping[str, Any]
READ_LISTS = (
    "A list is one of: a folder with a folder of clips for each class; lines of `path,label`, also with semicolons, "
    "tabs or spaces; a table with a header, such as video, label, caption, start and end; parquet, Arrow or tar files "
    "with videos; or a published list, such as of Kinetics or MSR-VTT."
)
"""What lists of videos may look like, for messages."""


class BadRow(Exception):
    """Cause and advice of a `ManifestError`, whose file and place are known further out."""


_SUFFIX = f"(?:{'|'.join(map(re.escape, VIDEO_SUFFIXES))})"
_FILE_AND_LABEL = re.compile(rf"(.+{_SUFFIX})\s+(?!(?:-?\d+\s+)*-?\d+\s*$)(?!.*{_SUFFIX}\s*$)(\S.*)", re.IGNORECASE)
"""A line of a video file and a name of a class, which may both hold spaces; numbers are no name."""


def _split_line(record: Record, count: int) -> list[str]:
    line, delimiter = record["line"], record["delimiter"]
    if delimiter == " " and count == 2 and (named := _FILE_AND_LABEL.fullmatch(line)):
        return [named[1], named[2]]
    # From the right: a path may hold spaces.
    fields = line.rsplit(maxsplit=count - 1) if delimiter == " " else next(csv.reader([line], delimiter=delimiter))
    if len(fields) != count:
        mark = {" ": "spaces", ",": "commas", ";": "semicolons", "\t": "tabs"}[delimiter]
        raise BadRow(f"it has {len(fields)} fields between {mark}, expected {count}", "Quote fields with commas.")
    return fields


def _path_only(record: Record) -> Iterator[Record]:
    yield {"video": record["line"]}


def _path_and_label(record: Record) -> Iterator[Record]:
    yield dict(zip(("video", "label"), _split_line(record, 2), strict=True))


def _frame_folder(record: Record) -> Iterator[Record]:
    yield dict(zip(("video", "num_frames", "label"), _split_line(record, 3), strict=True))


def _pretraining_line(record: Record) -> Iterator[Record]:
    video, first, total, label = _split_line(record, 4)
    numbers = [whole_number(value, "line's second and third field") for value in (first, total)]
    if None in numbers:
        raise BadRow(f"{first!r} and {total!r} are not both whole numbers", "Expected `path start total label`.")
    if int(total) < 0:
        yield {"video": video, "label": label}
    elif int(first) in (0, 1):
        yield {"video": video, "num_frames": total, "label": label}
    else:
        raise BadRow(
            f"it begins at frame file {first}", "Put the files of each clip into a folder of its own, from 0 or 1."
        )


_NAMES_OF_COLUMNS = {
    "video": (
        *("video", "path", "video_path", "filename", "file_name", "file", "filepath", "file_path"),
        *("clip", "clip_path", "video_file", "video_file_name", "video_name", "url"),
    ),
    "label": (
        "label",
        "labels",
        "label_id",
        "class",
        "class_id",
        "class_name",
        "label_name",
        "category",
        "action",
        "target",
    ),
    "caption": ("caption", "sentence", "text", "query"),
    "start": ("start", "start_time", "time_start"),
    "end": ("end", "end_time", "time_end"),
    "num_frames": ("num_frames", "total_frames"),
}
"""Column -> names that a header may give it, in capitals or not."""
FILE_NAMES = _NAMES_OF_COLUMNS["video"]
"""Names of columns that say which file a video is."""
_MEANING_OF = {name: column for column, names in _NAMES_OF_COLUMNS.items() for name in names}
_WITHOUT_MEANING = ("split", "", "unnamed: 0")  # the last two are the row numbers of pandas


def _named(record: Record) -> Iterator[Record]:
    row: dict[str, Any] = {}
    for given, value in record.items():
        name = given.strip().lower()
        if name in _WITHOUT_MEANING:
            continue
        if name not in _MEANING_OF:
            raise BadRow(
                f"there is no column {given!r}; known are {', '.join([*_MEANING_OF, 'split'])}",
                f"Rename it or delete it; in Python, ignore=[{given!r}] leaves it out.",
            )
        if _MEANING_OF[name] in row:
            raise BadRow(f"several columns mean {_MEANING_OF[name]!r}, one is {name!r}", "Keep one of them.")
        row[_MEANING_OF[name]] = value
    captions = row.get("caption")
    # ViCLIP's lists can hold several captions of a video.
    for caption in captions if isinstance(captions, list) else [captions]:
        yield {**row, "caption": caption}


class DatasetRecord(dict[str, Any]):
    """A record of a data set as `datasets` reads it, which may have columns that mean nothing for videos."""

    def sorted_out(self) -> tuple[Record, Record]:
        """Divide the record as `split_extra` does; of several columns of one meaning, the first known name counts."""
        names = {name.strip().lower(): name for name in reversed(self)}
        chosen = {
            meaning: names[next(known for known in spellings if known in names)]
            for meaning, spellings in _NAMES_OF_COLUMNS.items()
            if any(known in names for known in spellings)
        }
        known = {meaning: self[name] for meaning, name in chosen.items()}
        extra = {name: value for name, value in self.items() if name not in chosen.values()}
        extra |= {meaning: known[meaning] for meaning in ("label", "caption") if meaning in known}
        return known | ({"split": self[names["split"]]} if "split" in names else {}), extra


def split_extra(record: Record) -> tuple[Record, Record]:
    """Divide a record of a named list into what a layout reads, and all that is said of the video besides its frames.

    Args:
        record: as the list has it.

    Returns:
        The record without the columns that mean nothing for videos; and these, with `label`, `caption` and `split`.
        A `DatasetRecord` comes under our own names.
        Of lists without such names, the record and nothing.
    """
    if isinstance(record, DatasetRecord):
        return record.sorted_out()
    layout = named_layout(record)
    if layout is None or layout.rows is not _named:
        return record, {}
    meanings = {name: _MEANING_OF.get(name.strip().lower()) for name in record}
    known = {n: v for n, v in record.items() if meanings[n] or n.strip().lower() in _WITHOUT_MEANING}
    extra = {meanings[n] or n: v for n, v in record.items() if n not in known or meanings[n] in ("label", "caption")}
    return known, extra | {n: v for n, v in record.items() if n.strip().lower() == "split"}


def _class_folder(record: Record) -> Iterator[Record]:
    yield {"video": record["file"], "label": record["class_folder"]}


def _kinetics_csv(record: Record) -> Iterator[Record]:
    times = [seconds_of(record[name], name) for name in ("time_start", "time_end")]
    if None in times:
        raise BadRow(f"the clip goes from {times[0]} to {times[1]} seconds", "Download the list again.")
    start, end = (int(time) for time in times if time is not None)
    # The files are cut to the clip, and have its seconds in their names.
    clip = f"{record['youtube_id']}_{start:06d}_{end:06d}"
    yield {"video": {**record, "clip": clip}, "label": record.get("label")}


def _something_something(record: Record) -> Iterator[Record]:
    # "Holding [something] next to [something]": the class is the template without its brackets.
    template = str(record["template"]).replace("[", "").replace("]", "")
    yield {"video": record, "label": template, "caption": record.get("label")}


def _sentence(record: Record) -> Iterator[Record]:
    yield {"video": record, "caption": record["caption"] if "caption" in record else record["sentence"]}


def _captions(record: Record) -> Iterator[Record]:
    if not isinstance(record["captions"], list) or not record["captions"]:
        raise BadRow(f"the captions are {record['captions']!r}", "Expected a list of them.")
    for caption in record["captions"]:
        if isinstance(caption, list) and all(isinstance(word, str) for word in caption):
            caption = " ".join(caption)
        yield {"video": record, "caption": caption}


def _paragraph(record: Record) -> Iterator[Record]:
    sentences = record["sentences"]
    if not isinstance(sentences, list) or not all(isinstance(sentence, str) for sentence in sentences):
        raise BadRow(f"the sentences are {sentences!r}", "Expected a list of texts.")
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
        raise BadRow(f"it has {len(fields)} fields between tabs, expected {_FIELDS_OF_LSMDC}", "Download it again.")
    yield {"video": {"clip": fields[0]}, "caption": fields[-1]}


def _internvid(record: Record) -> Iterator[Record]:
    if not is_missing(record.get("video")):  # of a data set that was built: the file is the clip
        yield {"video": record["video"], "caption": record["Caption"]}
        return
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
        has_names: whether labels are names, even where they look like numbers.
    """

    rows: Callable[[Record], Iterator[Record]]
    needs: frozenset[str] = field(default_factory=frozenset)
    file_name: str | None = None
    may_repeat: bool = False
    id: str | None = None
    other_name: str | None = None
    joined: bool = False
    has_names: bool = False


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
    "class_folders": Layout(_class_folder, frozenset({"file", "class_folder"}), has_names=True),
    "kinetics_csv": Layout(
        _kinetics_csv, frozenset({"youtube_id", "time_start", "time_end"}), "{clip}.mp4", id="clip"
    ),
    "internvid": Layout(
        _internvid,
        frozenset({"YoutubeID", "Start_timestamp", "End_timestamp", "Caption"}),
        "{YoutubeID}.mp4",
        may_repeat=True,
    ),
    **{f"named_{name}": Layout(_named, frozenset({name})) for name in _NAMES_OF_COLUMNS["video"]},
    "something_something": Layout(_something_something, frozenset({"id", "template"}), "{id}.webm"),
    "msrvtt": Layout(_sentence, frozenset({"video_id", "caption"}), "{video_id}.mp4", may_repeat=True, id="video_id"),
    "msrvtt_csv": Layout(
        _sentence, frozenset({"video_id", "sentence"}), "{video_id}.mp4", may_repeat=True, id="video_id"
    ),
}
"""Name -> layout. paths: a path a line. kinetics: `path label` or `path,label` (VideoMAE, UniFormerV2). frames:
`folder num_frames label` (UniFormerV2's Something-Something). videomae_pretraining: `path start total label`, a total
below 0 for a video file. class_folders: a folder with a folder of videos for each class. kinetics_csv: the official
list, with files `ID_000001_000011.mp4` in any folder below the data root. named_...: columns with names (`video` or
`path`, `label`, `caption`, ...). internvid: the public table; where a row has a `video` too, that file is the clip.
something_something, msrvtt: the published json. msrvtt_csv: the test list of 1k-A. lsmdc: lines of 6 fields between
tabs, clip first and sentence last. didemo: descriptions, joined to one text a video. vatex: the json with `videoID`
and `enCap`. msvd: captions by video id, as lists of words (pickle) or as texts (json). activitynet: the json with
`sentences` by video id, which are joined to one text."""

_LINE_LAYOUTS = ("paths", "kinetics", "frames", "videomae_pretraining")


def missing_columns(layout: Layout, names: Collection[str]) -> set[str]:
    """Return the columns that a layout needs and these names lack; those of `_named` in capitals or not."""
    return set(layout.needs - ({name.strip().lower() for name in names} if layout.rows is _named else set(names)))


def named_layout(names: Collection[str]) -> Layout | None:
    """Return the layout of a list with these columns, if there is one."""
    return next((layout for layout in LAYOUTS.values() if layout.needs and not missing_columns(layout, names)), None)


def layout_of(record: Record) -> Layout:
    """Detect the layout of a list by a record.

    Args:
        record: the first one.

    Raises:
        BadRow: if no layout has such records.
    """
    if "line" in record and "delimiter" in record:
        line, delimiter = record["line"], record["delimiter"]
        if delimiter == "\t" and line.count("\t") == _FIELDS_OF_LSMDC - 1:
            return LAYOUTS["lsmdc"]
        if delimiter == " ":
            if _FILE_AND_LABEL.fullmatch(line):
                return LAYOUTS["kinetics"]
            # How many numbers end the line; spaces within the path are no separators.
            extra = len(re.findall(r"(?:\s-?\d+){0,3}$", line)[0].split())
        else:
            extra = len(next(csv.reader([line], delimiter=delimiter))) - 1
        if extra < len(_LINE_LAYOUTS):
            return LAYOUTS[_LINE_LAYOUTS[extra]]
        raise BadRow(f"it has {extra + 1} fields, and is no header with known names", READ_LISTS)
    if layout := named_layout(record):
        return layout
    raise BadRow(
        f"nothing says which video is meant: there are {', '.join(map(str, record)) or 'no columns'}", READ_LISTS
    )


def delimiter_of(line: str) -> str:
    """Return the mark that separates the fields of a first line; names of files and classes may hold the others."""
    if "\t" in line:
        return "\t"
    marks = [mark for mark in ",;" if mark in line]
    for mark in marks:
        fields = [field.strip() for field in next(csv.reader([line], delimiter=mark))]
        if named_layout(fields) or any(is_url(name) or name.lower().endswith(VIDEO_SUFFIXES) for name in fields):
            return mark
    return marks[0] if marks and not _FILE_AND_LABEL.fullmatch(line) else " "


def is_missing(value: Any) -> bool:
    """Return whether a list has no value here."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def whole_number(value: Any, column: str) -> int | None:
    """Read an integer, from text too, and from the floats of pandas beside missing ones; None for other text."""
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"\s*[+-]?\d+\s*", value) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1:
        raise BadRow(f"the {column} is {value!r}, expected a whole number", "Correct it.")
    return int(value)


def seconds_of(value: Any, column: str) -> float | None:
    """Read seconds, or text such as "00:01:02.500"."""
    if is_missing(value):
        return None
    try:
        parts = [float(part) for part in str(value).split(":")]
    except ValueError:
        parts = [math.nan]
    seconds = sum(part * 60**power for power, part in enumerate(reversed(parts)))
    if not (len(parts) <= 3 and math.isfinite(seconds) and seconds >= 0):
        raise BadRow(f"the {column} is {value!r}", 'Expected seconds from 0, or "HH:MM:SS.mmm".')
    return seconds
