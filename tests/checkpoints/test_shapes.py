"""Sizes read from the shapes of tensors."""

import pytest
import torch

from internvideo_hf.checkpoints.errors import CheckpointError
from internvideo_hf.checkpoints.shapes import count_layers, fill_heads, same_width, shape_of

TENSORS = {"blocks.0.weight": torch.ones(3, 4), "blocks.2.bias": torch.ones(4), "other.1.bias": torch.ones(4)}


def test_a_shape_is_read_or_its_tensor_named():
    assert shape_of(TENSORS, "blocks.0.weight", 2) == (3, 4)
    with pytest.raises(CheckpointError, match="lacks blocks.1.weight"):
        shape_of(TENSORS, "blocks.1.weight", 2)
    with pytest.raises(CheckpointError, match=r"blocks.2.bias has the shape \(4,\), expected 2 axes"):
        shape_of(TENSORS, "blocks.2.bias", 2)


def test_layers_are_counted_by_the_largest_index_of_any_list():
    assert count_layers(TENSORS, "blocks") == 3
    assert count_layers(TENSORS, "other") == 2
    assert count_layers(TENSORS, "other", "blocks") == 3
    assert count_layers(TENSORS, "absent") == 0
    with pytest.raises(CheckpointError, match="blocks.9.bias implies more layers"):
        count_layers(TENSORS | {"blocks.9.bias": torch.ones(4)}, "blocks")


def test_widths_must_agree():
    same_width("a", 4, "b", 4)
    with pytest.raises(CheckpointError, match="a is 4 wide and b 5"):
        same_width("a", 4, "b", 5)


@pytest.mark.parametrize(
    ("sizes", "width", "released", "heads"),
    [({}, 128, None, 2), ({}, 96, {96: 6}, 6), ({"num_heads": 3}, 96, None, 3), ({}, 128, {128: 8}, 8)],
)
def test_heads_are_those_set_or_released_or_64_wide(sizes, width, released, heads):
    fill_heads(sizes, "num_heads", width, released)
    assert sizes == {"num_heads": heads}


def test_heads_that_no_rule_gives_are_asked_for():
    with pytest.raises(CheckpointError, match="width of 96 .* Give num_heads"):
        fill_heads({}, "num_heads", 96, {128: 2})
