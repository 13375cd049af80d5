"""Class names of the data sets, and which rows of a Kinetics-710 head belong to the smaller Kinetics sets.

The lists are those of MMAction2's data preparation and UniFormerV2 configurations (Apache-2.0), one class a line in
label order.
"""

import json
from importlib import resources

# Name of a set of classes -> file of its names.
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
}

# The sets whose classes are rows of a Kinetics-710 head.
ROWS_IN_K710 = {"k400": "k710_to_k400.json", "k600": "k710_to_k600.json", "k700": "k710_to_k700.json"}


def load_labels(name: str) -> list[str]:
    """Read the class names of a set, in label order.

    Raises:
        ValueError: if there is no such set; the message lists those that are.
    """
    if name not in LABEL_SETS:
        raise ValueError(f"No label set of the name {name!r}; known: {', '.join(LABEL_SETS)}.")
    return _read(LABEL_SETS[name]).splitlines()


def rows_in_k710(name: str) -> list[int]:
    """The rows of a Kinetics-710 head that a smaller set's classes have, in that set's label order."""
    return json.loads(_read(ROWS_IN_K710[name]))


def _read(file: str) -> str:
    return resources.files("internvideo_hf.recipes").joinpath("labels", file).read_text(encoding="utf-8")
