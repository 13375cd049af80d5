"""The converters of all families: at most one recognizes a file."""

import json
from pathlib import Path

import pytest
import torch

from internvideo_hf.auto import FAMILIES
from internvideo_hf.checkpoints.families import converters
from internvideo_hf.checkpoints.released import released_rows

FAMILY_OF = {row["manifest"]: row["family"] for row in released_rows()}
MANIFESTS = Path(__file__).parents[1] / "manifests"


@pytest.mark.parametrize("manifest", FAMILY_OF)
def test_exactly_one_family_recognizes_a_released_file(manifest):
    content = json.loads((MANIFESTS / manifest).read_text())
    shapes = next(content[key] for key in ("state_dict", "tensors", "parameters") if key in content)
    tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    assert [name for name, rules in converters().items() if rules.recognizes(tensors)] == [FAMILY_OF[manifest]]


@pytest.mark.parametrize("family", converters())
def test_no_family_recognizes_another_ones_names(family):
    other = {"layer1.0.conv1.weight": torch.ones(1), "fc.bias": torch.ones(1)}
    assert not converters()[family].recognizes(other)


def test_every_released_family_has_a_converter():
    released = set(FAMILY_OF.values())
    heads = {family for family in converters() if FAMILIES[family].video_processor is None}  # not all were released
    assert set(converters()) - (heads - released) == released
