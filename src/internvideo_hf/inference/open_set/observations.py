"""Answers of a classifier to videos, the input of open-set scorers."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from internvideo_hf.inference.merging import check_finite

MERGES = ("prob", "score")
"""What is averaged over the views of a video. prob: what a method computes for each view, such as probabilities.
score: logits and features, before the method; the published order of evidential classifiers."""


@dataclass(frozen=True)
class Observations:
    """The answers of a classifier to videos, as far as a method reads them.

    Args:
        logits: `(videos, views, classes)`.
        features: input of the model's `classifier`, `(videos, views, dim)`.
        samples: logits of random passes or of the members of an ensemble, `(videos, views, passes, classes)`. Of
            `internvideo_hf.evaluation.ensembles.Scores`, the logarithms of their probabilities.
        labels: class numbers, int64, `(videos,)`; only fitting reads them.

    Raises:
        ValueError: if shapes do not fit each other, a number is not finite, or nothing is given.
    """

    logits: Tensor | None = None
    features: Tensor | None = None
    samples: Tensor | None = None
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        for name, axes in (("logits", 3), ("features", 3), ("samples", 4)):
            numbers = getattr(self, name)
            if numbers is None:
                continue
            if numbers.ndim != axes or 0 in numbers.shape[1:]:
                shape = "(videos, views, " + ("passes, classes)" if axes == 4 else "numbers)")
                raise ValueError(f"{name} has the shape {tuple(numbers.shape)}, expected {shape}.")
            check_finite(numbers.double().numpy(), f"A number of {name}")
        lengths = {name: len(numbers) for name, numbers in self.tensors().items()}
        if len(set(lengths.values())) != 1 or set(lengths) == {"labels"}:
            raise ValueError(f"Got {lengths or 'nothing'}, expected logits, features or samples of the same videos.")

    def __len__(self) -> int:
        """Return the number of videos."""
        return len(next(iter(self.tensors().values())))

    def tensors(self) -> dict[str, Tensor]:
        """Return the fields that are given, by name."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: tensor for name, tensor in given.items() if tensor is not None}

    def of(self, rows: Sequence[int] | Tensor) -> "Observations":
        """Return those of some videos.

        Args:
            rows: numbers of the videos.
        """
        places = torch.as_tensor(rows, dtype=torch.int64)
        return Observations(**{name: tensor[places] for name, tensor in self.tensors().items()})

    def merged(self) -> "Observations":
        """Return one view of each video, the mean of its logits, features and samples."""
        views = {name: tensor for name, tensor in self.tensors().items() if name != "labels"}
        return replace(self, **{name: view.double().mean(dim=1, keepdim=True) for name, view in views.items()})
