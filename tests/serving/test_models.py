"""What each kind of model can do, and its answers, which are those of the pipelines."""

import json
import shutil
import tempfile

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoProcessor, pipeline

from internvideo_hf.checkpoints.model_names import demo_path
from internvideo_hf.processing.video_processing import RawPixels
from internvideo_hf.serving.limits import Limits
from internvideo_hf.serving.models import ServedModel, same_shapes
from internvideo_hf.serving.sources import Source


@pytest.fixture(autouse=True)
def own_temporary_folder(monkeypatch):
    """Undo what a decoder, which is a process of its own but here, does to the folder of temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", tempfile.gettempdir())


def read(served: ServedModel, ability: str, video: object) -> dict:
    inputs = served.reading(ability)(Source(str(video), "input", "/nowhere"), Limits())
    assert all(isinstance(value, RawPixels) for value in inputs.values())  # bytes, which cost a quarter to send
    return inputs


@pytest.fixture(scope="module")
def videos(drawn) -> list[str]:
    return sorted(map(str, (drawn[0] / "test").glob("*.mp4")))


@pytest.fixture(scope="module")
def captioner() -> ServedModel:
    return ServedModel.load("demo-captioner", device="cpu")


@pytest.mark.parametrize(
    ("model", "abilities"),
    [
        ("demo-mm", ["embeddings", "classify"]),
        ("demo-classifier", ["classify"]),
        ("demo-actionformer", ["localize"]),
    ],
)
def test_a_model_has_the_abilities_of_its_kind(model, abilities):
    served = ServedModel.load(demo_path(model), device="cpu")
    assert served.abilities == abilities and served.name == model


def test_an_index_adds_search_and_its_model_embeds(drawn, tmp_path):
    served = ServedModel.load("demo-mm", index=drawn[0] / "index", device="cpu")
    assert served.abilities == ["embeddings", "classify", "search"] and served.index.encoder is served.embedder
    with pytest.raises(ValueError, match="another model"):
        ServedModel.load("demo-classifier", index=drawn[0] / "index", device="cpu")
    with pytest.raises(ValueError, match="has no index"):
        ServedModel.load("demo-actionformer", index=drawn[0] / "index", device="cpu")


def test_embeddings_are_those_of_model_and_processor(captioner, videos):
    model, processor = (auto.from_pretrained(demo_path("demo-captioner")) for auto in (AutoModel, AutoProcessor))
    batch = [read(captioner, "embeddings", video) for video in videos[:3]]
    assert same_shapes(batch[0]) == same_shapes(batch[1])
    inputs = processor(videos=videos[:3], text=["a red heart", "it grows"], padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model.eval()(**inputs)
    torch.testing.assert_close(torch.stack(captioner.embed(batch)), expected.video_embeds, atol=1e-5, rtol=1e-5)
    first, second = captioner.embed_texts([["a red heart"], ["it grows"]])
    torch.testing.assert_close(torch.cat([first, second]), expected.text_embeds, atol=1e-5, rtol=1e-5)
    assert captioner.count_tokens(["a red heart"]) == 5 and captioner.count_tokens([]) == 0


def test_captions_are_those_of_the_pipeline_with_one_set_of_weights(captioner, videos):
    options = (("num_beams", 3),)
    found = captioner.answer("caption", options, [read(captioner, "caption", video) for video in videos[:2]])
    describe = pipeline("video-to-text", model=demo_path("demo-captioner"), device="cpu", num_beams=3)
    assert found == describe(videos[:2])
    own, embedding = captioner.captioner.model, captioner.embedder.model
    assert own.vision_model is embedding.vision_model and own.text_model is embedding.text_model


@pytest.mark.parametrize(
    ("model", "task", "options"),
    [
        ("demo-classifier", "multi-view-video-classification", {"top_k": 2}),
        ("demo-mm", "zero-shot-video-classification", {"candidate_labels": ("a red heart", "a green cross")}),
    ],
)
def test_labels_are_those_of_the_pipeline(model, task, options, videos):
    served = ServedModel.load(model, device="cpu")
    batch = [read(served, "classify", video) for video in videos[:2]]
    expected = pipeline(task, model=demo_path(model), device="cpu")(videos[:2], **options)
    for mine, theirs in zip(served.answer("classify", tuple(options.items()), batch), expected, strict=True):
        assert [entry["label"] for entry in mine] == [entry["label"] for entry in theirs]
        assert np.allclose([e["score"] for e in mine], [e["score"] for e in theirs], atol=1e-5)


@pytest.mark.slow
def test_actions_are_those_of_the_pipeline(tmp_path):
    from internvideo_hf.demo.tour import LONG, draw_long_video

    draw_long_video(tmp_path, 1)
    served = ServedModel.load("demo-actionformer", device="cpu")
    source = Source(str(tmp_path / LONG), "input", str(tmp_path / "request"))
    found = served.localizing(source, Limits()).best(3).to_dict()
    expected = pipeline("temporal-action-localization", model=demo_path("demo-actionformer"), device="cpu")
    assert found == expected(str(tmp_path / LONG), top_k=3) and len(found["segments"]) == 3


def test_a_head_whose_encoder_is_not_there_is_refused(tmp_path):
    shutil.copytree(demo_path("demo-actionformer"), tmp_path / "head")
    config = json.loads((tmp_path / "head/config.json").read_text())
    for encoder, words in (("gone", "was gone, which is not there"), (None, "does not name the encoder")):
        config["features"]["encoder"] = encoder
        (tmp_path / "head/config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match=words):
            ServedModel.load(tmp_path / "head")


def test_what_cannot_be_served_is_refused(answerer, tmp_path):
    with pytest.raises(
        ValueError, match="cannot be served: it holds an InternVideoMMForQuestionAnswering. Served are"
    ):
        ServedModel.load(answerer)
    shutil.copytree(demo_path("demo-mm"), tmp_path / "broken")
    weights = tmp_path / "broken/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="The weights of .*broken are damaged .*Convert or download it again"):
        ServedModel.load(tmp_path / "broken", device="cpu")
    weights.unlink()
    with pytest.raises(Exception, match="model.safetensors|weights"):
        ServedModel.load(tmp_path / "broken", device="cpu")
