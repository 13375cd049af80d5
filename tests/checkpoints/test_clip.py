"""The start of video models from image CLIP models."""

import pytest
import torch
from models.model_checks import assert_same, draw, move_from_start
from transformers import CLIPConfig, CLIPModel

from internvideo_hf import (
    CheckpointError,
    UniFormerV2Config,
    UniFormerV2ForVideoClassification,
    ViCLIPModel,
    initialize_from_clip,
)
from internvideo_hf.checkpoints.clip import INFLATIONS

# UniFormerV2


@pytest.fixture(scope="module")
def clip() -> CLIPModel:
    torch.manual_seed(0)
    sizes = dict(hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=3)
    vision = sizes | dict(image_size=24, patch_size=8)
    text = dict(sizes, vocab_size=60, max_position_embeddings=9, bos_token_id=58, eos_token_id=59)
    return CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=10)).eval()


@torch.no_grad()
def test_a_classifier_starts_from_a_clip_model_of_transformers(clip):
    model = initialize_from_clip(clip, "uniformerv2", global_layers=[1, 2], num_labels=4)
    assert isinstance(model, UniFormerV2ForVideoClassification) and model.config.num_labels == 4
    image = torch.randn(2, 3, 24, 24)
    tokens = clip.vision_model(image).last_hidden_state
    torch.testing.assert_close(model.vision_model(image).last_hidden_state, tokens, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_motion_classifier_starts_by_looking_at_every_second_frame(clip):
    settings = dict(global_layers=[0, 1, 2], num_local_blocks=2, temporal_downsampling=True, num_labels=4)
    model = initialize_from_clip(clip, "uniformerv2", **settings)
    video = torch.randn(1, 6, 3, 24, 24)
    tokens = clip.vision_model(video[0, ::2]).last_hidden_state
    torch.testing.assert_close(
        model.vision_model(video).last_hidden_state, tokens.flatten(0, 1)[None], atol=1e-5, rtol=1e-5
    )


@torch.no_grad()
def test_a_configuration_says_what_to_build(clip):
    sizes = dict(hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=3, patch_size=8)
    config = UniFormerV2Config(**sizes, image_size=48, global_layers=[2], num_labels=6)
    model = initialize_from_clip(clip, config)
    assert model.config.image_size == 48 and model.classifier.out_features == 6
    table = clip.vision_model.embeddings.position_embedding.weight[1:].T.reshape(1, 24, 3, 3)
    table = torch.nn.functional.interpolate(table, size=(6, 6), mode="bicubic", align_corners=False)
    positions = model.vision_model.embeddings.position_embedding
    torch.testing.assert_close(positions[1:], table.flatten(2)[0].T)
    with pytest.raises(ValueError, match="Put num_labels into the configuration"):
        initialize_from_clip(clip, config, num_labels=3)


def test_what_cannot_start_from_clip_is_told(clip, tmp_path):
    with pytest.raises(
        ValueError, match="family that starts from CLIP: got 'internvideo_mae', expected one of .*uniformerv2"
    ):
        initialize_from_clip(clip, "internvideo_mae")
    with pytest.raises(ValueError, match="Did you mean num_local_blocks"):
        initialize_from_clip(clip, "uniformerv2", num_local_block=1)
    with pytest.raises(CheckpointError, match="position_embedding|of another shape"):
        initialize_from_clip(
            clip, UniFormerV2Config(hidden_size=24, num_attention_heads=3, patch_size=8, image_size=24)
        )
    torch.save({"conv1.weight": torch.ones(2, 3, 4, 4)}, tmp_path / "half.pth")
    with pytest.raises(CheckpointError, match="not a CLIP vision transformer"):
        initialize_from_clip(tmp_path / "half.pth", "uniformerv2")


def test_a_configuration_that_contradicts_the_clip_model_is_refused(clip):
    sizes = dict(
        hidden_size=24, intermediate_size=40, num_hidden_layers=3, patch_size=8, image_size=24, global_layers=[2]
    )
    with pytest.raises(ValueError, match="num_attention_heads is 2 in the configuration and 3 in the CLIP model"):
        initialize_from_clip(clip, UniFormerV2Config(**sizes, num_attention_heads=2))
    with pytest.raises(ValueError, match="hidden_act is 'gelu'"):
        initialize_from_clip(clip, UniFormerV2Config(**sizes, num_attention_heads=3, hidden_act="gelu"))
    with pytest.raises(CheckpointError, match="Give a configuration of this CLIP's sizes"):
        initialize_from_clip(clip, UniFormerV2Config(**sizes | {"num_hidden_layers": 4}, num_attention_heads=3))
    with pytest.raises(ValueError, match="Invalid model configuration: num_attention_heads=5"):
        initialize_from_clip(clip, "uniformerv2", num_attention_heads=5)


# ViCLIP

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
