"""The small models that come with the package. They know the drawn shapes of `internvideo_hf.demo.synthetic` only."""

from pathlib import Path

from internvideo_hf.utils.names import lookup

ASSETS = Path(__file__).parents[1] / "assets"
DEMO_MODELS = {name: ASSETS / name for name in ("demo-mm", "demo-classifier")}
"""Name -> folder. demo-mm: an InternVideo-MM, video and text in one space. demo-classifier: a UniFormerV2, 12 actions.
"""


def demo_path(name: str) -> Path:
    """The folder of a small model that comes with the package, for `from_pretrained`, `pipeline` and the commands.

    These are no weights of InternVideo's: they were trained here on drawn shapes, and say nothing about other videos.
    Each folder's README.md tells how, and how well they do.

    Args:
        name: "demo-mm" or "demo-classifier".

    Raises:
        ValueError: if there is no such model.
    """
    return lookup(DEMO_MODELS, name, "model of the demo")


def resolve_demo_name(model: str | Path) -> str:
    """The folder of the model that comes with the package by this name; any other folder or name as it is.

    A folder of this name, where the program runs, comes first.
    """
    is_demo = str(model) in DEMO_MODELS and not Path(model).is_dir()
    return str(DEMO_MODELS[str(model)] if is_demo else model)
