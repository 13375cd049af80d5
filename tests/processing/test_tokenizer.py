"""CLIP's tokenizer with a reduced vocabulary."""

import pytest
from transformers import AutoTokenizer

from internvideo_hf.processing.processing import clean_text
from internvideo_hf.processing.tokenizer import NUM_MERGES, _read_merges, build_clip_tokenizer

TEXTS = ["a small red heart moves to the left over a dotted background", "A triangle's 3 corners, counterclockwise!"]


@pytest.fixture(scope="module")
def whole():
    return build_clip_tokenizer()


@pytest.fixture(scope="module")
def small():
    return build_clip_tokenizer(20, TEXTS)


def test_no_token_comes_of_two_merges():
    assert len({"".join(merge) for merge in _read_merges()}) == NUM_MERGES


def test_texts_are_cut_as_by_the_whole_vocabulary(whole, small):
    assert len(small) < 600
    assert small.model_max_length == 20
    for text in map(clean_text, TEXTS):
        assert small.tokenize(text) == whole.tokenize(text)


def test_any_text_can_be_read(small):
    for text in ("a zebra", "größe 漢字 🎈", "left-over", "!"):
        ids = small(text)["input_ids"]
        assert small.decode(ids, skip_special_tokens=True).replace(" ", "") == text.replace(" ", "")
        assert small.unk_token_id not in ids[:-1]


def test_end_token_is_the_largest(small):
    ids = small("a red heart")["input_ids"]
    assert ids[-1] == max(ids) == len(small) - 1 == small.eos_token_id
    assert ids[0] == small.bos_token_id == len(small) - 2


def test_order_of_texts_does_not_matter(small):
    again = build_clip_tokenizer(20, reversed(TEXTS))
    assert again.get_vocab() == small.get_vocab()


def test_survives_saving(small, tmp_path):
    small.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded(TEXTS)["input_ids"] == small(TEXTS)["input_ids"]
    assert loaded.model_max_length == 20
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 100_000
