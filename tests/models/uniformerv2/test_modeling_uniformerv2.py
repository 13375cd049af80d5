"""The UniFormerV2 tower: an image ViT on every frame, and a token that attends to the full clip."""

import pytest
import torch
from models.model_checks import (
    OPEN_SET_IN_FLOAT32,
    ExportedInAnother,
    ModelChecks,
    Tower,
    assert_same,
    draw,
    gradients,
    move_from_start,
)
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import AutoModelForVideoClassification

from internvideo_hf import (
    UniFormerV2Config,
    UniFormerV2ForHandPrediction,
    UniFormerV2ForOpenSetClassification,
    UniFormerV2ForVideoClassification,
    UniFormerV2Model,
)
from internvideo_hf.auto import auto_class
from internvideo_hf.models.common.layers import resample_position_grid

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


class RunsInParts:
    """The encoder's backbone, and then its global blocks."""

    def calls(self, model, inputs):
        frames = model.encode_frames(**inputs, return_dict=True)
        return super().calls(model, inputs) | {"parts": model(frames_output=frames)}


class TestUniFormerV2Model(RunsInParts, ExportedInAnother, ModelChecks):
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


class TestUniFormerV2ModelWithLocalBlocks(RunsInParts, ModelChecks):
    """The model of motion, and without the gate, as the frozen ones."""

    model_class = UniFormerV2Model
    input_embeddings = "embeddings.patch_embedding"
    fields_read_elsewhere = {
        "num_frames": "converters hand it to the processor, which samples that many frames",
        "classifier_dropout": "the classifier reads it",
    }

    def config(self):
        return tiny_config(
            num_local_blocks=2, local_intermediate_size=10, temporal_downsampling=True, use_fusion_gate=False
        )

    def inputs(self):
        return {"pixel_values_videos": draw(2, 2 * FRAMES, 3, 32, 32)}

    def towers(self, outputs):
        tokens = 1 + PATCHES
        return [Tower(outputs, 3, (2 * FRAMES, tokens, WIDTH), (2 * FRAMES, 2, tokens, tokens))]


class TestUniFormerV2ForVideoClassification(ExportedInAnother, ModelChecks):
    model_class = UniFormerV2ForVideoClassification
    in_float32 = ("loss",)
    auto_class = AutoModelForVideoClassification
    input_embeddings = "vision_model.embeddings.patch_embedding"
    fields_read_elsewhere = {
        "num_frames": "converters hand it to the processor, which samples that many frames",
        "local_intermediate_size": "local blocks read it, which the class above has",
    }
    loss_over = "samples"

    def config(self):
        # Without dropout, so that a batch in parts has the gradients of the whole.
        return tiny_config(num_labels=5, classifier_dropout=0.0, global_dropout=0.0)

    def inputs(self):
        return {"pixel_values_videos": draw(2, FRAMES, 3, 32, 32), "labels": torch.tensor([1, 4])}

    def towers(self, outputs):
        tokens = 1 + PATCHES
        return [Tower(outputs, 3, (2 * FRAMES, tokens, WIDTH), (2 * FRAMES, 2, tokens, tokens))]


class TestUniFormerV2ForOpenSetClassification(TestUniFormerV2ForVideoClassification):
    model_class = UniFormerV2ForOpenSetClassification
    in_float32 = OPEN_SET_IN_FLOAT32
    auto_class = auto_class("AutoModelForOpenSetClassification")

    def config(self):
        config = super().config()
        config.evidential = {"loss": "mse", "evidence": "softplus"}
        return config


@pytest.mark.slow  # a head that other families have in the default suite
class TestUniFormerV2ForHandPrediction(TestUniFormerV2ForVideoClassification):
    model_class = UniFormerV2ForHandPrediction
    auto_class = auto_class("AutoModelForHandPrediction")

    def inputs(self):
        return super().inputs() | {"labels": 9 * draw(2, 5)}


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
def test_a_name_of_version_0_1_still_works():
    model = moved_model()
    with torch.no_grad():
        model.fusion_gate.fill_(0.0)  # half of each
    with pytest.warns(FutureWarning, match="frames_output"):
        mixed = model.fuse(torch.full((1, model.config.hidden_size), 2.0), torch.zeros(1, model.config.hidden_size))
    torch.testing.assert_close(mixed, torch.ones_like(mixed))


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


# Local blocks and downsampling


