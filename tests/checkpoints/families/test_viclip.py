"""Released ViCLIP files: no missing or unused tensors, lengths, two processors, initialization from CLIP."""

import json
import math
from pathlib import Path

import pytest
import torch
from models.model_checks import draw
from parity.compare import load_config
from parity.viclip import overrides
from transformers import AutoModel, AutoProcessor

from internvideo_hf import (
    CheckpointError,
    ViCLIPModel,
    convert_checkpoint,
)
from internvideo_hf.checkpoints import convert as conversion
from internvideo_hf.checkpoints.families.viclip import TABLE, config_from, fit, recognizes
from internvideo_hf.checkpoints.released import released_rows
from internvideo_hf.checkpoints.table import check_complete, convert_state_dict

MANIFESTS = Path(__file__).parents[2] / "manifests"

# Section 1 of the specification.
SIZES = {
    "b16": {
        "vision_config": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "patch_size": 16},
        "text_config": {"hidden_size": 512, "num_hidden_layers": 12, "num_attention_heads": 8},
    },
    "l14": {
        "vision_config": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 14},
        "text_config": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
    },
}
BOTH = {
    "vision_config": {"image_size": 224, "num_frames": 8, "tubelet_size": 1, "hidden_act": "quick_gelu"},
    "text_config": {"max_position_embeddings": 32, "vocab_size": 49408, "eos_token_id": 49407},
}


def manifest(size: str) -> dict:
    return json.loads((MANIFESTS / f"viclip_{size}.json").read_text())


@pytest.fixture
def case(golden: Path) -> Path:
    return golden / "viclip_tiny"


@pytest.fixture
def content(case: Path) -> dict[str, torch.Tensor]:
    return torch.load(case / "checkpoint.pth", weights_only=True)["model"]


@pytest.fixture
def convert(case: Path, tmp_path: Path):
    """Convert the case's file, or first write what is given, into `tmp_path / "out"`."""

    def convert(source=None, settings=None, **options):
        path = case / "checkpoint.pth"
        if source is not None:
            path = tmp_path / "source.pth"
            torch.save(source, path)
        settings = overrides(load_config(case)) if settings is None else settings
        return convert_checkpoint(path, tmp_path / "out", config_overrides=settings, **options)

    return convert


# Full size


@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_missing_and_nothing_left_over(size):
    stored = manifest(size)
    tensors = {name: torch.empty(shape, device="meta") for name, shape in stored["parameters"].items()}
    assert len(tensors) == stored["num_tensors"]
    assert recognizes(tensors)
    assert conversion._recognize(tensors, size) == "viclip"
    config = config_from(tensors, {})
    converted, left_out = convert_state_dict(tensors, TABLE)
    assert not left_out
    converted = fit(converted, config)
    with torch.device("meta"):
        model = ViCLIPModel(config)
    check_complete(model, converted, TABLE)
    assert set(converted) == set(dict(model.named_parameters()))
    total = sum(parameter.numel() for parameter in model.parameters())
    assert total == stored["total_params"] == sum(math.prod(shape) for shape in stored["parameters"].values())
    for part in ("vision_config", "text_config"):
        for key, value in (SIZES[size][part] | BOTH[part]).items():
            assert getattr(getattr(config, part), key) == value, key
    assert config.projection_dim == {"b16": 512, "l14": 768}[size]


def test_the_eight_released_models_have_a_row_with_their_licence_and_one_has_two_names():
    rows = [row for row in released_rows() if row["family"] == "viclip"]
    assert len(rows) == len({row["file"] for row in rows}) == 8 + 1
    for row in rows:
        size = {"L": "l14", "B": "b16"}[row["name"].split("-")[1]]
        assert row["manifest"] == f"viclip_{size}.json"
        start = f"ViCLIP-{size[0].upper()}_" if "first release" not in row["name"] else "ViClip-InternVid-10M-FLT"
        assert row["file"].startswith(start)
        assert row["licence"] == "CC-BY-NC-SA-4.0"


# Files


def test_a_file_of_the_training_code_is_the_same_model(content, convert, tmp_path):
    training = {"model": content, "optimizer": {"state": {}}, "epoch": 3, "global_step": 7}
    report = convert(training)
    assert (report.family, report.left_out) == ("viclip", {})
    assert report.num_parameters == sum(tensor.numel() for tensor in content.values())
    model = AutoModel.from_pretrained(tmp_path / "out")
    assert type(model) is ViCLIPModel
    assert model.temperature.item() == content["temp"].item()
    assert "zero-shot-video-classification" in (tmp_path / "out/README.md").read_text()


@pytest.mark.parametrize(
    "name",
    [
        "temp",
        "vision_encoder.temporal_positional_embedding",
        "vision_encoder.conv1.weight",
        "text_encoder.text_projection",
    ]
    + ["text_encoder.transformer.resblocks.1.ln_1.bias", "vision_encoder.proj", "text_encoder.positional_embedding"],
)
def test_a_missing_tensor_is_named(name, content, convert, tmp_path):
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        convert({key: tensor for key, tensor in content.items() if key != name})
    assert not (tmp_path / "out").exists()


def test_a_surplus_tensor_is_named(content, convert):
    with pytest.raises(CheckpointError, match=r"unknown in this model: vision_encoder\.mask_token"):
        convert({**content, "vision_encoder.mask_token": torch.zeros(3)})


def test_a_head_is_refused(convert):
    with pytest.raises(CheckpointError, match="no classification head"):
        convert(head="k400")


def test_heads_that_no_rule_tells_are_asked_for(convert):
    with pytest.raises(CheckpointError, match="num_attention_heads"):
        convert(settings={})


@torch.no_grad()
def test_another_image_size_re_samples_the_places(case, convert, tmp_path):
    settings = overrides(load_config(case))
    settings["vision_config"]["image_size"] = 36
    convert(settings=settings)
    resized = ViCLIPModel.from_pretrained(tmp_path / "out")
    convert(overwrite=True)
    released_size = ViCLIPModel.from_pretrained(tmp_path / "out")
    assert resized.vision_model.embeddings.position_embedding.shape[0] == 1 + 36
    video = draw(1, 4, 3, 36, 36)
    expected = released_size.get_video_features(video).pooler_output
    torch.testing.assert_close(resized.get_video_features(video).pooler_output, expected, atol=1e-5, rtol=1e-5)


# Processors


def test_the_saved_processor_is_that_of_the_training_code_unless_the_demo_is_asked_for(convert, tmp_path):
    convert()
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    video = processor.video_processor
    assert (video.sampler, video.resize_method) == ("viclip_middle", "torchvision_v1_bicubic")
    assert (video.num_frames, processor.tokenizer.model_max_length) == (4, 32)
    convert(processor="demo", overwrite=True)
    video = AutoProcessor.from_pretrained(tmp_path / "out").video_processor
    assert (video.sampler, video.resize_method, video.input_channel_order) == ("viclip_stride", "cv2_linear", "bgr")


def test_an_unknown_processor_is_refused(convert, golden, tmp_path):
    with pytest.raises(ValueError, match="'demos', expected one of training, demo"):
        convert(processor="demos")
    with pytest.raises(ValueError, match="internvideo_mm has only one"):
        convert_checkpoint(golden / "mm_tiny_b/checkpoint.ckpt", tmp_path / "out", processor="demo")
    assert not (tmp_path / "out").exists()
