"""Comparison of the settings that a saved result was made with to those of a call that would continue it."""

from collections.abc import Mapping
from typing import Any


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any], most: int = 5) -> str:
    """Return which settings differ, such as "data.list a.csv, now b.csv; window 16, now 8"; empty if none does.

    Args:
        before: settings of the saved result, nested for parts.
        now: settings of the call. What one of the two lacks counts as None, which reads "none".
        most: settings to name; of more, their number is added.
    """
    clauses = sorted(_differences(before, now, ""))
    more = [f"{len(clauses) - most} more"] if len(clauses) > most else []
    return "; ".join(clauses[:most] + more)


def _differences(before: Any, now: Any, place: str) -> list[str]:
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        return [] if before == now else [f"{place} {_shown(before)}, now {_shown(now)}"]
    keys = before.keys() | now.keys()
    return [
        difference
        for key in keys
        for difference in _differences(before.get(key), now.get(key), f"{place}.{key}".lstrip("."))
    ]


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)
