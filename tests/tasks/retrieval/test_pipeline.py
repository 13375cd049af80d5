"""`pipeline("video-text-retrieval")`: equal to the model's logits in both directions."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor, pipeline
from video.clips import write_video

import internvideo_hf
from internvideo_hf import VideoDecodeError

TEXTS = ["someone rides a bike", "a pan on a stove", "two people play chess"]


@pytest.fixture(scope="module")
def retrieve(mm_folder):
    return pipeline("video-text-retrieval", model=str(mm_folder))


@pytest.fixture(scope="module")
def videos(bikes, tmp_path_factory) -> list[str]:
    return [str(bikes), str(write_video(tmp_path_factory.mktemp("videos") / "wave.mp4"))]


def test_both_ways_are_the_models_own_logits(retrieve, mm_folder, videos):
    assert isinstance(retrieve, internvideo_hf.VideoTextRetrievalPipeline)
    model, processor = AutoModel.from_pretrained(mm_folder).eval(), AutoProcessor.from_pretrained(mm_folder)
    with torch.no_grad():
        logits = model(**processor(videos=videos, text=TEXTS, return_tensors="pt")).logits_per_video
    found = retrieve(videos, texts=TEXTS, batch_size=2)
    np.testing.assert_allclose(found["similarity"], logits / model.logit_scale.exp().item(), atol=1e-5)
    for row, answers in enumerate(found["video_to_text"]):
        assert [answer["index"] for answer in answers] == logits[row].argsort(descending=True).tolist()
        scores = {answer["text"]: answer["score"] for answer in answers}
        expected = logits[row].softmax(0).tolist()
        assert [scores[text] for text in TEXTS] == pytest.approx(expected, abs=1e-4)
    for column, answers in enumerate(found["text_to_video"]):
        assert [answer["video"] for answer in answers] == [
            videos[i] for i in logits[:, column].argsort(descending=True).tolist()
        ]
        assert sum(answer["score"] for answer in answers) == pytest.approx(1)


def test_one_video_or_image_and_one_text_will_do(retrieve, videos):
    found = retrieve(videos[1], texts=TEXTS[0], top_k=1)
    assert len(found["video_to_text"]) == len(found["text_to_video"]) == 1
    assert found["text_to_video"][0][0]["video"] == videos[1]
    image = Image.fromarray(np.full((32, 48, 3), 99, np.uint8))
    assert retrieve(image, texts=TEXTS, top_k=2)["text_to_video"][0][0]["video"] is None


def test_dual_weighs_by_the_other_direction(retrieve, videos):
    plain, dual = (retrieve(videos, texts=TEXTS, dual=dual) for dual in (False, True))
    assert plain["similarity"] == dual["similarity"]
    assert plain["text_to_video"] != dual["text_to_video"]


def test_mistakes_are_named(retrieve, mae_folder, videos, tmp_path):
    with pytest.raises(ValueError, match="texts="):
        retrieve(videos)
    with pytest.raises(ValueError, match="texts="):
        retrieve(videos, texts=["a", " "])
    with pytest.raises(ValueError, match="one video or several"):
        retrieve([], texts=TEXTS)
    with pytest.raises(ValueError, match="top_k=0"):
        retrieve(videos, texts=TEXTS, top_k=0)
    with pytest.raises(TypeError, match="num_frames"):
        retrieve(videos, texts=TEXTS, num_frame=4)
    with pytest.raises(VideoDecodeError, match="none.mp4"):
        retrieve(str(tmp_path / "none.mp4"), texts=TEXTS)
    with pytest.raises(ValueError, match="has no get_video_features"):
        model = AutoModel.from_pretrained(mae_folder)
        pipeline("video-text-retrieval", model=model, processor=retrieve.processor)
