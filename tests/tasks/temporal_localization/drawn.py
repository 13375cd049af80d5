"""Features in which actions are plain to see, with annotations, and the settings of a small head."""

import json
from pathlib import Path

import numpy as np

CLASSES = ["jump", "run"]
FPS, STRIDE, WINDOW = 10, 5, 10
TINY = [
    "model.config.feature_size=4",
    "model.config.hidden_size=16",
    "model.config.num_attention_heads=2",
    "model.config.num_levels=3",
    "model.config.attention_windows=5",
    "model.config.max_sequence_length=64",
    "model.config.init_loss_normalizer=10",
    "training.dataloader_num_workers=0",
    "data.features.stride=5",
    "data.features.num_frames=10",
    "data.features.fps=10",
]


def write_features(root: Path, videos: int = 12, rows: int = 48, seed: int = 0) -> dict:
    """Write features of videos with two actions each; the last third is for validation. Return the annotations."""
    rng = np.random.default_rng(seed)
    (root / "features").mkdir(parents=True, exist_ok=True)
    database = {}
    for number in range(videos):
        features = rng.normal(0, 0.1, (rows, 4)).astype(np.float32)
        found = []
        for half in range(2):
            start, length, label = half * rows // 2 + rng.integers(2, 8), rng.integers(5, 14), rng.integers(2)
            features[start : start + length, label] += 1
            ends = [(start * STRIDE + WINDOW / 2) / FPS, ((start + length) * STRIDE + WINDOW / 2) / FPS]
            found.append({"segment": [float(end) for end in ends], "label": CLASSES[label]})
        name, subset = f"video{number:02d}", "validation" if 3 * number >= 2 * videos else "training"
        np.save(root / f"features/{name}.npy", features)
        duration = (rows * STRIDE + WINDOW) / FPS
        database[name] = {"subset": subset, "duration": duration, "annotations": found}
    (root / "annotations.json").write_text(json.dumps({"database": database}))
    return database
