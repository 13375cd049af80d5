"""Which settings differ."""

import pytest

from internvideo_hf.utils.settings import changed_settings


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ({"window": 16, "stride": 4}, {"stride": 4, "window": 16}, ""),
        ({"window": 16, "stride": 4}, {"window": 8, "stride": 2}, "stride 4, now 2; window 16, now 8"),
        ({"data": {"list": "a.csv", "n": 1}}, {"data": {"list": "b.csv", "n": 1}}, "data.list a.csv, now b.csv"),
        ({}, {"dtype": "float16"}, "dtype none, now float16"),
        ({"dtype": None}, {}, ""),
        ({"data": {"list": "a"}}, {"data": None}, "data {'list': 'a'}, now none"),
        ({str(n): 0 for n in range(7)}, {}, "0 0, now none; 1 0, now none; 2 0, now none; 3 0, now none; "
         "4 0, now none; 2 more"),
    ],
)  # fmt: skip
def test_each_setting_that_differs_is_named_with_both_values(before, now, said):
    assert changed_settings(before, now) == said
