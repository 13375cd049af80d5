"""Generation of captions: beginnings, and what it refuses; the captions themselves have tests with each model."""

from types import SimpleNamespace

import pytest
import torch

from internvideo_hf.models.common.captions import CaptionGenerationMixin, new_cache

BEGIN, END = 1, 2


class Model(CaptionGenerationMixin):
    def __init__(self):
        self.config = SimpleNamespace(text_config=SimpleNamespace(bos_token_id=BEGIN, eos_token_id=END))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, [[BEGIN], [BEGIN]]),
        ([[BEGIN, 7], [BEGIN, 8]], [[BEGIN, 7], [BEGIN, 8]]),
        ([[BEGIN, 7, END]], [[BEGIN, 7], [BEGIN, 7]]),  # one for all, without the end that processors add
        ([[BEGIN, 7, END], [BEGIN, END, 8]], [[BEGIN, 7, END], [BEGIN, END, 8]]),  # not the end of all
    ],
)
def test_captions_begin_as_asked(given, expected):
    beginnings = Model()._beginnings(None if given is None else torch.tensor(given), torch.zeros(2, 3, 4))
    assert beginnings.tolist() == expected


def test_what_cannot_begin_captions_is_refused():
    model, tokens = Model(), torch.zeros(2, 3, 4)
    with pytest.raises(ValueError, match="Got no clips: pass pixel_values_videos, or the visual_tokens"):
        model.generate()
    with pytest.raises(ValueError, match="Got 2 clips and 3 beginnings"):
        model.generate(visual_tokens=tokens, input_ids=torch.full((3, 2), 7))
    with pytest.raises(ValueError, match="beginnings of the captions are padded"):
        model.generate(visual_tokens=tokens, attention_mask=torch.tensor([[1, 0], [1, 1]]))
    with pytest.raises(ValueError, match="generate has no output_attentions"):
        model.generate(visual_tokens=tokens, output_attentions=True)


def test_a_new_cache_is_empty():
    assert new_cache().get_seq_length() == 0
