"""Lookup of names that a user wrote."""

import pytest

from internvideo_hf.utils.names import lookup

TABLE = {"prob": 1, "score": 2}


def test_a_known_name_is_found():
    assert lookup(TABLE, "score", "merge") == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("scores", r"^merge: got 'scores', expected one of prob, score\. Did you mean score\?$"),
        ("x", r"^merge: got 'x', expected one of prob, score\.$"),
        (None, r"^merge: got None"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name, message):
    with pytest.raises(ValueError, match=message):
        lookup(TABLE, name, "merge")


def test_the_caller_says_which_error():
    with pytest.raises(LookupError, match="merge: got 'x'"):
        lookup(TABLE, "x", "merge", LookupError)
