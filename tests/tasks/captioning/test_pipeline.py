"""`pipeline("video-to-text")`: equal to the model's own `generate`."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForMultimodalLM, AutoProcessor, pipeline, set_seed

from internvideo_hf import VideoDecodeError, VideoToTextPipeline, demo_path

FEW = {"max_new_tokens": 4}


@pytest.fixture(scope="module")
def describe(captioner) -> VideoToTextPipeline:
    return pipeline("video-to-text", model=captioner, device="cpu")


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (12, 60, 90, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def by_hand(captioner, bikes):
    """Return a function from options of `generate` to the texts of the footage, one a sequence."""
    model = AutoModelForMultimodalLM.from_pretrained(captioner).eval()
    processor = AutoProcessor.from_pretrained(captioner)
    pixels = processor(videos=[bikes], return_tensors="pt")["pixel_values_videos"]

    def write(ids=None, **options) -> list[str]:
        sequences = model.generate(pixels, ids, **options)
        return [processor.tokenizer.decode(row, skip_special_tokens=True).strip() for row in sequences]

    return write


@pytest.mark.parametrize(
    "options",
    [{}, {"num_beams": 3}, {"num_beams": 3, "num_return_sequences": 2}, {"generate_kwargs": {"num_beams": 2}}],
    ids=str,
)
def test_captions_are_those_of_generate(describe, by_hand, bikes, options):
    texts = by_hand(**options.get("generate_kwargs", options), **FEW)
    assert describe(bikes, **options, **FEW) == [{"generated_text": text} for text in texts]


def test_samples_follow_the_seed(describe, by_hand, bikes):
    options = {"do_sample": True, "num_return_sequences": 3, "temperature": 3.0, **FEW}
    set_seed(3)
    texts = by_hand(**options)
    set_seed(3)
    assert [caption["generated_text"] for caption in describe(bikes, **options)] == texts
    assert len(set(texts)) > 1


def test_captions_begin_with_the_text(describe, by_hand, bikes, captioner):
    begin = AutoProcessor.from_pretrained(captioner).tokenizer("a man rides")["input_ids"][:-1]
    (caption,) = describe(bikes, text=" A man  rides", **FEW)
    assert [caption["generated_text"]] == by_hand(torch.tensor([begin]), **FEW)
    assert caption["generated_text"].startswith("a man rides ")


def test_many_videos_of_several_kinds_equal_one_by_one_at_any_batch_size(describe, bikes, noise):
    videos = [bikes, noise, torch.from_numpy(noise[:5])]
    alone = [describe(video, **FEW) for video in videos]
    for batch_size in (1, 2):
        assert describe(videos, batch_size=batch_size, **FEW) == alone
    assert describe([noise], **FEW) == alone[1:2] and describe([], **FEW) == []


def test_options_may_be_given_when_the_pipeline_is_made(describe, noise):
    parts = {"model": describe.model, "processor": describe.processor}
    made = pipeline("video-to-text", **parts, text="a", num_beams=2, **FEW)
    assert made(noise)[0]["generated_text"].startswith("a ")
    assert made(noise, text="two")[0]["generated_text"].startswith("two ")
    with pytest.raises(ValueError, match="expected 1 to 75"):
        made(noise, max_new_tokens=76)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_beam": 2}, TypeError, "Unknown option num_beam. Did you mean num_beams"),
        ({"txt": "a"}, TypeError, "Did you mean text"),
        ({"candidate_labels": "a"}, TypeError, "Unknown option candidate_labels"),
        ({"text": "word " * 80}, ValueError, "text has 81 tokens, expected at most 76. Shorten it"),
        ({"max_new_tokens": 77}, ValueError, "max_new_tokens is 77, expected 1 to 76"),
        ({"max_new_tokens": 75, "text": "a b"}, ValueError, "expected 1 to 74: a caption has at most 77 tokens, 3 of"),
        ({"max_new_tokens": 0}, ValueError, "expected 1 to 76"),
        ({"max_length": 78}, ValueError, "max_length is 78, expected 2 to 77"),
        ({"generate_kwargs": {"max_length": 78}}, ValueError, "max_length is 78"),
        ({"num_clips": 2}, ValueError, "one clip of a video"),
        ({"num_return_sequences": 2, "max_new_tokens": 2}, ValueError, "num_return_sequences"),
        ({"num_beams": 0}, ValueError, "num_beams"),
    ],
)
def test_wrong_options_are_refused(describe, noise, options, error, message):
    with pytest.raises(error, match=message):
        describe(noise, **options)


LONG = ["red", "red " * 75]  # the random weights go on with a whole word, so that the tokens stay the same ones


def test_the_longest_captions_fit(describe, noise):
    ids = [describe.processor.tokenizer(describe(noise, text=text)[0]["generated_text"])["input_ids"] for text in LONG]
    assert [len(caption) - 1 for caption in ids] == [77, 77]


@pytest.mark.slow
def test_a_saved_pipeline_loads(describe, noise, tmp_path):
    describe.save_pretrained(tmp_path)
    again = pipeline("video-to-text", model=str(tmp_path))
    assert again(noise, **FEW) == describe(noise, **FEW)


def test_a_model_without_a_decoder_is_refused(describe, monkeypatch):
    with pytest.raises(ValueError, match="has no decoder_config: this model holds no caption decoder"):
        pipeline("video-to-text", model=demo_path("demo-mm"))
    # As transformers loads it out of the folder of a model of answers, with a random head.
    monkeypatch.setattr(describe.model.config, "architectures", ["InternVideoMMForQuestionAnswering"])
    with pytest.raises(ValueError, match="holds an InternVideoMMForQuestionAnswering, expected a model that ends in"):
        pipeline("video-to-text", model=describe.model, processor=describe.processor)


def test_a_damaged_video_is_named(describe, noise, tmp_path):
    (tmp_path / "damaged.mp4").write_bytes(b"")
    with pytest.raises(VideoDecodeError, match=r"damaged\.mp4"):
        describe([noise, tmp_path / "damaged.mp4"], **FEW)
