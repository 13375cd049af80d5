"""What the tasks that detect something share: tables of labeled detections, and their average precision."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
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


def overlap_in_time(first: Floats, second: Floats) -> Floats:
    """Return the intersection over union of segments `(..., 2)`; 0 where both are empty.

    Args:
        first: start and end.
        second: the same.
    """
    shared = (np.minimum(first[..., 1], second[..., 1]) - np.maximum(first[..., 0], second[..., 0])).clip(min=0)
    union = (first[..., 1] - first[..., 0]) + (second[..., 1] - second[..., 0]) - shared
    found: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return found


def overlap_of_boxes(first: Floats, second: Floats) -> Floats:
    """Return the intersection over union of boxes `(..., 4)`; 0 where both are empty.

    Args:
        first: left, top, right, bottom; the right and bottom edges are where a box ends, not its last pixel.
        second: the same.
    """
    size = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    shared = size.clip(min=0).prod(axis=-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(axis=-1) for boxes in (first, second)]
    union = areas[0] + areas[1] - shared
    found: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union != 0)
    return found


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
