"""Answers of a made-up classifier: features around one point of each class, unknown ones around their middle."""

import torch

from internvideo_hf.inference.open_set.observations import Observations

CLASSES, DIM = 4, 6
QUICK = {name: {"steps": 60, "learning_rate": 0.02} for name in ("bayesian", "rpl", "gcp")}
"""Options of the methods that learn."""


def observations(videos: int = 80, views: int = 2, *, known: bool = True, seed: int = 0) -> Observations:
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(videos) % CLASSES
    points = 4 * torch.eye(CLASSES, DIM)
    centers = points[labels] if known else points.mean(dim=0).expand(videos, DIM) + 2 * torch.eye(DIM)[-1]
    features = centers[:, None] + 0.5 * torch.randn(videos, views, DIM, generator=draws)
    logits = features @ points.T / 2
    noise = torch.randn(videos, views, 5, CLASSES, generator=draws)
    return Observations(logits, features, logits[:, :, None] + noise, labels)
