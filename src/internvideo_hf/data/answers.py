"""Lists of answers to questions about videos, and the classes of a head that scores them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from internvideo_hf.data.records import ManifestError
from internvideo_hf.utils.names import reason_of

BACKGROUND = "background"
"""Name of the last class of the released heads, which have one class more than their lists have answers. Nothing was
trained to have it: no pipeline returns it, and it takes no part in the probabilities of the answers. A last answer of
this name, in a list of your own, would be taken for it."""


def read_answers(path: str | Path) -> list[str]:
    """Read a list of answers, in the order of their numbers.

    Args:
        path: JSON with an object from answers to numbers, or a list; or text with one answer a line.

    Raises:
        ManifestError: if it cannot be read, its numbers are not 0, 1, ... up to the last, or an answer is empty or
            comes twice.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
        is_json = path.suffix.lower() == ".json" or text.startswith(("{", "["))
        content = json.loads(text) if is_json else text.splitlines()
    except (OSError, ValueError, RecursionError) as error:
        raise ManifestError(str(path), None, f"it cannot be read ({reason_of(error)})", "Check the file.") from error
    answers = _in_order(content) if isinstance(content, dict) else content
    if (
        not isinstance(answers, list)
        or not answers
        or not all(isinstance(answer, str) and answer.strip() for answer in answers)
    ):
        raise ManifestError(
            str(path),
            None,
            "it is not a list of answers",
            "Expected a JSON object from answers to numbers 0, 1, ..., or text with one answer a line.",
        )
    answers = [answer.strip() for answer in answers]
    if repeated := sorted({answer for answer in answers if answers.count(answer) > 1}):
        raise ManifestError(str(path), None, f"it has {', '.join(repeated[:5])} twice", "Give each answer once.")
    return answers


def _in_order(numbers: dict[str, Any]) -> list[str] | None:
    if {type(number) for number in numbers.values()} != {int} or set(numbers.values()) != set(range(len(numbers))):
        return None
    return sorted(numbers, key=lambda answer: numbers[answer])


def name_classes(answers: Sequence[str], classes: int) -> list[str]:
    """Return the names of a head's classes: the answers, and `BACKGROUND` behind them where it has one class more.

    Args:
        answers: in the order of their numbers.
        classes: of the head.

    Raises:
        ValueError: if the head has another number of classes.
    """
    surplus = classes - len(answers)
    if surplus not in (0, 1):
        raise ValueError(
            f"The list has {len(answers)} answers, expected {classes - 1} or {classes}: the head has {classes} "
            "classes. Give the list that the model was trained on."
        )
    return [*answers, *[BACKGROUND] * surplus]


def numbered_answer(number: int) -> str:
    """Return the name of a class whose answer is unknown."""
    return f"answer {number}"


def answers_of(classes: Sequence[str]) -> list[str]:
    """Return the answers among the classes of a head: all but `BACKGROUND`, where the last is named so.

    Args:
        classes: names, in the order of the head's scores.
    """
    return list(classes[:-1] if classes[-1] == BACKGROUND else classes)
