"""Classification heads of released files: which data set's classes they have, and picking some of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from internvideo_hf.checkpoints.errors import CheckpointError
from internvideo_hf.checkpoints.shapes import shape_of
from internvideo_hf.recipes.labels import LABEL_SETS, ROWS_IN_K710, load_labels, rows_in_k710

# Numbers of classes that several released data sets have: Something-Something V1 and V2, ActivityNet and HACS.
SHARED_COUNTS = (174, 200)


def choose_classes(
    state_dict: Mapping[str, torch.Tensor], layer: str, head: str
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Give a head the classes of a data set.

    Args:
        state_dict: tensors of a released file.
        layer: name of the linear layer that scores the classes.
        head: a name in `LABEL_SETS`. A Kinetics-710 head also gives k400, k600 and k700: their rows are picked.

    Returns:
        The tensors, and the class names in the head's order.

    Raises:
        CheckpointError: if the head has other classes.
        ValueError: if there is no set of that name.
    """
    labels = load_labels(head)
    classes = shape_of(state_dict, f"{layer}.weight", 2)[0]
    if classes == len(labels):
        return dict(state_dict), labels
    if classes == 710 and head in ROWS_IN_K710 and shape_of(state_dict, f"{layer}.bias", 1) == (710,):
        return pick_rows(state_dict, layer, rows_in_k710(head)), labels
    raise CheckpointError(
        f"The file's head has {classes} classes and {head} has {len(labels)}. Give the set that it was trained on."
    )


def pick_rows(state_dict: Mapping[str, torch.Tensor], layer: str, rows: Sequence[int]) -> dict[str, torch.Tensor]:
    """Keep some rows of a head, in the given order."""
    return {**state_dict, **{name: state_dict[name][list(rows)] for name in (f"{layer}.weight", f"{layer}.bias")}}


def known_classes(state_dict: Mapping[str, torch.Tensor], layer: str, rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The data set of a head, where the released rows that the file may be, or its number of classes, tell it.

    Args:
        state_dict: tensors of a released file.
        layer: name of the linear layer that scores the classes.
        rows: of `released.json`, those that the file may be.
    """
    classes = shape_of(state_dict, f"{layer}.weight", 2)[0]
    fitting = [name for name in LABEL_SETS if len(load_labels(name)) == classes]
    told = {row["labels"] for row in rows if row["labels"] in fitting}
    if len(told) == 1:
        return told.pop()
    return fitting[0] if len(fitting) == 1 and classes not in SHARED_COUNTS else None
