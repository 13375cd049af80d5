"""Class names of the data sets, and the rows of a Kinetics-710 head that belong to the smaller Kinetics sets.

The lists are those of MMAction2's data preparation and UniFormerV2 configurations (Apache-2.0), and the actions of AVA
v2.2 (CC BY 4.0); one class a line in label order.
"""

import json
from importlib import resources
from pathlib import Path

from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.utils.names import check_name, lookup, reason_of, unknown_name
from internvideo_hf.utils.storage import as_path, below

# Label set -> file of its class names.
LABEL_SETS = {
    "k400": "k400.txt",
    "k600": "k600.txt",
    "k700": "k700.txt",
    "k710": "k710.txt",
    "ssv1": "sthv1.txt",
    "ssv2": "sthv2.txt",
    "mit": "mit.txt",
    "anet": "activitynet.txt",
    "ucf101": "ucf101.txt",
    "hmdb51": "hmdb51.txt",
    "ava": "ava.txt",
}

# The sets whose classes are of boxes in videos, and not of videos.
SETS_OF_BOXES = ("ava",)

# The sets whose classes are rows of a Kinetics-710 head.
ROWS_IN_K710 = {"k400": "k710_to_k400.json", "k600": "k710_to_k600.json", "k700": "k710_to_k700.json"}


def load_labels(name: str) -> list[str]:
    """Read the class names of a set, in label order.

    Raises:
        ValueError: if there is no such set.
    """
    return _read(lookup(LABEL_SETS, name, "label set")).splitlines()


def check_classes_name(name: str) -> None:
    """Refuse a `data.labels` that is neither the name of a set nor, having a suffix, that of a file.

    Raises:
        RecipeError: naming the nearest set.
    """
    if not Path(name).suffix:
        check_name(name, LABEL_SETS, "data.labels", RecipeError)


def read_classes(name: str, data_root: str | Path) -> list[str]:
    """Return the class names that `data.labels` of a recipe or a protocol means, in label order.

    Args:
        name: of a set in `LABEL_SETS`, or of a text file with one name a line.
        data_root: folder that the file is relative to.

    Raises:
        RecipeError: if there is no such set or file, or a name comes twice.
    """
    if name in LABEL_SETS:
        return load_labels(name)
    path = below(data_root, name)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(root := as_path(data_root), Path) and not root.is_dir():
            raise RecipeError(
                f"{name}, the names of the classes: the data root {root} is not a folder. Check the path."
            ) from error
        raise RecipeError(
            f"{unknown_name(name, LABEL_SETS, 'data.labels')} As a text file below the data root, it cannot be read "
            f"({reason_of(error)})."
        ) from error
    names = [line.strip() for line in lines if line.strip()]
    if repeated := sorted({entry for entry in names if names.count(entry) > 1}):
        raise RecipeError(f"{path} has {', '.join(repeated[:5])} twice. Write each class once, one a line.")
    if not names:
        raise RecipeError(f"{path} has no names. Write the name of each class, one a line.")
    return names


def rows_in_k710(name: str) -> list[int]:
    """Read the rows of a Kinetics-710 head that a smaller set's classes have, in that set's label order."""
    rows: list[int] = json.loads(_read(ROWS_IN_K710[name]))
    return rows


def _read(file: str) -> str:
    return resources.files("internvideo_hf.recipes").joinpath("labels", file).read_text(encoding="utf-8")
