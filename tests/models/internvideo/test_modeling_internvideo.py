"""The fused model: two encoders with cross-model attention, equal to the encoders alone at initialization."""

from pathlib import Path

import pytest
import torch
from models.model_checks import OPEN_SET_IN_FLOAT32, ModelChecks, Tower, assert_same, draw, move_from_start
from torch import nn
from transformers import AutoModelForVideoClassification

from internvideo_hf import (
    InternVideoConfig,
    InternVideoForOpenSetClassification,
    InternVideoForVideoClassification,
    InternVideoMAEForVideoClassification,
    InternVideoModel,
    UniFormerV2ForVideoClassification,
)
from internvideo_hf.auto import auto_class
from internvideo_hf.models.internvideo.modeling_internvideo import num_heads

LABELS = {0: "runs", 1: "jumps", 2: "sits", 3: "falls", 4: "waves"}
MAE = {
    "hidden_size": 16,
    "intermediate_size": 20,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
    "num_frames": 4,
    "tubelet_size": 2,
}
UNIFORMERV2 = {
    "hidden_size": 24,
    "intermediate_size": 28,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "global_layers": [0, 1, 2],
    "num_local_blocks": 1,
    "image_size": 28,
    "patch_size": 7,
    "num_frames": 3,
    "drop_path_rate": 0.3,
    "global_drop_path_rate": 0.3,
    "classifier_dropout": 0.0,
}


def tiny_config(**changes) -> InternVideoConfig:
    settings = {
        "internvideo_mae_config": MAE,
        "uniformerv2_config": UNIFORMERV2
        | {"num_local_blocks": 0, "drop_path_rate": 0.0, "global_drop_path_rate": 0.0},
        "exchange_layers": [0, 2],
        "cross_attention_head_size": 8,
        "mlp_ratio": 1.5,
        "id2label": LABELS,
        "freeze_encoders": False,
        "classifier_dropout": 0.0,
    }
    return InternVideoConfig(**(settings | changes))


def clips(batch: int = 2) -> dict[str, torch.Tensor]:
    return {
        "pixel_values_videos": draw(batch, 2, 3, 32, 32),
        "uniformerv2_pixel_values_videos": draw(batch, 3, 3, 28, 28, seed=1),
    }


class FusedChecks(ModelChecks):
    image_sizes = ((40, 24),)
    frame_counts = ()  # a traced graph holds the position table of one frame count; other counts have a test below

    def config(self):
        return tiny_config()

    def inputs(self):
        return clips()

    def towers(self, outputs):
        return [Tower(outputs, 4, (2, 16, 16), (2, 2, 16, 16))]


class TestInternVideoModel(FusedChecks):
    model_class = InternVideoModel
    input_embeddings = "internvideo_mae.embeddings"
    fields_read_elsewhere = {
        "classifier_dropout": "the classifier reads it",
        "fusion_per_class": "the classifier reads it",
        "encoders": "the classifier's saving and loading",
        "encoders_fingerprint": "the classifier's saving and loading",
    }
    test_exported_program_takes_other_batches_and_frame_counts = None  # takes ten seconds, and the classifier holds it

    def calls(self, model, inputs):
        parts = model.encode_backbones(**inputs)
        return super().calls(model, inputs) | {
            "parts": model(backbone_outputs=parts),
            "frozen": model.frozen_forward(**inputs),
        }


class TestInternVideoForVideoClassification(FusedChecks):
    model_class = InternVideoForVideoClassification
    in_float32 = ("loss",)
    auto_class = AutoModelForVideoClassification
    input_embeddings = "internvideo.internvideo_mae.embeddings"
    loss_over = "samples"

    def inputs(self):
        return {**clips(), "labels": torch.tensor([1, 4])}


class TestInternVideoForOpenSetClassification(TestInternVideoForVideoClassification):
    model_class = InternVideoForOpenSetClassification
    in_float32 = OPEN_SET_IN_FLOAT32
    auto_class = auto_class("AutoModelForOpenSetClassification")
    test_exported_program_takes_other_batches_and_frame_counts = None  # takes long, and the class above has it

    def config(self):
        config = super().config()
        config.evidential = {"loss": "cross_entropy", "evidence": "softplus"}
        return config


class TestWithOtherChoices(FusedChecks):
    """Every choice the other way."""

    model_class = InternVideoForVideoClassification
    auto_class = AutoModelForVideoClassification
    input_embeddings = "internvideo.internvideo_mae.embeddings"
    test_exported_program_takes_other_batches_and_frame_counts = None

    def config(self):
        return tiny_config(
            exchange_layers=[1],
            exchange_blocks=[0],
            normalize_context=False,
            enhanced_context=False,
            gate_per_channel=True,
            fusion_per_class=True,
        )


# ---- two trained classifiers as one ---------------------------------------------------------------------------------


