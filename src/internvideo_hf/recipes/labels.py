"""Class names of the data sets, and the rows of a Kinetics-710 head that belong to the smaller Kinetics sets.

The lists are those of MMAction2's data preparation and UniFormerV2 configurations (Apache-2.0), one class a line in
label order.
"""

import json
from importlib import resources

from internvideo_hf.utils.names import lookup

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
}

# The sets whose classes are rows of a Kinetics-710 head.
ROWS_IN_K710 = {"k400": "k710_to_k400.json", "k600": "k710_to_k600.json", "k700": "k710_to_k700.json"}


def load_labels(name: str) -> list[str]:
    """Read the class names of a set, in label order.

    Raises:
        ValueError: if there is no such set.
    """
    return _read(lookup(LABEL_SETS, name, "label set")).splitlines()


def rows_in_k710(name: str) -> list[int]:
    """Read the rows of a Kinetics-710 head that a smaller set's classes have, in that set's label order."""
    rows: list[int] = json.loads(_read(ROWS_IN_K710[name]))
    return rows


def _read(file: str) -> str:
    return resources.files("internvideo_hf.recipes").joinpath("labels", file).read_text(encoding="utf-8")
