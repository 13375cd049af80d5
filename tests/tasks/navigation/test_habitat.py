"""The adapter of Habitat, on a stand-in that follows the documentation of habitat-lab 0.1.7."""

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tasks.navigation.small import small_agent

from internvideo_hf import VLNWaypointsConfig, VLNWaypointsModel
from internvideo_hf.tasks.navigation.environment import Environment, Panorama, Place
from internvideo_hf.tasks.navigation.habitat import HabitatEnvironment, WaypointProposer
from internvideo_hf.tasks.navigation.metrics import measure


class Simulator:
    """An open plane with a wall at z = -2."""

    def __init__(self):
        self.place()

    def place(self, position=(0.0, 0.0, 0.0), heading=0.0):
        self.position, self.heading, self.previous_step_collided = list(position), heading, False

    def get_agent_state(self):
        half = self.heading / 2
        rotation = SimpleNamespace(x=0.0, y=math.sin(half), z=0.0, w=math.cos(half))
        return SimpleNamespace(position=np.array(self.position, np.float32), rotation=rotation)

    def set_agent_state(self, position, rotation, agent_id=0, reset_sensors=True):
        assert rotation[0] == rotation[2] == 0 and np.linalg.norm(rotation) == pytest.approx(1)
        self.position, self.heading = list(position), 2 * math.atan2(rotation[1], rotation[3])

    def get_observations_at(self, position=None, rotation=None, keep_agent_at_new_pose=False):
        assert keep_agent_at_new_pose
        self.set_agent_state(position, rotation)
        return self.observations()

    def step(self, action):
        assert action == 1
        ahead = [-math.sin(self.heading), 0.0, -math.cos(self.heading)]
        position = [number + 0.25 * change for number, change in zip(self.position, ahead, strict=True)]
        self.previous_step_collided = position[2] < -2 - 1e-6
        if not self.previous_step_collided:
            self.position = position
        return self.observations()

    def geodesic_distance(self, position, goals):
        return float(np.linalg.norm(np.subtract(position, goals[0])))

    def observations(self):
        degrees = [""] + [f"_{30.0 * number}" for number in range(1, 12)]
        seen = {f"rgb{name}": np.full((4, 4, 3), number, np.uint8) for number, name in enumerate(degrees)}
        return seen | {f"depth{name}": np.full((4, 4, 1), number, np.float32) for number, name in enumerate(degrees)}


class Env:
    """What `habitat.Env` offers."""

    def __init__(self):
        self.sim, self.stopped, self.number = Simulator(), False, 0

    def reset(self):
        self.number, self.stopped = self.number + 1, False
        self.sim.place(heading=math.radians(30))
        self.current_episode = SimpleNamespace(
            episode_id=str(self.number),
            instruction=SimpleNamespace(instruction_text="go to red"),
            goals=[SimpleNamespace(position=[0.0, 0.0, -1.0])],
            reference_path=[[0.0, 0.0, 0.0], [0.0, 0.0, -1.0]],
        )
        return self.sim.observations()

    def step(self, action):
        if action == 0:
            self.stopped = True
            return self.sim.observations()
        return self.sim.step(action)


PLACES = [Place(2 * math.pi - math.radians(30), 1.0), Place(math.radians(150), 0.5)]  # to the goal, and away


@pytest.fixture
def environment():
    environment = HabitatEnvironment(Env(), lambda panorama: PLACES)
    environment.reset()
    return environment


def test_nothing_of_habitat_is_imported(environment):
    assert isinstance(environment, Environment) and "habitat" not in sys.modules
    assert environment.instruction == "go to red" and environment.candidates() == PLACES


def test_views_are_those_of_the_cameras_to_the_left(environment):
    panorama = environment.observe()
    assert panorama.pictures[:, 0, 0, 0].tolist() == panorama.depth[:, 0, 0].tolist() == list(range(12))


def test_moves_are_turns_and_steps_and_are_recorded(environment):
    frames = environment.move(PLACES[0])
    path = environment.path()
    assert np.degrees(path.headings).tolist() == pytest.approx([30, 15, 0, 0, 0, 0, 0], abs=1e-6)
    assert path.distances == pytest.approx([1, 1, 1, 0.75, 0.5, 0.25, 0], abs=1e-6)
    assert len(frames) == 5 and path.collisions == [0] * 6 and not path.stopped
    environment.stop()
    assert environment._env.stopped
    assert measure(environment.path()) == pytest.approx(measure(environment.path()) | {"SR": 100, "PL": 1, "NE": 0})


def test_an_angle_between_steps_is_met_exactly(environment):
    environment.move(Place(math.radians(40), 0.25))
    assert np.degrees(environment.path().headings).tolist() == pytest.approx([30, 45, 60, 70, 70])


def test_collisions_are_recorded(environment):
    environment.move(Place(2 * math.pi - math.radians(30), 3.0))
    path = environment.path()
    assert sum(path.collisions) == 4 and path.positions[-1][2] == pytest.approx(-2)


def test_trials_of_the_teacher_leave_the_agent_where_it_is(environment):
    found = [environment.distance_to_goal(place) for place in (None, *PLACES)]
    assert found == pytest.approx([1, 0, 1.5], abs=1e-6)  # 180 degrees: half a meter away from the goal
    state = environment._env.sim.get_agent_state()
    assert state.position.tolist() == [0, 0, 0] and environment._env.sim.heading == pytest.approx(math.radians(30))


def test_an_agent_walks_through_episodes(environment):
    agent = small_agent(max_steps=3)
    first, second = (agent.walk([environment])[0] for _ in range(2))
    assert (first.episode, second.episode) == ("2", "3") and first.stopped
    assert first.positions == second.positions


def test_missing_sensors_are_named():
    environment = HabitatEnvironment(Env(), lambda panorama: [], lambda kind, degrees: f"{kind}{degrees}")
    with pytest.raises(ValueError, match="no sensor rgb0, only depth, depth_120.0.*pass sensor_name"):
        environment.reset()


def test_places_come_from_the_heatmap_of_depth():
    config = VLNWaypointsConfig(
        depth_size=4,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    torch.manual_seed(0)
    model = VLNWaypointsModel(config).eval()
    panorama = Panorama(np.zeros((12, 4, 4, 3), np.uint8), np.random.default_rng(0).random((12, 4, 4), np.float32))

    def encode(depth: torch.Tensor) -> torch.Tensor:
        return depth[:, None, ::2, ::2]

    found = WaypointProposer(model, encode)(panorama)
    assert 1 <= len(found) <= 5 and found == WaypointProposer(model, encode)(panorama)
    assert all(0 <= place.angle <= 2 * math.pi and 0.25 <= place.distance <= 3 for place in found)
    assert len(WaypointProposer(model, encode, augment=True)(panorama)) == len(found)
