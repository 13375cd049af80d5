"""Conditions on clips: what they mean, and where they are wrong."""

import numpy as np
import pytest
import torch

from internvideo_hf.search.stores.segments import Segment, Video
from internvideo_hf.search.where import WhereError, columns_of, mask, parse

METADATA = [
    {"camera": "door", "floor": 1.0, "night": True},
    {"camera": "yard", "floor": 2.0, "night": False},
    {"camera": "it's"},
]
CASES = {
    "camera = 'door'": [1, 1, 0, 0],
    "camera='it''s'": [0, 0, 0, 1],
    "camera <> 'door'": [0, 0, 1, 1],
    "camera > 'door'": [0, 0, 1, 1],
    "floor != 1": [0, 0, 1, 0],
    "not floor = 1": [0, 0, 1, 1],
    "floor is null": [0, 0, 0, 1],
    "FLOOR IS NOT NULL": [1, 1, 1, 0],
    "floor in (2, 1e0)": [1, 1, 1, 0],
    "camera not in ('door', 'none')": [0, 0, 1, 1],
    "floor not in (1)": [0, 0, 1, 0],
    "night = true": [1, 1, 0, 0],
    "night != true": [0, 0, 1, 0],
    "start > 60": [0, 1, 0, 0],
    "start >= 0.3 and end <= 1.5": [0, 0, 1, 0],
    "start = .3": [0, 0, 1, 0],
    "start is null": [0, 0, 0, 1],
    "video = '/b'": [0, 0, 1, 0],
    "camera = 'door' and start > 60 or camera = 'yard'": [0, 1, 1, 0],
    "camera = 'door' and (start > 60 or camera = 'yard')": [0, 1, 0, 0],
    "not (camera = 'door' or not start < 60)": [0, 0, 1, 0],
    "camera = '; DROP TABLE clips; --' or floor < -1": [0, 0, 0, 0],
}


def segment_of() -> Segment:
    """Return four clips of three videos: two of the first, and one without times."""
    videos = [Video(f"/{name}", 1, 1, name, 2, dict(said)) for name, said in zip("abc", METADATA, strict=True)]
    spans = torch.tensor([[0, 60], [61, 70], [0.1 + 0.2, 1.5], [torch.nan, torch.nan]], dtype=torch.float64)
    return Segment(videos, torch.eye(4), spans, torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 0, 0]))


@pytest.mark.parametrize(("text", "expected"), CASES.items())
def test_a_condition_chooses_clips(text, expected):
    where = parse(text, columns_of(METADATA))
    assert mask(where, segment_of()).astype(int).tolist() == expected


@pytest.mark.parametrize(
    ("text", "place", "cause"),
    [
        ("", 1, "expected the name of a column, got the end"),
        ("camra = 'door'", 1, "camera"),
        ("camera = door", 10, "expected a text in single quotes, got door"),
        ('camera = "door"', 10, "single quotes"),
        ("camera = 'door", 10, "single quotes"),
        ("camera = 3", 10, "camera is a text, 3 is a number"),
        ("start > '60'", 9, "start is a number"),
        ("night > true", 7, "does not compare"),
        ("start > 60 camera = 'a'", 12, "expected `and`, `or` or the end, got camera"),
        ("start >", 8, "got the end"),
        ("(start > 1", 11, "expected `)`, got the end"),
        ("start between 1", 7, "got between"),
        ("start not 3", 11, "expected `in`"),
        ("floor in 3", 10, "expected `(`"),
        ("start > 1; drop table x", 10, "';' is not expected"),
        ("and = 1", 1, "expected the name of a column"),
        ("(" * 60 + "start > 1" + ")" * 60, 51, "parentheses"),
        ("not " * 2000 + "start > 1", 201, "parentheses"),
    ],
)
def test_a_mistake_is_shown_in_its_place(text, place, cause):
    with pytest.raises(WhereError) as caught:
        parse(text, columns_of(METADATA))
    assert f"character {place} " in str(caught.value) and cause in str(caught.value)


def test_a_column_of_two_kinds_is_none():
    assert columns_of([{"a": 1.0, "b": "x"}, {"a": "1"}, {}]) == {"b": "text"}


def test_clips_are_chosen_row_by_row():
    found = mask(parse("start < 1", {}), segment_of())
    assert found.dtype == np.bool_ and found.shape == (4,)