def separate(encoders: tuple[Path, Path]) -> list[nn.Module]:
    kinds = (InternVideoMAEForVideoClassification, UniFormerV2ForVideoClassification)
    return [kind.from_pretrained(folder).eval() for kind, folder in zip(kinds, encoders, strict=True)]


TRAINED_FROM_THE_FIRST_STEP = (
    "attention_gate",
    "mlp_gate",
    "classifier.fusion",
    "classifier.internvideo_mae.weight",
    "classifier.internvideo_mae.bias",
    "classifier.layernorm.weight",
    "classifier.layernorm.bias",
    "classifier.uniformerv2.weight",
    "classifier.uniformerv2.bias",
    "internvideo_mae.pooler_layernorm.weight",
    "internvideo_mae.pooler_layernorm.bias",
    "uniformerv2.video_embedding",
)


class TestAtTheStart:
    @torch.no_grad()
    def test_branches_are_the_separate_models_to_the_last_bit(self, fused, encoders):
        mae, uniformerv2 = separate(encoders)
        inputs = clips(3)
        outputs = fused(**inputs)
        assert torch.equal(outputs.internvideo_mae_logits, mae(inputs["pixel_values_videos"]).logits)
        alone = uniformerv2(inputs["uniformerv2_pixel_values_videos"]).logits
        assert torch.equal(outputs.uniformerv2_logits, alone)
        assert torch.equal(outputs.logits, (outputs.internvideo_mae_logits + alone) / 2)
        assert not torch.allclose(outputs.internvideo_mae_logits, alone)

    def test_the_first_step_trains_what_the_paper_trains_and_the_next_all_of_the_exchange(self, fused):
        fused.train()
        optimizer = torch.optim.SGD([p for p in fused.parameters() if p.requires_grad], lr=0.1)
        labels = torch.tensor([0, 3])
        fused(**clips(), labels=labels).loss.backward()
        reached = {name for name, parameter in fused.named_parameters() if parameter.grad is not None}
        moved = {name for name, p in fused.named_parameters() if p.grad is not None and p.grad.any()}
        assert moved == {name for name, _ in fused.named_parameters() if name.endswith(TRAINED_FROM_THE_FIRST_STEP)}
        assert all("exchanges" in name for name in reached - moved), "reached, with a gradient of zero"
        optimizer.step()
        optimizer.zero_grad()
        fused(**clips(), labels=labels).loss.backward()
        for name, parameter in fused.named_parameters():
            if "exchanges" in name and not name.endswith("k_proj.bias"):  # which softmax does not see
                assert parameter.grad.any(), f"{name} gets no gradient once the gates are open"

    def test_all_classes_start_with_the_same_weight_where_each_has_its_own(self, encoders):
        model = InternVideoForVideoClassification.from_encoders(*encoders, fusion_per_class=True)
        assert model.classifier.fusion.shape == (len(LABELS),)
        outputs = model(**clips())
        assert torch.equal(outputs.logits, (outputs.internvideo_mae_logits + outputs.uniformerv2_logits) / 2)


