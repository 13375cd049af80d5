"""Files of ActionFormer's training: every tensor at full size, InternVideo's settings, the two sets of weights."""

import json
from pathlib import Path

import pytest
import torch

from internvideo_hf import (
    ActionFormerConfig,
    ActionFormerForTemporalLocalization,
    CheckpointError,
    build_processor,
    convert_checkpoint,
)
from internvideo_hf.checkpoints import convert as conversion
from internvideo_hf.checkpoints.families import actionformer
from internvideo_hf.checkpoints.released import released_rows
from internvideo_hf.checkpoints.table import check_complete, convert_state_dict, released_name

MANIFESTS = Path(__file__).parents[2] / "manifests"
# Name of a manifest -> that of the data set; section 6 of the specification: parameters, features, width, classes.
HEADS = {
    "thumos": ("thumos14", 28_268_572, 1408, 512, 20),
    "anet": ("activitynet", 7_533_321, 1280, 256, 1),
    "hacs": ("hacs", 8_516_361, 2560, 256, 1),
    "fineaction": ("fineaction", 7_631_625, 1408, 256, 1),
}


def read(name: str) -> dict:
    return json.loads((MANIFESTS / f"actionformer_{name}.json").read_text())


def meta_state_dict(name: str) -> dict[str, torch.Tensor]:
    return {key: torch.empty(shape, device="meta") for key, shape in read(name)["parameters"].items()}


@pytest.mark.parametrize("name", HEADS)
def test_nothing_is_missing_and_nothing_left_over(name):
    tensors, parameters = meta_state_dict(name), HEADS[name][1]
    assert conversion._recognize(tensors, Path(name)) == "actionformer"
    table = actionformer.table_for(tensors)
    converted, left_out = convert_state_dict(tensors, table)
    config = actionformer.config_from(tensors, {})
    with torch.device("meta"):
        model = ActionFormerForTemporalLocalization(config)
    check_complete(model, actionformer.fit(converted, config), table)
    assert not left_out and len(tensors) == read(name)["num_tensors"]
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters == read(name)["total_params"]
    names = [released_name(ours, table) for ours, _ in model.named_parameters()]
    assert sorted(names) == sorted(tensors), "errors would name another tensor"


@pytest.mark.parametrize("name", HEADS)
def test_features_width_and_classes_tell_the_data_set(name):
    data_set, _, features, width, classes = HEADS[name]
    config = actionformer.config_from(meta_state_dict(name), {})
    assert (config.feature_size, config.hidden_size, config.num_labels) == (features, width, classes)
    assert config.to_dict() == ActionFormerConfig.from_data_set(data_set).to_dict()
    original = read(f"{name}_resolved_config")["model"]
    same = ActionFormerConfig(**actionformer.settings_of(original), features=config.features)
    assert config.to_dict() == same.to_dict()


@pytest.mark.parametrize("name", HEADS)
def test_a_head_names_the_released_features(name):
    features = actionformer.config_from(meta_state_dict(name), {}).features
    settings = read(f"{name}_resolved_config")["dataset"]
    assert features["window"] == settings["num_frames"] and "InternVideo's configuration" in features["source"]
    if settings["force_upsampling"]:  # whose configuration gives no stride; the read-me does
        assert (features["stride"], features["fps"], features["fixed_length"]) == (16, None, settings["max_seq_len"])
    else:
        assert (features["stride"], features["fps"]) == (settings["feat_stride"], settings["default_fps"])
    # ViT-g has 1408 channels, ViT-H 1280; two streams have no encoder of theirs.
    widths = {"VideoMAE-H K710": 1280, "VideoMAE V2-g K710": 1408, None: 2560}
    assert settings["input_dim"] == widths[features["encoder"]]
    assert set(widths) - {None} <= {row["name"] for row in released_rows()}


def test_settings_of_the_original_that_no_model_has_are_refused():
    original = read("anet_resolved_config")["model"]
    for changes in (
        {"scale_factor": 4},
        {"backbone_type": "conv"},
        {"train_cfg": {"head_empty_cls": [1]}},
    ):
        with pytest.raises(ValueError, match="Expected the backbone_type"):
            actionformer.settings_of(original | changes)
    with pytest.raises(ValueError, match="nms_method"):
        actionformer.settings_of(original | {"test_cfg": {"nms_method": "softer"}})


def test_a_head_of_another_data_set_needs_what_no_shape_contains(golden, tmp_path):
    checkpoint = golden / "actionformer_thumos_tiny/checkpoint.pth.tar"
    with pytest.raises(CheckpointError, match="no shape contains attention_windows, max_sequence_length, use_abs"):
        convert_checkpoint(checkpoint, tmp_path / "model")
    told = {"attention_windows": 5, "max_sequence_length": 48, "use_absolute_positions": False}
    report = convert_checkpoint(checkpoint, tmp_path / "model", config_overrides=told)
    assert report.family == "actionformer" and not report.left_out
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "README.md",
        "config.json",
        "internvideo_loader.py",
        "model.safetensors",
    ]
    assert "features of a video encoder" in (tmp_path / "model/README.md").read_text()
    config = ActionFormerConfig.from_pretrained(tmp_path / "model")
    assert config.attention_windows == [5, 5, 5] and config.regression_ranges == [[0, 4], [4, 8], [8, 10_000]]


def test_the_averaged_weights_are_converted(golden, tmp_path):
    checkpoint = golden / "actionformer_anet_tiny/checkpoint.pth.tar"
    told = {"attention_windows": [5, 5, -1], "max_sequence_length": 48, "use_absolute_positions": True}
    content, found = torch.load(checkpoint, weights_only=True), {}
    for name in ("state_dict_ema", "state_dict"):
        convert_checkpoint(checkpoint, tmp_path / name, config_overrides=told)
        found[name] = ActionFormerForTemporalLocalization.from_pretrained(tmp_path / name)
        kernel = content[name]["module.cls_head.cls_head.conv.weight"]
        assert torch.equal(found[name].classifier.output.weight, kernel)
        checkpoint = tmp_path / "plain.pth.tar"
        torch.save({"epoch": 3, "state_dict": content["state_dict"]}, checkpoint)
    assert found["state_dict"].loss_normalizer == found["state_dict"].config.init_loss_normalizer


@pytest.mark.parametrize(
    "name",
    [
        "backbone.embd_norm.1.bias",
        "backbone.stem.1.attn.value_conv.conv.weight",
        "backbone.branch.0.drop_path_mlp.scale",
        "neck.fpn_norms.2.weight",
        "reg_head.scale.1.scale",
    ],
)
def test_a_missing_tensor_is_named_and_nothing_is_written(name, golden, tmp_path):
    content = torch.load(golden / "actionformer_thumos_tiny/checkpoint.pth.tar", weights_only=True)
    del content["state_dict_ema"][f"module.{name}"]
    torch.save(content, tmp_path / "damaged.pth.tar")
    told = {"attention_windows": 5, "max_sequence_length": 48, "use_absolute_positions": False}
    with pytest.raises(CheckpointError, match=rf"missing: {name}".replace(".", r"\.")):
        convert_checkpoint(tmp_path / "damaged.pth.tar", tmp_path / "model", config_overrides=told)
    assert not (tmp_path / "model").exists()


def test_a_processor_is_refused(golden, tmp_path):
    checkpoint = golden / "actionformer_thumos_tiny/checkpoint.pth.tar"
    with pytest.raises(ValueError, match="actionformer reads features, not pixels"):
        convert_checkpoint(checkpoint, tmp_path / "model", processor="demo")
    with pytest.raises(ValueError, match="actionformer"):
        build_processor(ActionFormerConfig())
