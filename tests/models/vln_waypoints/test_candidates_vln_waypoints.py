"""Places from a heatmap: suppression with the rules of the original, angles, and the moves of training."""

import math

import pytest
import torch

from internvideo_hf import VLNWaypointsConfig
from internvideo_hf.models.vln_waypoints.candidates_vln_waypoints import (
    candidates_of,
    sample_candidates,
    suppress_heatmap,
)

CONFIG = VLNWaypointsConfig()


def heatmap(**places: float) -> torch.Tensor:
    """Return logits of `(1, 120, 12)`, zero but at places such as `r30c4`."""
    logits = torch.zeros(1, 120, 12)
    for place, score in places.items():
        row, column = map(int, place[1:].split("c"))
        logits[0, row, column] = score
    return logits


def places_of(logits: torch.Tensor, config: VLNWaypointsConfig = CONFIG) -> list[list[int]]:
    return suppress_heatmap(logits, config)[0].nonzero().tolist()


def test_a_place_suppresses_a_window_that_its_column_shifts():
    # Row 40 is row 41 of the wrapped heatmap, and its column 6 makes it 41.5: rows 37 to 46 are suppressed.
    two = VLNWaypointsConfig(max_candidates=2)
    for row, survives in ((35, True), (36, False), (45, False), (46, True)):
        found = places_of(heatmap(r40c6=9, **{f"r{row}c6": 8}), two)
        assert ([row, 6] in found) == survives, row
    # Without a fraction, rows are suppressed alike on both sides.
    for row, survives in ((34, True), (35, False), (45, False), (46, True)):
        assert ([row, 0] in places_of(heatmap(r40c0=9, **{f"r{row}c0": 8}), two)) == survives, row


def test_distances_are_circular_to_one_side():
    two = VLNWaypointsConfig(max_candidates=2)
    # From column 11, column 0 is one away around the circle; from column 0, column 11 is 11 away.
    assert places_of(heatmap(r40c11=9, r40c0=8), two)[0] != [40, 0]
    assert [40, 11] in places_of(heatmap(r40c0=9, r40c11=8), two)
    assert [40, 8] in places_of(heatmap(r40c0=9, r40c8=8), two)
    assert [40, 7] not in places_of(heatmap(r40c0=9, r40c7=8), two)


def test_a_place_in_the_first_or_last_row_can_be_lost():
    one = VLNWaypointsConfig(max_candidates=1)
    # Row 119 also stands before row 0, and is found there first.
    assert places_of(heatmap(r119c3=9), one) == []
    # Row 0 also stands behind row 119, but is found at its own place.
    assert places_of(heatmap(r0c3=9), one) == [[0, 3]]


def test_values_are_probabilities_of_all_cells():
    kept = suppress_heatmap(heatmap(r40c6=math.log(1440)), CONFIG)
    assert kept[0, 40, 6].item() == pytest.approx(1440 / (1439 + 1440))
    assert (kept > 0).sum() <= CONFIG.max_candidates
    with pytest.raises(ValueError, match=r"shape \(120, 12\), expected \(batch, 120, 12\)"):
        suppress_heatmap(torch.zeros(120, 12), CONFIG)


def test_places_have_angles_to_the_left_meters_and_views():
    kept = torch.zeros(2, 120, 12)
    for row, column in ((0, 0), (4, 11), (5, 3), (114, 1), (115, 2)):
        kept[0, row, column] = 0.1
    kept[1, 60, 5] = 0.2
    found = candidates_of(kept, CONFIG)
    assert found.mask.tolist() == [[True] * 5, [True] + [False] * 4]
    # Views are numbered to the left, and each reaches 15 degrees to either side: 5 rows.
    assert found.views.tolist() == [[0, 0, 11, 1, 0], [6, 0, 0, 0, 0]]
    degrees = found.angles * 180 / math.pi
    assert degrees[0].tolist() == pytest.approx([360, 348, 345, 18, 15], abs=1e-3)
    assert degrees[1].tolist() == pytest.approx([180, 0, 0, 0, 0], abs=1e-3)
    assert found.distances.tolist() == [[0.25, 3.0, 1.0, 0.5, 0.75], [1.5, 0, 0, 0, 0]]


def test_training_moves_places_within_their_views():
    logits = torch.full((1, 120, 12), -1e9)
    logits[0, 117, 2] = logits[0, 33, 4] = 0  # of views straight ahead, and 90 degrees to the right
    kept = torch.zeros(1, 120, 12)
    kept[0, 2, 8] = kept[0, 26, 1] = 0.5
    found = sample_candidates(logits, candidates_of(kept, CONFIG), CONFIG)
    assert found.views.tolist() == [[0, 9]]
    assert (found.angles * 180 / math.pi)[0].tolist() == pytest.approx([9, 261], abs=1e-3)
    assert found.distances[0].tolist() == [0.75, 1.25]
    published = sample_candidates(logits, candidates_of(kept, CONFIG), CONFIG, as_published=True)
    # Row 117, the third of its view, becomes row 2: 6 degrees to the right.
    assert (published.angles * 180 / math.pi)[0].tolist() == pytest.approx([354, 261], abs=1e-3)


def test_moves_follow_the_probabilities_and_the_seed():
    logits = torch.zeros(1, 120, 12)
    kept = torch.zeros(1, 120, 12)
    kept[0, 30, 5] = 1
    found = [
        sample_candidates(logits, candidates_of(kept, CONFIG), CONFIG, torch.Generator().manual_seed(seed))
        for seed in (0, 0, *range(1, 30))
    ]
    assert torch.equal(found[0].angles, found[1].angles)
    rows = {round((360 - place.angles.item() * 180 / math.pi) / 3) for place in found}
    assert rows <= set(range(25, 35)) and len(rows) > 5
    assert len({place.distances.item() for place in found}) > 5
