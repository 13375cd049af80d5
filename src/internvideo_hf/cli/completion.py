"""Values that the shell completes; none of them imports torch, since a keystroke waits for it."""

import json
from importlib import resources


def training_names(incomplete: str) -> list[str]:
    """Return the names of training recipes that begin so."""
    from internvideo_hf.recipes.reading import TRAININGS

    return _beginning(TRAININGS.names(), incomplete)


def protocol_names(incomplete: str) -> list[str]:
    """Return the names of evaluation protocols that begin so."""
    from internvideo_hf.recipes.reading import EVALUATIONS

    return _beginning(EVALUATIONS.names(), incomplete)


def recipe_names(incomplete: str) -> list[str]:
    """Return the names of training recipes and of evaluation protocols that begin so."""
    return training_names(incomplete) + protocol_names(incomplete)


def released_names(incomplete: str) -> list[str]:
    """Return the names of released models that begin so, with "-" for spaces."""
    file = resources.files("internvideo_hf").joinpath("checkpoints/released.json")
    rows = json.loads(file.read_text(encoding="utf-8"))
    return _beginning([row["name"].replace(" ", "-") for row in rows], incomplete)


def model_names(incomplete: str) -> list[str]:
    """Return the names of bundled and released models that begin so; before the first letter files are completed."""
    if not incomplete:
        return []
    folders = resources.files("internvideo_hf").joinpath("assets").iterdir()
    bundled = sorted(folder.name for folder in folders if folder.name.startswith("demo-"))
    return _beginning(bundled, incomplete) + released_names(incomplete)


def _beginning(names: list[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
