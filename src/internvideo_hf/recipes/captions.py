"""Caption cleaning of the released training codes, before the tokenizer."""

import json
import re
from functools import cache
from importlib import resources
from typing import Any

from internvideo_hf.utils.names import lookup


@cache
def _rules() -> dict[str, dict[str, Any]]:
    text = resources.files("internvideo_hf.recipes").joinpath("captions.json").read_text(encoding="utf-8")
    rules: dict[str, dict[str, Any]] = json.loads(text)
    return rules


def clean_caption(text: str, rule: str = "viclip", max_words: int | None = None) -> str:
    """Clean a caption as a training code does, with the characters that `captions.json` lists.

    ViCLIP was trained and evaluated on captions without punctuation; its demo cleans none.

    Args:
        text: a caption.
        rule: a name in `captions.json`.
        max_words: number of words to keep; all where None.

    Returns:
        The caption in lower case, without the listed characters, single spaces in place of longer white space.

    Raises:
        ValueError: if the rule is unknown.
    """
    listed = lookup(_rules(), rule, "caption_rule")
    text = text.lower().translate(str.maketrans(listed["space"], " " * len(listed["space"]), listed["remove"]))
    for word, plain in listed["replace"].items():
        text = text.replace(word, plain)
    words = re.sub(r"\s{2,}", " ", text).rstrip("\n").strip(" ").split(" ")
    return " ".join(words[:max_words])
