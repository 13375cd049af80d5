"""Folders of the fused model: complete, or adapters that refer to the folders of the two encoders."""

import shutil

import pytest
import torch
from huggingface_hub import constants
from models.internvideo.test_modeling_internvideo import LABELS, UNIFORMERV2, clips, move_gates, separate, tiny_config
from models.model_checks import assert_same
from safetensors.torch import load_file
from transformers import AutoModelForVideoClassification

from internvideo_hf import (
    InternVideoForVideoClassification,
    UniFormerV2Config,
    UniFormerV2ForVideoClassification,
    UniFormerV2Model,
)


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

    def test_adapters_say_where_encoders_should_be_and_take_their_new_place(
        self, fused, encoders, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # the folder that is gone might be a name on the Hub
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
