"""Numbers and lists of the published experiments, as data."""

import json
from importlib import resources


def load_prompts() -> dict[str, list[str]]:
    """Read the prompt lists by name; `{}` stands for the label."""
    return json.loads(resources.files("internvideo_hf.recipes").joinpath("prompts.json").read_text(encoding="utf-8"))
