"""Lists of open questions about videos, in the published layouts."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from transformers.utils import logging

from internvideo_hf.data.answers import read_answers
from internvideo_hf.data.finding import VideoTree
from internvideo_hf.data.layouts import Record
from internvideo_hf.data.records import ManifestError, read_records, require_datasets
from internvideo_hf.models.common.losses import IGNORED
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.utils.names import lookup, reason_of

if TYPE_CHECKING:
    import datasets

logger = logging.get_logger(__name__)

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
    "named": lambda path: partial(_columns, video="video"),
}
"""Name -> function from a list's path to the function from its records to questions. All have `question` and `answer`;
the video is `video_id` (msrvtt), a number named by `MSVD_NAMES` (msvd), `gif_name` (tgif), or the path `video`."""


def _layout_of(record: Record) -> str:
    """Detect the layout of a list; MSVD's has the columns of MSR-VTT's."""
    for layout, column in {"named": "video", "tgif": "gif_name", "msrvtt": "video_id"}.items():
        if column in record:
            return layout
    raise _BadQuestion(
        "nothing says which video is meant", "Expected video, question and answer, or a published layout."
    )


def read_questions(
    path: str | Path,
    data_root: str | Path,
    layout: str | None = None,
    *,
    check_files: bool = True,
    skip_missing: bool = False,
) -> Iterator[dict[str, Any]]:
    """Read a list of questions about videos.

    Args:
        path: the list: JSON, JSON lines, parquet, or text with a header.
        data_root: the folder of the videos, at any depth; paths are relative to it.
        layout: a name in `LAYOUTS`; detected from the first record if None.
        check_files: raise an error for a video without a file.
        skip_missing: leave out such questions, with a warning that counts them, instead.

    Yields:
        `{"video": path, "question": text, "answer": text}`.

    Raises:
        ManifestError: if the list cannot be read, a question is incomplete, or its video is missing.
        ValueError: if the layout is unknown.
    """
    path, data_root = Path(path), Path(data_root)
    rule = None if layout is None else lookup(LAYOUTS, layout, "layout")(path)
    tree, count, missing = VideoTree(data_root), 0, []
    for place, record in read_records(path):
        try:
            rule = rule or LAYOUTS[_layout_of(record)](path)
            question = rule(record)
            if not all(isinstance(text, str) and text.strip() for text in question):
                raise _BadQuestion("a text is empty", "Expected a video, a question and an answer.")
            found = question.video if (data_root / question.video).exists() else tree.find([question.video])
        except LookupError as error:
            advice = "Give a data_root (--data-root) that holds one of them."
            raise ManifestError(str(path), place, str(error), advice) from None
        except _BadQuestion as bad:
            raise ManifestError(str(path), place, *bad.args) from None
        if found is None and skip_missing:
            missing.append(question.video)
            continue
        if found is None and check_files:
            raise ManifestError(
                str(path),
                place,
                f"{data_root} holds no video {question.video}",
                "Give the videos' folder as the data root.",
            )
        count += 1
        video = found or (question.video if "." in question.video else f"{question.video}.mp4")
        yield {
            "video": str(data_root / video),
            "question": question.question.strip(),
            "answer": question.answer.strip(),
        }
    if missing:
        logger.warning(
            f"{path}: {len(missing)} questions are left out, whose videos have no file; the first is {missing[0]}."
        )
    if not count:
        raise ManifestError(str(path), None, "it holds no question", "Check the list.")


def frequent_answers(answers: Iterable[str], count: int | None = None) -> list[str]:
    """Return the distinct answers, the most frequent first, equally frequent ones in order of the alphabet.

    Args:
        answers: of all questions.
        count: how many to return; None for all.
    """
    counted = Counter(answers)
    return sorted(counted, key=lambda answer: (-counted[answer], answer))[:count]


def read_training_rows(
    path: Path,
    data_root: Path,
    *,
    layout: str | None = None,
    labels: str | int | None = None,
    classes: list[str] | None = None,
    skip_missing: bool = False,
) -> "tuple[datasets.Dataset, list[str]]":
    """Read a list of questions for training or validation.

    Args:
        path: the list; see `read_questions`.
        data_root: the folder of the videos.
        layout: a name in `LAYOUTS`; detected if None.
        labels: a file of answers below `data_root`, see `read_answers`; or the number of answers, the most frequent of
            the list; all of the list if None.
        classes: the answers, for a validation list; `labels` is then not read.
        skip_missing: leave out questions whose video has no file.

    Returns:
        Rows with `video`, `caption` (the question), `answer` and `label` (its number), and the answers. With an answer
        that is none of them, a question for training is left out, and one for validation has -100.

    Raises:
        ManifestError: if a list is invalid.
        RecipeError: if there are fewer than two answers, or no question has one of them.
    """
    if path.is_dir():
        raise RecipeError(f"{path} is a folder, expected a list of questions with their videos and answers.")
    datasets = require_datasets()
    rows = list(read_questions(path, data_root, layout, skip_missing=skip_missing))
    training = classes is None
    if isinstance(labels, str) and training:
        classes = read_answers(data_root / labels)
    elif training and not isinstance(labels, str):
        classes = frequent_answers((row["answer"] for row in rows), labels)
    assert classes is not None
    if len(classes) < 2:
        raise RecipeError(f"There are {len(classes)} answers, so there is nothing to learn. Set data.labels.")
    numbers = {answer: number for number, answer in enumerate(classes)}
    found = [numbers.get(row["answer"], IGNORED) for row in rows]
    outside = found.count(IGNORED)
    if outside == len(rows):
        raise RecipeError(
            f"None of the answers of {path} is one of the model's, such as {classes[0]!r}. Set data.labels to the "
            "list of its answers."
        )
    if outside:
        what = "left out" if training else "counted as wrong"
        logger.warning(f"{path}: {outside} of {len(rows)} questions have an answer that is not in the list; {what}.")
    table = [
        {"video": row["video"], "caption": row["question"], "label": number, "answer": row["answer"]}
        for row, number in zip(rows, found, strict=True)
        if number != IGNORED or not training
    ]
    return datasets.Dataset.from_list(table), classes
