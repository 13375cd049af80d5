"""CLIP's tokenizer, built offline from the vendored merges."""

import gzip
from collections.abc import Iterable
from importlib import resources

from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

NUM_MERGES = 49152 - 256 - 2  # OpenAI's vocabulary uses the first of the file's merges


def build_clip_tokenizer(model_max_length: int = 77, texts: Iterable[str] | None = None) -> CLIPTokenizer:
    """Build OpenAI CLIP's byte-pair tokenizer with its 49,408 tokens, or a smaller one.

    Args:
        model_max_length: maximum tokens of a text, including start and end: 77 for CLIP and InternVideo-MM.
        texts: texts, cleaned by `clean_text`, whose tokens make a smaller vocabulary. It splits them as the full one
            does, with other ids, and any other text into smaller pieces, at worst bytes. None for the full vocabulary.
    """
    merges = _read_merges()
    tokenizer = _tokenizer(merges, model_max_length)
    return tokenizer if texts is None else _tokenizer(_needed(merges, tokenizer, texts), model_max_length)


def _read_merges() -> list[tuple[str, str]]:
    merges_file = resources.files("internvideo_hf").joinpath("assets/bpe_simple_vocab_16e6.txt.gz")
    with merges_file.open("rb") as compressed, gzip.open(compressed, "rt", encoding="utf-8") as lines:
        next(lines)  # a version line
        pairs = (next(lines).split() for _ in range(NUM_MERGES))
        return [(first, second) for first, second in pairs]


def _tokenizer(merges: list[tuple[str, str]], model_max_length: int) -> CLIPTokenizer:
    characters = list(bytes_to_unicode().values())
    tokens = characters + [character + "</w>" for character in characters] + ["".join(merge) for merge in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: index for index, token in enumerate(tokens)}
    # transformers annotates merges as a file's lines, and passes pairs to the tokenizer.
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=model_max_length)  # type: ignore[arg-type]


def _needed(merges: list[tuple[str, str]], tokenizer: CLIPTokenizer, texts: Iterable[str]) -> list[tuple[str, str]]:
    """Return the merges that occur in some texts, in their order."""
    parts_of = {"".join(merge): merge for merge in merges}  # each token has one merge
    # Not by calling the tokenizer, which warns about long texts.
    pieces = {piece for text in texts for piece in tokenizer.backend_tokenizer.encode(text).tokens}
    needed, left = set(), [parts_of[piece] for piece in pieces if piece in parts_of]
    while left:
        merge = left.pop()
        if merge not in needed:
            needed.add(merge)
            left += [parts_of[part] for part in merge if part in parts_of]
    return [merge for merge in merges if merge in needed]
