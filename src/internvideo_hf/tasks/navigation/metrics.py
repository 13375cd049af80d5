"""Metrics of navigation in continuous environments, from recorded paths."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from internvideo_hf.tasks.navigation.paths import RecordedPath

SUCCESS_DISTANCE = 3.0  # meters to the goal within which an agent has to stop
DENSE_STEP = 0.25  # meters between points of a reference path
WARPING_RADIUS = 1

COLUMNS = ("NE", "PL", "SR", "OSR", "SPL", "nDTW", "collisions")
"""Navigation error and path length in meters, lower is better and neither; then, in percent: success, oracle success,
success weighted by path length, normalized dynamic time warping, and low-level moves that collided."""

Points = NDArray[np.float64]
Cell = tuple[int, int]


def mean_scores(paths: Iterable[RecordedPath], success_distance: float = SUCCESS_DISTANCE) -> dict[str, float]:
    """Return the means over episodes by the names of `COLUMNS`.

    Args:
        paths: with distances to the goal, and with reference paths; one at least.
        success_distance: meters.
    """
    rows = [measure(path, success_distance) for path in paths]
    return {name: float(np.mean([row[name] for row in rows])) for name in COLUMNS}


def measure(
    path: RecordedPath,
    success_distance: float = SUCCESS_DISTANCE,
    step: float = DENSE_STEP,
    radius: int = WARPING_RADIUS,
) -> dict[str, float]:
    """Return the metrics of one episode by the names of `COLUMNS`.

    An agent succeeds if it stops within `success_distance` of the goal; one that is stopped there does not.

    Args:
        path: with distances to the goal, and with a reference path.
        success_distance: meters.
        step: meters between the points of the reference path, for nDTW.
        radius: of the window of nDTW, see `warping_distance`.

    Raises:
        ValueError: if the path has no distances or no reference.
    """
    if path.distances is None or path.reference is None:
        lacks = "distances to the goal" if path.distances is None else "reference path"
        raise ValueError(f"Episode {path.episode} has no {lacks}, which its metrics need.")
    positions = np.asarray(path.positions, dtype=np.float64)
    length = float(np.linalg.norm(np.diff(positions, axis=0), axis=1).sum())
    first, last = path.distances[0], path.distances[-1]
    success = float(path.stopped and last <= success_distance)
    longest = max(first, length)
    # An agent that stops at once at its goal has gone no way in vain.
    spl = success * (first / longest if longest else 1.0)
    scores = {
        "NE": last,
        "PL": length,
        "SR": success,
        "OSR": float(min(path.distances) <= success_distance),
        "SPL": spl,
        "nDTW": normalized_warping(path, success_distance, step, radius),
        "collisions": float(np.mean(path.collisions)) if path.collisions else 0.0,
    }
    return {name: score if name in ("NE", "PL") else 100 * score for name, score in scores.items()}


def normalized_warping(
    path: RecordedPath,
    success_distance: float = SUCCESS_DISTANCE,
    step: float = DENSE_STEP,
    radius: int = WARPING_RADIUS,
) -> float:
    """Return how well a path follows its reference: nDTW, 0-1. See `measure` for the arguments."""
    if path.reference is None:
        raise ValueError(f"Episode {path.episode} has no reference path, which its metrics need.")
    dense = densify(np.asarray(path.reference, dtype=np.float64), step)
    warping = warping_distance(np.asarray(path.positions, dtype=np.float64), dense, radius)
    return math.exp(-warping / (len(dense) * success_distance))


def densify(reference: Points, step: float = DENSE_STEP) -> Points:
    """Fill up a reference path with points at equal steps, measured horizontally.

    Args:
        reference: `(n, 3)`, meters; the second axis is up.
        step: meters.

    Returns:
        `(m, 3)`, all points of the reference among them.
    """
    points = [reference[0]]
    for start, end in pairwise(reference):
        length = float(np.hypot(*(end - start)[[0, 2]]))
        if length > 0:  # one above the other, the original divides by zero
            ratio = step / length
            for _ in range(int(1 / ratio) - 1):
                points.append(points[-1] + ratio * (end - start))
        points.append(end)
    return np.stack(points)


def warping_distance(first: Points, second: Points, radius: int = WARPING_RADIUS) -> float:
    """Return the distance of two paths by FastDTW (Salvador and Chan, 2007), which approximates it from above.

    The published numbers are of this approximation: the way through both paths is found on paths of half as many
    points, and refined in a window around it.

    Args:
        first: `(n, 3)`.
        second: `(m, 3)`.
        radius: of the window, in points of the coarser paths.

    Returns:
        The sum of Euclidean distances along the way.
    """
    return _fast(first, second, radius)[0]


def _fast(first: Points, second: Points, radius: int) -> tuple[float, list[Cell]]:
    if min(len(first), len(second)) < radius + 2:
        return _warp(first, second, [range(len(second))] * len(first))
    _, way = _fast(_halve(first), _halve(second), radius)
    return _warp(first, second, _window(way, len(first), len(second), radius))


def _halve(points: Points) -> Points:
    even = len(points) - len(points) % 2
    return (points[0:even:2] + points[1:even:2]) / 2


def _window(way: Sequence[Cell], rows: int, columns: int, radius: int) -> list[range]:
    """Return the columns of each row of the finer grid that are near a way through the coarser one."""
    spans: dict[int, tuple[int, int]] = {}
    for row, column in way:
        for near in range(row - radius, row + radius + 1):
            low, high = spans.get(near, (column, column))
            spans[near] = min(low, column - radius), max(high, column + radius)
    coarse = (spans[row // 2] for row in range(rows))
    return [range(max(2 * low, 0), min(2 * high + 2, columns)) for low, high in coarse]


def _warp(first: Points, second: Points, window: Sequence[range]) -> tuple[float, list[Cell]]:
    """Return the least sum of distances on a way through a window, and the way."""
    best: dict[Cell, tuple[float, Cell]] = {(-1, -1): (0.0, (-1, -1))}
    for row, columns in enumerate(window):
        distances = np.linalg.norm(second[columns.start : columns.stop] - first[row], axis=1)
        for column, distance in zip(columns, distances.tolist(), strict=True):
            before = ((row - 1, column), (row, column - 1), (row - 1, column - 1))
            # Of equal ones the first, as in the original.
            least = min(before, key=lambda cell: best[cell][0] if cell in best else math.inf)
            if least in best:
                best[row, column] = best[least][0] + distance, least
    cell, way = (len(first) - 1, len(second) - 1), []
    total = best[cell][0]
    while cell != (-1, -1):
        way.append(cell)
        cell = best[cell][1]
    return total, way[::-1]


def by_episode(paths: Iterable[RecordedPath]) -> list[dict[str, Any]]:
    """Return the metrics of each episode, the worst first: by success, and then by the distance to the goal."""
    rows: list[dict[str, Any]] = [{"episode": path.episode, **measure(path)} for path in paths]
    return sorted(rows, key=lambda row: (row["SR"], -row["NE"]))
