"""Metrics of navigation, by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
from tasks.navigation.walks import LOST, STRAIGHT

from internvideo_hf.tasks.navigation.metrics import by_episode, densify, mean_scores, measure, warping_distance


def test_an_agent_that_stops_at_its_goal_succeeds():
    # The reference has a point each quarter of a meter: nine, of which four are a quarter from the nearest position.
    expected = {"NE": 0, "PL": 2, "SR": 100, "OSR": 100, "SPL": 100, "nDTW": 100 * math.exp(-1 / 27), "collisions": 0}
    assert measure(STRAIGHT) == pytest.approx(expected)
    assert measure(replace(STRAIGHT, stopped=False)) == pytest.approx(expected | {"SR": 0, "SPL": 0})


def test_an_agent_that_passes_its_goal_could_have_succeeded():
    found = measure(LOST)
    assert {name: found[name] for name in ("NE", "PL", "SR", "OSR", "SPL", "collisions")} == pytest.approx(
        {"NE": 5, "PL": 4, "SR": 0, "OSR": 100, "SPL": 0, "collisions": 50}
    )


def test_detours_cost_path_length():
    there = replace(LOST, stopped=True, distances=[4.0, 3.0, 3.0])
    assert measure(there)["SPL"] == pytest.approx(100)  # 4 meters, as far as the goal was
    assert measure(replace(there, distances=[2.0, 3.0, 3.0]))["SPL"] == pytest.approx(50)
    at_once = replace(STRAIGHT, positions=[[0.0, 0.0, 0.0]], distances=[0.0], collisions=[], headings=None)
    assert measure(at_once)["SPL"] == 100 and measure(at_once)["collisions"] == 0


def test_success_is_at_three_meters_exactly():
    for distance, success in ((3.0, 100), (3.001, 0)):
        assert measure(replace(STRAIGHT, distances=[*STRAIGHT.distances[:-1], distance]))["SR"] == success


def test_means_are_over_episodes_and_the_worst_stand_first():
    scores = mean_scores([STRAIGHT, LOST])
    assert (scores["NE"], scores["SR"], scores["OSR"], scores["PL"]) == (2.5, 50, 100, 3)
    assert [row["episode"] for row in by_episode([STRAIGHT, LOST])] == ["lost", "straight"]


def test_a_path_without_what_metrics_need_is_refused():
    with pytest.raises(ValueError, match="Episode straight has no distances to the goal"):
        measure(replace(STRAIGHT, distances=None))
    with pytest.raises(ValueError, match="Episode straight has no reference path"):
        measure(replace(STRAIGHT, reference=None))


def test_references_are_filled_up_by_horizontal_steps():
    found = densify(np.array([[0.0, 0.0, 0.0], [0.6, 0.3, 0.0], [0.6, 0.3, 0.1], [0.6, 2.0, 0.1]]))
    # 0.6 are two steps of a quarter: one point between, at 0.25, and the end. A short segment has its end alone, and
    # so has one straight up, by which the original divides by zero.
    expected = [[0, 0, 0], [0.25, 0.125, 0], [0.6, 0.3, 0], [0.6, 0.3, 0.1], [0.6, 2, 0.1]]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(densify(np.ones((1, 3))), np.ones((1, 3)))


def points(*places: float) -> np.ndarray:
    return np.array([[place, 0.0, 0.0] for place in places])


def test_short_paths_are_warped_exactly():
    # 0-0, 3-2, 3-4: each pair once.
    assert warping_distance(points(0, 3), points(0, 2, 4)) == pytest.approx(2)
    assert warping_distance(points(0), points(1, 2, 3)) == pytest.approx(6)


def test_long_paths_are_approximated_from_above():
    generator = np.random.default_rng(0)
    for _ in range(20):
        first, second = (generator.normal(size=(generator.integers(3, 40), 3)).cumsum(0) for _ in range(2))
        exact = exact_warping(first, second)
        assert warping_distance(first, second, 100) == pytest.approx(exact)
        assert warping_distance(first, second) >= exact - 1e-9


def exact_warping(first: np.ndarray, second: np.ndarray) -> float:
    """Fill the textbook's table."""
    table = np.full((len(first) + 1, len(second) + 1), np.inf)
    table[0, 0] = 0
    for row, one in enumerate(first):
        for column, other in enumerate(second):
            before = min(table[row, column], table[row, column + 1], table[row + 1, column])
            table[row + 1, column + 1] = before + math.dist(one, other)
    return table[-1, -1]
