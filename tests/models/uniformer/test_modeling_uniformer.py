"""UniFormer: the checks of all models, sizes as published, and each layer against its formula."""

import pytest
import torch
from models.model_checks import OPEN_SET_IN_FLOAT32, ModelChecks, Tower, draw, move_from_start
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import AutoModelForVideoClassification

from internvideo_hf import (
    UniFormerConfig,
    UniFormerForHandPrediction,
    UniFormerForOpenSetClassification,
    UniFormerForVideoClassification,
    UniFormerModel,
)
from internvideo_hf.auto import auto_class
from internvideo_hf.models.uniformer.modeling_uniformer import UniFormerGlobalLayer, UniFormerLocalLayer
from internvideo_hf.training.parameter_groups import layer_scales

WIDTHS, DEPTHS = (6, 8, 12, 18), (1, 1, 2, 1)


def tiny_config(**changes):
    sizes = {"hidden_sizes": WIDTHS, "depths": DEPTHS, "head_dim": 3, "mlp_ratio": 2, "image_size": 64}
    return UniFormerConfig(**{"num_frames": 4, "num_labels": 5, **sizes, **changes})


def moved_model(**changes):
    torch.manual_seed(0)
    return move_from_start(UniFormerModel(tiny_config(**changes)))


class UniFormerChecks(ModelChecks):
    image_sizes = ((96, 32),)
    fields_read_elsewhere = {
        "image_size": "positions are convolved, so that any size will do; converters hand it to the processor",
        "num_frames": "as image_size",
        "classifier_dropout": "the classifier reads it",
        "initializer_range": "transformers initializes linear layers with it",
    }

    def config(self):
        return tiny_config()

    def inputs(self):
        return {"pixel_values_videos": draw(2, 4, 3, 64, 64)}

    def towers(self, outputs):
        return [Tower(outputs, sum(DEPTHS), (), ())]

    # Maps and attentions have the sizes of their stages.

    @torch.no_grad()
    def test_hidden_states_are_one_more_than_layers(self):
        outputs = self.model()(**self.inputs(), output_hidden_states=True)
        sides = (16, 8, 4, 2)
        shapes = [(2, 2 * 16**2, WIDTHS[0])]
        for width, depth, side in zip(WIDTHS, DEPTHS, sides, strict=True):
            shapes += [(2, 2 * side**2, width)] * depth
        assert [tuple(state.shape) for state in outputs.hidden_states] == shapes
        first, second = outputs.hidden_states[3:5]  # of the third stage
        assert not torch.equal(first, second)
        assert self.model()(**self.inputs()).hidden_states is None

    @torch.no_grad()
    def test_attentions_of_the_eager_kernel_are_probabilities(self):
        outputs = self.model(attn_implementation="eager")(**self.inputs(), output_attentions=True)
        assert [tuple(weights.shape) for weights in outputs.attentions] == [(2, 4, 32, 32)] * 2 + [(2, 6, 8, 8)]
        for weights in outputs.attentions:
            torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))


class TestUniFormerModel(UniFormerChecks):
    model_class = UniFormerModel
    input_embeddings = "embeddings"


class TestUniFormerForVideoClassification(UniFormerChecks):
    model_class = UniFormerForVideoClassification
    auto_class = AutoModelForVideoClassification
    in_float32 = ("loss",)
    input_embeddings = "uniformer.embeddings"
    loss_over = "samples"
    fields_read_elsewhere = {
        key: why for key, why in UniFormerChecks.fields_read_elsewhere.items() if key != "classifier_dropout"
    }
    # Exported as the encoder above, which is all but one linear layer.
    test_exported_program_takes_other_batches_and_frame_counts = None

    def inputs(self):
        return super().inputs() | {"labels": torch.tensor([1, 4])}

    def test_loss_of_a_trainer_step_does_not_depend_on_accumulation(self, tmp_path):
        """With batch norms at rest: in training they normalize by the clips that pass together.

        Its parts of one clip are where torch's norm of volumes has wrong gradients behind tokens.
        """
        plain = _BatchNorm.forward
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_BatchNorm, "forward", lambda norm, volume: plain(norm.eval(), volume))
            super().test_loss_of_a_trainer_step_does_not_depend_on_accumulation(tmp_path)


@pytest.mark.slow  # a head that other families have in the default suite
class TestUniFormerForOpenSetClassification(TestUniFormerForVideoClassification):
    model_class = UniFormerForOpenSetClassification
    in_float32 = OPEN_SET_IN_FLOAT32
    auto_class = auto_class("AutoModelForOpenSetClassification")


class TestUniFormerForHandPrediction(TestUniFormerForVideoClassification):
    model_class = UniFormerForHandPrediction
    auto_class = auto_class("AutoModelForHandPrediction")

    def inputs(self):
        return super().inputs() | {"labels": 9 * draw(2, 5)}


# Sizes


def counted(depths, labels):
    """Return the parameters of the released widths, summed up from the paper's description of the layers."""
    widths = (64, 128, 320, 512)
    count = 3 * 3 * 4 * 4 * 64 + sum(2 * 2 * before * width for before, width in zip(widths, widths[1:], strict=False))
    count += sum(3 * width for width in widths)  # biases and norms of the patch embeddings
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        positions, norms, mlp = (27 + 1) * width, 4 * width, 8 * width**2 + 5 * width
        mixing = 2 * (width + 1) * width + (125 + 1) * width if stage < 2 else 4 * (width + 1) * width
        count += depth * (positions + norms + mlp + mixing)
    return count + 2 * 512 + (512 + 1) * labels


