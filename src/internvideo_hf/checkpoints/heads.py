"""Classification heads of released files: which data set's classes they have, and selecting some of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from internvideo_hf.checkpoints.errors import CheckpointError
from internvideo_hf.checkpoints.shapes import shape_of
from internvideo_hf.recipes.labels import LABEL_SETS, ROWS_IN_K710, SETS_OF_BOXES, load_labels, rows_in_k710

# Class counts that several released data sets have: Something-Something V1 and V2, ActivityNet and HACS.
SHARED_COUNTS = (174, 200)
_UNNAMED_K710 = [f"LABEL_{index}" for index in range(710)]  # no other set of ours has 710 classes


def select_classes(
    state_dict: Mapping[str, torch.Tensor], layer: str, head: str
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Give a head the classes of a data set.

    Args:
        state_dict: tensors of a released file.
        layer: name of the linear layer that scores the classes.
        head: a name in `LABEL_SETS`; k400, k600 and k700 also select their rows from a Kinetics-710 head.

    Returns:
        The tensors, and the class names in the head's order.

    Raises:
        CheckpointError: if the head has other classes.
        ValueError: if no set has that name.
    """
    labels = load_labels(head)
    classes = shape_of(state_dict, f"{layer}.weight", 2)[0]
    if classes == len(labels):
        return dict(state_dict), labels
    rows = rows_of_classes(labels, _UNNAMED_K710) if shape_of(state_dict, f"{layer}.bias", 1) == (710,) else None
    if classes != 710 or rows is None:
        raise CheckpointError(
            f"The file's head has {classes} classes and {head} has {len(labels)}. Give the set that it was trained on."
        )
    return select_rows(state_dict, layer, rows), labels


def rows_of_classes(wanted: Sequence[str], known: Sequence[str]) -> list[int] | None:
    """Return the rows of a head that score some classes, or None if it does not have them.

    Args:
        wanted: class names, in the order of the rows.
        known: class names of the head; those of Kinetics-710 may be numbers.
    """
    if list(wanted) == list(known):
        return list(range(len(known)))
    if list(known) in (_UNNAMED_K710, load_labels("k710")):
        return next((rows_in_k710(name) for name in ROWS_IN_K710 if list(wanted) == load_labels(name)), None)
    return None


def select_rows(state_dict: Mapping[str, torch.Tensor], layer: str, rows: Sequence[int]) -> dict[str, torch.Tensor]:
    """Return the tensors with some rows of a head, in the given order."""
    return {**state_dict, **{name: state_dict[name][list(rows)] for name in (f"{layer}.weight", f"{layer}.bias")}}


def identify_classes(
    state_dict: Mapping[str, torch.Tensor], layer: str, rows: Sequence[Mapping[str, Any]], *, of_boxes: bool = False
) -> str | None:
    """Return the data set of a head if the released rows or the number of classes identify it, or None.

    Args:
        state_dict: tensors of a released file.
        layer: name of the linear layer that scores the classes.
        rows: the rows of `released.json` that may describe the file.
        of_boxes: whether the head scores boxes, and not videos: their data sets are others.
    """
    classes = shape_of(state_dict, f"{layer}.weight", 2)[0]
    fitting = [
        name for name in LABEL_SETS if len(load_labels(name)) == classes and (name in SETS_OF_BOXES) == of_boxes
    ]
    named: set[str] = {row["labels"] for row in rows if row["labels"] in fitting}
    if len(named) == 1:
        return named.pop()
    return fitting[0] if len(fitting) == 1 and classes not in SHARED_COUNTS else None
