"""The fused model: two encoders with cross-model attention, equal to the encoders alone at initialization."""

import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from models.model_checks import LossInFloat32, ModelChecks, Tower, assert_same, draw, move_from_start
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForVideoClassification

from internvideo_hf import (
    InternVideoConfig,
    InternVideoForVideoClassification,
    InternVideoMAEConfig,
    InternVideoMAEForVideoClassification,
    InternVideoModel,
    UniFormerV2Config,
    UniFormerV2ForVideoClassification,
    UniFormerV2Model,
)
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


class TestInternVideoForVideoClassification(LossInFloat32, FusedChecks):
    model_class = InternVideoForVideoClassification
    auto_class = AutoModelForVideoClassification
    input_embeddings = "internvideo.internvideo_mae.embeddings"
    loss_over = "samples"

    def inputs(self):
        return {**clips(), "labels": torch.tensor([1, 4])}


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


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two classifiers as folders; the UniFormerV2 has what must rest while it is frozen: batch norm and drop path."""
    folder = tmp_path_factory.mktemp("encoders")
    torch.manual_seed(0)
    mae = move_from_start(InternVideoMAEForVideoClassification(InternVideoMAEConfig(**MAE, id2label=LABELS)))
    uniformerv2 = UniFormerV2ForVideoClassification(UniFormerV2Config(**UNIFORMERV2, id2label=LABELS))
    move_from_start(uniformerv2, seed=1)
    for name, buffer in uniformerv2.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(draw(*buffer.shape))
    mae.save_pretrained(folder / "mae")
    uniformerv2.save_pretrained(folder / "uniformerv2")
    return folder / "mae", folder / "uniformerv2"


@pytest.fixture
def fused(encoders: tuple[Path, Path]) -> InternVideoForVideoClassification:
    torch.manual_seed(0)
    return InternVideoForVideoClassification.from_encoders(*encoders, cross_attention_head_size=8)


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


class TestFolders:
    @torch.no_grad()
    def test_adapters_alone_load_with_the_encoders_they_refer_to(self, fused, encoders, tmp_path):
        move_gates(fused)
        expected = fused(**clips())
        fused.save_pretrained(tmp_path / "adapters", adapters_only=True)
        fused.save_pretrained(tmp_path / "whole")
        small, large = (load_file(tmp_path / name / "model.safetensors") for name in ("adapters", "whole"))
        assert small.keys() == large.keys() - fused.frozen_state().keys()
        loaded = AutoModelForVideoClassification.from_pretrained(tmp_path / "adapters")
        assert_same(loaded.state_dict(), fused.state_dict())
        assert_same(loaded(**clips()), expected)
        loaded.save_pretrained(tmp_path / "again")
        assert load_file(tmp_path / "again" / "model.safetensors").keys() == large.keys()
        whole = AutoModelForVideoClassification.from_pretrained(tmp_path / "whole")
        assert_same(whole(**clips()), expected)

    def test_adapters_say_where_encoders_should_be_and_take_their_new_place(self, fused, encoders, tmp_path):
        for name, folder in zip(("mae", "uniformerv2"), encoders, strict=True):
            shutil.copytree(folder, tmp_path / name)
        fused.config.encoders = {"internvideo_mae": "gone/mae", "uniformerv2": str(tmp_path / "uniformerv2")}
        fused.save_pretrained(tmp_path / "adapters", adapters_only=True)
        with pytest.raises(ValueError, match="(?s)gone/mae.*encoder_folders=") as error:
            InternVideoForVideoClassification.from_pretrained(tmp_path / "adapters")
        assert "moved" in str(error.value)
        places = {"internvideo_mae": tmp_path / "mae"}
        loaded, info = InternVideoForVideoClassification.from_pretrained(
            tmp_path / "adapters", encoder_folders=places, output_loading_info=True
        )
        assert not any(info.values()), info
        assert_same(loaded.state_dict(), fused.state_dict())
        loaded = AutoModelForVideoClassification.from_pretrained(
            tmp_path / "adapters", encoder_folders=places, classifier_dropout=0.3
        )
        assert loaded.config.classifier_dropout == 0.3 and loaded.config.encoders["internvideo_mae"].endswith("mae")
        kind = InternVideoForVideoClassification
        loaded = kind.from_pretrained(tmp_path / "adapters", encoder_folders=places, classifier_dropout=0.3)
        assert loaded.config.classifier_dropout == 0.3
        with pytest.raises(ValueError, match="mae2"):
            AutoModelForVideoClassification.from_pretrained(tmp_path / "adapters", encoder_folders={"mae2": "x"})

    def test_adapters_refuse_other_encoders(self, fused, encoders, tmp_path):
        fused.save_pretrained(tmp_path / "adapters", adapters_only=True)
        other = separate(encoders)[0]
        other.internvideo_mae.layers[0].mlp.fc1.bias.data[0] += 1e-3
        other.save_pretrained(tmp_path / "other")
        with pytest.raises(ValueError, match="other weights"):
            InternVideoForVideoClassification.from_pretrained(
                tmp_path / "adapters", encoder_folders={"internvideo_mae": tmp_path / "other"}
            )

    def test_encoders_that_were_trained_are_not_left_out(self, fused, tmp_path):
        with torch.no_grad():
            fused.internvideo.uniformerv2.pre_layernorm.bias[0] += 1e-3
        with pytest.raises(ValueError, match="Save the whole model"):
            fused.save_pretrained(tmp_path / "adapters", adapters_only=True)
        with pytest.raises(ValueError, match="from_encoders"):
            InternVideoForVideoClassification(tiny_config()).save_pretrained(tmp_path / "x", adapters_only=True)

    def test_half_precision_encoders_are_fused_in_float32(self, encoders, tmp_path):
        for model, name in zip(separate(encoders), ("mae", "uniformerv2"), strict=True):
            model.half().save_pretrained(tmp_path / name)
        model = InternVideoForVideoClassification.from_encoders(tmp_path / "mae", tmp_path / "uniformerv2")
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        model.save_pretrained(tmp_path / "adapters", adapters_only=True)
        loaded = InternVideoForVideoClassification.from_pretrained(tmp_path / "adapters")
        assert_same(loaded.state_dict(), model.state_dict())

    def test_other_models_classes_and_settings_are_refused(self, encoders, tmp_path):
        mae, uniformerv2 = encoders
        from_encoders = InternVideoForVideoClassification.from_encoders
        with pytest.raises(ValueError, match="'uniformerv2' model, expected 'internvideo_mae'"):
            from_encoders(uniformerv2, mae)
        with pytest.raises(ValueError, match="No settings of InternVideoConfig: encoders, gates"):
            from_encoders(mae, uniformerv2, gates=3, encoders={})
        with pytest.raises(ValueError, match="nowhere is neither a directory nor a Hub repository id"):
            from_encoders("nowhere", uniformerv2)
        config = UniFormerV2Config(**UNIFORMERV2, id2label=LABELS | {4: "sleeps"})
        UniFormerV2ForVideoClassification(config).save_pretrained(tmp_path / "renamed")
        with pytest.raises(ValueError, match="same classes"):
            from_encoders(mae, tmp_path / "renamed")
        UniFormerV2Model(config).save_pretrained(tmp_path / "headless")
        with pytest.raises(ValueError, match="UniFormerV2ForVideoClassification"):
            from_encoders(mae, tmp_path / "headless")


class TestConfiguration:
    def test_defaults_are_four_equal_stages_and_the_last_global_blocks(self):
        config = InternVideoConfig()
        assert (config.exchange_layers, config.exchange_blocks) == ([2, 5, 8, 11], [0, 1, 2, 3])
        huge = InternVideoConfig(
            internvideo_mae_config={"num_hidden_layers": 32}, uniformerv2_config={"global_layers": list(range(4, 12))}
        )
        assert (huge.exchange_layers, huge.exchange_blocks) == ([7, 15, 23, 31], [4, 5, 6, 7])
        assert InternVideoConfig(exchange_blocks=[1, 3]).exchange_layers == [5, 11]
        assert InternVideoConfig(exchange_layers=[4]).exchange_blocks == [3]

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"exchange_layers": [3, 2]}, "rise"),
            ({"exchange_layers": [12]}, r"0\.\.11"),
            ({"exchange_layers": []}, "must hold"),
            ({"exchange_blocks": [4]}, r"0\.\.3"),
            ({"exchange_layers": [3], "exchange_blocks": [0, 1]}, "same length"),
            ({"classifier_dropout": 1.0}, "less than 1"),
            ({"mlp_ratio": 0}, "above 0"),
            ({"internvideo_mae_config": {"use_mean_pooling": False}}, "mean of its tokens"),
        ],
    )
    def test_numbers_that_do_not_fit_are_refused(self, changes, message):
        with pytest.raises(StrictDataclassClassValidationError, match=message):
            InternVideoConfig(**changes)

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
