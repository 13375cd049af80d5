"""The small world: what is seen, where one can go, and the ways that instructions name."""

import math
from dataclasses import replace

import numpy as np
import pytest

from internvideo_hf.tasks.navigation.environment import Environment, Place
from internvideo_hf.tasks.navigation.metrics import measure
from internvideo_hf.tasks.navigation.world import COLORS, VIEWS, WORDS, PanoramaWorld, tokenize


def follow(world: PanoramaWorld) -> None:
    """Go where each next color of the instruction is seen."""
    for color in world.instruction.split()[2:-2:2]:
        pictures = world.observe().pictures
        seen = [place for place in world.candidates() if color_of(pictures[view_of(place)]) == color]
        (place,) = seen  # neighbors differ
        world.move(place)
    world.stop()


def view_of(place: Place) -> int:
    return round(place.angle / (2 * math.pi / VIEWS))


def color_of(picture: np.ndarray) -> str:
    middle = tuple(picture[len(picture) // 2, len(picture) // 2].tolist())
    return next(name for name, color in COLORS.items() if color == middle)


@pytest.mark.parametrize("steps", [1, 3, 4])
def test_who_follows_the_colors_arrives_by_the_shortest_way(steps):
    world = PanoramaWorld(seed=3, size=4, steps=steps, picture_size=8)
    assert isinstance(world, Environment)
    for _ in range(10):
        world.reset()
        assert world.distance_to_goal() == 2 * steps
        follow(world)
        scores = measure(world.path(), success_distance=0.1)
        assert scores == pytest.approx(scores | {"SR": 100, "SPL": 100, "PL": 2 * steps, "NE": 0, "collisions": 0})
        assert scores["nDTW"] > 85


def test_seeds_determine_episodes():
    first, again, other = (PanoramaWorld(seed) for seed in (0, 0, 1))
    lists = []
    for world in (first, again, other):
        lists.append([])
        for _ in range(5):
            world.reset()
            lists[-1].append((world.instruction, world.path().positions, world.path().headings))
    assert lists[0] == lists[1] != lists[2]
    assert len({instruction for instruction, *_ in lists[0]}) == 5
    assert (first.path().episode, other.path().episode) == ("0-5", "1-5")


def test_a_move_is_made_of_turns_and_quarters_of_a_meter():
    world = PanoramaWorld(seed=0, picture_size=8)
    place = world.candidates()[0]
    expected = world.distance_to_goal(place)
    turns = min(view_of(place), VIEWS - view_of(place))
    frames = world.move(place)
    path = world.path()
    assert len(path.positions) == 1 + turns + 8 == len(frames) + 2
    assert len(path.headings) == len(path.distances) == len(path.positions) == len(path.collisions) + 1
    assert {frame.shape for frame in frames} == {(VIEWS, 8, 8, 3)}
    assert path.distances[-1] == expected == world.distance_to_goal()
    moved = np.subtract(path.positions[-1], path.positions[0])
    assert np.linalg.norm(moved) == pytest.approx(2)
    # One looks along the negative z axis with a heading of 0, and turns to the left.
    heading = path.headings[-1]
    np.testing.assert_allclose(moved / 2, [-math.sin(heading), 0, -math.cos(heading)], atol=1e-9)
    # The way back is behind.
    assert any(view_of(back) == VIEWS // 2 for back in world.candidates())


def test_a_wall_stops_a_move():
    world = PanoramaWorld(seed=0)
    free = {view_of(place) for place in world.candidates()}
    wall = next(view for view in range(VIEWS) if view not in free)
    before = world.path().positions[0]
    world.move(Place(wall * 2 * math.pi / VIEWS, 2.0))
    path = world.path()
    assert path.collisions[-1] == 1 and sum(path.collisions) == 1 and path.positions[-1] == before
    assert world.distance_to_goal(Place(math.pi / VIEWS, 2.0)) in (4, 6, 8)


def test_passages_are_open_and_walls_near():
    world = PanoramaWorld(seed=5)
    panorama = world.observe()
    free = {view_of(place) for place in world.candidates()}
    assert {view for view in range(VIEWS) if panorama.depth[view, 0, 0] == 3} == free
    gray = [view for view in range(VIEWS) if panorama.pictures[view, 4, 8].tolist() == [90, 90, 90]]
    assert set(range(VIEWS)) - set(gray) == free


def test_neighbors_of_a_place_have_different_colors():
    for seed in range(20):
        world = PanoramaWorld(seed)
        pictures = world.observe().pictures
        colors = [color_of(pictures[view_of(place)]) for place in world.candidates()]
        assert len(set(colors)) == len(colors)


def test_words_become_numbers():
    found = tokenize(["go to red and stop", "go to red then blue and stop"])
    ids = found["input_ids"]
    assert [WORDS[number] for number in ids[0]] == ["[CLS]", "go", "to", "red", "and", "stop", "[PAD]", "[PAD]"]
    assert found["attention_mask"].tolist() == [[1] * 6 + [0] * 2, [1] * 8]
    with pytest.raises(ValueError, match="'purple' is not a word of this world"):
        tokenize(["go to purple"])


@pytest.mark.parametrize("sizes", [{"size": 1}, {"steps": 0}, {"size": 3, "steps": 4}])
def test_worlds_that_cannot_be_are_refused(sizes):
    with pytest.raises(ValueError, match="expected a size of 2 or more, and 1 to `size` steps"):
        PanoramaWorld(**sizes)


def test_a_path_is_a_copy():
    world = PanoramaWorld(seed=1)
    before = world.path()
    world.move(world.candidates()[0])
    assert len(before.positions) == 1 and not before.stopped
    assert replace(before, stopped=True).stopped
