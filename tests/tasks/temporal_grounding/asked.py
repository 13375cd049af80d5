"""Features in which a sentence's stretch is plain to see, a list of sentences, and the settings of a small head."""

import csv
from pathlib import Path

import numpy as np

WORDS = ["red", "blue", "green", "white"]
FPS, STRIDE, WINDOW = 10, 5, 10
TINY = [
    "model.config.video_size=4",
    "model.config.text_size=96",
    "model.config.hidden_size=32",
    "model.config.num_attention_heads=2",
    "model.config.num_conv_layers=2",
    "model.config.max_positions=32",
    "model.config.hidden_dropout=0.0",
    "training.dataloader_num_workers=0",
    "data.queries.text_encoder=demo-mm",
    "data.queries.stride=5",
    "data.queries.num_frames=10",
    "data.queries.fps=10",
]


def write_asked(root: Path, videos: int = 16, rows: int = 24, seed: int = 0) -> None:
    """Write features of videos with two colors each, and train.csv and val.csv of sentences; a third is val."""
    rng = np.random.default_rng(seed)
    (root / "features").mkdir(parents=True, exist_ok=True)
    lists: dict[str, list[list]] = {"train": [], "val": []}
    for number in range(videos):
        features = rng.normal(0, 0.1, (rows, 4)).astype(np.float32)
        first, second = rng.permutation(4)[:2]
        for half, channel in enumerate((first, second)):
            start, length = half * rows // 2 + rng.integers(1, 4), rng.integers(3, 7)
            features[start : start + length, channel] += 3
            # A row stands for the time from half a stride before the middle of its window to half a stride behind.
            ends = [(row * STRIDE + WINDOW / 2 - STRIDE / 2) / FPS for row in (start, start + length)]
            name = "val" if 3 * number >= 2 * videos else "train"
            lists[name].append([f"videos/video{number:02d}.mp4", f"a {WORDS[channel]} square", *ends])
        np.save(root / f"features/video{number:02d}.npy", features)
    for name, lines in lists.items():
        with (root / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["video", "query", "start", "end"], *lines])
