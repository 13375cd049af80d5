"""Conditions on clips, such as `camera = 'door' and start > 60`: a small grammar, parsed and typed before any store.

    condition  = term {"or" term}              term   = factor {"and" factor}
    factor     = "not" factor | "(" condition ")" | column test
    test       = ("=" | "!=" | "<" | "<=" | ">" | ">=") value
               | ["not"] "in" "(" value {"," value} ")" | "is" ["not"] "null"
    value      = 'text', with '' for a quote | number | "true" | "false"

A column is `video`, `start` or `end` of a clip (seconds), or a column of the list that the videos came from. Where a
clip has no value, every test but `is null` is false.
"""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from internvideo_hf.search.stores.segments import Segment
from internvideo_hf.utils.names import unknown_name

Value = str | float | bool
OWN_COLUMNS = {"video": "text", "start": "number", "end": "number"}
"""Columns that every clip has, and their kinds."""
OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_TOKEN = re.compile(
    r"""\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"""
    r"""|(?P<word>[A-Za-z_]\w*)|(?P<sign><=|>=|!=|<>|==|[=<>(),]))"""
)
_WORDS = ("and", "or", "not", "in", "is", "null", "true", "false")
_DEEPEST = 50  # parentheses and nots within each other


class WhereError(ValueError):
    """A condition that cannot be read; the message names the place."""


@dataclass(frozen=True)
class Column:
    """A column of clips.

    Attributes:
        name: in small letters.
        kind: "text", "number" or "bool".
    """

    name: str
    kind: str

    @property
    def is_own(self) -> bool:
        """Whether every clip has it, not only those from a list."""
        return self.name in OWN_COLUMNS


@dataclass(frozen=True)
class Compare:
    """Whether a column's value compares so to another; false without a value."""

    column: Column
    sign: str
    value: Value


@dataclass(frozen=True)
class Among:
    """Whether a column's value is one of some; false without a value."""

    column: Column
    values: tuple[Value, ...]


@dataclass(frozen=True)
class IsNull:
    """Whether a clip has no value of a column."""

    column: Column


@dataclass(frozen=True)
class Not:
    """The opposite of a condition."""

    part: "Where"


@dataclass(frozen=True)
class All:
    """Whether all conditions hold."""

    parts: tuple["Where", ...]


@dataclass(frozen=True)
class Any_:
    """Whether any condition holds."""

    parts: tuple["Where", ...]


Where = Compare | Among | IsNull | Not | All | Any_


def kind_of(value: Any) -> str:
    """Return the kind of a value: "text", "number" or "bool"."""
    return "bool" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"


def parse(text: str, columns: Mapping[str, str]) -> Where:
    """Read a condition.

    Args:
        text: the condition.
        columns: kinds of the columns of lists, by name.

    Raises:
        WhereError: if it is not of the grammar, names an unknown column, or compares values of two kinds.
    """
    return _Parser(text, {**columns, **OWN_COLUMNS}).parse()


