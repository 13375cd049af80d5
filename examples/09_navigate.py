"""An agent that follows instructions: imitation of a teacher in a small world, and its scores in new ones.

    python examples/09_navigate.py

Here an instruction names one neighbor, such as "go to red and stop"; `benchmarks/navigation.py` has ways of three. For
the released planner, convert its files (`internvideo convert`), take `PretrainedEncoder` for what it sees, and
`habitat.HabitatEnvironment` for the simulator of VLN-CE, all of `internvideo_hf.tasks.navigation`.
"""

import torch

from internvideo_hf import VLNPlannerConfig, VLNPlannerForNavigation
from internvideo_hf.tasks.navigation.agent import Agent, walk_at_random
from internvideo_hf.tasks.navigation.encoders import PooledEncoder
from internvideo_hf.tasks.navigation.metrics import mean_scores
from internvideo_hf.tasks.navigation.training import NavigationTraining, train_agent
from internvideo_hf.tasks.navigation.world import WORDS, PanoramaWorld, tokenize

torch.manual_seed(0)
encoder = PooledEncoder()
config = VLNPlannerConfig(
    vocab_size=len(WORDS),
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=1,
    num_cross_layers=2,
    num_panorama_layers=1,
    num_attention_heads=4,
    still_size=encoder.rgb_size,
    video_size=encoder.rgb_size,
    rgb_size=32,
    depth_size=encoder.depth_size,
    layer_norm_eps=1e-6,
    initializer_range=0.1,
    hidden_dropout=0.0,
    attention_dropout=0.0,
    feature_dropout=0.0,
)
agent = Agent(VLNPlannerForNavigation(config), encoder, tokenize, max_steps=4)
worlds = [PanoramaWorld(seed, steps=1, picture_size=8) for seed in range(100, 116)]
settings = NavigationTraining(iterations=200, learning_rate=2e-3, freeze_backbone=False)
train_agent(agent, worlds, settings, lambda number, loss: number % 50 or print(f"step {number}: loss {loss:.2f}"))

new = [PanoramaWorld(seed, steps=1, picture_size=8) for seed in range(50)]
for name, paths in (("at random", walk_at_random(new, max_steps=4)), ("trained", agent.walk(new))):
    scores = mean_scores(paths, success_distance=1.0)
    print(f"{name}: success {scores['SR']:.0f} %, {scores['NE']:.1f} m from the goal at the end")
