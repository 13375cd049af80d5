"""Numbers and lists of the published experiments, as data."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from internvideo_hf.recipes.captions import clean_caption


@dataclass(frozen=True)
class PromptSet:
    """Sentences that a published zero-shot evaluation puts around a label.

    Attributes:
        templates: `{}` stands for the label.
        mean_of: averaged over the templates: "probabilities" (the softmax over labels of each) or "cosines".
        clean: name of the rule in `captions.json` by which the sentences are cleaned; None for none.
    """

    templates: tuple[str, ...]
    mean_of: str = "probabilities"
    clean: str | None = None

    def sentences(self, labels: Sequence[str]) -> list[str]:
        """Return the cleaned sentences of all labels, template by template: `len(templates) * len(labels)`."""
        texts = [template.replace("{}", label) for template in self.templates for label in labels]
        return texts if self.clean is None else [clean_caption(text, self.clean) for text in texts]


def load_prompts() -> dict[str, PromptSet]:
    """Read the prompt sets by name; a set may refer to the templates of another."""
    text = resources.files("internvideo_hf.recipes").joinpath("prompts.json").read_text(encoding="utf-8")
    sets = json.loads(text)
    for prompts in sets.values():
        if isinstance(prompts["templates"], str):
            prompts["templates"] = sets[prompts["templates"]]["templates"]
    return {name: PromptSet(**{**prompts, "templates": tuple(prompts["templates"])}) for name, prompts in sets.items()}
