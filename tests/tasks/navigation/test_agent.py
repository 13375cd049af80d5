"""Agents: steps of several episodes at once, what they see, and how they end."""

import math

import pytest
import torch
from tasks.navigation.small import Line, small_agent

from internvideo_hf.models.vln_planner.modeling_vln_planner import angle_features
from internvideo_hf.tasks.navigation.agent import Rollout, view_of, walk_at_random
from internvideo_hf.tasks.navigation.environment import Place
from internvideo_hf.tasks.navigation.metrics import mean_scores
from internvideo_hf.tasks.navigation.world import PanoramaWorld


def test_a_place_lies_in_the_nearest_view_and_between_two_in_the_right_one():
    degrees = {0: 0, 14.9: 0, 15: 0, 15.1: 1, 30: 1, 180: 6, 344.9: 11, 345: 11, 345.1: 0, 360: 0}
    for angle, view in degrees.items():
        assert view_of(Place(math.radians(angle), 1.0), 12) == view, angle


def test_episodes_end_alone_and_the_others_go_on():
    lines = [Line(), Line(), Line()]
    rollout = Rollout(small_agent(), lines)
    first = rollout.decide()
    assert first.logits.shape == (3, 3) and first.stopping == 2 and first.values is None
    rollout.act(first, [0, 2, 1])
    assert [line.stopped for line in lines] == [False, True, False]
    assert [line.places for line in lines] == [[3, 2], [3], [3, 4]]
    second = rollout.decide()
    assert second.environments == [lines[0], lines[2]]
    rollout.act(second, [2, 2])
    assert not rollout.goes_on and all(line.stopped for line in lines)


def test_the_last_decision_is_to_stop():
    line = Line()
    rollout = Rollout(small_agent(max_steps=3), [line])
    for _ in range(3):
        rollout.act(rollout.decide(), [1])
    assert line.places == [3, 4, 5] and line.stopped and not rollout.goes_on


@torch.no_grad()
def test_each_decision_is_that_of_the_planner_on_the_whole_history():
    agent, lines = small_agent(), [Line(), Line(5)]
    agent.planner.eval()
    rollout, seen = Rollout(agent, lines), []
    for choices in ([1, 0], [0, 0]):
        seen.append([part.clone() for part in rollout._features])
        rollout.act(rollout.decide(), choices)
    found = rollout.decide().logits
    tokens = agent.tokenize([line.instruction for line in lines])
    angles = torch.tensor([[math.pi, 0.5], [0.5, 0.5]])
    places = {"angles": torch.tensor([[0.5, math.pi]] * 2), "views": torch.tensor([[1, 6]] * 2)}
    outputs = agent.planner(
        **tokens,
        **{f"{name}_features": part for name, part in rollout._features._asdict().items()},
        past_video_features=torch.stack([part[0] for part in seen], dim=1),
        past_still_features=torch.stack([part[1] for part in seen], dim=1),
        past_angle_features=angle_features(angles),
        candidate_distances=torch.ones(2, 2),
        **{f"candidate_{name}": value for name, value in places.items()},
    )
    torch.testing.assert_close(found, outputs.logits, atol=1e-5, rtol=1e-5)


def test_videos_grow_by_what_is_seen_on_the_way():
    world = PanoramaWorld(seed=0, picture_size=8)
    rollout = Rollout(small_agent(), [world])
    first = world.observe().pictures
    place, buffer = world.candidates()[0], rollout._buffers[0]
    assert (buffer.clips() == first[:, None]).all()
    rollout.act(rollout.decide(), [0])
    clips = buffer.clips()
    poses = len(world.path().positions)
    assert (clips[:, -1] == world.observe().pictures).all()
    # The pose at the start, in front of those of the way.
    assert (clips[:, -poses] == first).all() if poses <= 16 else place.distance > 0
    assert (clips[:, -1] != clips[:, 0]).any()


def test_where_nothing_can_be_gone_to_one_stops():
    lines = [Line(ways=0), Line(ways=1)]
    rollout = Rollout(small_agent(), lines)
    decision = rollout.decide()
    assert decision.logits.shape == (2, 2) and decision.logits[0, 0] == -math.inf
    with pytest.raises(ValueError, match="There is no candidate 0 in environment 0, which has 0"):
        rollout.act(decision, [0, 0])
    alone = Line(ways=0)
    (path,) = small_agent().walk([alone])
    assert path.stopped and len(path.positions) == 1


def test_walks_are_those_of_the_best_scores_and_repeat():
    agent = small_agent()
    paths = [agent.walk([PanoramaWorld(seed) for seed in range(3)]) for _ in range(2)]
    assert paths[0] == paths[1] and all(path.stopped for path in paths[0])
    assert not agent.planner.training


def test_random_walks_follow_the_seed():
    first, again, other = (
        walk_at_random([PanoramaWorld(number) for number in range(5)], seed, max_steps=5) for seed in (0, 0, 1)
    )
    assert first == again != other
    assert 0 <= mean_scores(first)["SR"] <= 100


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="max_steps=11, expected 1 to 10"):
        small_agent(max_steps=11)
    with pytest.raises(ValueError, match="There are no environments"):
        Rollout(small_agent(), [])
