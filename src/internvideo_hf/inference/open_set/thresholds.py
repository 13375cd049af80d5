"""Thresholds of scores, from those of known videos: what is above, is unknown."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from internvideo_hf.utils.names import lookup

RULES: dict[str, Callable[[int, float], int]] = {
    "accepted": lambda videos, accepted: int(accepted * videos),
    "published_softmax": lambda videos, accepted: int(videos * accepted) - 1,
    "published_inverted": lambda videos, accepted: videos - int(accepted * videos) - 1,
}
"""Name -> place of the threshold among the scores of known videos in ascending order.

accepted: the stated fraction of known videos is at or below, as in `get_threshold.py`. published_softmax: one place
lower, as in the published scripts of softmax and RPL. published_inverted: `get_threshold_dist.py`, by which the
published results of VideoMAE were printed, sorts the other way round: of 0.95, 5 % of the known videos are accepted,
and 95 % rejected."""


def find_threshold(scores: NDArray[np.float64], accepted: float = 0.95, rule: str = "accepted") -> float:
    """Return the score above which a video is unknown.

    Args:
        scores: of known videos, `(videos,)`; a higher one is less known.
        accepted: fraction of them that are taken as known, above 0, at most 1.
        rule: a name in `RULES`.

    Raises:
        ValueError: if there are no scores, one is not finite, or the fraction is out of range.
    """
    place = lookup(RULES, rule, "rule")
    if not 0 < accepted <= 1:
        raise ValueError(f"accepted={accepted} must be above 0 and at most 1, a fraction of the known videos.")
    if len(scores) == 0 or not np.isfinite(scores).all():
        raise ValueError(
            f"{len(scores)} scores of known videos, {int(np.isfinite(scores).sum())} of them finite: expected at "
            "least one, all finite."
        )
    last = len(scores) - 1
    return float(np.sort(scores)[min(max(place(len(scores), accepted), 0), last)])