def move_gates(model: InternVideoForVideoClassification) -> None:
    """Open the gates, as training does."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gate") and parameter.requires_grad:
                parameter.fill_(0.7)


class TestTraining:
    def test_frozen_parts_rest_and_stay_bit_equal(self, fused):
        before = {name: tensor.clone() for name, tensor in fused.state_dict().items()}
        fused.train()
        training = {name for name, module in fused.named_modules() if module.training and module.state_dict()}
        assert "internvideo.exchanges.0.video_tokens.mlp" in training and "classifier" in training
        assert not any(name.startswith("internvideo.uniformerv2.") for name in training)
        assert {n for n in training if "internvideo_mae." in n and "classifier" not in n} == {
            "internvideo.internvideo_mae.pooler_layernorm"
        }
        optimizer = torch.optim.AdamW([p for p in fused.parameters() if p.requires_grad], lr=0.05)
        for _ in range(3):
            fused(**clips(), labels=torch.tensor([0, 3])).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        frozen = fused.frozen_state()
        assert any("batch_norm.running_mean" in name for name in frozen)
        assert_same(frozen, {name: before[name] for name in frozen})
        after = fused.state_dict()
        for name in after.keys() - frozen.keys():
            assert not torch.equal(after[name], before[name]), f"{name} was not trained"

    def test_loading_freezes_again(self, fused, tmp_path):
        fused.save_pretrained(tmp_path)
        loaded = AutoModelForVideoClassification.from_pretrained(tmp_path)
        wanted = {name for name, parameter in fused.named_parameters() if parameter.requires_grad}
        assert {name for name, parameter in loaded.named_parameters() if parameter.requires_grad} == wanted
        assert wanted and not any("uniformerv2.layers" in name for name in wanted)

    def test_encoders_that_are_trained_again_no_longer_rest(self, fused):
        assert fused.encoders_frozen and not fused.train().internvideo.uniformerv2.layers.training
        fused.requires_grad_(True)
        assert not fused.encoders_frozen and all(module.training for module in fused.train().modules())

    def test_nothing_is_frozen_where_the_configuration_says_so(self, encoders):
        model = InternVideoForVideoClassification.from_encoders(*encoders, freeze_encoders=False)
        assert all(parameter.requires_grad for parameter in model.parameters())

    def test_backbone_outputs_take_the_place_of_pixels(self, fused):
        move_gates(fused)
        inputs, labels = clips(), torch.tensor([0, 3])
        whole = fused(**inputs, labels=labels)
        trunk = fused.internvideo.encode_backbones(**inputs)
        assert not any(tensor.requires_grad for tensor in (trunk.video_tokens, trunk.class_token, *trunk.contexts))
        from_backbones = fused(backbone_outputs=dict(trunk), labels=labels)
        assert_same(from_backbones, whole)

    def test_names_of_version_0_1_still_work(self, fused):
        inputs = clips()
        with pytest.warns(FutureWarning, match="encode_backbones"):
            trunk = fused.internvideo.encode_trunks(**inputs)
        with pytest.warns(FutureWarning, match="backbone_outputs"):
            assert_same(fused(trunk_outputs=trunk), fused(**inputs))

    def test_frozen_layers_checkpoint_what_gradients_pass(self, fused):
        move_gates(fused)
        results = []
        for checkpointing in (False, True):
            fused.train()
            if checkpointing:
                fused.activation_checkpointing_enable()
            calls, hooks = {}, []
            for number, layer in enumerate(fused.internvideo.internvideo_mae.layers):

                def count(*_, number=number, calls=calls):
                    calls[number] = calls.get(number, 0) + 1

                hooks.append(layer.layer_norm1.register_forward_pre_hook(count))
            fused.zero_grad()
            torch.manual_seed(0)  # for dropout
            fused(**clips(), labels=torch.tensor([0, 3])).loss.backward()
            results.append({name: p.grad.clone() for name, p in fused.named_parameters() if p.grad is not None})
            for hook in hooks:
                hook.remove()
        assert calls == {0: 1, 1: 2, 2: 2, 3: 2}, "behind the first exchange, twice"
        assert_same(results[1], results[0], atol=1e-6, rtol=1e-5)

    @torch.no_grad()
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_a_model_that_loads_in_half_precision_answers(self, fused, tmp_path, dtype):
        fused.save_pretrained(tmp_path)
        loaded = AutoModelForVideoClassification.from_pretrained(tmp_path, dtype=dtype)
        logits = loaded(**{name: pixels.to(dtype) for name, pixels in clips().items()}).logits
        assert logits.dtype == dtype
        torch.testing.assert_close(logits.float(), fused(**clips()).logits, atol=0.3, rtol=0.1)


class TestShapes:
    @pytest.mark.parametrize(("width", "heads"), [(768, 12), (1280, 20), (1024, 16), (1408, 22), (96, 2), (70, 2)])
    def test_heads_have_at_most_64_channels_and_equal_size(self, width, heads):
        assert num_heads(width, 64) == heads

    @torch.no_grad()
    def test_both_encoders_take_other_frame_counts_and_sizes(self):
        model = move_from_start(InternVideoModel(tiny_config()))
        inputs = {
            "pixel_values_videos": draw(2, 6, 3, 40, 24),
            "uniformerv2_pixel_values_videos": draw(2, 1, 3, 35, 14),
        }
        outputs = model(**inputs)
        assert outputs.last_hidden_state.shape == (2, 3 * 5 * 3, 16) and outputs.pooler_output.shape == (2, 16 + 24)

    def test_clips_must_be_the_same_and_both_there(self):
        model = InternVideoModel(tiny_config())
        inputs = clips()
        with pytest.raises(ValueError, match="Both encoders need a clip"):
            model(inputs["pixel_values_videos"])
        with pytest.raises(ValueError, match="expected the same ones"):
            model(inputs["pixel_values_videos"], inputs["uniformerv2_pixel_values_videos"][:1])


def test_an_open_set_classifier_is_made_of_two_classifiers(encoders):
    model = InternVideoForOpenSetClassification.from_encoders(*encoders, evidential={"evidence": "softplus"})
    plain = InternVideoForVideoClassification.from_encoders(*encoders)
    outputs = model(**clips(), labels=torch.tensor([1, 0]))
    assert torch.equal(outputs.logits, plain(**clips()).logits)
    alpha = torch.nn.functional.softplus(outputs.logits) + 1
    torch.testing.assert_close(outputs.uncertainty, alpha.shape[1] / alpha.sum(dim=1))
    torch.testing.assert_close(outputs.loss, (alpha.sum(dim=1).log() - alpha[[0, 1], [1, 0]].log()).mean())
    assert outputs.internvideo_mae_logits.shape == outputs.logits.shape
