"""Rows of small videos, for the tests of this folder."""

import pytest
from data.settings import write_videos


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> list[dict]:
    return write_videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture
def with_a_bad_one(rows, tmp_path) -> list[dict]:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    return [*rows[:2], {"video": str(tmp_path / "bad.mp4"), "label": 2}, *rows[3:]]
