"""An environment of Habitat's VLN-CE, by the documented interface of habitat-lab 0.1.7.

    import habitat
    environment = HabitatEnvironment(habitat.Env(config), WaypointProposer(waypoints, depth_encoder))

Neither Habitat nor its scenes were there to try it on: its tests run on a stand-in that follows the documentation.
What could not be tried is that sensors have the names below, that `get_observations_at` leaves the agent at the new
pose, and that `previous_step_collided` reports collisions. Nothing of Habitat is imported: `habitat.Env` is given. Let
its configuration allow more low-level steps than an episode takes (`MAX_EPISODE_STEPS`), and sliding along walls
(`HABITAT_SIM_V0.ALLOW_SLIDING`), as the published evaluation does.

The original turns an agent to the exact angle, and so does this: its rotation is set, in steps of 15 degrees on the
way. Moves ahead are steps of the simulator, 0.25 meters each.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from internvideo_hf.models.vln_waypoints.candidates_vln_waypoints import (
    candidates_of,
    sample_candidates,
    suppress_heatmap,
)
from internvideo_hf.models.vln_waypoints.modeling_vln_waypoints import VLNWaypointsModel
from internvideo_hf.tasks.navigation.environment import Panorama, Pictures, Place
from internvideo_hf.tasks.navigation.paths import RecordedPath

VIEWS = 12
FORWARD = 0.25  # meters of a low-level move
TURN = math.radians(15)
_STOP, _MOVE_FORWARD = 0, 1  # of HabitatSimActions


class WaypointProposer:
    """Places to go to, from the depth of a panorama by the predictor of waypoints.

    Args:
        model: the predictor.
        encode_depth: depth of the views, `(views, height, width)` -> its features, `(views, channels, height, width)`;
            for the released predictor, DDPPO's ResNet-50 of habitat-baselines.
        augment: move the places as training does.
    """

    def __init__(
        self,
        model: VLNWaypointsModel,
        encode_depth: Callable[[torch.Tensor], torch.Tensor],
        augment: bool = False,
    ):
        self.model, self.encode_depth, self.augment = model, encode_depth, augment

    @torch.no_grad()
    def __call__(self, panorama: Panorama) -> list[Place]:
        """Return the places around an agent, at most `max_candidates`.

        Args:
            panorama: what is around it.
        """
        features = self.encode_depth(torch.from_numpy(panorama.depth))[None]
        logits = self.model(features.to(self.model.device)).logits.cpu()
        found = candidates_of(suppress_heatmap(logits, self.model.config), self.model.config)
        if self.augment:
            found = sample_candidates(logits, found, self.model.config)
        return [Place(*numbers) for numbers in zip(found.angles[0].tolist(), found.distances[0].tolist(), strict=True)]


class HabitatEnvironment:
    """An environment, see `environment.Environment`, around `habitat.Env`.

    Args:
        env: with sensors `rgb`, `rgb_30.0`, ... and `depth`, `depth_30.0`, ..., each 30 degrees further to the left.
        propose: finds places to go to.
        sensor_name: (kind, degrees) -> name of a sensor, where they have other names.
    """

    def __init__(
        self,
        env: Any,
        propose: Callable[[Panorama], Sequence[Place]],
        sensor_name: Callable[[str, int], str] = lambda kind, degrees: f"{kind}_{degrees:.1f}" if degrees else kind,
    ):
        self._env, self._propose, self._sensor_name = env, propose, sensor_name
        self.instruction = ""

    def reset(self) -> None:
        """Begin the next episode of Habitat's own order."""
        self._seen = self._panorama(self._env.reset())
        episode = self._env.current_episode
        self.instruction = episode.instruction.instruction_text
        self._goal, self._stopped = [float(number) for number in episode.goals[0].position], False
        rotation = self._env.sim.get_agent_state().rotation
        self._heading = 2 * math.atan2(rotation.y, rotation.w)  # upright agents turn around the second axis alone
        self._positions = [self._position()]
        self._headings, self._distances = [self._heading], [self.distance_to_goal()]
        self._collisions: list[int] = []

    def observe(self) -> Panorama:
        """Return what is around the agent."""
        return self._seen

    def candidates(self) -> list[Place]:
        """Return the places that the proposer finds."""
        return list(self._propose(self._seen))

    def move(self, place: Place) -> list[Pictures]:
        """Turn the shorter way, by 15 degrees and what is left, and go ahead by steps of 0.25 meters.

        Args:
            place: of `candidates`.

        Returns:
            The pictures at every pose on the way, without the last.
        """
        frames = []
        angle = math.remainder(place.angle, 2 * math.pi)
        turns = math.ceil(abs(angle) / TURN - 1e-6)
        start = self._heading
        for number in range(1, turns + 1):
            self._heading = start + math.copysign(min(number * TURN, abs(angle)), angle)
            sim = self._env.sim
            observations = sim.get_observations_at(self._position(), self._rotation(), keep_agent_at_new_pose=True)
            frames.append(self._record(observations, False))
        for _ in range(round(place.distance / FORWARD)):
            observations = self._env.step(_MOVE_FORWARD)
            frames.append(self._record(observations, bool(self._env.sim.previous_step_collided)))
        return frames[:-1]

    def stop(self) -> None:
        """End the episode by the agent's decision."""
        self._env.step(_STOP)
        self._stopped = True

    def distance_to_goal(self, place: Place | None = None) -> float:
        """Return the geodesic distance to the goal; see `environment.Environment`.

        Args:
            place: to go to for trial, by steps of the simulator; the agent comes back.
        """
        sim, position = self._env.sim, self._position()
        if place is None:
            return float(sim.geodesic_distance(position, [self._goal]))
        sim.set_agent_state(position, self._rotation(place.angle), reset_sensors=False)
        for _ in range(round(place.distance / FORWARD)):
            sim.step(_MOVE_FORWARD)
        distance = float(sim.geodesic_distance(self._position(), [self._goal]))
        sim.set_agent_state(position, self._rotation(), reset_sensors=False)
        return distance

    def path(self) -> RecordedPath:
        """Return what the agent did in this episode so far; distances are infinite where no way leads to the goal."""
        episode = self._env.current_episode
        reference = [[float(number) for number in point] for point in episode.reference_path]
        return RecordedPath(
            str(episode.episode_id),
            [list(position) for position in self._positions],
            self._stopped,
            list(self._distances),
            list(self._collisions),
            list(self._headings),
            reference,
        )

    def _record(self, observations: Mapping[str, Any], collided: bool) -> Pictures:
        self._seen = self._panorama(observations)
        self._positions.append(self._position())
        self._headings.append(self._heading)
        self._collisions.append(int(collided))
        self._distances.append(self.distance_to_goal())
        return self._seen.pictures

    def _panorama(self, observations: Mapping[str, Any]) -> Panorama:
        rows: dict[str, list[Any]] = {"rgb": [], "depth": []}
        for kind, views in rows.items():
            for number in range(VIEWS):
                name = self._sensor_name(kind, number * 360 // VIEWS)
                if name not in observations:
                    raise ValueError(
                        f"The environment has no sensor {name}, only {', '.join(sorted(observations))}. Configure "
                        f"{VIEWS} of each kind, or pass sensor_name."
                    )
                views.append(np.asarray(observations[name]))
        depth = np.stack(rows["depth"]).astype(np.float32)
        return Panorama(np.stack(rows["rgb"])[..., :3].astype(np.uint8), depth.reshape(depth.shape[:3]))

    def _position(self) -> list[float]:
        return [float(number) for number in self._env.sim.get_agent_state().position]

    def _rotation(self, angle: float = 0.0) -> list[float]:
        """Return the rotation of the agent's heading and an angle to the left: x, y, z, w of a quaternion."""
        half = (self._heading + angle) / 2
        return [0.0, math.sin(half), 0.0, math.cos(half)]
