"""From a raw video to stretches: features by hand, words by hand and the head by hand give the same."""

import numpy as np
import pytest
import torch
from tasks.temporal_grounding.heads import head_config, write_drawn, write_head

from internvideo_hf import VSLNetForTemporalGrounding
from internvideo_hf.inference.texts import TextEncoder
from internvideo_hf.inference.untrimmed import extract_features, extractor_for
from internvideo_hf.models.vslnet.spans_vslnet import Span
from internvideo_hf.tasks.temporal_grounding.grounding import Grounder, best_answers, text_encoder_of

QUERIES = ["a red moon moves up", "the moon"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grounding")
    write_head(folder / "head")
    write_drawn(folder / "clip.mp4")
    return folder


def test_answers_are_those_of_each_step_by_hand(folder):
    model = VSLNetForTemporalGrounding.from_pretrained(folder / "head").eval()
    features = extract_features(extractor_for(model.config, None, device="cpu"), folder / "clip.mp4")
    # 24 frames at 4 a second; windows of 2 seconds each half a second: their middles are 1, 1.5, ..., 5 seconds.
    assert features.rows.shape == (9, 128) and features.duration == pytest.approx(6)
    encoder = TextEncoder("demo-mm", device="cpu")
    found = Grounder(model, encoder).ground(features, QUERIES, top_k=1)
    edges = np.array([0, *np.arange(1.25, 5, 0.5), 6])
    for query, (answer,) in zip(QUERIES, found, strict=True):
        with torch.no_grad():
            outputs = model(features.rows[None], text_features=encoder.encode([query])[0][None])
        joint = outputs.start_logits[0].softmax(0)[:, None] * outputs.end_logits[0].softmax(0)
        joint = joint.triu()
        first, last = divmod(int(joint.argmax()), 9)
        assert (answer.start, answer.end) == pytest.approx((edges[first], edges[last + 1]))
        assert answer.score == pytest.approx(joint.max().item(), rel=1e-4)
    several = Grounder(model, encoder).ground(features, QUERIES[:1], top_k=4)[0]
    assert several[0] == found[0][0] and 1 < len(several) <= 4
    for number, one in enumerate(several):
        for other in several[:number]:
            shared = max(0.0, min(one.end, other.end) - max(one.start, other.start))
            assert shared < max(one.end, other.end) - min(one.start, other.start)


def test_damaged_rows_are_interpolated(folder):
    model = VSLNetForTemporalGrounding.from_pretrained(folder / "head").eval()
    features = extract_features(extractor_for(model.config, None, device="cpu"), folder / "clip.mp4")
    features.rows[4] = torch.nan
    ((answer,),) = Grounder(model, TextEncoder("demo-mm", device="cpu")).ground(features, QUERIES[:1], top_k=1)
    assert 0 <= answer.start < answer.end <= features.duration and answer.score > 0


def test_another_text_encoder_than_that_of_the_training_is_refused():
    config = head_config()
    assert text_encoder_of(config, None, device="cpu").revision == config.text_revision
    with pytest.raises(ValueError, match="trained on words of demo-mm .*demo-captioner"):
        text_encoder_of(config, "demo-captioner", device="cpu")
    with pytest.raises(ValueError, match="takes words of 7 channels"):
        text_encoder_of(head_config(text_size=7), None, device="cpu")
    with pytest.raises(ValueError, match="the model does not name the model of its words.*--text-encoder"):
        text_encoder_of(head_config(text_encoder=None), None)
    with pytest.raises(ValueError, match="was /gone/clip, which is not there"):
        text_encoder_of(head_config(text_encoder="/gone/clip"), None)


def test_spans_of_rows_are_stretches_of_time():
    found = best_answers([Span(0, 1, 0.5), Span(2, 2, 0.25)], np.array([0.0, 1.5, 2.0, 6.0]))
    assert found.tolist() == [[0, 2, 0.5], [2, 6, 0.25]] and best_answers([], np.zeros(2)).shape == (0, 3)
