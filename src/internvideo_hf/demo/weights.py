"""The bundled toy models. They know the drawn shapes of `internvideo_hf.demo.synthetic` only."""

from pathlib import Path

from internvideo_hf.utils.names import lookup

ASSETS = Path(__file__).parents[1] / "assets"
DEMO_MODELS = {name: ASSETS / name for name in ("demo-mm", "demo-classifier")}
"""Name -> folder. demo-mm: an InternVideo-MM (dual encoder). demo-classifier: a UniFormerV2 with 12 actions."""


def demo_path(name: str) -> Path:
    """Return the folder of a bundled toy model, for `from_pretrained`, `pipeline` and the commands.

    These are not InternVideo weights: they were trained on drawn shapes, and their answers about real videos are
    meaningless. Each folder's README.md describes the training and the scores.

    Args:
        name: "demo-mm" or "demo-classifier".

    Raises:
        ValueError: if the name is unknown.
    """
    return lookup(DEMO_MODELS, name, "demo model")


def resolve_demo_name(model: str | Path) -> str:
    """Return the folder of the bundled model of this name, and any other folder or name unchanged.

    A folder of this name in the working directory takes precedence.
    """
    is_demo = str(model) in DEMO_MODELS and not Path(model).is_dir()
    return str(DEMO_MODELS[str(model)] if is_demo else model)
