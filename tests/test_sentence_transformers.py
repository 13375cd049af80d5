"""A dual encoder's saved folder is a sentence-transformers model of text and video, without adapters."""

from pathlib import Path

import numpy as np
import pytest
import torch
from models.model_checks import move_from_start
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoProcessor
from video.clips import write_video

from internvideo_hf import (
    InternVideoMMConfig,
    InternVideoMMModel,
    InternVideoProcessor,
    InternVideoVideoProcessor,
    ViCLIPConfig,
    ViCLIPModel,
)
from internvideo_hf.processing.tokenizer import build_clip_tokenizer

TEXTS = ["a dog runs across a field", "cooking", "Caf&eacute;   in the   rain!"]


HEADS = {"num_attention_heads": 2, "num_hidden_layers": 2}
VISION = {"hidden_size": 16, "intermediate_size": 24, "image_size": 32, "patch_size": 16, "num_frames": 3, **HEADS}
TEXT = {"hidden_size": 8, "intermediate_size": 12, "vocab_size": 49408, "max_position_embeddings": 16, **HEADS}
TEXT |= {"bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 0}
NEW_IN_MM = {"num_global_attention_heads": 4, "global_layers": [0, 1]}
FAMILIES = {
    "internvideo_mm": (InternVideoMMModel, InternVideoMMConfig, {"vision_config": VISION | NEW_IN_MM}),
    # At a temperature of 1 the noise on it cannot take it below its floor.
    "viclip": (ViCLIPModel, ViCLIPConfig, {"vision_config": VISION, "temperature_init_value": 1.0}),
}


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny model with CLIP's whole vocabulary and a processor of small frames."""
    model_class, config_class, settings = FAMILIES[request.param]
    torch.manual_seed(0)
    model = model_class(config_class(**settings, text_config=TEXT, projection_dim=20))
    video_processor = InternVideoVideoProcessor(
        num_frames=3, size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}
    )
    path = tmp_path_factory.mktemp("model")
    move_from_start(model).save_pretrained(path)
    InternVideoProcessor(video_processor, build_clip_tokenizer(16)).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def encoder(folder: Path) -> SentenceTransformer:
    return SentenceTransformer(str(folder), device="cpu")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = tmp_path_factory.mktemp("videos")
    return [str(write_video(path / f"{frames}.mp4", frames)) for frames in (12, 30)]


def test_folder_is_recognised_as_a_model_of_text_and_video(encoder: SentenceTransformer):
    assert {"text", "video"} <= set(encoder.modalities)


@torch.no_grad()
def test_encoded_texts_are_the_text_features(encoder: SentenceTransformer, folder: Path):
    model, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    expected = model.get_text_features(**processor(text=TEXTS, return_tensors="pt")).pooler_output
    actual = encoder.encode(TEXTS)
    assert actual.shape == (3, 20)
    np.testing.assert_allclose(actual, expected.numpy(), atol=1e-5, rtol=1e-5)
    alone = np.stack([encoder.encode(text) for text in TEXTS])
    np.testing.assert_allclose(alone, actual, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_encoded_video_files_are_the_video_features(encoder: SentenceTransformer, folder: Path, videos: list[str]):
    model, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    expected = model.get_video_features(**processor(videos=videos, return_tensors="pt")).pooler_output
    actual = encoder.encode(videos)
    assert actual.shape == (2, 20)
    np.testing.assert_allclose(actual, expected.numpy(), atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(encoder.encode(videos[1]), actual[1], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_similarity_of_sentence_transformers_is_the_cosine_of_the_model(
    encoder: SentenceTransformer, folder: Path, videos: list[str]
):
    model, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    outputs = model(**processor(text=TEXTS, videos=videos, return_tensors="pt"))
    cosines = encoder.similarity(encoder.encode(videos), encoder.encode(TEXTS))
    torch.testing.assert_close(cosines, outputs.logits_per_video / model.logit_scale.exp(), atol=1e-5, rtol=1e-5)