def mask(where: Where, segment: Segment) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which rows of a segment satisfy a condition, bool `(rows,)`."""
    match where:
        case Not(part):
            return ~mask(part, segment)
        case All(parts):
            return reduce(np.logical_and, [mask(part, segment) for part in parts])
        case Any_(parts):
            return reduce(np.logical_or, [mask(part, segment) for part in parts])
    column = where.column
    if column.kind == "number" and column.is_own:
        times = segment.spans[:, 0 if column.name == "start" else 1].numpy()
        return np.array([_holds(where, None if np.isnan(time) else time) for time in np.round(times, 3)], dtype=bool)
    values = [v.path if column.is_own else v.metadata.get(column.name) for v in segment.videos]
    found = np.array([_holds(where, value) for value in values], dtype=bool)
    return found.take(segment.video.numpy())


def _holds(where: Compare | Among | IsNull, value: Value | None) -> bool:
    if isinstance(where, IsNull):
        return value is None
    if value is None or kind_of(value) != where.column.kind:
        return False
    if isinstance(where, Among):
        return value in where.values
    return bool(OPERATORS[where.sign](value, where.value))


class _Parser:
    """Recursive descent over the tokens of a condition."""

    def __init__(self, text: str, columns: Mapping[str, str]):
        self._text, self._columns, self._depth = text, columns, 0
        self._tokens: list[tuple[str, str, int]] = []  # kind, text, place
        place, end = 0, len(text.rstrip())
        while place < end:
            if (token := _TOKEN.match(text, place)) is None:
                start = place + len(text[place:]) - len(text[place:].lstrip())
                hint = " (texts stand in single quotes)" if text[start] in "\"'" else ""
                raise self._error(start, f"{text[start]!r} is not expected{hint}")
            kind = str(token.lastgroup)
            self._tokens.append((kind, token[kind], token.start(kind)))
            place = token.end()
        self._next = 0

    def parse(self) -> Where:
        """Return the condition."""
        found = self._either()
        if self._next < len(self._tokens):
            raise self._error(self._place(), f"expected `and`, `or` or the end, got {self._shown()}")
        return found

    def _either(self) -> Where:
        parts = [self._both()]
        while self._take("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else Any_(tuple(parts))

    def _both(self) -> Where:
        parts = [self._factor()]
        while self._take("and"):
            parts.append(self._factor())
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _factor(self) -> Where:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error(self._place(), f"more than {_DEEPEST} parentheses are within each other")
        try:
            if self._take("not"):
                return Not(self._factor())
            if self._take("("):
                found = self._either()
                self._need(")")
                return found
            return self._test(self._column())
        finally:
            self._depth -= 1

    def _column(self) -> Column:
        place, kind, text = self._place(), self._kind(), self._shown()
        if kind != "word" or self._word() in _WORDS:
            raise self._error(place, f"expected the name of a column, got {text}")
        name = self._word()
        if name not in self._columns:
            raise self._error(place, unknown_name(name, self._columns, "column"))
        self._next += 1
        return Column(name, self._columns[name])

    def _test(self, column: Column) -> Where:
        if self._take("is"):
            negated = self._take("not")
            self._need("null")
            return Not(IsNull(column)) if negated else IsNull(column)
        negated = self._take("not")
        if self._take("in"):
            self._need("(")
            values = [self._value(column)]
            while self._take(","):
                values.append(self._value(column))
            self._need(")")
            among = Among(column, tuple(values))
            # As `!=`: false without a value.
            return All((Not(among), Not(IsNull(column)))) if negated else among
        if negated:
            raise self._error(self._place(), f"expected `in`, got {self._shown()}")
        sign = {"<>": "!=", "==": "="}.get(self._word(), self._word())
        if sign not in OPERATORS:
            raise self._error(self._place(), f"expected {' '.join(OPERATORS)}, `in` or `is`, got {self._shown()}")
        place = self._place()
        self._next += 1
        value = self._value(column)
        if column.kind == "bool" and sign not in ("=", "!="):
            raise self._error(place, f"{column.name} is true or false, which `{sign}` does not compare")
        return Compare(column, sign, value)

    def _value(self, column: Column) -> Value:
        place, kind, text = self._place(), self._kind(), self._shown()
        value: Value
        if kind == "text":
            value = self._tokens[self._next][1][1:-1].replace("''", "'")
        elif kind == "number":
            value = float(self._tokens[self._next][1])
        elif self._word() in ("true", "false"):
            value = self._word() == "true"
        else:
            quoted = " in single quotes" if kind == "word" else ""
            raise self._error(place, f"expected a {column.kind}{quoted}, got {text}")
        if kind_of(value) != column.kind:
            raise self._error(place, f"{column.name} is a {column.kind}, {text} is a {kind_of(value)}")
        if isinstance(value, str) and "\0" in value:
            raise self._error(place, "no value holds a NUL")
        self._next += 1
        return value

    def _kind(self) -> str:
        return self._tokens[self._next][0] if self._next < len(self._tokens) else "end"

    def _word(self) -> str:
        """Return the next word or sign in small letters; empty for values and at the end."""
        return self._tokens[self._next][1].lower() if self._kind() in ("word", "sign") else ""

    def _take(self, word: str) -> bool:
        taken = self._word() == word
        self._next += taken
        return taken

    def _need(self, word: str) -> None:
        if not self._take(word):
            raise self._error(self._place(), f"expected `{word}`, got {self._shown()}")

    def _place(self) -> int:
        return self._tokens[self._next][2] if self._next < len(self._tokens) else len(self._text.rstrip())

    def _shown(self) -> str:
        return self._tokens[self._next][1] if self._next < len(self._tokens) else "the end"

    def _error(self, place: int, cause: str) -> WhereError:
        shown = f"{self._text[:place]}>>>{self._text[place:]}"
        return WhereError(f"{shown!r}, character {place + 1} (after >>>): {cause.rstrip('.')}.")


def columns_of(metadata: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the kinds of the columns of some videos; a column of several kinds is left out."""
    kinds: dict[str, set[str]] = {}
    for values in metadata:
        for name, value in values.items():
            kinds.setdefault(name, set()).add(kind_of(value))
    return {name: next(iter(found)) for name, found in kinds.items() if len(found) == 1}
