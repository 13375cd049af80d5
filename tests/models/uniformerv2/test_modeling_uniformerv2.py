"""The UniFormerV2 tower: an image ViT on every frame, and one token that sees the whole clip."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from models.common import ModelChecks, Tower, assert_same, draw, move_from_start

from internvideo_hf import UniFormerV2Config, UniFormerV2Model
from internvideo_hf.layers import resample_position_grid

FRAMES, PATCHES, WIDTH = 2, 16, 16


def tiny_config(**changes) -> UniFormerV2Config:
    sizes = {
        "hidden_size": WIDTH,
        "intermediate_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "global_layers": [0, 2],
        "num_global_attention_heads": 4,
        "image_size": 32,
        "patch_size": 8,
        "num_frames": FRAMES,
    }
    return UniFormerV2Config(**(sizes | changes))


def moved_model(**changes) -> UniFormerV2Model:
    torch.manual_seed(0)
    return move_from_start(UniFormerV2Model(tiny_config(**changes)))


class TestUniFormerV2Model(ModelChecks):
    model_class = UniFormerV2Model
    input_embeddings = "embeddings.patch_embedding"
    fields_read_elsewhere = {
        "num_frames": "converters hand it to the processor, which samples that many frames",
        "local_intermediate_size": "local blocks read it, which the class below has",
        "classifier_dropout": "the classifier reads it",
    }

    def config(self):
        return tiny_config()

    def inputs(self):
        return {"pixel_values_videos": draw(2, FRAMES, 3, 32, 32)}

    def towers(self, outputs):
        tokens = 1 + PATCHES
        return [Tower(outputs, 3, (2 * FRAMES, tokens, WIDTH), (2 * FRAMES, 2, tokens, tokens))]


@torch.no_grad()
def test_image_is_a_clip_of_one_frame():
    model, image = moved_model(), draw(2, 3, 32, 32)
    assert_same(model(image), model(image[:, None]))


@torch.no_grad()
def test_output_has_one_vector_a_clip_and_all_tokens_of_all_frames():
    for frames, height, width in ((1, 32, 32), (5, 32, 32), (2, 40, 24)):
        outputs = moved_model()(draw(2, frames, 3, height, width))
        assert outputs.pooler_output.shape == (2, WIDTH)
        assert outputs.last_hidden_state.shape == (2, frames * (1 + height * width // 64), WIDTH)


@torch.no_grad()
def test_trunk_looks_at_every_frame_alone():
    model, video = moved_model(), draw(1, 3, 3, 32, 32)
    tokens = model(video).last_hidden_state.unflatten(1, (3, 1 + PATCHES))
    for frame in range(3):
        alone = model(video[:, frame]).last_hidden_state
        torch.testing.assert_close(tokens[:, frame], alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_order_of_frames_counts_through_the_position_convolution_alone():
    model, video = moved_model(), draw(2, 4, 3, 32, 32)
    backwards = video.flip(1)
    assert not torch.allclose(model(video).pooler_output, model(backwards).pooler_output, atol=1e-3)
    for block in model.global_blocks:
        block.position_conv.weight.zero_()
    torch.testing.assert_close(model(video).pooler_output, model(backwards).pooler_output, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_gate_mixes_the_video_token_with_the_mean_of_class_tokens():
    model, video = moved_model(), draw(2, 3, 3, 32, 32)
    model.fusion_gate.fill_(100.0)
    outputs = model(video)
    class_tokens = outputs.last_hidden_state.unflatten(1, (3, 1 + PATCHES))[:, :, 0]
    torch.testing.assert_close(outputs.pooler_output, class_tokens.mean(dim=1))
    model.fusion_gate.fill_(-100.0)
    video_token = model(video).pooler_output
    assert not torch.allclose(video_token, outputs.pooler_output, atol=1e-2)
    model.fusion_gate.fill_(0.0)
    torch.testing.assert_close(model(video).pooler_output, (video_token + outputs.pooler_output) / 2)


@torch.no_grad()
def test_global_blocks_of_a_fresh_model_are_silent():
    torch.manual_seed(0)
    model = UniFormerV2Model(tiny_config()).eval()
    outputs = model(draw(2, 3, 3, 32, 32))
    class_tokens = outputs.last_hidden_state.unflatten(1, (3, 1 + PATCHES))[:, :, 0]
    torch.testing.assert_close(outputs.pooler_output, class_tokens.mean(dim=1) / 2)


@torch.no_grad()
def test_global_blocks_read_the_layers_that_the_configuration_names():
    video = draw(1, 2, 3, 32, 32)
    early, late = moved_model(global_layers=[0]), moved_model(global_layers=[2])
    late.load_state_dict(early.state_dict())
    seen = []
    for model in (early, late):
        model.global_blocks[0].register_forward_pre_hook(lambda module, args: seen.append(args[1]))
    states = early(video, output_hidden_states=True).hidden_states
    late(video)
    assert torch.equal(seen[0], states[1]) and torch.equal(seen[1], states[3])


@torch.no_grad()
def test_tower_without_global_blocks_is_an_image_encoder():
    model, video = moved_model(global_layers=[]), draw(2, 4, 3, 32, 32)
    torch.testing.assert_close(model(video).pooler_output, model(video.flip(1)).pooler_output)


def test_dropout_in_global_blocks_acts_in_training_only():
    video = draw(1, 2, 3, 32, 32)
    model = moved_model(global_dropout=0.5)
    assert_same(model(video), model(video))
    model.train()
    assert not torch.equal(model(video).pooler_output, model(video).pooler_output)
    model = moved_model(global_dropout=0.0).train()
    assert_same(model(video), model(video))


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_dropout_of_attention_acts_in_training_only(implementation):
    video = draw(1, 2, 3, 32, 32)
    model = moved_model(global_dropout=0.0, attention_dropout=0.5)
    model.set_attn_implementation(implementation)
    assert_same(model(video), model(video))
    model.train()
    assert not torch.equal(model(video).last_hidden_state, model(video).last_hidden_state)


@torch.no_grad()
def test_positions_fit_another_grid_in_its_row_by_row_order():
    # Channel 0 counts columns, channel 1 counts rows.
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    table = torch.stack([columns, rows], dim=-1).flatten(0, 1)
    assert resample_position_grid(table, 8, 8) is table
    wide = resample_position_grid(table, 8, 16).unflatten(0, (8, 16))
    # Centres of the new cells in units of the old ones; PyTorch's cubic leaves even a straight line by a twentieth.
    centres = (torch.arange(16) + 0.5) / 2 - 0.5
    torch.testing.assert_close(wide[3, 4:-4, 0], centres[4:-4], atol=0.05, rtol=0)
    torch.testing.assert_close(wide[:, 5, 1], torch.arange(8.0), atol=1e-5, rtol=0)


@torch.no_grad()
def test_position_table_is_resampled_and_not_repeated_for_a_larger_image():
    # A constant table says nothing of place, at any size: the middle of a constant image stays what it was.
    model = moved_model(global_layers=[])
    model.embeddings.position_embedding[1:] = model.embeddings.position_embedding[1]
    tokens = model(torch.ones(1, 1, 3, 48, 40)).last_hidden_state
    torch.testing.assert_close(tokens[:, 1:], tokens[:, 1:2].expand(-1, 30, -1), atol=1e-5, rtol=1e-5)


def test_error_for_a_wrong_size_names_the_sizes_that_fit():
    model = moved_model()
    with pytest.raises(ValueError, match="height.* 30.* patch size 8.* 24 or 32"):
        model(draw(1, 2, 3, 30, 32))
    with pytest.raises(ValueError, match="width.* 5.* patch size 8.* 8"):
        model(draw(1, 2, 3, 32, 5))
    with pytest.raises(ValueError, match="transpose"):
        model(draw(1, 3, 2, 32, 32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 3}, "num_attention_heads=3 must divide hidden_size=16"),
        ({"num_global_attention_heads": 5}, "num_global_attention_heads=5 must divide hidden_size=16"),
        ({"patch_size": 7}, "patch_size=7 must divide image_size=32"),
        ({"global_layers": [2, 0]}, "must rise"),
        ({"global_layers": [1, 1]}, "without repeats"),
        ({"global_layers": [1, 3]}, r"inside 0\.\.2"),
    ],
)
def test_sizes_that_do_not_fit_each_other_are_refused(changes, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        tiny_config(**changes)
