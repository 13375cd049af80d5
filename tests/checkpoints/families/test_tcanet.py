"""Files of TCANet: no missing or unused tensors, sizes from shapes, windows from the stored masks."""

import json
from pathlib import Path

import pytest
import torch
from parity.compare import load_config
from parity.tcanet import overrides
from transformers import AutoConfig

from internvideo_hf import CheckpointError, TCANetConfig, TCANetForTemporalLocalization, convert_checkpoint
from internvideo_hf.checkpoints import convert as conversion
from internvideo_hf.checkpoints.families.tcanet import config_from, recognizes, table_for
from internvideo_hf.checkpoints.table import check_complete, convert_state_dict

MANIFEST = Path(__file__).parents[2] / "manifests/tcanet_hacs_default.json"
STEP = {"step_seconds": 16 / 30}  # of the case, which no tensor shows
MASK = "lgtes.{}.self_atten.mask_matrix"


@pytest.fixture
def content(golden: Path) -> dict[str, torch.Tensor]:
    saved = torch.load(golden / "tcanet_tiny/checkpoint.pth", weights_only=True)["state_dict"]
    return {name.removeprefix("module."): tensor for name, tensor in saved.items()}


def test_nothing_is_missing_and_nothing_left_over():
    stored = json.loads(MANIFEST.read_text())
    tensors = {name: torch.empty(shape, device="meta") for name, shape in stored["parameters"].items()}
    assert len(tensors) == stored["num_tensors"]
    assert recognizes(tensors) and conversion._recognize(tensors, "file") == "tcanet"
    config, table = config_from(tensors, {}), table_for(tensors)
    public, found = TCANetConfig().to_dict(), config.to_dict()
    assert {name: found[name] for name in public} == public
    converted, left_out = convert_state_dict(tensors, table)
    assert set(left_out) == {MASK.format(0), MASK.format(1)}
    with torch.device("meta"):
        model = TCANetForTemporalLocalization(config)
    check_complete(model, converted, table)
    assert sum(parameter.numel() for parameter in model.parameters()) == stored["trainable_params"]


def test_other_features_are_told_by_their_shape(content):
    assert config_from(content, STEP).feature_size == 12
    first = "x_1d_b_f.0.weight"
    wide = content | {first: content[first].repeat(1, 2, 1)}
    assert config_from(wide, STEP).feature_size == 24


def test_sizes_of_the_case_are_read_from_shapes_and_masks(content, golden):
    found, expected = config_from(content, STEP), load_config(golden / "tcanet_tiny")
    settings = overrides(expected) | {"num_hidden_layers": expected["lgte_num"], "hidden_size": expected["hidden"]}
    for name in ("step_seconds", "context_ratio"):  # which no tensor shows
        settings.pop(name)
    assert {name: getattr(found, name) for name in settings} == settings
    assert (found.intermediate_size, found.boundary_hidden_size) == (12, 8)


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state"])
def test_both_layouts_of_files_are_read(wrapper, content, tmp_path):
    torch.save({"epoch": 3, wrapper: {f"module.{name}": value for name, value in content.items()}}, tmp_path / "a.pth")
    report = convert_checkpoint(tmp_path / "a.pth", tmp_path / "out", config_overrides=STEP)
    assert report.family == "tcanet" and set(report.left_out) == {MASK.format(0), MASK.format(1)}
    config = AutoConfig.from_pretrained(tmp_path / "out")
    assert (config.step_seconds, config.attention_window) == (16 / 30, 5)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "config.json",
        "internvideo_loader.py",
        "model.safetensors",
    ]


def test_the_time_between_features_is_asked_for(content):
    with pytest.raises(CheckpointError, match="features of 12 channels.* Give step_seconds"):
        config_from(content, {})


def test_masks_of_anything_but_windows_are_refused(content):
    mask = content[MASK.format(1)]
    damaged, wider = mask.clone(), mask.clone()
    damaged[0, 0, 3, 3] = 1
    wider[0, :4].fill_(0)
    for wrong in (damaged, wider):
        with pytest.raises(CheckpointError, match=r"lgtes\.1\.self_atten\.mask_matrix does not hide"):
            config_from(content | {MASK.format(1): wrong}, STEP)


def test_thresholds_of_other_stages_are_asked_for(content):
    fewer = {name: tensor for name, tensor in content.items() if not name.startswith("tbr3.")}
    with pytest.raises(CheckpointError, match="2 stages, expected 3. Give iou_thresholds"):
        config_from(fewer, STEP)
    config = config_from(fewer, STEP | {"iou_thresholds": [0.5, 0.6]})
    converted, _ = convert_state_dict(fewer, table_for(fewer))
    check_complete(TCANetForTemporalLocalization(config), converted, table_for(fewer))


@pytest.mark.parametrize("name", ["x_1d_b_f.2.weight", "tbr2.reg1se.end_reg_conv.4.bias", "lgtes.1.norm2.weight"])
def test_a_missing_tensor_is_named(name, content, tmp_path):
    torch.save({key: tensor for key, tensor in content.items() if key != name}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        convert_checkpoint(tmp_path / "a.pth", tmp_path / "out", config_overrides=STEP)


def test_a_surplus_tensor_is_named(content, tmp_path):
    torch.save(content | {"tbr1.extra": torch.zeros(2)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"unknown in this model: tbr1\.extra"):
        convert_checkpoint(tmp_path / "a.pth", tmp_path / "out", config_overrides=STEP)
