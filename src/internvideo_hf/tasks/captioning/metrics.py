"""How near written captions come to those of people: BLEU, ROUGE-L and CIDEr, by pycocoevalcap.

METEOR and SPICE are missing: both run in Java.
"""

import re
from collections.abc import Sequence
from typing import Any

from internvideo_hf.processing.processing import clean_text

METRICS = ("BLEU-4", "ROUGE-L", "CIDEr")
MISSING = "Metrics of captions come with the extra [captions]: pip install 'internvideo-hf[captions]'"
_WORD = re.compile(r"n't\b|'(?:s|m|d|re|ve|ll)\b|\w+?(?=n't\b)|\d+(?:[.,]\d+)+|\w+(?:-\w+)*")


def tokenize(caption: str) -> list[str]:
    """Split a caption into words, much as the tokenizer of the Penn Treebank does, which runs in Java.

    Text is cleaned by `clean_text`, which makes it lower case. Words keep their hyphens, contractions are split
    ("do n't", "dog 's"), punctuation is dropped. Rare forms differ from the Penn Treebank's: abbreviations lose their
    dots.

    Args:
        caption: the text.
    """
    return _WORD.findall(clean_text(caption).replace("\u2019", "'"))


def captioning_metrics(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Compare captions with those of people.

    Scores are those of the COCO captions code, times 100: BLEU-4 of the corpus, against the reference of the closest
    length; the mean of ROUGE-L; and of CIDEr-D, whose weights of words come from the references of all videos: with a
    single video it is 0, and few videos make it unreliable. An empty candidate scores 0.

    Args:
        candidates: a caption for each video.
        references: captions of people for each video, one or several.

    Returns:
        The scores by `METRICS`: 0-100; CIDEr 0-1000, where 100 is good.

    Raises:
        ImportError: if pycocoevalcap is not installed.
        ValueError: if there is no video, or one without a reference.
    """
    if not candidates or len(candidates) != len(references) or not all(references):
        raise ValueError(
            f"Got {len(candidates)} captions and references for {len(references)} videos, expected as many of both, "
            "and at least one reference for each video."
        )
    bleu, rouge, cider = _scorers()
    given = {number: [" ".join(tokenize(caption))] for number, caption in enumerate(candidates)}
    true = {number: [" ".join(tokenize(text)) for text in texts] for number, texts in enumerate(references)}
    scores = (
        bleu.compute_score(true, given, verbose=0)[0][3],
        rouge.compute_score(true, given)[0],
        cider.compute_score(true, given)[0],
    )
    return {name: 100 * float(score) for name, score in zip(METRICS, scores, strict=True)}


def check_installed() -> None:
    """Refuse to begin without pycocoevalcap.

    Raises:
        ImportError: if it is not installed.
    """
    _scorers()


def _scorers() -> tuple[Any, Any, Any]:
    try:
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.rouge.rouge import Rouge
    except ImportError as error:
        raise ImportError(MISSING) from error
    return Bleu(4), Rouge(), Cider()
