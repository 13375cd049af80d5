"""Lists of open questions about videos, in the published layouts."""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from internvideo_hf.data.finding import VideoTree
from internvideo_hf.data.layouts import Record
from internvideo_hf.data.records import ManifestError, read_records
from internvideo_hf.utils.names import lookup, reason_of

MSVD_NAMES = "msvd_youtube_mapping.txt"
"""File beside MSVD's lists that names the video of each number: lines of a name and `vidN`."""


class Question(NamedTuple):
    """A question about a video.

    Attributes:
        video: id of the video.
        question: its words.
        answer: its right answer.
    """

    video: str
    question: str
    answer: str


class _BadQuestion(Exception):
    """Cause and advice of a `ManifestError`; the caller adds the file and the place."""


def _columns(record: Record, video: str) -> Question:
    if missing := {video, "question", "answer"} - set(record):
        raise _BadQuestion(f"{', '.join(sorted(missing))} is missing", "Add it to every question.")
    return Question(str(record[video]), record["question"], record["answer"])


def _msvd(record: Record, names: Mapping[str, str]) -> Question:
    question = _columns(record, "video_id")
    number = question.video if question.video.startswith("vid") else f"vid{question.video}"
    return question._replace(video=names.get(number, question.video))


def _names_of_msvd(path: Path) -> dict[str, str]:
    """Read which video a number means; empty without the file, where lists hold the names themselves."""
    file = path.with_name(MSVD_NAMES)
    if not file.is_file():
        return {}
    try:
        rows = [line.split() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        return {number: name for name, number in rows}
    except (OSError, ValueError) as error:
        raise ManifestError(
            str(file), None, f"it cannot be read ({reason_of(error)})", "Expected lines of a name and vidN."
        ) from error


LAYOUTS: dict[str, Callable[[Path], Callable[[Record], Question]]] = {
    "msrvtt": lambda path: partial(_columns, video="video_id"),
    "msvd": lambda path: partial(_msvd, names=_names_of_msvd(path)),
    "tgif": lambda path: partial(_columns, video="gif_name"),
}
"""Name -> function from a list's path to the function from its records to questions. All are JSON objects with
`question` and `answer`; the video is `video_id` (msrvtt), a number named by `MSVD_NAMES` (msvd), `gif_name` (tgif)."""


def read_questions(
    path: str | Path, data_root: str | Path, layout: str, *, check_files: bool = True
) -> Iterator[dict[str, Any]]:
    """Read a list of questions about videos.

    Args:
        path: the list.
        data_root: the folder of the videos, at any depth.
        layout: a name in `LAYOUTS`.
        check_files: raise an error for a video without a file.

    Yields:
        `{"video": path, "question": text, "answer": text}`.

    Raises:
        ManifestError: if the list cannot be read, a question is incomplete, or its video is missing.
        ValueError: if the layout is unknown.
    """
    rule, tree, count = lookup(LAYOUTS, layout, "layout")(Path(path)), VideoTree(data_root), 0
    for place, record in read_records(path):
        try:
            video, question, answer = rule(record)
            if not all(isinstance(text, str) and text.strip() for text in (video, question, answer)):
                raise _BadQuestion("a text is empty", "Expected a video, a question and an answer.")
            found = tree.find([video])
        except LookupError as error:
            advice = "Give a data_root (--data-root) that holds one of them."
            raise ManifestError(str(path), place, str(error), advice) from None
        except _BadQuestion as bad:
            raise ManifestError(str(path), place, *bad.args) from None
        if found is None and check_files:
            raise ManifestError(
                str(path), place, f"{data_root} holds no video {video}", "Give the videos' folder as the data root."
            )
        count += 1
        yield {"video": str(Path(data_root) / (found or f"{video}.mp4")), "question": question, "answer": answer}
    if not count:
        raise ManifestError(str(path), None, "it holds no question", "Check the list.")


def read_answers(path: str | Path) -> list[str]:
    """Read a list of answers, in the order of their numbers.

    Args:
        path: JSON with an object from answers to numbers, or a list; or text with one answer a line.

    Raises:
        ManifestError: if it cannot be read, or its numbers are not 0, 1, ... up to the last.
    """

    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = json.loads(text) if path.suffix.lower() == ".json" else text.splitlines()
    except (OSError, ValueError) as error:
        raise ManifestError(
            str(path), None, f"it cannot be read ({reason_of(error)})", "Download it again."
        ) from error
    if isinstance(content, dict):
        content = (
            [answer for answer, _ in sorted(content.items(), key=lambda item: item[1])]
            if (sorted(content.values()) == list(range(len(content))))
            else None
        )
    if (
        not isinstance(content, list)
        or not content
        or not all(isinstance(one, str) and one.strip() for one in content)
    ):
        raise ManifestError(
            str(path), None, "it is no list of answers", "Expected answers with numbers from 0, or one a line."
        )
    return [answer.strip() for answer in content]
