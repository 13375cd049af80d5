"""Training of navigation: the teacher, rewards by hand, and that an agent learns."""

import math
import random

import pytest
import torch
from tasks.navigation.small import Line, small_agent
from torch.nn.functional import cross_entropy

from internvideo_hf.tasks.navigation.agent import Rollout
from internvideo_hf.tasks.navigation.training import (
    NavigationTraining,
    State,
    imitation_loss,
    reward,
    reward_loss,
    teach,
    train_agent,
)


def test_the_teacher_goes_nearer_and_stops_near_the_goal():
    for start, choice in ((3, 0), (2, 0), (1, 2), (0, 2), (-3, 1)):
        line = Line(start)
        rollout = Rollout(small_agent(), [line])
        decision = rollout.decide()
        assert teach(line, decision.stopping, 0, decision) == choice, start
    alone = Line(3, ways=0)
    decision = Rollout(small_agent(), [alone]).decide()
    assert teach(alone, decision.stopping, 0, decision) == decision.stopping == 0


def test_teachers_say_less_and_less():
    settings = NavigationTraining()
    found = [settings.teacher_probability(number) for number in (0, 1999, 2000, 9999)]
    assert found == pytest.approx([0.75, 0.75, 0.75**2, 0.75**5])


@torch.no_grad()
def test_imitation_is_the_mean_over_all_decisions():
    agent = small_agent(max_steps=10)
    found = imitation_loss(agent, [Line(3), Line(1)], 1.0, random.Random(0))
    # The first goes on twice and stops a meter from the goal, the second stops at once: four decisions.
    rollout, losses = Rollout(agent, [Line(3), Line(1)]), []
    for right in ([0, 2], [0], [2]):
        decision = rollout.decide()
        losses += cross_entropy(decision.logits, torch.tensor(right), reduction="none").tolist()
        rollout.act(decision, right)
    assert len(losses) == 4 and not rollout.goes_on
    assert found.item() == pytest.approx(sum(losses) / 4, rel=1e-5)


@torch.no_grad()
def test_without_a_teacher_the_agent_goes_its_own_way():
    agent, line = small_agent(), Line(3)
    imitation_loss(agent, [line], 0.0, random.Random(0))
    own = line.places
    agent.walk([line])
    assert line.places == own


def test_rewards_of_moves_and_stops():
    def state(distance: float, warping: float = 0.5) -> State:
        return State(distance, warping)

    assert reward(state(3), state(3, 0.25), stops=True) == 2.5
    assert reward(state(3.1), state(3.1), stops=True) == -2
    assert reward(state(5), state(4, 0.75), stops=False) == 1.25
    assert reward(state(4), state(5, 0.25), stops=False) == -1.25
    assert reward(state(4), state(4, 0.25), stops=False) == -0.5
    # Who leaves from a quarter of a meter loses 2 * 0.75 more.
    assert reward(state(0.25), state(2), stops=False) == pytest.approx(-2.5)
    assert reward(state(1), state(2), stops=False) == -1


@torch.no_grad()
def test_losses_of_actor_and_critic_are_those_of_the_returns():
    agent = small_agent(max_steps=2, use_critic=True)
    agent.planner.eval()
    line = Line(1)
    torch.manual_seed(4)
    found = reward_loss(agent, [line], discount=0.9).item()
    # The same walk again: at most one move, and then a stop within three meters.
    torch.manual_seed(4)
    rollout, terms, rewards = Rollout(agent, [Line(1)]), [], []
    while rollout.goes_on:
        decision = rollout.decide()
        scores = decision.logits.log_softmax(dim=1)
        chosen = torch.multinomial(scores.exp(), 1)[:, 0]
        chosen = torch.tensor([2]) if rollout.is_last else chosen
        (here,) = decision.environments
        before = State.of(here)
        rollout.act(decision, chosen.tolist())
        rewards.append(reward(before, State.of(here), chosen.item() == 2))
        entropy = -(scores.exp() * scores).sum().item()
        terms.append((scores[0, chosen].item(), decision.values.item(), entropy))
    returns = rewards if len(rewards) == 1 else [rewards[0] + 0.9 * rewards[1], rewards[1]]
    expected = [
        -log_probability * (amount - value) + 0.5 * (amount - value) ** 2 - 0.01 * entropy
        for amount, (log_probability, value, entropy) in zip(returns, terms, strict=True)
    ]
    assert found == pytest.approx(sum(expected) / len(expected), rel=1e-4)


def test_rewards_teach_the_critic_and_not_by_way_of_the_actor():
    agent = small_agent(max_steps=3, use_critic=True)
    agent.planner.train()
    reward_loss(agent, [Line(3), Line(3, ways=1), Line(2, ways=0)], 0.9).backward()
    gradients = {name: parameter.grad for name, parameter in agent.planner.named_parameters()}
    assert gradients["critic.output.weight"].abs().sum() > 0
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients.values())


@pytest.mark.parametrize("feedback", ["teacher", "sample"])
def test_an_agent_learns_to_go_to_the_end_of_a_line(feedback):
    agent = small_agent(max_steps=5, use_critic=feedback == "sample")
    lines, losses = [Line(3), Line(2), Line(1)], []
    settings = NavigationTraining(iterations=20, learning_rate=1e-2, feedback=feedback, freeze_backbone=False)
    train_agent(agent, lines, settings, lambda number, loss: losses.append((number, loss)))
    paths = agent.walk(lines)
    assert [path.distances[-1] for path in paths] == [1, 1, 1] and all(path.stopped for path in paths)
    assert [number for number, _ in losses] == list(range(20)) and losses[-1][1] < losses[0][1]
    assert not agent.planner.training


def test_training_repeats_under_a_seed_and_leaves_frozen_layers_alone():
    results = []
    for seed in (0, 0, 1):
        agent = small_agent(max_steps=3, hidden_dropout=0.1)
        before = agent.planner.text_layers[0].mlp.fc1.weight.detach().clone()
        train_agent(agent, [Line(3)], NavigationTraining(iterations=2, learning_rate=1e-2, seed=seed))
        assert torch.equal(agent.planner.text_layers[0].mlp.fc1.weight, before)
        results.append(agent.planner.action_head.dense.weight.detach().clone())
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feedback": "reward"}, "feedback='reward', expected teacher or sample"),
        ({"teacher_ratio": 1.5}, "teacher_ratio=1.5, expected 0 to 1"),
        ({"iterations": 0}, "iterations=0, expected 1 or more"),
    ],
)
def test_nonsense_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        NavigationTraining(**changes)


def test_rewards_need_a_critic():
    with pytest.raises(ValueError, match="use_critic=True"):
        train_agent(small_agent(), [Line()], NavigationTraining(feedback="sample"))
    assert math.isclose(NavigationTraining().discount, 0.9)
