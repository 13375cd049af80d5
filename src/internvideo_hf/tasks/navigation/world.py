"""A small world of panoramas in memory, for tests, examples and trials of training.

Places lie on a grid, two meters apart, and passages join some neighbors. Each place has a color, which is seen through
the passages that lead to it; elsewhere there are gray walls. An instruction names the colors of a way, such as "go to
red then blue then green and stop". Every episode has a new world.
"""

import math
import random
from collections.abc import Sequence

import numpy as np
import torch

from internvideo_hf.tasks.navigation.environment import Panorama, Pictures, Place
from internvideo_hf.tasks.navigation.paths import RecordedPath

COLORS = {
    "red": (220, 30, 30),
    "green": (30, 190, 30),
    "blue": (40, 60, 230),
    "yellow": (230, 220, 40),
    "magenta": (220, 40, 220),
    "cyan": (40, 220, 220),
    "orange": (240, 140, 20),
    "white": (250, 250, 250),
}
WORDS = ("[PAD]", "[CLS]", "go", "to", "then", "and", "stop", *COLORS)
"""The vocabulary; a word's number is its id."""
VIEWS = 12
SPACING = 2.0  # meters between neighbors
FORWARD = 0.25  # meters of a low-level move
_WALL, _WALL_DEPTH, _OPEN_DEPTH = (90, 90, 90), 1.0, 3.0
_TURN = 2 * math.pi / VIEWS
Cell = tuple[int, int]
# Neighbors to the north, west, south and east: each a quarter further to the left.
_STEPS = ((-1, 0), (0, -1), (1, 0), (0, 1))


def tokenize(instructions: Sequence[str]) -> dict[str, torch.Tensor]:
    """Return `input_ids` and `attention_mask` of instructions, padded at the end.

    Args:
        instructions: of words of `WORDS`.

    Raises:
        ValueError: if a word is unknown.
    """
    rows = []
    for instruction in instructions:
        words = ["[CLS]", *instruction.split()]
        if unknown := [word for word in words if word not in WORDS]:
            raise ValueError(f"{unknown[0]!r} is not a word of this world; it knows {', '.join(WORDS[2:])}.")
        rows.append(torch.tensor([WORDS.index(word) for word in words]))
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}


