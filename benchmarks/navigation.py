"""How well a small planner follows instructions in worlds that it has never seen.

    python benchmarks/navigation.py runs/navigation [--iterations 600] [--feedback sample]

A planner of 0.25 million weights learns from nothing in the small world of `tasks.navigation.world`, where "go to red
then blue then green and stop" names the colors of three neighboring places. It imitates a teacher, with scheduled
sampling; `--feedback sample` adds rewards (A2C). Prints the scores of a random walk, of the planner before it has
learned, and after, each on 200 worlds of other seeds, at success within one meter. RUN then holds the planner and its
paths, which `internvideo evaluate navigation/r2r_ce data.list=paths.json data.references=null --data-root RUN` scores,
too. About a minute of one core.
"""

import argparse
from pathlib import Path

import torch
from tqdm import tqdm

from internvideo_hf import VLNPlannerConfig, VLNPlannerForNavigation
from internvideo_hf.tasks.navigation.agent import Agent, walk_at_random
from internvideo_hf.tasks.navigation.encoders import PooledEncoder
from internvideo_hf.tasks.navigation.metrics import COLUMNS, mean_scores
from internvideo_hf.tasks.navigation.paths import RecordedPath, write_paths
from internvideo_hf.tasks.navigation.training import NavigationTraining, train_agent
from internvideo_hf.tasks.navigation.world import WORDS, PanoramaWorld, tokenize

HELD_OUT, TRAINED_ON = range(200), range(1000, 1016)
MAX_STEPS = 8
SUCCESS = 1.0  # meters: neighbors are two meters apart


def make_worlds(seeds: range) -> list[PanoramaWorld]:
    """Return worlds of other seeds."""
    return [PanoramaWorld(seed, picture_size=8) for seed in seeds]


def make_agent(with_critic: bool) -> Agent:
    """Return an agent that has learned nothing."""
    encoder = PooledEncoder(2)
    config = VLNPlannerConfig(
        vocab_size=len(WORDS),
        max_position_embeddings=24,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_cross_layers=2,
        num_panorama_layers=1,
        num_attention_heads=4,
        still_size=encoder.rgb_size,
        video_size=encoder.rgb_size,
        rgb_size=32,
        depth_size=encoder.depth_size,
        max_history_steps=MAX_STEPS,
        use_critic=with_critic,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        feature_dropout=0.0,
        layer_norm_eps=1e-6,
        initializer_range=0.1,
    )
    torch.manual_seed(0)
    return Agent(VLNPlannerForNavigation(config), encoder, tokenize, MAX_STEPS)


def show(name: str, paths: list[RecordedPath]) -> None:
    """Print a row of the table."""
    scores = mean_scores(paths, SUCCESS)
    print(f"{name:12}" + "".join(f"{scores[column]:12.2f}" for column in COLUMNS), flush=True)


def main() -> None:
    """Train and score; see the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--iterations", type=int, default=600)
    parser.add_argument("--feedback", choices=("teacher", "sample"), default="teacher")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    agent = make_agent(options.feedback == "sample")
    print(f"{'':12}" + "".join(f"{column:>12}" for column in COLUMNS))
    show("at random", walk_at_random(make_worlds(HELD_OUT), options.seed, MAX_STEPS))
    show("untrained", agent.walk(make_worlds(HELD_OUT)))
    settings = NavigationTraining(
        iterations=options.iterations,
        learning_rate=1e-3,
        feedback=options.feedback,
        decay_every=300,
        freeze_backbone=False,
        seed=options.seed,
    )
    with tqdm(total=options.iterations, desc="Training") as bar:
        train_agent(
            agent, make_worlds(TRAINED_ON), settings, lambda _, loss: bar.update() and bar.set_postfix(loss=loss)
        )
    paths = agent.walk(make_worlds(HELD_OUT))
    show("trained", paths)
    agent.planner.save_pretrained(options.run / "planner")
    write_paths(options.run / "paths.json", paths)


if __name__ == "__main__":
    main()
