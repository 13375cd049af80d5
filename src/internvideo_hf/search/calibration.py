"""Calibration of cosines: how much more similar a clip is to a query than to captions that do not describe it.

Cosines of a contrastive model have no absolute scale: those of true pairs lie near 0.3, those of others not far below,
and both shift from clip to clip. So the cosine of a clip with a query is compared with the same clip's cosines with
some two hundred null captions of everyday scenes (`recipes/null_captions.json`), almost none of which describe it:

- `z`: standard deviations above the mean of those cosines;
- `share`: fraction of those captions that are less similar to the clip than the query is, 0-1;
- `chance`: the number of clips of a gallery of this size that would score as high by chance, if the cosines of
  unrelated captions were normally distributed: clips x (1 - Phi(z)). Like the E-value of sequence search, it accounts
  for the best of many clips lying far above the mean.

A hit is a match if `chance` is at most `LARGEST_CHANCE`.
"""

import json
from functools import cache
from importlib import resources
from typing import NamedTuple

import torch

LARGEST_CHANCE = 0.05


class Calibrated(NamedTuple):
    """Scores of hits against the null captions, float64 `(hits,)` each; see the module."""

    z: torch.Tensor
    share: torch.Tensor
    chance: torch.Tensor


@cache
def null_captions() -> tuple[str, ...]:
    """Return the captions that a query is compared with."""
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
