"""Ensembles of classifiers by their scores, as InternVideo-D and InternVideo-T most plausibly are.

Each member sees a video with its own frames, size, statistics and views; its scores are the mean of the probabilities
of the views, and the ensemble's the weighted sum of its members'. Source: arXiv:2212.03191, table 2, whose numbers of
parameters leave no room for more; weights and views it does not tell.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from internvideo_hf.inference.classifier import Classifier
from internvideo_hf.inference.merging import Merged
from internvideo_hf.utils.files import atomic_write

_UNLIKELIEST = 1e-12  # a probability of 0 for the truth would decide the fit alone


@dataclass(frozen=True)
class Scores:
    """What a classifier, or an ensemble, says of a list of videos.

    Args:
        videos: names, each once.
        labels: true classes, int64, shape (videos,).
        probabilities: float64, shape (videos, classes); NaN where a video could not be read.
        classes: names of the classes.
        facts: what else there is to tell, as JSON holds it: model, views, ...
    """

    videos: list[str]
    labels: np.ndarray
    probabilities: np.ndarray
    classes: list[str]
    facts: Mapping[str, Any]

    def merged(self) -> Merged:
        """The same for `top_k_accuracy`, to which a video that could not be read is wrong."""
        failed = np.isnan(self.probabilities).any(axis=1)
        return Merged(self.videos, self.labels, self.probabilities, failed)

    def save(self, path: Path) -> None:
        """Write a safetensors file; it appears whole or not at all."""
        about = {"videos": self.videos, "classes": self.classes, "facts": dict(self.facts)}
        tensors = {"labels": self.labels.astype(np.int64), "probabilities": self.probabilities.astype(np.float64)}
        metadata = {name: json.dumps(value) for name, value in about.items()}
        atomic_write(path, lambda file: save_file(tensors, file, metadata=metadata))

    @classmethod
    def load(cls, path: str | Path) -> "Scores":
        """Read what `save` wrote.

        Raises:
            ValueError: if it is no such file.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                about = {name: json.loads(text) for name, text in (file.metadata() or {}).items() if name != "format"}
                return cls(**about, **{name: file.get_tensor(name) for name in ("labels", "probabilities")})
        except (OSError, SafetensorError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} holds no scores that `internvideo evaluate --ensemble` wrote ({error})."
            ) from error


def merge_scores(members: Sequence[Scores], weights: Sequence[float] | None = None) -> Scores:
    """The weighted mean of the probabilities of several members, video by video.

    Args:
        members: of the same videos and classes; in which order the videos stand does not matter.
        weights: 0 or more, one for each member; they are divided by their sum. Equal where None.

    Returns:
        The ensemble's scores; NaN where a member of any weight could not read a video.

    Raises:
        ValueError: if videos, labels or classes differ, or the weights are not as many or all 0.
    """
    if not members:
        raise ValueError("members: got none, expected scores of at least one classifier")
    shares = np.full(len(members), 1.0) if weights is None else np.asarray(weights, dtype=np.float64)
    if shares.shape != (len(members),) or (shares < 0).any() or not np.isfinite(shares).all() or shares.sum() == 0:
        raise ValueError(
            f"weights: got {shares.tolist()} for {len(members)} members, expected a number of 0 or more for each, and "
            "one above 0"
        )
    members = [_in_order_of(members[0], member) for member in members]
    used = [(share, member) for share, member in zip(shares / shares.sum(), members, strict=True) if share > 0]
    mean = sum(share * member.probabilities for share, member in used)
    facts = {"members": [dict(member.facts) for member in members], "weights": (shares / shares.sum()).tolist()}
    return replace(members[0], probabilities=mean, facts=facts)


def fit_weights(members: Sequence[Scores], rounds: int = 10_000) -> np.ndarray:
    """The weights under which the true classes of a validation set are most likely.

    The likelihood of a mixture is concave in its weights, so that expectation maximisation finds the best ones. Videos
    that a member could not read are left out.

    Args:
        members: scores of videos that nothing is evaluated on.
        rounds: the most steps.

    Returns:
        One weight for each member, of the sum 1.

    Raises:
        ValueError: if the members do not fit each other, or no video is left.
    """
    members = [_in_order_of(members[0], member) for member in members]
    truth = members[0].labels
    likely = np.stack([member.probabilities[np.arange(len(truth)), truth] for member in members])
    likely = likely[:, np.isfinite(likely).all(axis=0)].clip(min=_UNLIKELIEST)
    if likely.shape[1] == 0:
        raise ValueError("Every video of the validation set failed: there is nothing to fit weights on.")
    weights = np.full(len(members), 1 / len(members))
    for _ in range(rounds):
        shares = weights[:, None] * likely
        fitted = (shares / shares.sum(axis=0)).mean(axis=1)
        if abs(fitted - weights).max() < 1e-10:
            break
        weights = fitted
    return weights