def local_block(**changes):
    model = moved_model(num_local_blocks=1, local_intermediate_size=10, **changes)
    block = model.layers[1].local_block1
    with torch.no_grad():
        block.batch_norm.running_mean.copy_(draw(WIDTH, seed=1))
        block.batch_norm.running_var.copy_(draw(WIDTH, seed=2).square() + 0.5)
    return block


@torch.no_grad()
def test_local_block_is_batch_norm_and_three_convolutions():
    block, patches = local_block(), draw(2 * 5, 12, WIDTH)
    volume = patches.unflatten(0, (2, 5)).unflatten(2, (3, 4)).movedim(-1, 1)  # b c t h w
    norm = nn.BatchNorm3d(WIDTH).eval()
    norm.load_state_dict(block.batch_norm.state_dict())
    down, up = block.down_proj, block.up_proj
    x = nn.functional.conv3d(norm(volume), down.weight[:, :, None, None, None], down.bias)
    x = nn.functional.conv3d(
        x, block.temporal_conv.weight[..., None, None], block.temporal_conv.bias, padding=(1, 0, 0), groups=10
    )
    x = nn.functional.conv3d(x, up.weight[:, :, None, None, None], up.bias)
    expected = x.movedim(1, -1).flatten(2, 3).flatten(0, 1)
    torch.testing.assert_close(block(patches, 5), expected, atol=1e-5, rtol=1e-5)


def test_local_block_takes_the_statistics_of_patches_of_all_frames_and_clips():
    block, patches = local_block().train(), draw(2 * 3, 12, WIDTH)
    before = block.batch_norm.running_mean.clone()
    block(patches, 3)
    expected = 0.9 * before + 0.1 * patches.flatten(0, 1).mean(0)
    torch.testing.assert_close(block.batch_norm.running_mean, expected)


@torch.no_grad()
def test_local_block_lets_a_patch_see_its_neighbours_in_time_at_its_own_place():
    block, patches = local_block(), draw(7, 4, WIDTH)
    changed = patches.clone()
    changed[3, 2] += 1.0
    difference = (block(changed, 7) - block(patches, 7)).abs().amax(-1)
    assert {tuple(place) for place in difference.nonzero().tolist()} == {(2, 2), (3, 2), (4, 2)}


@torch.no_grad()
def test_local_blocks_leave_the_class_token_alone():
    torch.manual_seed(0)
    plain, local = UniFormerV2Model(tiny_config()), UniFormerV2Model(tiny_config(num_local_blocks=2))
    local.load_state_dict(plain.state_dict(), strict=False)
    layer = local.layers[0].eval()
    layer.local_block1.up_proj.weight.normal_()
    states = draw(4, 1 + PATCHES, WIDTH)
    joined = layer._join_frames(layer.local_block1, states, 2)
    assert torch.equal(joined[:, 0], states[:, 0]) and not torch.equal(joined[:, 1:], states[:, 1:])


@torch.no_grad()
def test_local_blocks_of_a_fresh_model_are_silent():
    torch.manual_seed(0)
    plain, local = UniFormerV2Model(tiny_config()).eval(), UniFormerV2Model(tiny_config(num_local_blocks=2)).eval()
    missing = local.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing and all("local_block" in name for name in missing)
    video = draw(2, 4, 3, 32, 32)
    assert_same(local(video), plain(video), atol=1e-6, rtol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 2, 5, 6])
