"""Numbers and lists of the published experiments, as data."""

import json
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class PromptSet:
    """The sentences that a published zero-shot evaluation puts around a label.

    Attributes:
        templates: `{}` stands for the label.
        mean_of: what is averaged over the templates, "probabilities" (the softmax over labels of each) or "cosines".
        clean: name of the rule in `captions.json` by which the sentences are cleaned; None for none.
    """

    templates: tuple[str, ...]
    mean_of: str = "probabilities"
    clean: str | None = None


def load_prompts() -> dict[str, PromptSet]:
    """Read the prompt sets by name; a set may have the templates of another."""
    text = resources.files("internvideo_hf.recipes").joinpath("prompts.json").read_text(encoding="utf-8")
    sets = json.loads(text)
    for one in sets.values():
        if isinstance(one["templates"], str):
            one["templates"] = sets[one["templates"]]["templates"]
    return {name: PromptSet(**{**one, "templates": tuple(one["templates"])}) for name, one in sets.items()}
