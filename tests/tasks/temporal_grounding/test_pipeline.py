"""The pipeline: one video or several, one sentence or several, each video read once."""

from unittest import mock

import pytest
from tasks.temporal_grounding.heads import write_drawn, write_head
from transformers import pipeline

from internvideo_hf import FeatureExtractor, VideoTemporalGroundingPipeline, demo_path
from internvideo_hf.tasks.temporal_grounding import pipeline as module


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    return str(write_drawn(tmp_path_factory.mktemp("videos") / "clip.mp4"))


@pytest.fixture(scope="module")
def ground(tmp_path_factory) -> VideoTemporalGroundingPipeline:
    return pipeline("video-temporal-grounding", model=str(write_head(tmp_path_factory.mktemp("head"))), device="cpu")


def test_sentences_have_stretches_and_videos_are_read_once(ground, clip):
    one = ground(clip, query="a red moon moves up", top_k=2)
    assert len(one) == 2 and one[0].keys() == {"start", "end", "score"} and one[0]["score"] >= one[1]["score"]
    assert all(0 <= answer["start"] < answer["end"] <= 6 for answer in one)
    with mock.patch.object(module, "extract_features", side_effect=module.extract_features) as read:
        several = ground(clip, query=["a red moon moves up", "the moon"], top_k=2)
    assert read.call_count == 1 and several[0] == one and len(several) == 2
    assert ground([clip, clip], query="the moon", top_k=1) == [several[1][:1]] * 2
    assert ground(clip, query="the moon", threshold=1.0) == [] and ground([], query="the moon") == []


def test_the_head_is_saved_and_loaded(ground, clip, tmp_path):
    ground.save_pretrained(tmp_path)
    extractor = FeatureExtractor("demo-mm", 8, 2, device="cpu", fps=4)
    again = pipeline(
        "video-temporal-grounding",
        model=str(tmp_path),
        feature_extractor=extractor,
        text_encoder="demo-mm",
        device="cpu",
    )
    assert isinstance(again, VideoTemporalGroundingPipeline)
    assert again(clip, query="the moon") == ground(clip, query="the moon")


def test_calls_that_cannot_be_answered_are_refused(ground, clip):
    with pytest.raises(ValueError, match="Give the sentence to find"):
        ground(clip)
    with pytest.raises(ValueError, match=r"query=\['a', ' '\], expected a sentence"):
        ground(clip, query=["a", " "])
    with pytest.raises(TypeError, match="Unknown option querry. Did you mean query?"):
        ground(clip, querry="a")
    with pytest.raises(ValueError, match="top_k=0 must be at least 1"):
        ground(clip, query="a", top_k=0)
    with pytest.raises(ValueError, match="ForTemporalGrounding|Unrecognized configuration"):
        pipeline("video-temporal-grounding", model=str(demo_path("demo-actionformer")))
