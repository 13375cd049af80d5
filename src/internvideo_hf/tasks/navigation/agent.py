"""An agent: a planner in environments, step by step, for several of them at once.

agent = Agent(planner, PooledEncoder(), tokenize)
paths = agent.walk([PanoramaWorld(seed) for seed in range(8)])
write_paths("paths.json", paths)  # for `internvideo evaluate navigation/r2r_ce`
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence

from internvideo_hf.models.vln_planner.modeling_vln_planner import ANGLE_SIZE, VLNPlannerForNavigation, angle_features
from internvideo_hf.tasks.navigation.encoders import Features, FrameBuffer, PanoramaEncoder
from internvideo_hf.tasks.navigation.environment import Environment, Place
from internvideo_hf.tasks.navigation.paths import RecordedPath

MAX_STEPS = 25
Tokenize = Callable[[Sequence[str]], Mapping[str, torch.Tensor]]


class Decision(NamedTuple):
    """A step of all episodes that go on.

    Attributes:
        environments: the environments.
        places: of each, the candidates.
        logits: `(environments, candidates + 1)`; the last is stopping, and -inf stands where there is no candidate.
        values: estimated returns, `(environments,)`; None without a critic.
    """

    environments: list[Environment]
    places: list[list[Place]]
    logits: torch.Tensor
    values: torch.Tensor | None

    @property
    def stopping(self) -> int:
        """The number of stopping, the last."""
        return self.logits.shape[1] - 1


class Agent:
    """A planner with what it needs to see and read.

    Args:
        planner: the model.
        encode: encodes panoramas.
        tokenize: (instructions) -> `input_ids` and `attention_mask`, such as a tokenizer of transformers with
            `padding=True, truncation=True, return_tensors="pt"`.
        max_steps: decisions of an episode, of which the last is to stop, whatever the scores.
    """

    def __init__(
        self,
        planner: VLNPlannerForNavigation,
        encode: PanoramaEncoder,
        tokenize: Tokenize,
        max_steps: int = MAX_STEPS,
    ):
        if not 1 <= max_steps <= planner.config.max_history_steps:
            raise ValueError(
                f"max_steps={max_steps}, expected 1 to {planner.config.max_history_steps}, the steps that the planner "
                "has positions for."
            )
        self.planner, self.encode, self.tokenize, self.max_steps = planner, encode, tokenize, max_steps

    @torch.no_grad()
    def walk(self, environments: Sequence[Environment]) -> list[RecordedPath]:
        """Follow the instructions of the next episode of each environment, always by the best score.

        Args:
            environments: which all have as many views as the planner.

        Returns:
            Their paths, in order.
        """
        self.planner.train(False)
        rollout = Rollout(self, environments)
        while rollout.goes_on:
            decision = rollout.decide()
            rollout.act(decision, decision.logits.argmax(dim=1).tolist())
        return [environment.path() for environment in environments]


class Rollout:
    """One episode of several environments, in step.

    Args:
        agent: decides.
        environments: begin their next episode.
    """

    def __init__(self, agent: Agent, environments: Sequence[Environment]):
        if not environments:
            raise ValueError("There are no environments.")
        for environment in environments:
            environment.reset()
        self.agent, self.environments, self.steps = agent, list(environments), 0
        self._buffers = [FrameBuffer(environment.observe().pictures) for environment in environments]
        planner = agent.planner
        tokens = agent.tokenize([environment.instruction for environment in environments])
        ids, mask = (tokens[name].to(planner.device) for name in ("input_ids", "attention_mask"))
        self._mask, self._text = mask, planner.encode_text(ids, mask)
        self._features = self._encode()
        video, still = self._features.video[:, None], self._features.still[:, None]
        nothing = self._text.new_zeros(len(ids), 0, ANGLE_SIZE)
        self._history = planner.embed_history(video[:, :0], still[:, :0], nothing)

    @property
    def goes_on(self) -> bool:
        """Whether there are episodes that have not stopped."""
        return bool(self.environments)

    @property
    def is_last(self) -> bool:
        """Whether the next decision is the last, by which all episodes stop."""
        return self.steps + 1 == self.agent.max_steps

    def decide(self) -> Decision:
        """Score the candidates of all episodes that go on."""
        places = [list(environment.candidates()) for environment in self.environments]
        views = self.agent.planner.config.num_views
        numbers: dict[str, list[list[Any]]] = {
            "candidate_angles": [[place.angle for place in row] for row in places],
            "candidate_distances": [[place.distance for place in row] for row in places],
            "candidate_views": [[view_of(place, views) for place in row] for row in places],
            "candidate_mask": [[True] * len(row) for row in places],
        }
        kinds = {"candidate_views": torch.long, "candidate_mask": torch.bool}
        device = self._text.device
        batch = {
            name: pad_sequence([torch.tensor(row, dtype=kinds.get(name, torch.float)) for row in rows], True).to(
                device
            )
            for name, rows in numbers.items()
        }
        outputs = self.agent.planner(
            text_embeds=self._text,
            attention_mask=self._mask,
            history_embeds=self._history,
            **{f"{name}_features": part for name, part in self._features._asdict().items()},
            **batch,
        )
        return Decision(list(self.environments), places, outputs.logits, outputs.value)

    def act(self, decision: Decision, choices: Sequence[int]) -> None:
        """Go to the chosen places, or stop, as all do at the last step; episodes that stop are left behind.

        Args:
            decision: of `decide`.
            choices: of each environment, the number of a candidate, or `decision.stopping`.

        Raises:
            ValueError: if a choice is neither.
        """
        going, angles = [], []
        for number, (environment, choice) in enumerate(zip(self.environments, choices, strict=True)):
            places = decision.places[number]
            if choice == decision.stopping or self.is_last:
                environment.stop()
            elif not 0 <= choice < len(places):
                raise ValueError(f"There is no candidate {choice} in environment {number}, which has {len(places)}.")
            else:
                going.append(number)
                angles.append(places[choice].angle)
                self._buffers[number].extend(environment.move(places[choice]))
        self._keep(going, torch.tensor(angles, device=self._text.device))
        self.steps += 1

    def _keep(self, going: list[int], angles: torch.Tensor) -> None:
        """Take the step into the history of the episodes that go on, and look around again."""
        self.environments = [self.environments[number] for number in going]
        self._buffers = [self._buffers[number] for number in going]
        if not going:
            return
        video, still = self._features.video[going][:, None], self._features.still[going][:, None]
        self._text, self._mask = self._text[going], self._mask[going]
        token = self.agent.planner.embed_history(video, still, angle_features(angles)[:, None], first=self.steps)
        self._history = torch.cat([self._history[going], token[:, -1:]], dim=1)
        for environment, buffer in zip(self.environments, self._buffers, strict=True):
            buffer.extend([environment.observe().pictures])
        self._features = self._encode()

    def _encode(self) -> Features:
        rows = [
            self.agent.encode(environment.observe(), buffer.clips())
            for environment, buffer in zip(self.environments, self._buffers, strict=True)
        ]
        return Features(*(torch.stack(part).to(self._text.device) for part in zip(*rows, strict=True)))


def view_of(place: Place, views: int) -> int:
    """Return the view that a place lies in; one between two views lies in the one to the right, as in the original.

    Args:
        place: seen from the agent.
        views: of a panorama.
    """
    turn = 2 * math.pi / views
    right = -place.angle % (2 * math.pi)
    return -math.floor(right / turn + 0.5 + 1e-6) % views


def walk_at_random(
    environments: Sequence[Environment], seed: int = 0, max_steps: int = MAX_STEPS
) -> list[RecordedPath]:
    """Take a random candidate or stop, each as likely: what an agent has to surpass.

    Args:
        environments: begin their next episode.
        seed: of the choices.
        max_steps: decisions of an episode, of which the last is to stop.

    Returns:
        Their paths, in order.
    """
    source = random.Random(seed)
    for environment in environments:
        environment.reset()
        for _ in range(max_steps - 1):
            choice = source.choice([*environment.candidates(), None])
            if choice is None:
                break
            environment.move(choice)
        environment.stop()
    return [environment.path() for environment in environments]
