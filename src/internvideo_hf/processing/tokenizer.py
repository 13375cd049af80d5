"""CLIP's tokenizer, built from the vendored merges without a network."""

import gzip
from collections.abc import Iterable
from importlib import resources

from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

NUM_MERGES = 49152 - 256 - 2  # the file holds more; OpenAI's vocabulary ends here


def build_clip_tokenizer(model_max_length: int = 77, texts: Iterable[str] | None = None) -> CLIPTokenizer:
    """Build OpenAI CLIP's byte-pair tokenizer with its 49,408 tokens, or with those that some texts need.

    Args:
        model_max_length: most tokens of a text, the start and end tokens included: 77 for CLIP and InternVideo-MM.
        texts: what a small vocabulary is for, cleaned as `InternVideoProcessor` cleans. These are cut into the same
            pieces as by the whole vocabulary, under other numbers, and any other text into smaller pieces, at worst
            its bytes. None for the whole vocabulary.
    """
    merges = _read_merges()
    whole = _tokenizer(merges, model_max_length)
    return whole if texts is None else _tokenizer(_needed(merges, whole, texts), model_max_length)


def _read_merges() -> list[tuple[str, str]]:
    merges_file = resources.files("internvideo_hf").joinpath("assets/bpe_simple_vocab_16e6.txt.gz")
    with merges_file.open("rb") as compressed, gzip.open(compressed, "rt", encoding="utf-8") as lines:
        next(lines)  # a version line
        return [tuple(next(lines).split()) for _ in range(NUM_MERGES)]


def _tokenizer(merges: list[tuple[str, str]], model_max_length: int) -> CLIPTokenizer:
    characters = list(bytes_to_unicode().values())
    tokens = characters + [character + "</w>" for character in characters] + ["".join(merge) for merge in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=model_max_length)


def _needed(merges: list[tuple[str, str]], tokenizer: CLIPTokenizer, texts: Iterable[str]) -> list[tuple[str, str]]:
    """The merges that happen in some texts, in their order."""
    parts_of = {"".join(merge): merge for merge in merges}  # no token comes of two merges
    # Not by calling the tokenizer, which warns of long texts.
    pieces = {piece for text in texts for piece in tokenizer.backend_tokenizer.encode(text).tokens}
    needed, left = set(), [parts_of[piece] for piece in pieces if piece in parts_of]
    while left:
        merge = left.pop()
        if merge not in needed:
            needed.add(merge)
            left += [parts_of[part] for part in merge if part in parts_of]
    return [merge for merge in merges if merge in needed]