class PanoramaWorld:
    """An environment, see `environment.Environment`, whose episodes a seed determines.

    Args:
        seed: of all episodes.
        size: places in a row and in a column, 2 or more.
        steps: places that the way leads to, 1 to `size`.
        picture_size: height and width of a view, pixels.
    """

    def __init__(self, seed: int = 0, size: int = 4, steps: int = 3, picture_size: int = 16):
        if size < 2 or not 1 <= steps <= size:
            raise ValueError(f"size={size} and steps={steps}, expected a size of 2 or more, and 1 to `size` steps.")
        self._seed, self._source = seed, random.Random(seed)
        self._size, self._steps, self._picture_size = size, steps, picture_size
        self._episode = -1
        self.reset()

    def reset(self) -> None:
        """Draw a new world with a new way through it."""
        self._episode += 1
        self._colors = self._draw_colors()
        self._passages = self._draw_passages()
        self._way = self._draw_way()
        self._far = self._distances_from(self._way[-1])
        self._cell, self._view = self._way[0], self._source.randrange(VIEWS)
        self._stopped = False
        self._positions, self._headings, self._collisions = [self._position()], [self._view * _TURN], [0] * 0
        self._distances = [self.distance_to_goal()]
        names = " then ".join(self._colors[cell] for cell in self._way[1:])
        self.instruction = f"go to {names} and stop"

    def observe(self) -> Panorama:
        """Return what is around the agent."""
        return Panorama(self._pictures(), self._depth())

    def candidates(self) -> list[Place]:
        """Return the neighbors that passages lead to, from view to view to the left."""
        views = sorted((self._view_of(direction), direction) for direction in self._directions(self._cell))
        return [Place(view * _TURN, SPACING) for view, _ in views]

    def move(self, place: Place) -> list[Pictures]:
        """Turn by steps of 30 degrees, the shorter way, and go ahead by steps of 0.25 meters.

        Args:
            place: of `candidates`; towards a wall, the agent collides and stays.
        """
        seen = [self._pictures()]
        turns = round(place.angle / _TURN) % VIEWS
        step = 1 if turns <= VIEWS // 2 else -1
        for _ in range(min(turns, VIEWS - turns)):
            self._view = (self._view + step) % VIEWS
            self._record(self._position(), False)
            seen.append(self._pictures())
        target = next((cell for way, cell in self._directions(self._cell).items() if self._view_of(way) == 0), None)
        if target is None:
            self._record(self._position(), True)
            return seen[1:]
        start, end = np.array(self._position()), np.array(self._position(target))
        count = round(SPACING / FORWARD)
        for number in range(1, count + 1):
            if number > count // 2:  # what is seen changes half way
                self._cell = target
            position = start + (end - start) * number / count
            self._record(position.tolist(), False)
            seen.append(self._pictures())
        return seen[1:-1]

    def stop(self) -> None:
        """End the episode by the agent's decision."""
        self._stopped = True

    def distance_to_goal(self, place: Place | None = None) -> float:
        """Return the length of the shortest way through passages, meters; see `environment.Environment`."""
        cell = self._cell
        if place is not None:
            wanted = round(place.angle / _TURN) % VIEWS
            directions = self._directions(cell).items()
            cell = next((found for way, found in directions if self._view_of(way) == wanted), cell)
        return SPACING * self._far[cell]

    def path(self) -> RecordedPath:
        """Return what the agent did in this episode so far."""
        return RecordedPath(
            f"{self._seed}-{self._episode}",
            [list(position) for position in self._positions],
            self._stopped,
            list(self._distances),
            list(self._collisions),
            list(self._headings),
            [self._position(cell) for cell in self._way],
        )

    def _record(self, position: list[float], collided: bool) -> None:
        self._positions.append(position)
        self._headings.append(self._view * _TURN)
        self._collisions.append(int(collided))
        self._distances.append(self.distance_to_goal())

    def _position(self, cell: Cell | None = None) -> list[float]:
        row, column = self._cell if cell is None else cell
        return [SPACING * column, 0.0, SPACING * row]

    def _directions(self, cell: Cell) -> dict[int, Cell]:
        """Return direction -> neighbor, of the passages of a cell."""
        found = {}
        for direction, (rows, columns) in enumerate(_STEPS):
            near = (cell[0] + rows, cell[1] + columns)
            if frozenset((cell, near)) in self._passages:
                found[direction] = near
        return found

    def _view_of(self, direction: int) -> int:
        return (direction * (VIEWS // len(_STEPS)) - self._view) % VIEWS

    def _open_views(self) -> dict[int, Cell]:
        return {self._view_of(direction): near for direction, near in self._directions(self._cell).items()}

    def _pictures(self) -> Pictures:
        """Return walls with a floor in the color of this place, and doors in the colors of others."""
        size = self._picture_size
        pictures = np.empty((VIEWS, size, size, 3), np.uint8)
        pictures[:] = _WALL
        pictures[:, size - size // 4 :] = COLORS[self._colors[self._cell]]
        for view, near in self._open_views().items():
            pictures[view, : size - size // 4, size // 8 : size - size // 8] = COLORS[self._colors[near]]
        return pictures

    def _depth(self) -> np.ndarray:
        depth = np.full((VIEWS, self._picture_size, self._picture_size), _WALL_DEPTH, np.float32)
        depth[list(self._open_views())] = _OPEN_DEPTH
        return depth

    def _cells(self) -> list[Cell]:
        return [(row, column) for row in range(self._size) for column in range(self._size)]

    def _draw_colors(self) -> dict[Cell, str]:
        """Return a color for each cell, such that all neighbors of a cell differ."""
        found: dict[Cell, str] = {}
        for row, column in self._cells():
            # Cells that share a neighbor with this one, and come before it.
            others = [(row - 2, column), (row - 1, column - 1), (row - 1, column + 1), (row, column - 2)]
            taken = {found.get(cell) for cell in [*others, (row - 1, column), (row, column - 1)]}
            found[row, column] = self._source.choice([name for name in COLORS if name not in taken])
        return found

    def _draw_passages(self) -> set[frozenset[Cell]]:
        """Return pairs of neighbors, a tree that joins all cells: one way leads from each to each."""
        pairs = [
            frozenset((cell, (cell[0] + rows, cell[1] + columns)))
            for cell in self._cells()
            for rows, columns in ((1, 0), (0, 1))
            if cell[0] + rows < self._size and cell[1] + columns < self._size
        ]
        self._source.shuffle(pairs)
        group = {cell: number for number, cell in enumerate(self._cells())}
        passages = set()
        for pair in pairs:
            first, second = (group[cell] for cell in pair)
            if first != second:
                group = {cell: first if number == second else number for cell, number in group.items()}
                passages.add(pair)
        return passages

    def _draw_way(self) -> list[Cell]:
        """Return a way of the wanted length, from a cell that is as far as that from another."""
        cells = self._cells()
        while True:  # the longest way of a tree on the grid has as many steps as a row has cells, or more
            start = self._source.choice(cells)
            ends = [cell for cell, steps in self._distances_from(start).items() if steps == self._steps]
            if ends:
                break
        far = self._distances_from(self._source.choice(ends))
        way = [start]
        while far[way[-1]]:
            way.append(min(self._directions(way[-1]).values(), key=far.__getitem__))
        return way

    def _distances_from(self, start: Cell) -> dict[Cell, int]:
        """Return the steps from a cell to each."""
        steps, front = {start: 0}, [start]
        while front:
            front = [near for cell in front for near in self._directions(cell).values() if near not in steps]
            steps |= dict.fromkeys(front, 1 + max(steps.values()))
        return steps
