"""Texts in scripts that the text towers do not know: CLIP's vocabulary and all released towers are of English."""

import unicodedata
from collections.abc import Iterable

from transformers.utils import logging

logger = logging.get_logger(__name__)
ENGLISH_ONLY = (
    "Most letters of a text are not Latin. The text towers of all models here were trained on English captions, and "
    "what they make of other languages means little. Write the text in English."
)


def is_foreign(text: str) -> bool:
    """Return whether most letters of a text are in another script than the Latin.

    Args:
        text: a query, a label or a caption.
    """
    letters = [character for character in text if character.isalpha()]
    latin = sum("LATIN" in unicodedata.name(letter, "") for letter in letters)
    return 2 * latin < len(letters)


def remark_on(texts: Iterable[str]) -> str:
    """Return what to say of texts of which one is in another script than the Latin; nothing if none is.

    Args:
        texts: of a text tower.
    """
    return ENGLISH_ONLY if any(map(is_foreign, texts)) else ""


def warn_of_foreign(texts: Iterable[str]) -> None:
    """Warn, once in a process, if one of some texts is in another script than the Latin.

    Args:
        texts: of a text tower.
    """
    if remark := remark_on(texts):
        logger.warning_once(remark)
