"""CLIP's tokenizer, built from the vendored merges without a network."""

import gzip
from importlib import resources

from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

NUM_MERGES = 49152 - 256 - 2  # the file holds more; OpenAI's vocabulary ends here


def build_clip_tokenizer(model_max_length: int = 77) -> CLIPTokenizer:
    """Build OpenAI CLIP's byte-pair tokenizer with its 49,408 tokens.

    Args:
        model_max_length: most tokens of a text, the start and end tokens included: 77 for CLIP and InternVideo-MM.
    """
    merges_file = resources.files("internvideo_hf").joinpath("assets/bpe_simple_vocab_16e6.txt.gz")
    with merges_file.open("rb") as compressed, gzip.open(compressed, "rt", encoding="utf-8") as lines:
        next(lines)  # a version line
        merges = [tuple(next(lines).split()) for _ in range(NUM_MERGES)]
    characters = list(bytes_to_unicode().values())
    tokens = characters + [character + "</w>" for character in characters] + ["".join(merge) for merge in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=model_max_length)