def _in_order_of(first: Scores, member: Scores) -> Scores:
    """A member's scores, its videos in another one's order, after a check that they are the same."""
    name = member.facts.get("model", "a member")
    if member.classes != first.classes:
        raise ValueError(
            f"{name} knows {len(member.classes)} classes, and the first member {len(first.classes)}, or they are in "
            "another order. Merge classifiers of the same classes."
        )
    places = {video: place for place, video in enumerate(member.videos)}
    if places.keys() != set(first.videos) or len(member.videos) != len(first.videos):
        raise ValueError(
            f"{name} was scored on {len(member.videos)} videos, and the first member on {len(first.videos)}, or they "
            "are others. Merge scores of one list."
        )
    order = np.array([places[video] for video in first.videos], dtype=np.int64)
    if (member.labels[order] != first.labels).any():
        raise ValueError(f"{name} was scored with other labels than the first member. Merge scores of one list.")
    return replace(member, videos=first.videos, labels=first.labels, probabilities=member.probabilities[order])


class ScoreEnsemble:
    """Several classifiers of the same classes as one.

    >>> ensemble = ScoreEnsemble.from_pretrained("vit-h-k400", "uniformerv2-l-k400", views=[(5, 3), (4, 3)])
    >>> ensemble("clip.mp4", top_k=1)
    [{'label': 'riding a bike', 'score': ...}]

    Args:
        members: one or more.
        weights: 0 or more, one for each; equal where None. `fit_weights` finds them on a validation set.

    Raises:
        ValueError: if the classes differ.
    """

    def __init__(self, members: Sequence[Classifier], weights: Sequence[float] | None = None):
        if not members:
            raise ValueError("members: got none, expected at least one classifier")
        for member in members:
            if member.classes != members[0].classes:
                raise ValueError(
                    f"{member.name} knows {len(member.classes)} classes, and {members[0].name} "
                    f"{len(members[0].classes)}, or they are in another order. Take classifiers of the same classes."
                )
        self.members = list(members)
        self.weights = weights

    @classmethod
    def from_pretrained(
        cls,
        *models: str | Path,
        views: Sequence[tuple[int, int] | None] | None = None,
        weights: Sequence[float] | None = None,
        device: str | torch.device | None = None,
    ) -> "ScoreEnsemble":
        """Load the members.

        Args:
            models: folders, or names on the Hub.
            views: clips and crops of each video, for each member; None as its processor is configured.
            weights: see the class.
            device: where they run; the accelerator if there is one.
        """
        views = [None] * len(models) if views is None else views
        if len(views) != len(models):
            raise ValueError(f"views: got {len(views)} for {len(models)} models, expected clips and crops for each")
        return cls(
            [
                Classifier.load(model, *(seen or (None, None)), device=device)
                for model, seen in zip(models, views, strict=True)
            ],
            weights,
        )

    def scores(self, video: Any) -> np.ndarray:
        """The probabilities of the classes, float64, shape (classes,).

        Raises:
            VideoDecodeError: if the video cannot be read.
        """
        told = [
            Scores(
                ["video"],
                np.zeros(1, dtype=np.int64),
                member.probabilities({name: views[None] for name, views in member.views_of({"video": video}).items()}),
                member.classes,
                {},
            )
            for member in self.members
        ]
        return merge_scores(told, self.weights).probabilities[0]

    def __call__(self, video: Any, top_k: int = 5) -> list[dict[str, Any]]:
        """Classify a video, of every kind that `VideoReader` takes.

        Args:
            video: one video.
            top_k: labels to return, the best first.

        Returns:
            `{"label", "score"}` each; scores are probabilities.
        """
        scores = self.scores(video)
        best = np.argsort(-scores, kind="stable")[:top_k]
        return [{"label": self.members[0].classes[place], "score": float(scores[place])} for place in best]
