"""Calibration of cosines: how much more similar a clip is to a query than to captions that do not describe it.

Cosines of a contrastive model have no absolute scale: those of true pairs lie near 0.3, those of others not far below,
and both shift from clip to clip. So the cosine of a clip with a query is compared with the same clip's cosines with
some two hundred null captions, almost none of which describe it:

- `z`: standard deviations above the mean of those cosines;
- `share`: fraction of those captions that are less similar to the clip than the query is, 0-1;
- `chance`: the number of clips of a gallery of this size that would score as high by chance, if the cosines of
  unrelated captions were normally distributed: clips x (1 - Phi(z)). Like the E-value of sequence search, it accounts
  for the best of many clips lying far above the mean.

Null captions belong to the world of a model. A model folder may carry its own in `null_captions.json`, which its
processor loads and saves (`InternVideoProcessor.null_captions`), with the cosine from which a hit is a match, as
measured on data of the model. For the others the captions are of everyday scenes (`recipes/null_captions.json`), and a
hit is a match if `chance` is at most `LARGEST_CHANCE`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import torch

LARGEST_CHANCE = 0.05


class Calibrated(NamedTuple):
    """Scores of hits against the null captions, float64 `(hits,)` each; see the module."""

    z: torch.Tensor
    share: torch.Tensor
    chance: torch.Tensor


@dataclass(frozen=True)
class Calibration:
    """What the hits of a text query are compared with, and from when on they are matches.

    Args:
        captions: null captions, at least two.
        cosine: the least cosine of a match, -1 to 1; None for the rule of `LARGEST_CHANCE`.
        true: fraction of true sentences whose clip reaches `cosine`, 0-1, as measured.
        absent: fraction of sentences that describe no clip of the gallery, but whose nearest clip reaches `cosine`.
        gallery: clips of the gallery in which both were measured.

    Raises:
        ValueError: if there are too few captions, or a cosine without its measured fractions.
    """

    captions: tuple[str, ...]
    cosine: float | None = None
    true: float | None = None
    absent: float | None = None
    gallery: int | None = None

    def __post_init__(self) -> None:
        texts = all(isinstance(caption, str) and caption.strip() for caption in self.captions)
        if len(self.captions) < 2 or not texts:
            raise ValueError(f"{len(self.captions)} captions, expected two texts or more")
        if self.cosine is not None and None in (self.true, self.absent, self.gallery):
            raise ValueError("a cosine without `true`, `absent` and `gallery`, as measured with it")

    @classmethod
    def of_model(cls, own: Mapping[str, Any] | None) -> "Calibration":
        """Return the calibration of a model.

        Args:
            own: the content of its `null_captions.json`, with the fields of this class; None for the general one.

        Raises:
            ValueError: if the content is of another form.
        """
        if own is None:
            return cls(null_captions())
        try:
            return cls(**dict(own, captions=tuple(own["captions"])))
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"null_captions.json: expected the fields of `Calibration`, got {error}") from error

    @property
    def rule(self) -> str:
        """When a hit is a match, as the end of a sentence."""
        if self.cosine is None:
            return "by chance fewer than one search in twenty would find a clip that scores as high"
        return (
            f"its cosine is at least {self.cosine:.3f}, as of {self.true:.0%} of the true sentences, and of "
            f"{self.absent:.0%} of those that describe none of {self.gallery} clips, with this model"
        )


@cache
def null_captions() -> tuple[str, ...]:
    """Return the general captions that a query is compared with."""
    text = resources.files("internvideo_hf.recipes").joinpath("null_captions.json").read_text(encoding="utf-8")
    return tuple(json.loads(text))


def calibrate(similarity: torch.Tensor, clips: torch.Tensor, null: torch.Tensor, gallery: int) -> Calibrated:
    """Compare cosines with those of the null captions.

    Args:
        similarity: cosines of a query with clips, `(hits,)`.
        clips: embeddings of those clips, unit vectors, `(hits, dim)`.
        null: embeddings of the null captions, unit vectors, `(captions, dim)`.
        gallery: number of clips that the hits were chosen from.
    """
    similarity = similarity.double()
    unrelated = (clips @ null.T).double()
    spread = unrelated.std(dim=1).clamp_min(1e-9)
    z = (similarity - unrelated.mean(dim=1)) / spread
    share = (unrelated < similarity[:, None]).double().mean(dim=1)
    # 1 - Phi(z) as Phi(-z): the difference would be 0 where z is large.
    return Calibrated(z, share, gallery * torch.special.ndtr(-z))
