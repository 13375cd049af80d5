"""Lists of labelled clips for classifiers, which several tasks read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from internvideo_hf.inference.rows import video_name
from internvideo_hf.recipes.labels import LABEL_SETS, read_classes
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.protocol import DataSettings, read_rows, require_column, unique_clips


def read_labelled_clips(
    data: DataSettings, data_root: Path, model: str | Path, classes: list[str]
) -> list[dict[str, Any]]:
    """Read a list of clips and labels for a classifier.

    Args:
        data: the list, and its classes.
        data_root: the folder of the list and of the videos.
        model: the classifier, for messages.
        classes: names of its classes.

    Raises:
        RecipeError: if classes and list do not match, a row has no label, or a clip has two.
        ManifestError: if the list is invalid.
    """
    classes = check_classes(model, classes, data.labels, data_root)
    rows = read_rows(data, data_root, labels=classes)
    require_column(rows, "label", data.list)
    if (largest := max(row["label"] for row in rows)) >= len(classes):
        raise RecipeError(
            f"{data.list} has label {largest}, but {model} has {len(classes)} classes, from 0. Choose the model and "
            "the list of one data set."
        )
    _check_one_label(rows, classes, data.list)
    return rows


def _check_one_label(rows: Sequence[Mapping[str, Any]], classes: Sequence[str], list_name: str) -> None:
    found: dict[int, int] = {}
    for row, clip in zip(rows, unique_clips(rows)[1].tolist(), strict=True):
        if (before := found.setdefault(clip, row["label"])) != row["label"]:
            raise RecipeError(
                f"{list_name} gives {video_name(row)} two labels, {classes[before]!r} and {classes[row['label']]!r}, "
                "expected one. Keep one of the rows; parts of a video differ by start and end."
            )


def check_classes(model: str | Path, classes: list[str], wanted: str | None, data_root: str | Path = ".") -> list[str]:
    """Refuse a classifier of other classes.

    Args:
        model: the classifier, for messages.
        classes: names of its classes.
        wanted: the expected classes, see `internvideo_hf.recipes.labels.read_classes`; any if None.
        data_root: folder that a file of classes is relative to.

    Returns:
        The names of the classes: the model's, or those of a file if the model has as many without names.

    Raises:
        RecipeError: if names or order differ.
    """
    if wanted is None:
        return classes
    names = read_classes(wanted, data_root)
    if wanted in LABEL_SETS:
        if classes != names:
            raise RecipeError(
                f"{model} does not know the classes of data.labels={wanted} by name and in order. Convert it with "
                f"--head {wanted}, or set data.labels=null for the model's own."
            )
    elif classes not in (names, [f"LABEL_{number}" for number in range(len(names))]):
        raise RecipeError(
            f"{model} has the classes {_some(classes)}, and data.labels={wanted} {_some(names)}. Give the names of "
            "its classes in its order, or set data.labels=null for the model's own."
        )
    return names


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f", ... ({len(names)})" if len(names) > 3 else "")
