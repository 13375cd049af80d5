"""Numbers of the predictor of waypoints that do not fit each other are refused; the default is the public one."""

import pytest
from huggingface_hub.errors import StrictDataclassClassValidationError

from internvideo_hf import VLNWaypointsConfig


def test_the_default_is_the_public_one():
    config = VLNWaypointsConfig()
    assert config.depth_size == 128 * 4 * 4
    assert config.num_angles * config.num_distances == 1440


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 7}, "num_attention_heads=7 must divide hidden_size=768"),
        ({"num_angles": 60, "num_views": 20}, "num_angles=60 must be a multiple of 40, twice num_views"),
        ({"max_candidates": 0}, "max_candidates=0 must be at least 1"),
        ({"distance_step": 0}, "distance_step=0 must be above 0"),
        ({"hidden_dropout": 1}, "hidden_dropout=1"),
    ],
)
def test_nonsense_is_refused(changes, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        VLNWaypointsConfig(**changes)
