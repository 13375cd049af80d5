"""Rows of features as stretches of time: which row a moment is in, and when a span of rows begins and ends.

The rows of a video divide its time among them. A row has the time that is nearer to the middle of its window than to
that of any other; the first one begins with the video, and the last one ends with it.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def row_edges(middles: Floats, duration: float | None) -> Floats:
    """Return where each row begins, and the last one ends, in seconds: `(rows + 1,)`, rising.

    Args:
        middles: of the rows' windows in seconds, rising, `(rows,)`, 1 or more.
        duration: of the video in seconds; if None, the last row ends as far behind its middle as it begins before it.
    """
    middles = np.maximum.accumulate(np.asarray(middles, dtype=np.float64))
    between = (middles[:-1] + middles[1:]) / 2
    first = min(0.0, float(middles[0]))
    half = middles[-1] - between[-1] if len(between) else middles[-1] - first
    last = middles[-1] + half if duration is None else max(duration, middles[-1])
    return np.concatenate([[first], between, [last]])


def rows_between(edges: Floats, start: float, end: float) -> tuple[int, int]:
    """Return the first and the last row of a stretch: the ones whose edges are nearest, one row at least.

    Args:
        edges: see `row_edges`.
        start: of the stretch in seconds.
        end: of the stretch in seconds, `start` or more.
    """
    first = int(np.abs(edges[:-1] - start).argmin())
    last = int(np.abs(edges[1:] - end).argmin())
    if last < first:  # shorter than a row, whose edges then lie around it
        middle = (start + end) / 2
        first = last = int(np.searchsorted(edges, middle, side="right").clip(1, len(edges) - 1)) - 1
    return first, last


def part_of_rows(middles: Floats, start: float, end: float) -> slice:
    """Return the rows of a video that belong to a clip of it: those whose middles lie in it, or else the nearest one.

    Args:
        middles: of the rows' windows in seconds of the video, `(rows,)`.
        start: of the clip in seconds of the video.
        end: of the clip.
    """
    first, last = np.searchsorted(middles, [start, end])
    if first == last:
        first = int(np.abs(middles - (start + end) / 2).argmin())
        last = first + 1
    return slice(int(first), int(last))
