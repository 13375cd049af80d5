"""What an agent needs of the world: panoramas, places to go to, moves, and its path so far.

`world.PanoramaWorld` is one in memory, and `habitat.HabitatEnvironment` one of the simulator of VLN-CE.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from internvideo_hf.tasks.navigation.paths import RecordedPath

Pictures = NDArray[np.uint8]


class Panorama(NamedTuple):
    """What is around an agent: views at equal angles, of which view `i` looks `360 * i / views` degrees to the left.

    Attributes:
        pictures: RGB, `(views, height, width, 3)` uint8.
        depth: `(views, height, width)` float32, as the environment's encoder of depth takes it.
    """

    pictures: Pictures
    depth: NDArray[np.float32]


class Place(NamedTuple):
    """A place that an agent can go to, seen from where it is.

    Attributes:
        angle: radians to the left of straight ahead.
        distance: meters.
    """

    angle: float
    distance: float


@runtime_checkable
class Environment(Protocol):
    """A world with one agent. Its episodes follow each other: `reset` begins the next one."""

    instruction: str
    """What the agent is told in this episode."""

    def reset(self) -> None:
        """Begin the next episode."""

    def observe(self) -> Panorama:
        """Return what is around the agent."""

    def candidates(self) -> Sequence[Place]:
        """Return the places that the agent can go to next; perhaps none."""

    def move(self, place: Place) -> list[Pictures]:
        """Go to a place by low-level moves.

        Args:
            place: of `candidates`.

        Returns:
            The pictures of the panorama at every pose on the way, `(views, height, width, 3)` each, without the last:
            `observe` gives that.
        """

    def stop(self) -> None:
        """End the episode by the agent's decision."""

    def distance_to_goal(self, place: Place | None = None) -> float:
        """Return the geodesic distance to the goal in meters.

        Args:
            place: where the agent would be after going there; where it is if None.
        """

    def path(self) -> RecordedPath:
        """Return what the agent did in this episode so far."""