def test_downsampling_centres_patches_of_three_frames_on_every_second_one(frames):
    model, video = moved_model(temporal_downsampling=True), draw(2, frames, 3, 32, 32)
    patches = model.embeddings.patch_embedding(video.transpose(1, 2))
    assert patches.shape[2] == (frames + 1) // 2
    assert model(video).last_hidden_state.shape == (2, patches.shape[2] * (1 + PATCHES), WIDTH)
    kernel = model.embeddings.patch_embedding.weight
    padded = nn.functional.pad(video.transpose(1, 2), (0, 0, 0, 0, 1, 1))
    for index in range(patches.shape[2]):
        window = padded[:, :, 2 * index : 2 * index + 3]
        expected = nn.functional.conv3d(window, kernel, stride=(1, 8, 8))[:, :, 0]
        torch.testing.assert_close(patches[:, :, index], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_without_a_gate_the_video_token_is_all():
    gated, plain = moved_model(), moved_model(use_fusion_gate=False)
    weights = gated.state_dict()
    gated.fusion_gate.fill_(-100.0)
    del weights["fusion_gate"]
    plain.load_state_dict(weights)
    video = draw(2, 3, 3, 32, 32)
    torch.testing.assert_close(plain(video).pooler_output, gated(video).pooler_output)


# Drop path


def test_drop_path_draws_once_for_all_frames_of_a_clip():
    model = moved_model(drop_path_rate=0.5, global_dropout=0.0).train()
    layer = model.layers[-1]
    assert [part.drop_path.rate for part in model.layers] == [0.0, 0.25, 0.5]
    torch.manual_seed(1)
    kept = layer.drop_path(torch.ones(6 * 4, 3, 2), 4).unflatten(0, (6, 4))
    assert set(kept.unique().tolist()) == {0.0, 2.0}
    assert (kept.flatten(1) == kept.flatten(1)[:, :1]).all()


def test_drop_path_of_global_blocks_rises_over_the_blocks():
    model = moved_model(global_drop_path_rate=0.4, global_layers=[0, 1, 2])
    assert [block.drop_path.rate for block in model.global_blocks] == pytest.approx([0.0, 0.2, 0.4])


# The classifier


def classifier(**changes) -> UniFormerV2ForVideoClassification:
    torch.manual_seed(0)
    return move_from_start(UniFormerV2ForVideoClassification(tiny_config(num_labels=5, **changes)))


@torch.no_grad()
def test_loss_is_cross_entropy_with_hard_and_soft_labels():
    model, video = classifier(), draw(3, 2, 3, 32, 32)
    logits = model(video).logits
    assert logits.shape == (3, 5)
    hard, soft = torch.tensor([0, 4, 2]), draw(3, 5).softmax(-1)
    torch.testing.assert_close(model(video, labels=hard).loss, cross_entropy(logits, hard))
    torch.testing.assert_close(model(video, labels=soft).loss, -(soft * logits.log_softmax(-1)).sum(-1).mean())
    assert model(video).loss is None


@torch.no_grad()
def test_logits_are_a_linear_map_of_the_normalised_pooled_token():
    model, video = classifier(), draw(2, 2, 3, 32, 32)
    pooled = model.vision_model(video).pooler_output
    expected = model.classifier(
        nn.functional.layer_norm(pooled, (WIDTH,), model.layernorm.weight, model.layernorm.bias)
    )
    torch.testing.assert_close(model(video).logits, expected)


def test_dropout_before_the_head_acts_in_training_only():
    model, video = classifier(classifier_dropout=0.9, global_dropout=0.0), draw(2, 2, 3, 32, 32)
    assert_same(model(video), model(video))
    model.train()
    assert not torch.equal(model(video).logits, model(video).logits)


@torch.no_grad()
def test_classifier_and_encoder_load_out_of_each_others_folders(tmp_path):
    model, video = classifier(), draw(2, 2, 3, 32, 32)
    model.save_pretrained(tmp_path / "classifier")
    encoder = UniFormerV2Model.from_pretrained(tmp_path / "classifier")
    assert_same(encoder(video), model.vision_model(video))
    encoder.save_pretrained(tmp_path / "encoder")
    again, info = UniFormerV2ForVideoClassification.from_pretrained(tmp_path / "encoder", output_loading_info=True)
    fresh = {"layernorm.weight", "layernorm.bias", "classifier.weight", "classifier.bias"}
    assert info["missing_keys"] == fresh and not info["unexpected_keys"]
    assert_same(again.vision_model(video), encoder(video))


def test_other_classes_keep_all_but_the_last_layer(tmp_path):
    model = classifier()
    model.save_pretrained(tmp_path)
    other = UniFormerV2ForVideoClassification.from_pretrained(tmp_path, num_labels=3, ignore_mismatched_sizes=True)
    for name, tensor in other.state_dict().items():
        if not name.startswith("classifier."):
            assert torch.equal(tensor, model.state_dict()[name]), name
    assert other.classifier.weight.shape == (3, WIDTH)


def test_gradients_of_a_frozen_trunk_are_missing_and_the_others_are_there():
    model = classifier(num_local_blocks=1)
    model.freeze_backbone()
    found = gradients(model, model(draw(2, 2, 3, 32, 32), labels=torch.tensor([0, 1])))
    for name, gradient in found.items():
        trunk = name.startswith(("vision_model.embeddings", "vision_model.pre_layernorm", "vision_model.layers"))
        assert (gradient is None) == trunk, name
