"""The processor for text and video."""

import json

import pytest
import torch
from transformers import AutoProcessor

from internvideo_hf import InternVideoProcessor
from internvideo_hf.checkpoints import convert_checkpoint
from internvideo_hf.processing.processing import clean_text


@pytest.fixture(scope="module")
def processor(random_checkpoint, tmp_path_factory) -> InternVideoProcessor:
    """Return a processor with the full vocabulary."""
    folder = tmp_path_factory.mktemp("processor")
    convert_checkpoint(random_checkpoint, folder)
    return AutoProcessor.from_pretrained(folder)


def test_auto_class_loads_it(processor):
    assert type(processor) is InternVideoProcessor


def test_texts_are_padded_with_zeros_behind_the_end_token(processor):
    out = processor(text=["a dog", "a dog is chasing a ball"], return_tensors="pt")
    assert out["input_ids"][0].tolist() == [49406, 320, 1929, 49407, 0, 0, 0, 0]
    assert out["attention_mask"][0].tolist() == [1] * 4 + [0] * 4


def test_an_exclamation_mark_is_a_word_and_no_padding(processor):
    ids = processor(text="wow!")["input_ids"]
    assert len(ids) == 4 and 0 not in ids


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("a  dog \n runs ", "a dog runs"),
        ("cats &amp;amp; dogs", "cats & dogs"),
        ("“quoted”", '"quoted"'),
        ("<b> salt &amp;amp; pepper", "<b> salt & pepper"),
        ("A Dog", "a dog"),
        ("cafÃ©", "café"),
    ],
)
def test_texts_are_mended(text, clean):
    assert clean_text(text) == clean


def test_a_text_that_is_too_long_is_refused_unless_truncated(processor):
    long = "very " * 100
    with pytest.raises(ValueError, match="102 tokens.*77.*truncation=True"):
        processor(text=["short", long])
    cut = processor(text=["short", long], truncation=True, return_tensors="pt")["input_ids"]
    assert cut.shape == (2, 77) and cut[1, -1] == 49407


def test_text_and_video_together(processor, bikes):
    out = processor(text=["a", "b"], videos=bikes, return_tensors="pt")
    assert out["input_ids"].shape == (2, 3)
    assert out["pixel_values_videos"].shape == (1, 8, 3, 224, 224)
    assert torch.equal(
        out["pixel_values_videos"], processor.video_processor(bikes, return_tensors="pt")["pixel_values_videos"]
    )


def test_neither_text_nor_video_is_refused(processor):
    with pytest.raises(ValueError, match="text=.*videos="):
        processor()


def test_null_captions_are_saved_and_loaded_with_the_model(processor, tmp_path):
    assert processor.null_captions is None
    processor.save_pretrained(tmp_path / "none")
    assert not (tmp_path / "none/null_captions.json").exists()
    own = {"captions": ["a red heart grows", "a moon"], "cosine": 0.5}
    (tmp_path / "none/null_captions.json").write_text(json.dumps(own))
    loaded = AutoProcessor.from_pretrained(tmp_path / "none")
    assert loaded.null_captions == own
    loaded.save_pretrained(tmp_path / "again")
    assert AutoProcessor.from_pretrained(tmp_path / "again").null_captions == own
