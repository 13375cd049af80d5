"""Values are passed on, or stop the program."""

import pytest

from internvideo_hf.models.common.narrowing import known, of_type


def test_values_are_passed_on():
    assert known(0) == 0 and of_type(3, int) == 3
    with pytest.raises(AssertionError):
        known(None)
    with pytest.raises(AssertionError):
        of_type("3", int)
