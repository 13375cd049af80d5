"""What the tasks that detect something share: tables of labeled detections, and their average precision."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LISTED = 10  # classes in the text


def check_columns(owner: str, rows: int, columns: Mapping[str, NDArray[Any]]) -> None:
    """Refuse columns of a table that do not fit each other.

    Args:
        owner: name of the column that says what is detected in.
        rows: its length.
        columns: name -> numbers, a row each.

    Raises:
        ValueError: if the lengths differ, or a number is not finite.
    """
    for name, column in columns.items():
        if len(column) != rows:
            raise ValueError(f"{name} has {len(column)} rows, expected {rows}, one for each entry of {owner}.")
        if not np.isfinite(column).all():
            raise ValueError(f"{name} holds numbers that are not finite.")


def interpolated_precision(hits: NDArray[np.bool_], positives: int) -> float:
    """Return the area under the interpolated precision over recall (PASCAL VOC, all points), 0-1.

    Args:
        hits: which detections are right, by falling score.
        positives: true ones, found or not, at least 1.
    """
    found = hits.cumsum()
    precision = np.concatenate([found / np.arange(1, len(hits) + 1), [0.0]])
    recall = np.concatenate([[0.0], found / positives])
    precision = np.maximum.accumulate(precision[::-1])[::-1][:-1]
    return float((np.diff(recall) * precision).sum())


def best_and_worst(rows: Sequence[Mapping[str, Any]], counted: str, width: int) -> str:
    """Return average precision of the best and the worst classes as text.

    Args:
        rows: "class", the count of true ones, "found" and "AP" of each class, the best first.
        counted: name of what is counted.
        width: characters of a class.
    """
    lines = [f"{'class':{width}} {counted:>8} {'found':>8} {'AP':>7}"]
    shown = rows if len(rows) <= 2 * _LISTED else [*rows[:_LISTED], *rows[-_LISTED:]]
    lines += [f"{row['class'][:width]:{width}} {row[counted]:8d} {row['found']:8d} {row['AP']:7.2f}" for row in shown]
    if len(shown) < len(rows):
        lines.append(f"The {_LISTED} best and the {_LISTED} worst of {len(rows)} classes.")
    return "\n".join(lines)
