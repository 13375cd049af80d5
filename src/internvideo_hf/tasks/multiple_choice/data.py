"""Lists of multiple-choice questions, in the published layouts."""

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from internvideo_hf.data.finding import VideoTree
from internvideo_hf.data.layouts import Record
from internvideo_hf.data.records import ManifestError, read_records
from internvideo_hf.utils.names import lookup

Question = tuple[str, list[str], int]


class _BadQuestion(Exception):
    """Cause and advice of a `ManifestError`; the caller adds the file and the place."""


def _msrvtt(record: Record) -> Question:
    if missing := {"clip_name", "options", "answer"} - set(record):
        raise _BadQuestion(f"{', '.join(sorted(missing))} is missing", "Add it to every question.")
    return record["clip_name"], record["options"], record["answer"]


def _lsmdc(record: Record) -> Question:
    line = record.get("line")
    if line is None:
        raise _BadQuestion("it is not a line of text", "Give LSMDC's own list, with tabs between fields.")
    (fields,) = csv.reader([line], delimiter="\t", quoting=csv.QUOTE_NONE)
    if len(fields) < 11 or not fields[10].strip().isdigit():
        raise _BadQuestion(f"it has {len(fields)} fields between tabs", "Expected 11: a clip, 5 options, the answer.")
    return fields[0], fields[5:10], int(fields[10]) - 1


LAYOUTS: dict[str, Callable[[Record], Question]] = {"msrvtt": _msrvtt, "lsmdc": _lsmdc}
"""Name -> function from a record to the video's id, its options, and the right one, from 0. msrvtt: lines of JSON with
`clip_name`, `options`, `answer` from 0. lsmdc: fields between tabs: 0 is the clip, 5 to 9 are the options, 10 is the
answer, from 1."""


def read_questions(
    path: str | Path,
    data_root: str | Path,
    layout: str,
    *,
    leave_out: Sequence[str] = (),
    check_files: bool = True,
) -> Iterator[dict[str, Any]]:
    """Read a list of questions about videos.

    Args:
        path: the list.
        data_root: the folder of the videos, at any depth.
        layout: a name in `LAYOUTS`.
        leave_out: ids of videos whose questions are left out.
        check_files: raise an error for a video without a file.

    Yields:
        `{"video": path, "options": [text, ...], "answer": index}`.

    Raises:
        ManifestError: if the list cannot be read, a question is incomplete, or its video is missing.
        ValueError: if the layout is unknown.
    """
    rule, tree, count = lookup(LAYOUTS, layout, "layout"), VideoTree(data_root), 0
    for place, record in read_records(path):
        try:
            name, options, answer = rule(record)
            _check(name, options, answer)
            if name in leave_out:
                continue
            found = tree.find([name])
            if found is None and check_files:
                raise _BadQuestion(f"{data_root} holds no video {name}", "Give the videos' folder as the data root.")
        except LookupError as error:
            advice = "Give a data_root (--data-root) that holds one of them."
            raise ManifestError(str(path), place, str(error), advice) from None
        except _BadQuestion as bad:
            raise ManifestError(str(path), place, *bad.args) from None
        count += 1
        yield {"video": str(Path(data_root) / (found or f"{name}.mp4")), "options": options, "answer": answer}
    if not count:
        raise ManifestError(str(path), None, "it holds no question", "Check the list and leave_out.")


def _check(name: Any, options: Any, answer: Any) -> None:
    if not isinstance(name, str) or not name:
        raise _BadQuestion(f"the video is {name!r}", "Expected its id.")
    if not isinstance(options, list) or len(options) < 2 or not all(isinstance(option, str) for option in options):
        raise _BadQuestion(f"the options are {options!r}", "Expected two texts or more.")
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(options):
        raise _BadQuestion(f"the answer is {answer!r}", f"Expected one of {len(options)} options.")
