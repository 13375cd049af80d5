"""Limits and what may be named."""

import re
from dataclasses import fields
from inspect import signature

import pytest

from internvideo_hf.cli.serving import serve
from internvideo_hf.serving.limits import Access, Limits


@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan")])
def test_a_limit_is_a_number_above_0(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}: expected a number above 0") as refused:
        Limits(**{name: value})
    options = re.findall("--[a-z-]+", str(refused.value))
    assert [option.strip("-").replace("-", "_") for option in options] == [
        parameter for parameter in signature(serve).parameters if parameter.replace("mb", "bytes") == name
    ]


def test_a_body_holds_the_largest_video_in_base64():
    limits = Limits(max_bytes=3_000_000)
    assert 4_000_000 < limits.max_body < 6_000_000 <= limits.max_bodies


@pytest.mark.parametrize("host", ["", "http://a.local", "a/b"])
def test_an_allowed_host_is_a_name(host):
    with pytest.raises(ValueError, match="--allow"):
        Access((host,))


def test_an_allowed_folder_is_there_and_known_by_its_real_path(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert Access(folders=(tmp_path / "link",)).folders == ((tmp_path / "real").resolve(),)
    with pytest.raises(ValueError, match="--allow-dir .*none: there is no such folder"):
        Access(folders=(tmp_path / "none",))
