"""Released ViCLIP files: no missing or unused tensors, lengths, two processors, initialization from CLIP."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from models.model_checks import assert_same, draw, move_from_start
from parity.compare import load_config
from parity.viclip import overrides
from transformers import AutoModel, AutoProcessor, CLIPConfig, CLIPModel

from internvideo_hf import (
    CheckpointError,
    InternVideoVideoProcessor,
    ViCLIPConfig,
    ViCLIPModel,
    convert_checkpoint,
    initialize_from_clip,
)
from internvideo_hf.checkpoints import convert as conversion
from internvideo_hf.checkpoints.clip import INFLATIONS
from internvideo_hf.checkpoints.families.viclip import TABLE, config_from, fit, recognizes
from internvideo_hf.checkpoints.released import released
from internvideo_hf.checkpoints.table import check_complete, convert_state_dict
from internvideo_hf.processing.presets.viclip import PROCESSORS, demo_pixels

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


def test_the_eight_released_files_have_a_row_with_their_licence():
    rows = [row for row in released() if row["family"] == "viclip"]
    assert len(rows) == len({row["file"] for row in rows}) == 8
    for row in rows:
        size = {"L": "l14", "B": "b16"}[row["name"].split("-")[1]]
        assert row["manifest"] == f"viclip_{size}.json" and row["file"].startswith(f"ViCLIP-{size[0].upper()}_")
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
    assert (video.sampler, video.resize_method) == ("viclip_middle", "torchvision_bicubic")
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


@pytest.mark.parametrize("name", PROCESSORS)
def test_whole_frames_are_squeezed_to_a_square(name):
    frames = np.random.default_rng(0).integers(0, 256, (9, 40, 70, 3), dtype=np.uint8)
    pixels = PROCESSORS[name](ViCLIPConfig())(frames, return_tensors="pt")["pixel_values_videos"]
    assert pixels.shape == (1, 8, 3, 224, 224)


def test_bgr_is_what_arrays_hold_and_never_what_files_and_images_do(bikes):
    rgb = np.random.default_rng(0).integers(0, 256, (9, 40, 70, 3), dtype=np.uint8)
    demo = demo_pixels(ViCLIPConfig())
    plain = demo_pixels(ViCLIPConfig())
    plain.input_channel_order = "rgb"

    def pixels(processor, video, **options):
        return processor(video, return_tensors="pt", **options)["pixel_values_videos"]

    expected = pixels(plain, rgb)
    assert torch.equal(pixels(demo, rgb[..., ::-1].copy()), expected)
    assert torch.equal(pixels(demo, list(rgb[..., ::-1].copy())), expected)
    assert torch.equal(pixels(demo, rgb, input_channel_order="rgb"), expected)
    assert torch.equal(pixels(demo, bikes), pixels(plain, bikes))
    with pytest.raises(ValueError, match="input_channel_order"):
        pixels(InternVideoVideoProcessor(), rgb, input_channel_order="grb")


# The start from CLIP

TEXT = {"vocab_size": 60, "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2}
TEXT |= {"num_attention_heads": 1, "max_position_embeddings": 40, "bos_token_id": 58, "eos_token_id": 59}
IDS = torch.tensor([[58, 4, 5, 59, 0, 0], [58, 7, 8, 9, 10, 59]])


def tiny_clip() -> CLIPModel:
    vision = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 1}
    vision |= {"image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    return move_from_start(CLIPModel(CLIPConfig(vision_config=vision, text_config=TEXT, projection_dim=20)))


@torch.no_grad()
def test_model_started_from_clip_is_that_clip_for_images_and_texts(tmp_path):
    clip, images = tiny_clip(), draw(2, 3, 32, 32)
    model = initialize_from_clip(clip, "viclip")
    assert type(model) is ViCLIPModel and not model.training
    expected = clip.get_image_features(images).pooler_output
    torch.testing.assert_close(model.get_video_features(images).pooler_output, expected, atol=1e-5, rtol=1e-5)
    expected = clip.get_text_features(input_ids=IDS).pooler_output
    torch.testing.assert_close(model.get_text_features(IDS).pooler_output, expected, atol=1e-5, rtol=1e-5)
    assert model.config.text_config.max_position_embeddings == 32
    assert model.temperature.item() == pytest.approx(0.01)
    model.save_pretrained(tmp_path)
    assert_same(ViCLIPModel.from_pretrained(tmp_path).state_dict(), model.state_dict())


@torch.no_grad()
def test_texts_longer_than_clips_get_zero_positions():
    model = initialize_from_clip(tiny_clip(), "viclip", text_config={"max_position_embeddings": 45})
    positions = model.text_model.embeddings.position_embedding.weight
    assert positions.shape[0] == 45 and positions[:40].any(dim=1).all() and not positions[40:].any()


@torch.no_grad()
@pytest.mark.parametrize("inflation", INFLATIONS)
def test_a_still_clip_is_its_image_whatever_the_inflation(inflation):
    clip, images = tiny_clip(), draw(2, 3, 32, 32)
    vision = {"tubelet_size": 3, "num_frames": 3}
    model = initialize_from_clip(clip, "viclip", inflation=inflation, vision_config=vision)
    still = images[:, None].expand(-1, 3, -1, -1, -1)
    expected = clip.get_image_features(images).pooler_output
    torch.testing.assert_close(model.get_video_features(still).pooler_output, expected, atol=1e-4, rtol=1e-4)


def test_wrong_starts_are_refused():
    with pytest.raises(ValueError, match="'sum', expected one of center, mean"):
        initialize_from_clip(tiny_clip(), "viclip", inflation="sum")
    with pytest.raises(ValueError, match="global_layers"):
        initialize_from_clip(tiny_clip(), "viclip", vision_config={"global_layers": [0]})
