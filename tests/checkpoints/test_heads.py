"""Classes of heads: identified, selected, and found among those of Kinetics-710."""

import pytest
import torch

from internvideo_hf.checkpoints.errors import CheckpointError
from internvideo_hf.checkpoints.heads import identify_classes, rows_of_classes, select_classes
from internvideo_hf.recipes.labels import ROWS_IN_K710, load_labels, rows_in_k710


def head(classes: int) -> dict[str, torch.Tensor]:
    weight = torch.arange(classes, dtype=torch.float32)[:, None].expand(classes, 3)
    return {"head.weight": weight, "head.bias": weight[:, 0], "other": torch.ones(1)}


@pytest.mark.parametrize("name", ROWS_IN_K710)
def test_smaller_kinetics_sets_are_rows_of_k710(name):
    tensors, labels = select_classes(head(710), "head", name)
    assert labels == load_labels(name) and tensors["head.bias"].tolist() == rows_in_k710(name)
    assert tensors["head.weight"].shape == (len(labels), 3) and "other" in tensors
    known = load_labels("k710")
    assert rows_of_classes(labels, known) == rows_in_k710(name)
    numbered = [f"LABEL_{index}" for index in range(710)]
    assert rows_of_classes(labels, numbered) == rows_in_k710(name)


def test_the_same_classes_are_all_rows_and_other_classes_none():
    labels = load_labels("ssv2")
    assert rows_of_classes(labels, labels) == list(range(174))
    assert rows_of_classes(labels, load_labels("ssv1")) is None
    assert rows_of_classes(labels, load_labels("k710")) is None
    assert rows_of_classes(load_labels("k710"), load_labels("k400")) is None
    assert rows_of_classes(load_labels("k400")[::-1], load_labels("k710")) is None


@pytest.mark.parametrize(("classes", "name"), [(400, "k600"), (710, "ssv2"), (709, "k400"), (174, "k710")])
def test_a_head_of_other_classes_is_refused(classes, name):
    with pytest.raises(CheckpointError, match=f"head has {classes} classes and {name} has"):
        select_classes(head(classes), "head", name)


@pytest.mark.parametrize(
    ("classes", "labels", "expected"),
    [
        (400, [], "k400"),  # the number identifies the set
        (174, [], None),  # two sets have as many
        (174, ["ssv1"], "ssv1"),
        (174, ["ssv1", "ssv2"], None),
        (174, ["ssv1", "k400"], "ssv1"),  # a row that does not fit the number
        (200, [], None),  # HACS has as many, without a list of ours
        (200, ["anet"], "anet"),
        (200, [None], None),
        (11, ["k400"], None),
    ],
)
def test_a_set_is_identified_by_rows_or_by_its_number_of_classes(classes, labels, expected):
    assert identify_classes(head(classes), "head", [{"labels": name} for name in labels]) == expected
