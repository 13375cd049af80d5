"""Names of models: folders, the bundled toy models, released models, and repositories on the Hub."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import constants
from transformers.utils import logging

from internvideo_hf.checkpoints.released import released_rows
from internvideo_hf.utils.locks import lock_file
from internvideo_hf.utils.names import did_you_mean, is_repository_name, lookup, nearest

logger = logging.get_logger(__name__)
ASSETS = Path(__file__).parents[1] / "assets"
DEMO_MODELS = {
    name: ASSETS / name
    for name in ("demo-mm", "demo-classifier", "demo-captioner", "demo-answers", "demo-actionformer", "demo-detector")
}
"""Name -> folder. demo-mm: an InternVideo-MM (dual encoder). demo-classifier: a UniFormerV2 with 12 actions, and an
open-set scorer. demo-captioner, demo-answers: demo-mm with a decoder of captions or of answers. demo-actionformer: an
ActionFormer that finds the actions in long videos, on features of demo-classifier. demo-detector: a VideoMAE that
classifies the action of each of several shapes."""
_FORMAT = "converted-3"  # of the cache; a new number where conversions change


def demo_path(name: str) -> Path:
    """Return the folder of a bundled toy model, for `from_pretrained`, `pipeline` and the commands.

    These are not InternVideo weights: they were trained on drawn shapes, and their answers about real videos are
    meaningless. Each folder's README.md describes the training and the scores.

    Args:
        name: of `DEMO_MODELS`, such as "demo-mm".

    Raises:
        ValueError: if the name is unknown.
    """
    return lookup(DEMO_MODELS, name, "demo model")


def released(name: str, file: str | Path | None = None) -> Path:
    """Return the folder of a released model, for `from_pretrained`, `pipeline` and the commands.

    The first call downloads the released file and converts it into the cache (`cache_folder`); later calls
    find it there, also without a network.

    Args:
        name: of a row of `internvideo released`, such as "InternVideo-MM-L-14"; capitals, and "-" for " ", do not
            matter.
        file: the released file, if you have it; nothing is downloaded then.

    Raises:
        ValueError: if the name is unknown.
        CheckpointError: if the file cannot be downloaded, or is not that of the name.
    """
    row = released_row(name)
    if row is None:
        names = [row["name"] for row in released_rows()]
        raise ValueError(
            f"No released model {name!r}.{did_you_mean(nearest(name, names, n=3))} `internvideo released` lists all."
        )
    folder = converted_folder(row)
    if folder.is_dir() and file is None:
        return folder
    # Only here: a name that is found in the cache needs no network libraries.
    from internvideo_hf.checkpoints.convert import convert_checkpoint
    from internvideo_hf.checkpoints.downloading import download

    folder.parent.mkdir(parents=True, exist_ok=True)
    with lock_file(folder, wait=True):
        if folder.is_dir() and file is None:
            return folder
        checkpoint = download(row, cache_folder() / "downloads") if file is None else Path(file)
        logger.warning(f"Converting {row['name']} into {folder}; this is done once.")
        convert_checkpoint(checkpoint, folder, released_as=row["name"], overwrite=file is not None)
    return folder


def cache_folder() -> Path:
    """Return the folder of downloaded and converted models: `INTERNVIDEO_CACHE`, or `internvideo` beside the Hub's."""
    return Path(os.environ.get("INTERNVIDEO_CACHE") or Path(constants.HF_HOME) / "internvideo").expanduser()


def released_row(name: str) -> Mapping[str, Any] | None:
    """Return the row of a released model, or None."""
    return next((row for row in released_rows() if slug(row["name"]) == slug(name)), None)


def resolve_known(model: str | Path) -> str:
    """Return the folder of a toy model or of a released model, and any other name, and what exists, unchanged."""
    name = str(model)
    is_known = not Path(name).exists() and (name in DEMO_MODELS or released_row(name) is not None)
    return resolve_model(name) if is_known else name


def converted_folder(row: Mapping[str, Any]) -> Path:
    """Return the folder in the cache that the model of a row has once it is converted."""
    return cache_folder() / _FORMAT / slug(row["name"])


def slug(name: str) -> str:
    """Return a name in lower case with "-" for spaces, as in the names of folders."""
    return re.sub(r"\s+", "-", name.strip().lower())


def resolve_model(model: str | Path) -> str:
    """Return the folder or the Hub's name of a model.

    Args:
        model: a folder, which comes first; a bundled toy model; a released model, downloaded and converted if need be;
            or `owner/name` on the Hub.

    Raises:
        ValueError: if it is none of these. A mistyped folder is refused at once; transformers would look for it on the
            Hub, for a minute if that does not answer.
        CheckpointError: if a released file cannot be downloaded.
    """
    name = str(model)
    if Path(name).is_dir():
        return name
    if name in DEMO_MODELS:
        return str(DEMO_MODELS[name])
    if Path(name).is_file():
        raise ValueError(
            f"{name} is a file, expected a model's folder. Convert a released file first: `internvideo convert {name} "
            "FOLDER`."
        )
    if released_row(name) is not None:
        return str(released(name))
    if is_repository_name(name):
        return name
    known = [*DEMO_MODELS, *(row["name"] for row in released_rows())]
    raise ValueError(
        f"No model {name!r}.{did_you_mean(nearest(name, known))} Expected a folder that `internvideo convert` wrote, "
        "a released model (`internvideo released` lists them), a repository on the Hub (owner/name), or a toy model "
        f"that knows drawn shapes only ({', '.join(DEMO_MODELS)})."
    )
