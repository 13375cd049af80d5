"""Every family's classifier with the tools of transformers, accelerate and torch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from models.tiny_classifiers import FAMILIES, write_classifiers
from transformers import AutoModelForVideoClassification, AutoVideoProcessor, pipeline


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classifiers(tmp_path_factory.mktemp("classifiers"))


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (2, 9, 40, 60, 3), dtype=np.uint8)


@pytest.mark.parametrize("family", FAMILIES)
def test_pipeline_of_transformers_answers_as_the_model_alone_and_in_batches(family, classifiers, noise):
    folder = classifiers / family
    stock, videos = pipeline("video-classification", model=folder, device="cpu"), list(noise)
    pixels = AutoVideoProcessor.from_pretrained(folder)(videos, return_tensors="pt")
    with torch.no_grad():
        scores = AutoModelForVideoClassification.from_pretrained(folder).eval()(**pixels).logits.softmax(-1)
    expected = [
        {label: row[number] for number, label in stock.model.config.id2label.items()} for row in scores.tolist()
    ]
    alone = [stock(video) for video in videos]
    streamed = stock((video for video in videos), batch_size=2)
    for answers in (alone, stock(videos), stock(videos, batch_size=2), streamed):
        for found, row in zip(answers, expected, strict=True):
            assert {one["label"]: one["score"] for one in found} == pytest.approx(row, rel=1e-5)
    assert stock.feature_extractor is None


def test_pipeline_of_transformers_is_as_it_was_for_other_models(tmp_path, noise):
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification, VideoMAEVideoProcessor

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = VideoMAEForVideoClassification(VideoMAEConfig(**sizes, image_size=32, num_frames=4))
    stock = pipeline("video-classification", model=model, video_processor=VideoMAEVideoProcessor(), batch_size=2)
    with pytest.raises(ValueError, match="cannot do batching"):
        stock(list(noise))


@pytest.mark.parametrize("family", FAMILIES)
def test_dynamic_quantization_replaces_every_linear_layer(family, classifiers, noise):
    folder = classifiers / family
    model = AutoModelForVideoClassification.from_pretrained(folder).eval()
    pixels = AutoVideoProcessor.from_pretrained(folder)(list(noise), return_tensors="pt")
    quantized = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear})
    layers = [name for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)]
    assert len(layers) > 15
    for name in layers:
        assert type(quantized.get_submodule(name)) is torch.ao.nn.quantized.dynamic.Linear, name
    with torch.no_grad():
        before, after = model(**pixels).logits, quantized(**pixels).logits
    assert 0 < (after - before).norm() < 0.05 * before.norm()  # one step of 8 bits is 0.4 % of the largest weight
