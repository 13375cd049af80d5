"""How similar a clip is to captions that have nothing to do with it: what turns a cosine into an answer.

Cosines of a contrastive model say little by themselves: those of true pairs lie near 0.3, those of others not far
below, and both move from clip to clip. So a clip's cosine with a query is compared with the same clip's cosines with
some two hundred captions of everyday scenes (`recipes/null_captions.json`), of which nearly all are untrue of it:

- `z`: how many standard deviations of those cosines the query lies above their mean;
- `share`: the share of those captions that are less similar to the clip than the query is, 0-1;
- `chance`: how many clips of a gallery of this size would lie so far above by chance, if the cosines of strange
  captions were normally distributed: clips x (1 - Phi(z)). As the E-value of sequence search, it knows that the best
  of many clips is far above the mean of any of them.

A hit matches where `chance` is at most `LARGEST_CHANCE`.
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
    """The captions of everyday scenes that a query is measured against."""
    text = resources.files("internvideo_hf.recipes").joinpath("null_captions.json").read_text(encoding="utf-8")
    return tuple(json.loads(text))


def calibrate(similarity: torch.Tensor, clips: torch.Tensor, null: torch.Tensor, gallery: int) -> Calibrated:
    """Measure cosines against those of the null captions.

    Args:
        similarity: cosines of a query with clips, `(hits,)`.
        clips: embeddings of those clips, unit vectors, `(hits, dim)`.
        null: embeddings of the null captions, unit vectors, `(captions, dim)`.
        gallery: clips that the hits were chosen from.
    """
    similarity = similarity.double()
    strange = (clips @ null.T).double()
    spread = strange.std(dim=1).clamp_min(1e-9)
    z = (similarity - strange.mean(dim=1)) / spread
    share = (strange < similarity[:, None]).double().mean(dim=1)
    # 1 - Phi(z) as Phi(-z): the difference would be 0 where z is large.
    return Calibrated(z, share, gallery * torch.special.ndtr(-z))
