"""The key tables are exact in both directions."""

import pytest
import torch
from torch import nn

from internvideo_hf.checkpoints import CheckpointError
from internvideo_hf.checkpoints.families.internvideo_mm import TABLE
from internvideo_hf.checkpoints.shapes import count_layers
from internvideo_hf.checkpoints.table import (
    Become,
    LeaveOut,
    check_complete,
    convert_state_dict,
    drop_kernel,
    flatten,
    insert_time,
    released_name,
    rename,
    split_rows,
    transpose,
)


def arange(*shape: int) -> torch.Tensor:
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(shape)


def test_numbers_and_wildcards_keep_their_places():
    table = {"block.{}.head.{}.w": rename("layers.{}.heads.{}.weight"), "norm.*": rename("layer_norm.{}")}
    tensors = {"block.3.head.12.w": arange(2), "norm.deep.bias": arange(1)}
    converted, left_out = convert_state_dict(tensors, table)
    assert list(converted) == ["layers.3.heads.12.weight", "layer_norm.deep.bias"]
    assert not left_out


@pytest.mark.parametrize("name", ["block.x.w", "block.1xw", "my.block.1.w", "block.1.w.more", "block..w"])
def test_a_pattern_matches_nothing_but_numbers_in_place_of_braces_and_dots_as_dots(name):
    with pytest.raises(CheckpointError, match="are unknown in this model"):
        convert_state_dict({name: arange(1)}, {"block.{}.w": rename("layers.{}.weight")})


@pytest.mark.parametrize(
    ("action", "tensor", "expected"),
    [
        (rename("a"), arange(2, 3), [arange(2, 3)]),
        (split_rows("q", "k", "v"), arange(6, 2), [arange(6, 2)[:2], arange(6, 2)[2:4], arange(6, 2)[4:]]),
        (split_rows("q", "k", "v"), arange(3), [torch.tensor([0.0]), torch.tensor([1.0]), torch.tensor([2.0])]),
        (transpose("a"), torch.tensor([[1, 2, 3], [4, 5, 6]]), [torch.tensor([[1, 4], [2, 5], [3, 6]])]),
        (insert_time("a"), arange(2, 3, 4, 4), [arange(2, 3, 1, 4, 4)]),
        (flatten("a"), arange(1, 1, 5), [arange(5)]),
        (drop_kernel("a"), arange(2, 3, 1), [arange(2, 3)]),
    ],
)
def test_every_action_does_what_its_name_says(action: Become, tensor, expected):
    converted, _ = convert_state_dict({"old": tensor}, {"old": action})
    assert tuple(converted) == action.names
    for result, wanted in zip(converted.values(), expected, strict=True):
        torch.testing.assert_close(result, wanted, rtol=0, atol=0)


def test_a_left_out_tensor_is_reported_with_its_reason():
    converted, left_out = convert_state_dict({"decoder.w": arange(1)}, {"decoder.*": LeaveOut("the decoder")})
    assert not converted
    assert left_out == {"decoder.w": "the decoder"}


def test_unknown_tensors_are_named_eight_at_most():
    with pytest.raises(CheckpointError, match=r"11 tensors .*: x0, x1, x2, x3, x4, x5, x6, x7 and 3 more\."):
        convert_state_dict({f"x{i}": arange(1) for i in range(11)}, {})


def test_two_tensors_for_one_place_are_an_error():
    table = {"a": rename("weight"), "b": rename("weight")}
    with pytest.raises(CheckpointError, match="twice: weight"):
        convert_state_dict({"a": arange(1), "b": arange(1)}, table)


@pytest.mark.parametrize(
    ("action", "tensor"), [(split_rows("q", "k"), arange(1)[0]), (transpose("a"), arange(1, 2, 3))]
)
def test_too_few_or_too_many_axes_are_named_not_a_crash(action, tensor):
    with pytest.raises(CheckpointError, match="old has the shape"):
        convert_state_dict({"old": tensor}, {"old": action})


def test_a_complete_state_dict_passes_even_on_the_meta_device():
    check_complete(nn.Linear(2, 3, device="meta"), {"weight": arange(3, 2), "bias": arange(3)}, {})


@pytest.mark.parametrize(
    ("converted", "message"),
    [
        ({"weight": arange(3, 2)}, r"missing: b\. Is"),
        ({"weight": arange(3, 2), "bias": arange(3), "scale": arange(1)}, r"not in a model of this size: s\. Is"),
        ({"weight": arange(2, 3), "bias": arange(3)}, r"of another shape: w gives \(2, 3\), expected \(3, 2\)"),
        ({"weight": arange(3, 2), "bias": arange(3).long()}, r"another kind of number: b holds torch\.int64"),
        ({"weight": arange(3, 1)}, r"missing: b; of another shape: w gives"),
    ],
)
def test_every_misfit_is_named_as_the_released_file_calls_it(converted, message):
    table = {"w": rename("weight"), "b": rename("bias"), "s": rename("scale")}
    with pytest.raises(CheckpointError, match=message):
        check_complete(nn.Linear(2, 3, device="meta"), converted, table)


def test_the_released_name_of_a_tensor_is_found_through_the_table():
    table = {"block.{}.in_proj": split_rows("layers.{}.q", "layers.{}.k"), "left": LeaveOut("why")}
    assert released_name("layers.7.k", table) == "block.7.in_proj"
    assert released_name("unheard.of", table) == "unheard.of"


def test_every_line_of_the_table_is_used_and_makes_names_of_its_own(released):
    towers = {name: tensor for name, tensor in released.items() if name.startswith("clip.")}
    converted, left_out = convert_state_dict(towers, TABLE)
    assert not left_out
    assert len(converted) == len(towers) + 2 * sum(".in_proj_" in name for name in towers)
    for line in TABLE:
        assert convert_state_dict({name: towers[name] for name in towers if _covers(line, name)}, {line: TABLE[line]})[
            0
        ]


def _covers(line: str, name: str) -> bool:
    return line == ".".join("{}" if part.isdigit() else part for part in name.split("."))


def test_layers_are_counted_by_any_of_their_tensors():
    tensors = dict.fromkeys(["clip.a.0.x", "clip.a.2.y", "clip.b.1.x", "clip.c.8.x", "a.9.x", "clip.a.z.x"])
    assert count_layers(tensors, "clip.a") == 3
    assert count_layers(tensors, "clip.b") == 2
    assert count_layers(tensors, "clip.a", "clip.b") == 3
    assert count_layers(tensors, "nothing") == 0


def test_an_absurd_layer_number_is_refused_before_a_model_of_that_size_is_built():
    with pytest.raises(CheckpointError, match=r"clip\.a\.999999999\.x implies more layers"):
        count_layers({"clip.a.999999999.x": arange(1)}, "clip.a")