@pytest.mark.parametrize(
    ("size", "depths", "published"), [("small", (3, 4, 8, 3), 21.4), ("base", (5, 8, 20, 7), 49.8)]
)
def test_sizes_are_those_of_the_paper(size, depths, published):
    with torch.device("meta"):
        model = UniFormerForVideoClassification(UniFormerConfig.from_size(size, num_labels=400))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert parameters == counted(depths, 400) and round(parameters / 1e6, 1) == published


# Layers


@torch.no_grad()
def test_frames_are_halved_and_rounded_up_and_sides_divided_by_32():
    model = moved_model()
    for frames, steps in ((1, 1), (2, 1), (3, 2), (8, 4)):
        outputs = model(draw(1, frames, 3, 32, 96))
        assert outputs.last_hidden_state.shape == (1, steps * 3, WIDTHS[-1])
        torch.testing.assert_close(outputs.pooler_output, outputs.last_hidden_state.mean(dim=1))
    image = draw(2, 3, 32, 32)
    assert torch.equal(model(image).pooler_output, model(image[:, None]).pooler_output)


@torch.no_grad()
def test_first_map_is_a_convolution_over_three_frames_around_every_second_and_a_layer_norm():
    model, clips = moved_model(), draw(1, 4, 3, 32, 32)
    stem = model.embeddings
    first = model(clips, output_hidden_states=True).hidden_states[0]
    # Time step 1, row 2, column 3 by hand: frames 1 to 3.
    cube = clips[0, 1:4, :, 8:12, 12:16].transpose(0, 1)
    cell = torch.einsum("dcthw,cthw->d", stem.projection.weight, cube) + stem.projection.bias
    expected = nn.functional.layer_norm(cell, (WIDTHS[0],), stem.layer_norm.weight, stem.layer_norm.bias, 1e-5)
    torch.testing.assert_close(first[0, 8 * 8 + 2 * 8 + 3], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_convolving_layer_sees_three_cells_to_each_side():
    # One by the positions, two by the neighborhood.
    layer = move_from_start(UniFormerLocalLayer(tiny_config(), 0, None, 0.0))
    volume = draw(1, WIDTHS[0], 9, 9, 9)
    other = volume.clone()
    other[:, :, 4, 4, 4] += 1
    changed = (layer(other) - layer(volume)).abs().amax(dim=(0, 1)) > 0
    expected = torch.zeros(9, 9, 9, dtype=torch.bool)
    expected[1:8, 1:8, 1:8] = True
    assert torch.equal(changed, expected)


@torch.no_grad()
def test_an_attending_layer_is_written_out():
    config = tiny_config()
    config._attn_implementation = "sdpa"
    layer = move_from_start(UniFormerGlobalLayer(config, 2, None, 0.0))
    volume = draw(2, 12, 2, 3, 2)
    tokens = (volume + layer.position_conv(volume)).flatten(2).mT
    normed = nn.functional.layer_norm(tokens, (12,), layer.layer_norm1.weight, layer.layer_norm1.bias, 1e-6)
    attention = layer.self_attn
    query, key, value = (part(normed) for part in (attention.q_proj, attention.k_proj, attention.v_proj))
    heads = [
        (query[..., at : at + 3] @ key[..., at : at + 3].mT / 3**0.5).softmax(-1) @ value[..., at : at + 3]
        for at in range(0, 12, 3)
    ]
    tokens = tokens + attention.out_proj(torch.cat(heads, dim=-1))
    normed = nn.functional.layer_norm(tokens, (12,), layer.layer_norm2.weight, layer.layer_norm2.bias, 1e-6)
    tokens = tokens + layer.mlp.fc2(nn.functional.gelu(layer.mlp.fc1(normed)))
    torch.testing.assert_close(layer(volume), tokens.mT.reshape(volume.shape), atol=1e-5, rtol=1e-5)


def test_drop_path_rises_through_all_stages():
    model = UniFormerModel(tiny_config(drop_path_rate=0.4))
    assert [layer.drop_path.rate for layer in model.layers] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert [layer.patch_embedding is not None for layer in model.layers] == [False, True, True, False, True]


# Groups


def test_learning_rates_fall_from_layer_to_layer_through_all_stages():
    model = UniFormerForVideoClassification(tiny_config())
    assert list(model.layer_groups()) == ["embeddings", *(f"layers.{number}" for number in range(5)), "norm", "head"]
    scales = layer_scales(model, 0.5)
    assert scales["classifier.weight"] == scales["uniformer.batch_norm.weight"] == 1
    assert scales["uniformer.layers.4.patch_embedding.projection.weight"] == 0.5
    assert scales["uniformer.layers.0.batch_norm1.weight"] == 0.5**5
    assert scales["uniformer.embeddings.projection.weight"] == 0.5**6


def test_a_frozen_backbone_keeps_its_statistics():
    model = UniFormerForVideoClassification(tiny_config())
    model.freeze_backbone()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()(draw(2, 2, 3, 32, 32))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert {name for name, weight in model.named_parameters() if weight.requires_grad} == {
        "classifier.weight",
        "classifier.bias",
    }
