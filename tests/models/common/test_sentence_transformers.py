"""A dual encoder's saved folder is a sentence-transformers model of text and video, without adapters."""

import importlib.metadata
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from models.model_checks import move_from_start
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from transformers import AutoModel
from video.clips import write_video

from internvideo_hf import (
    InternVideoMAEConfig,
    InternVideoMMConfig,
    InternVideoMMForQuestionAnswering,
    InternVideoMMModel,
    InternVideoProcessor,
    InternVideoVideoProcessor,
    ViCLIPConfig,
    ViCLIPForVideoClassification,
    ViCLIPModel,
    VideoReader,
    demo_path,
)
from internvideo_hf.inference.embedder import Embedder
from internvideo_hf.models.common.sentence_transformers import _FILES
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


@pytest.fixture(scope="module")
def expected(folder: Path, videos: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return our own embeddings of the texts and of the videos."""
    own = Embedder(folder, device="cpu")
    return own.embed_texts(TEXTS).numpy(), np.concatenate([own.embed_video(video).numpy() for video in videos])


def test_folder_is_recognised_as_a_model_of_text_and_video(encoder: SentenceTransformer):
    assert set(encoder.modalities) == {"text", "video"}
    assert encoder.get_embedding_dimension() == 20 and encoder.similarity_fn_name == "cosine"


def test_encoded_texts_are_our_embeddings(encoder: SentenceTransformer, expected: tuple[np.ndarray, np.ndarray]):
    actual = encoder.encode(TEXTS)
    assert actual.shape == (3, 20)
    np.testing.assert_allclose(np.linalg.norm(actual, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(actual, expected[0], atol=1e-5)
    alone = np.stack([encoder.encode(text) for text in TEXTS])
    np.testing.assert_allclose(alone, actual, atol=1e-5)


def test_encoded_videos_are_our_embeddings(
    encoder: SentenceTransformer, videos: list[str], expected: tuple[np.ndarray, np.ndarray]
):
    np.testing.assert_allclose(encoder.encode(videos), expected[1], atol=1e-5)
    np.testing.assert_allclose(encoder.encode({"video": videos[1]}), expected[1][1], atol=1e-5)
    # Of frames that are decoded already, the processor takes those that it takes of the file.
    with VideoReader(videos[1]) as reader:
        frames, times = reader.read(range(reader.num_frames)), {"fps": 25.0, "total_num_frames": reader.num_frames}
    decoded = {"video": {"array": torch.from_numpy(frames).permute(0, 3, 1, 2), "video_metadata": times}}
    np.testing.assert_allclose(encoder.encode([decoded]), expected[1][1:], atol=1e-5)


def test_what_sentence_transformers_saves_stays(encoder: SentenceTransformer, tmp_path: Path):
    trained = SentenceTransformer(modules=[*encoder, Dense(20, 4)], prompts={"query": "a video of"}, device="cpu")
    trained.save(str(tmp_path))
    again = SentenceTransformer(str(tmp_path), device="cpu")
    assert again.prompts["query"] == "a video of" and len(again) == 3
    np.testing.assert_array_equal(again.encode(TEXTS), trained.encode(TEXTS))
    AutoModel.from_pretrained(tmp_path).save_pretrained(tmp_path)
    assert len(SentenceTransformer(str(tmp_path), device="cpu")) == 3


def test_only_folders_of_dual_encoders_have_the_files(tmp_path: Path):
    def has_files(name: str) -> bool:
        there = {file for file in _FILES if (tmp_path / name / file).exists()}
        assert there in (set(), set(_FILES))
        return bool(there)

    classifier = ViCLIPForVideoClassification(ViCLIPConfig(vision_config=VISION, text_config=TEXT))
    classifier.save_pretrained(tmp_path / "classifier")  # has no text tower
    config = InternVideoMMConfig.from_pretrained(demo_path("demo-captioner"), num_labels=2)
    InternVideoMMForQuestionAnswering(config).save_pretrained(tmp_path / "answers")
    config.projection_dim = None  # no space that video and text share
    InternVideoMMModel(config).save_pretrained(tmp_path / "towers")
    InternVideoMAEConfig(architectures=["InternVideoMAEModel"]).save_pretrained(tmp_path / "encoder")
    assert not any(map(has_files, ("classifier", "answers", "towers", "encoder")))
    for name in ("demo-mm", "demo-captioner"):
        AutoModel.from_pretrained(demo_path(name)).save_pretrained(tmp_path / name)
        assert has_files(name)


def test_without_the_package_the_error_names_it(folder: Path, monkeypatch: pytest.MonkeyPatch):
    found = importlib.metadata.Distribution.from_name

    def from_name(name: str) -> importlib.metadata.Distribution:
        if name == "internvideo-hf":
            raise importlib.metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(importlib.metadata.Distribution, "from_name", from_name)
    monkeypatch.setitem(sys.modules, "internvideo_hf", None)
    with pytest.raises(
        ImportError, match='(?s)internvideo-hf, but it is not installed.*pip install -U "internvideo-hf"'
    ):
        SentenceTransformer(str(folder), device="cpu")
