"""Ensembles of classifiers by their scores, the most plausible reading of InternVideo-D and InternVideo-T.

Each member sees a video with its own frames, size, statistics and views. Its scores are the mean of the probabilities
of the views; the ensemble's scores are the weighted sum of its members'. Source: arXiv:2212.03191, table 2, whose
numbers of parameters leave no room for more; it states neither weights nor views.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from internvideo_hf.inference.classifier import Classifier
from internvideo_hf.inference.merging import top_k_accuracies
from internvideo_hf.utils.files import atomic_write
from internvideo_hf.utils.names import reason_of

MIN_PROBABILITY = 1e-12  # a probability of 0 for a true class would alone determine the fit


@dataclass(frozen=True)
class Scores:
    """Probabilities of a classifier, or of an ensemble, for a list of videos.

    Args:
        videos: distinct names.
        labels: true classes, int64, `(videos,)`.
        probabilities: float64, `(videos, classes)`; NaN for an unreadable video.
        classes: names of the classes.
        facts: further facts for JSON: model, views, ...
    """

    videos: list[str]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    classes: list[str]
    facts: Mapping[str, Any]

    @property
    def unreadable(self) -> NDArray[np.bool_]:
        """Videos without probabilities, bool, `(videos,)`."""
        return np.asarray(np.isnan(self.probabilities).any(axis=1))

    def accuracies(self) -> dict[str, float]:
        """Return top-1 and top-5 accuracy in percent; an unreadable video counts as wrong."""
        return top_k_accuracies(self.probabilities, self.labels)

    def save(self, path: Path) -> None:
        """Write a safetensors file, atomically."""
        about = {"videos": self.videos, "classes": self.classes, "facts": dict(self.facts)}
        tensors = {"labels": self.labels.astype(np.int64), "probabilities": self.probabilities.astype(np.float64)}
        metadata = {name: json.dumps(value) for name, value in about.items()}
        atomic_write(path, lambda file: save_file(tensors, file, metadata=metadata))

    @classmethod
    def load(cls, path: str | Path) -> "Scores":
        """Read a file of `save`.

        Raises:
            ValueError: if it is another file.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                about = {name: json.loads(text) for name, text in (file.metadata() or {}).items() if name != "format"}
                return cls(**about, **{name: file.get_tensor(name) for name in ("labels", "probabilities")})
        except (OSError, SafetensorError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} holds no scores of `internvideo evaluate --ensemble` ({reason_of(error)}). Name another "
                "file, or the model's folder."
            ) from error


def merge_scores(members: Sequence[Scores], weights: Sequence[float] | NDArray[np.float64] | None = None) -> Scores:
    """Average the probabilities of several members with weights, video by video.

    Args:
        members: of equal videos, in any order, and equal classes.
        weights: 0 or more, one per member; their sum is scaled to 1. None: equal weights.

    Returns:
        The ensemble's scores; NaN for a video that a member with a weight above 0 could not read.

    Raises:
        ValueError: if videos, labels or classes differ, or weights differ in number from members, or all are 0.
    """
    if not members:
        raise ValueError("members: got none, expected scores of at least one classifier")
    fractions = np.full(len(members), 1.0) if weights is None else np.asarray(weights, dtype=np.float64)
    valid = fractions.shape == (len(members),) and np.isfinite(fractions).all() and (fractions >= 0).all()
    if not valid or fractions.sum() == 0:
        raise ValueError(
            f"weights: got {fractions.tolist()} for {len(members)} members, expected one number of 0 or more per "
            "member, and one above 0"
        )
    fractions = fractions / fractions.sum()
    members = [_in_order_of(members[0], member) for member in members]
    mean = np.zeros_like(members[0].probabilities)
    for fraction, member in zip(fractions, members, strict=True):
        if fraction > 0:  # a member without weight may have failed
            mean += fraction * member.probabilities
    facts = {"members": [dict(member.facts) for member in members], "weights": fractions.tolist()}
    return replace(members[0], probabilities=mean, facts=facts)


