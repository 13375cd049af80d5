"""Answers of classifiers: shapes, numbers that are none, selections and means."""

import pytest
import torch
from inference.open_set.drawn import observations

from internvideo_hf.inference.open_set.observations import Observations


def test_videos_are_chosen_and_views_are_averaged():
    seen = observations(6, views=3)
    assert len(seen) == 6 and seen.tensors().keys() == {"logits", "features", "samples", "labels"}
    chosen = seen.of([4, 1])
    assert chosen.labels.tolist() == [0, 1] and chosen.features.equal(seen.features[[4, 1]])
    merged = seen.merged()
    assert merged.logits.shape == (6, 1, 4) and merged.labels.equal(seen.labels)
    torch.testing.assert_close(merged.samples[:, 0].float(), seen.samples.mean(dim=1))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"logits": torch.zeros(3, 4)}, r"logits has the shape \(3, 4\), expected \(videos, views, numbers\)"),
        ({"samples": torch.zeros(3, 1, 4)}, r"expected \(videos, views, passes, classes\)"),
        ({"logits": torch.full((3, 1, 4), torch.nan)}, "A number of logits is not finite"),
        ({"logits": torch.zeros(3, 1, 4), "labels": torch.zeros(2, dtype=torch.int64)}, "of the same videos"),
        ({"labels": torch.zeros(2, dtype=torch.int64)}, "expected logits, features or samples"),
        ({}, "Got nothing"),
    ],
)
def test_what_fits_no_video_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Observations(**fields)
