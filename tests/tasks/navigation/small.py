"""A tiny planner for the small world, and a world on a line whose numbers are known by hand."""

import numpy as np
import torch

from internvideo_hf import VLNPlannerConfig, VLNPlannerForNavigation
from internvideo_hf.tasks.navigation.agent import Agent
from internvideo_hf.tasks.navigation.encoders import PooledEncoder
from internvideo_hf.tasks.navigation.environment import Panorama, Place
from internvideo_hf.tasks.navigation.paths import RecordedPath
from internvideo_hf.tasks.navigation.world import VIEWS, WORDS, tokenize


def small_agent(max_steps: int = 4, **changes) -> Agent:
    """Return an agent without dropout, whose planner a seed determines."""
    encoder = PooledEncoder(2)
    sizes = {
        "vocab_size": len(WORDS),
        "max_position_embeddings": 16,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_cross_layers": 1,
        "num_panorama_layers": 1,
        "num_attention_heads": 2,
        "still_size": encoder.rgb_size,
        "video_size": encoder.rgb_size,
        "rgb_size": 8,
        "depth_size": encoder.depth_size,
        "max_history_steps": 10,
        "layer_norm_eps": 1e-6,
        "initializer_range": 0.2,
        **dict.fromkeys(("hidden_dropout", "attention_dropout", "feature_dropout"), 0.0),
    }
    torch.manual_seed(0)
    return Agent(VLNPlannerForNavigation(VLNPlannerConfig(**sizes | changes)), encoder, tokenize, max_steps)


class Line:
    """Places on a line, a meter apart, with the goal at 0: one goes on, to the left of straight ahead, or back."""

    def __init__(self, start: int = 3, ways: int = 2):
        self.start, self.ways, self.moves = start, ways, []
        self.reset()

    def reset(self) -> None:
        self.place, self.stopped, self.places, self.instruction = self.start, False, [self.start], "go to red"

    def observe(self) -> Panorama:
        return Panorama(
            np.full((VIEWS, 4, 4, 3), 60 * abs(self.place) % 256, np.uint8), np.ones((VIEWS, 4, 4), np.float32)
        )

    def candidates(self) -> list[Place]:
        return [Place(0.5, 1.0), Place(np.pi, 1.0)][: self.ways]  # nearer, further

    def move(self, place: Place) -> list[np.ndarray]:
        self.moves.append(place)
        self.place += self._step(place)
        self.places.append(self.place)
        return []

    def stop(self) -> None:
        self.stopped = True

    def distance_to_goal(self, place: Place | None = None) -> float:
        return float(abs(self.place + (0 if place is None else self._step(place))))

    def path(self) -> RecordedPath:
        positions = [[float(place), 0.0, 0.0] for place in self.places]
        distances = [abs(position[0]) for position in positions]
        reference = [[float(self.start), 0.0, 0.0], [0.0, 0.0, 0.0]]
        return RecordedPath("line", positions, self.stopped, distances, [0] * (len(positions) - 1), None, reference)

    def _step(self, place: Place) -> int:
        return -1 if place.angle == 0.5 else 1
