"""Thresholds of known videos: by hand, and refused."""

import numpy as np
import pytest

from internvideo_hf.inference.open_set.thresholds import find_threshold

SCORES = np.random.default_rng(0).permutation(np.arange(1.0, 101.0))


@pytest.mark.parametrize(
    ("rule", "threshold", "accepted"),
    [("accepted", 96.0, 0.96), ("published_softmax", 95.0, 0.95), ("published_inverted", 5.0, 0.05)],
)
def test_each_rule_takes_its_place(rule, threshold, accepted):
    assert find_threshold(SCORES, 0.95, rule) == threshold
    assert (threshold >= SCORES).mean() == accepted


def test_few_videos_and_all_of_them():
    assert find_threshold(np.array([3.0]), 0.95) == 3 and find_threshold(SCORES, 1.0) == 100
    assert find_threshold(np.array([3.0, 1.0]), 0.1, "published_softmax") == 1


@pytest.mark.parametrize(
    ("scores", "accepted", "rule", "message"),
    [
        (np.zeros(0), 0.95, "accepted", "0 scores of known videos"),
        (np.array([1.0, np.nan]), 0.95, "accepted", "1 of them finite"),
        (SCORES, 0.0, "accepted", "accepted=0.0 must be above 0"),
        (SCORES, 95, "accepted", "at most 1"),
        (SCORES, 0.95, "acepted", "Did you mean accepted"),
    ],
)
def test_what_gives_no_threshold_is_refused(scores, accepted, rule, message):
    with pytest.raises(ValueError, match=message):
        find_threshold(scores, accepted, rule)
