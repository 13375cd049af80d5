"""Displacement of predicted hands: Ego4D's metric of future hand prediction, in pixels of the annotated video."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

HANDS = ("left", "right")
"""Hands, in the order of the numbers."""
COLUMNS = ("left M.Disp", "right M.Disp", "left C.Disp", "right C.Disp")
"""Names of the scores, as in Ego4D's leaderboard."""
POINTS_SHAPE = (5, len(HANDS), 2)
"""Times, hands, and x and y of a clip's 20 numbers."""


def displacements(predictions: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Return the Euclidean distance of each predicted point from the true one, `(clips, 5, 2)`: time, hand.

    Args:
        predictions: `(clips, 20)`, left x, left y, right x, right y at each of five times, in pixels; NaN for an
            unreadable clip.
        labels: true coordinates in the same order and pixels; x and y are both 0 where a hand is unknown.

    Returns:
        NaN where the hand is unknown, as the original has it: a hand that is annotated at (0, 0) is not scored either.
    """
    found, truth = (np.asarray(values, np.float64).reshape(-1, *POINTS_SHAPE) for values in (predictions, labels))
    distances: NDArray[np.float64] = np.hypot(*np.moveaxis(found - truth, -1, 0))
    return np.where((truth != 0).any(axis=-1), distances, np.nan)


def displacement_scores(predictions: NDArray[Any], labels: NDArray[Any]) -> dict[str, float]:
    """Return Ego4D's four scores, each the mean over the known points.

    The original gives the same numbers, with two differences. It takes the contact from the variables that its loop
    over the times leaves behind, which are those of the contact frame; and it divides by zero where no hand is known.

    Args:
        predictions: see `displacements`; clips with NaN are left out.
        labels: see `displacements`.

    Returns:
        "left M.Disp" and "right M.Disp", over all five times; "left C.Disp" and "right C.Disp", at the contact alone.
        Without those of a hand that no clip shows.
    """
    distances = displacements(predictions, labels)
    parts = [distances[:, times, hand] for times in (slice(None), slice(-1, None)) for hand in range(len(HANDS))]
    return {
        name: float(np.nanmean(part)) for name, part in zip(COLUMNS, parts, strict=True) if not np.isnan(part).all()
    }
