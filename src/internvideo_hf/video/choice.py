"""Choosing from a literal dict by a name that a user wrote."""

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


def choose(table: Mapping[str, T], name: str, argument: str) -> T:
    """Look a name up.

    Args:
        argument: what the user calls the choice, for the message.

    Raises:
        ValueError: if the table lacks the name; the message lists those it has.
    """
    if name not in table:
        raise ValueError(f"{argument}: got {name!r}, expected one of {', '.join(table)}; check the spelling")
    return table[name]
