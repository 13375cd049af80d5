"""Training of a planner in environments: imitation of a teacher, and rewards.

Imitation is on-line: the agent walks, and at each step learns what the teacher would do from where it is. It goes
where the teacher says with a probability that falls, else where its own best score says. The released planner was
trained so.
`feedback="sample"` adds an actor with a critic (A2C) on walks that are sampled from the agent's own probabilities.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from internvideo_hf.models.common.narrowing import known
from internvideo_hf.tasks.navigation.agent import Agent, Decision, Rollout
from internvideo_hf.tasks.navigation.environment import Environment
from internvideo_hf.tasks.navigation.metrics import SUCCESS_DISTANCE, normalized_warping

STOP_DISTANCE = 1.5
"""Meters to the goal within which the teacher stops."""
FEEDBACKS = ("teacher", "sample")


@dataclass(frozen=True)
class NavigationTraining:
    """Settings of a training; the defaults are those of the released one.

    Args:
        iterations: steps of the optimizer, each on one episode of every environment.
        learning_rate: of AdamW; constant.
        weight_decay: of AdamW, on all parameters.
        feedback: "teacher" for imitation alone, "sample" to add rewards, for which the planner needs a critic.
        teacher_ratio: the probability to go where the teacher says is a power of it, 0-1.
        decay_every: iterations after which the power is one more; the first is 1.
        imitation_weight: factor on the loss of imitation.
        discount: of later rewards, 0-1.
        max_grad_norm: to which the gradient of the planner is cut; the original cuts that of its module `vln_bert`
            alone, with which agents of the small world did not learn by rewards.
        freeze_backbone: leave words, their layers and the history as they are; right for a planner that starts from
            weights, and wrong for a new one.
        seed: of the choices between teacher and agent, of sampled actions, and of dropout.
    """

    iterations: int = 10_000
    learning_rate: float = 3e-5
    weight_decay: float = 0.01
    feedback: str = "teacher"
    teacher_ratio: float = 0.75
    decay_every: int = 2000
    imitation_weight: float = 1.0
    discount: float = 0.9
    max_grad_norm: float = 40.0
    freeze_backbone: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.feedback not in FEEDBACKS:
            raise ValueError(f"feedback={self.feedback!r}, expected {' or '.join(FEEDBACKS)}.")
        for name in ("teacher_ratio", "discount"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}, expected 0 to 1.")
        for name in ("iterations", "decay_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}, expected 1 or more.")

    def teacher_probability(self, iteration: int) -> float:
        """Return the probability to go where the teacher says.

        Args:
            iteration: from 0.
        """
        return self.teacher_ratio ** (iteration // self.decay_every + 1)


def train_agent(
    agent: Agent,
    environments: Sequence[Environment],
    settings: NavigationTraining,
    report: Callable[[int, float], None] = lambda iteration, loss: None,
) -> None:
    """Train an agent's planner in environments; it is in evaluation mode then.

    Mixed precision, by which the original trains, is the caller's: `torch.autocast` around this call.

    Args:
        agent: whose planner learns; what `freeze_backbone` freezes stays frozen.
        environments: of which each iteration takes one episode of each.
        settings: see `NavigationTraining`.
        report: called with the number of each iteration, from 0, and its loss.

    Raises:
        ValueError: if rewards are asked for and the planner has no critic.
    """
    planner = agent.planner
    if settings.feedback == "sample" and planner.critic is None:
        raise ValueError("feedback='sample' needs a critic: make the planner with use_critic=True.")
    if settings.freeze_backbone:
        planner.freeze_backbone()
    trained = [parameter for parameter in planner.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, settings.learning_rate, weight_decay=settings.weight_decay)
    source = random.Random(settings.seed)
    with _seeded(settings.seed):
        for iteration in range(settings.iterations):
            planner.train()
            probability = settings.teacher_probability(iteration)
            loss = settings.imitation_weight * imitation_loss(agent, environments, probability, source)
            if settings.feedback == "sample":
                loss = loss + reward_loss(agent, environments, settings.discount)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            clip_grad_norm_(trained, settings.max_grad_norm)
            optimizer.step()
            report(iteration, loss.item())
    planner.train(False)


def imitation_loss(
    agent: Agent, environments: Sequence[Environment], probability: float, source: random.Random
) -> torch.Tensor:
    """Walk once in each environment, and return the mean over all decisions of the cross-entropy with the teacher's.

    Args:
        agent: whose planner is in training mode.
        environments: begin their next episode.
        probability: to go where the teacher says, instead of where the best score says.
        source: of random numbers.
    """
    rollout, losses = Rollout(agent, environments), []
    while rollout.goes_on:
        decision = rollout.decide()
        right = [
            teach(environment, decision.stopping, number, decision)
            for number, environment in enumerate(decision.environments)
        ]
        labels = torch.tensor(right, device=decision.logits.device)
        losses.append(cross_entropy(decision.logits.float(), labels, reduction="none"))
        own = decision.logits.argmax(dim=1).tolist()
        rollout.act(
            decision,
            [taught if source.random() < probability else mine for taught, mine in zip(right, own, strict=True)],
        )
    return torch.cat(losses).mean()


def teach(environment: Environment, stopping: int, number: int, decision: Decision) -> int:
    """Return the teacher's choice: to stop near the goal, else the candidate from which it is least far.

    Args:
        environment: where the agent is.
        stopping: the number of stopping.
        number: of the environment in the decision.
        decision: with its candidates.
    """
    places = decision.places[number]
    if not places or environment.distance_to_goal() <= STOP_DISTANCE:
        return stopping
    return min(range(len(places)), key=lambda choice: environment.distance_to_goal(places[choice]))


def reward_loss(agent: Agent, environments: Sequence[Environment], discount: float) -> torch.Tensor:
    """Walk once in each environment by sampled choices, and return the loss of actor and critic.

    Args:
        agent: whose planner has a critic and is in training mode.
        environments: begin their next episode.
        discount: of later rewards, 0-1.

    Returns:
        The mean over all decisions of `-logp * (return - value) + 0.5 * (return - value)**2 - 0.01 * entropy`.
    """
    rollout, steps = Rollout(agent, environments), []
    while rollout.goes_on:
        decision = rollout.decide()
        # Of no candidate, log-probabilities are -inf, and 0 * -inf would be NaN in the entropy.
        scores = decision.logits.float().log_softmax(dim=1).clamp(min=torch.finfo(torch.float).min)
        chosen = torch.multinomial(scores.detach().exp(), 1)[:, 0]
        if rollout.is_last:
            chosen = torch.full_like(chosen, decision.stopping)
        before = [State.of(environment) for environment in decision.environments]
        rollout.act(decision, chosen.tolist())
        stops = chosen == decision.stopping
        rewards = [
            reward(state, State.of(environment), bool(stop))
            for state, environment, stop in zip(before, decision.environments, stops, strict=True)
        ]
        entropy = -(scores.exp() * scores).sum(dim=1)
        log_probability = scores.gather(1, chosen[:, None])[:, 0]
        numbers = [environments.index(environment) for environment in decision.environments]
        steps.append((numbers, rewards, log_probability, known(decision.values).float(), entropy))
    returns = [0.0] * len(environments)
    losses = []
    for numbers, rewards, log_probability, values, entropy in reversed(steps):
        for number, amount in zip(numbers, rewards, strict=True):
            returns[number] = amount + discount * returns[number]
        advantage = torch.tensor([returns[number] for number in numbers], device=values.device) - values
        losses.append(-log_probability * advantage.detach() + 0.5 * advantage**2 - 0.01 * entropy)
    return torch.cat(losses).mean()


@dataclass(frozen=True)
class State:
    """How an episode stands.

    Args:
        distance: to the goal, meters.
        warping: nDTW of the path so far, 0-1.
    """

    distance: float
    warping: float

    @classmethod
    def of(cls, environment: Environment) -> "State":
        """Return how an environment's episode stands."""
        return cls(environment.distance_to_goal(), normalized_warping(environment.path()))


def reward(before: State, after: State, stops: bool) -> float:
    """Return the reward of one choice.

    Args:
        before: the choice.
        after: the choice.
        stops: whether it was to stop.
    """
    if stops:
        return 2 + 2 * after.warping if after.distance <= SUCCESS_DISTANCE else -2.0
    nearer = before.distance - after.distance
    if nearer == 0:
        return -0.5
    amount = math.copysign(1.0, nearer) + after.warping - before.warping
    if nearer < 0 and before.distance <= 1:
        amount -= 2 * (1 - before.distance)
    return amount


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch, and leave its state outside as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
