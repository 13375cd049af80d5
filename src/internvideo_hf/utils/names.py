"""Lookup of names that a user wrote, with one wording for unknown ones; names and sentences in messages."""

import difflib
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")
_LISTED = 20  # names that a message lists; of more, it names the nearest

# Control characters, marks that change the direction of writing, and bytes of file names that are no text.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_ERROR_NUMBER = re.compile(r"\[(Errno|WinError) -?\d+\] *")


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def printable(text: object, keep: str = "", escape: Callable[[str], str] = _escaped) -> str:
    r"""Return a text with what would command a terminal or break a line escaped, such as `\x1b` and `\n`.

    Args:
        text: a name that others have given, or a text made of such names.
        keep: characters to leave as they are.
        escape: writes the others; as Python does by default.
    """
    return _UNPRINTABLE.sub(lambda found: found[0] if found[0] in keep else escape(found[0]), str(text))


def clock(seconds: float) -> str:
    """Return a time such as 0:01:02.5.

    Args:
        seconds: 0 or more.
    """
    tenths = round(seconds * 10)
    return f"{tenths // 36000}:{tenths // 600 % 60:02d}:{tenths // 10 % 60:02d}.{tenths % 10}"


def is_repository_name(name: str) -> bool:
    """Return whether a name may be that of a repository on the Hub, owner/name."""
    return re.fullmatch(r"[\w][\w.-]*/[\w][\w.-]*", name) is not None


def without_number(text: object) -> str:
    """Return a message without the numbers that Python puts before the system's errors, such as `[Errno 2]`."""
    return _ERROR_NUMBER.sub("", str(text))


def reason_of(error: BaseException) -> str:
    """Return in at most one line of 200 characters what an exception says, or its class if it says nothing.

    Args:
        error: any exception. Of an error of the system or of FFmpeg, number and file are left out.
    """
    said = getattr(error, "strerror", None)
    return ((without_number(error) if said is None else said).strip() or type(error).__name__).splitlines()[0][:200]


def distinct_names(paths: Sequence[str], least: Sequence[str] | None = None) -> list[str]:
    """Return the shortest end of each path that no other of them has: file names, and folders where those are equal.

    Args:
        paths: paths or addresses. One that comes twice gets the same name twice.
        least: for each path the end of it that its name has at least; its last part where None.
    """
    whole = [path if "://" in path else os.path.abspath(path) for path in paths]
    parts = [[part for part in path.replace(os.sep, "/").split("/") if part] for path in whole]
    counts = [1] * len(paths) if least is None else [len(name.replace(os.sep, "/").split("/")) for name in least]
    while True:
        owners: dict[tuple[str, ...], set[str]] = {}
        ends = [tuple(own[-count:]) for own, count in zip(parts, counts, strict=True)]
        for end, path in zip(ends, whole, strict=True):
            owners.setdefault(end, set()).add(path)
        longer = [
            min(count + (len(owners[end]) > 1), len(own)) for end, count, own in zip(ends, counts, parts, strict=True)
        ]
        if longer == counts:
            return ["/".join(end) for end in ends]
        counts = longer


def lookup(table: Mapping[str, T], name: object, argument: str, error: type[Exception] = ValueError) -> T:
    """Return the entry of a table that a user named.

    Args:
        table: entries by name.
        name: the user's word.
        argument: the user's word for the choice, such as "merge" or "--prompts".
        error: the exception class to raise.

    Raises:
        ValueError: or `error`, if the table lacks the name; the message names the nearest one.
    """
    return table[check_name(name, table, argument, error)]


def check_name(name: object, known: Collection[str], argument: str, error: type[Exception] = ValueError) -> str:
    """Return a name that must be among the known ones.

    Args:
        name: the user's word.
        known: the names that exist.
        argument: the user's word for the choice.
        error: the exception class to raise.

    Raises:
        ValueError: or `error`, if the name is unknown; the message names the nearest one.
    """
    if name not in known:
        raise error(unknown_name(name, known, argument))
    return str(name)


def unknown_name(name: object, known: Collection[str], argument: str) -> str:
    """Return the message for a name that is not among the known ones.

    Args:
        name: the user's word.
        known: the names that exist.
        argument: the user's word for the choice.
    """
    close = nearest(name, known)
    shown = ", ".join(known) if len(known) <= _LISTED or not close else f"{', '.join(list(known)[:_LISTED])}, ..."
    return f"{argument}: got {name!r}, expected one of {shown}.{did_you_mean(close)}"


def nearest(name: object, known: Collection[str], n: int = 1, cutoff: float = 0.6) -> list[str]:
    """Return the known names that are spelled most like a name, the best first."""
    by_lower_case = {str(entry).lower(): str(entry) for entry in known}
    close = difflib.get_close_matches(str(name).lower(), by_lower_case, n=n, cutoff=cutoff)
    return [by_lower_case[entry] for entry in close]


def with_article(noun: object) -> str:
    """Return a noun behind "a" or "an", such as "an InternVideoModel" or "a UniFormerV2Model".

    Args:
        noun: a word, which may stand in quotes.
    """
    text = str(noun)
    vowel = re.match(r"\W*([aeio]|u(?!ni))", text, re.IGNORECASE)
    return f"{'an' if vowel else 'a'} {text}"


def listed(names: Sequence[str], most: int = 8, separator: str = ", ") -> str:
    """Return the first of several names, and how many more there are: "a, b and 7 more".

    Args:
        names: what to list.
        most: names to show.
        separator: between names.
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return separator.join(names[:most]) + more


def sentence(text: str) -> str:
    """Return a text with a period at its end, unless it has a mark there."""
    return text if text.endswith((".", "?", "!")) else f"{text}."


def did_you_mean(names: Collection[str], prefix: str = "") -> str:
    """Return " Did you mean X or Y?", or an empty string without names.

    Args:
        names: suggestions.
        prefix: put before each name, such as "training.".
    """
    return f" Did you mean {' or '.join(prefix + name for name in names)}?" if names else ""