def fit_weights(members: Sequence[Scores], rounds: int = 10_000) -> NDArray[np.float64]:
    """Find the weights that maximize the likelihood of the true classes of a validation set.

    The likelihood of a mixture is concave in its weights, so expectation maximization finds the optimum. Videos that a
    member could not read are left out.

    Args:
        members: scores of videos that no evaluation uses.
        rounds: maximum number of steps.

    Returns:
        One weight per member, with sum 1.

    Raises:
        ValueError: if videos, labels or classes of the members differ, or no video is readable.
    """
    members = [_in_order_of(members[0], member) for member in members]
    truth = members[0].labels
    likelihoods = np.stack([member.probabilities[np.arange(len(truth)), truth] for member in members])
    likelihoods = likelihoods[:, np.isfinite(likelihoods).all(axis=0)].clip(min=MIN_PROBABILITY)
    if likelihoods.shape[1] == 0:
        raise ValueError("Every video of the validation set is unreadable. Check the list and its videos.")
    weights = np.full(len(members), 1 / len(members))
    for _ in range(rounds):
        parts = weights[:, None] * likelihoods
        fitted = (parts / parts.sum(axis=0)).mean(axis=1)
        if abs(fitted - weights).max() < 1e-10:
            break
        weights = fitted
    return weights


def _in_order_of(first: Scores, member: Scores) -> Scores:
    """Return a member's scores in the order of another's videos; refuse other videos, labels or classes."""
    name = member.facts.get("model", "a member")
    if member.classes != first.classes:
        raise ValueError(
            f"{name} has {len(member.classes)} classes, the first member {len(first.classes)}, or they are in another "
            "order. Merge classifiers of equal classes."
        )
    places = {video: place for place, video in enumerate(member.videos)}
    if places.keys() != set(first.videos) or len(member.videos) != len(first.videos):
        raise ValueError(
            f"{name} was scored on {len(member.videos)} videos, the first member on {len(first.videos)}, or on other "
            "ones. Merge scores of one list."
        )
    order = np.array([places[video] for video in first.videos], dtype=np.int64)
    if (member.labels[order] != first.labels).any():
        raise ValueError(f"{name} was scored with other labels than the first member. Merge scores of one list.")
    return replace(member, videos=first.videos, labels=first.labels, probabilities=member.probabilities[order])


class ScoreEnsemble:
    """Several classifiers of equal classes as one.

    >>> ensemble = ScoreEnsemble.from_pretrained("vit-h-k400", "uniformerv2-l-k400", views=[(5, 3), (4, 3)])
    >>> ensemble("clip.mp4", top_k=1)
    [{'label': 'riding a bike', 'score': ...}]

    Args:
        members: one or more.
        weights: 0 or more, one per member; equal if None. `fit_weights` finds them on a validation set.

    Raises:
        ValueError: if the classes differ.
    """

    def __init__(self, members: Sequence[Classifier], weights: Sequence[float] | None = None):
        if not members:
            raise ValueError("members: got none, expected at least one classifier")
        for member in members:
            if member.classes != members[0].classes:
                raise ValueError(
                    f"{member.name} has {len(member.classes)} classes, {members[0].name} {len(members[0].classes)}, "
                    "or they are in another order. Pass classifiers of the same classes."
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
            *models: folders, or names on the Hub.
            views: clips and crops of each video, per member; None as its processor is configured.
            weights: one per member, see the class.
            device: where they run; the accelerator if there is one.
        """
        views = [None] * len(models) if views is None else views
        if len(views) != len(models):
            raise ValueError(f"views: got {len(views)} for {len(models)} models, expected clips and crops for each")
        members = []
        for model, counts in zip(models, views, strict=True):
            num_clips, num_crops = counts or (None, None)
            members.append(Classifier.load(model, num_clips, num_crops, device))
        return cls(members, weights)

    def scores(self, video: Any) -> NDArray[np.float64]:
        """Return the probabilities of the classes, float64, `(classes,)`.

        Raises:
            VideoDecodeError: if the video cannot be read.
        """
        members = []
        for member in self.members:
            views = {name: pixels[None] for name, pixels in member.views_of({"video": video}).items()}
            label = np.zeros(1, dtype=np.int64)
            members.append(Scores(["video"], label, member.probabilities(views), member.classes, {}))
        probabilities: NDArray[np.float64] = merge_scores(members, self.weights).probabilities[0]
        return probabilities

    def __call__(self, video: Any, top_k: int = 5) -> list[dict[str, Any]]:
        """Classify a video, of every kind that `VideoReader` takes.

        Args:
            video: one video.
            top_k: number of labels to return, the best first.

        Returns:
            A list of `{"label", "score"}`; scores are probabilities.
        """
        scores = self.scores(video)
        best = np.argsort(-scores, kind="stable")[:top_k]
        return [{"label": self.members[0].classes[place], "score": float(scores[place])} for place in best]
