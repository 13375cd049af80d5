"""Open-set classifiers in MMAction2's layout and in DeepSpeed's."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForVideoClassification, AutoVideoProcessor

from internvideo_hf import (
    CheckpointError,
    InternVideoMAEForOpenSetClassification,
    InternVideoMAEForVideoClassification,
    convert_checkpoint,
)
from internvideo_hf.auto import auto_class
from internvideo_hf.checkpoints.convert import _build_model
from internvideo_hf.checkpoints.families import internvideo_mae as family
from internvideo_hf.models.common.layers import sine_table
from internvideo_hf.recipes.labels import load_labels
from internvideo_hf.video.sampling import SAMPLERS

MANIFESTS = Path(__file__).parents[2] / "manifests"
GOLDEN = Path(__file__).parents[2] / "golden/os_recognizer/checkpoint.pth"
SETTINGS = {"num_attention_heads": 3, "image_size": 16, "num_frames": 4}
SIZES = {"base": (768, 12, 12), "large": (1024, 24, 16), "huge": (1280, 32, 16)}


@pytest.mark.parametrize("size", SIZES)
def test_every_released_tensor_has_its_place_and_none_is_left(size):
    manifest = json.loads((MANIFESTS / f"open_set_{size}_edl_ucf101.json").read_text())
    named = {name: torch.empty(shape, device="meta") for name, shape in manifest["tensors"].items()}
    tensors = family.normalize(named)
    model, converted, left_out = _build_model("internvideo_mae", tensors, {}, None)
    assert type(model) is InternVideoMAEForOpenSetClassification and not left_out
    # Query, key and value stand in one tensor there.
    assert model.num_parameters() == manifest["total_parameters"] == sum(map(torch.Tensor.numel, named.values()))
    config = model.config
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == SIZES[size]
    assert (config.num_labels, config.num_frames, config.position_num_frames) == (101, 32, 32)
    assert config.use_mean_pooling and config.classifier_dropout == 0.5
    assert model.internvideo_mae.positions.table.shape == (3136, config.hidden_size)


def tensors() -> dict[str, torch.Tensor]:
    return torch.load(GOLDEN, weights_only=True)["state_dict"]


def layouts() -> dict[str, dict]:
    given = tensors()
    return {
        "mmcv": {"meta": {"epoch": 50}, "state_dict": given, "optimizer": {"state": {}, "param_groups": []}},
        "data-parallel": {"state_dict": {f"module.{name}": tensor for name, tensor in given.items()}},
        "deepspeed": {"module": given, "global_steps": 7},
        "fp32 of deepspeed": given,
    }


@pytest.mark.parametrize("layout", layouts())
def test_layouts_give_the_same_model(layout, tmp_path):
    torch.save(layouts()[layout], tmp_path / "mine.pth")
    report = convert_checkpoint(tmp_path / "mine.pth", tmp_path / "out", config_overrides=SETTINGS)
    assert (report.family, report.num_labels, report.left_out) == ("internvideo_mae", 9, {})
    weights, given = load_file(tmp_path / "out/model.safetensors"), tensors()
    assert torch.equal(weights["classifier.weight"], given["cls_head.fc_cls.weight"])
    assert torch.equal(
        weights["internvideo_mae.layers.1.self_attn.k_proj.weight"], given["backbone.blocks.1.attn.qkv.weight"][24:48]
    )
    model = auto_class("AutoModelForOpenSetClassification").from_pretrained(tmp_path / "out")
    assert type(model) is InternVideoMAEForOpenSetClassification
    assert torch.equal(model.internvideo_mae.positions.table, sine_table(2 * 4 * 4, 24))
    plain = AutoModelForVideoClassification.from_pretrained(tmp_path / "out")
    assert type(plain) is InternVideoMAEForVideoClassification
    assert "video-classification" in (tmp_path / "out/README.md").read_text()


def test_more_frames_have_the_table_of_their_own(tmp_path):
    convert_checkpoint(GOLDEN, tmp_path / "out", config_overrides=SETTINGS | {"num_frames": 8})
    model = auto_class("AutoModelForOpenSetClassification").from_pretrained(tmp_path / "out")
    assert torch.equal(model.internvideo_mae.positions((4, 4, 4)), sine_table(4 * 4 * 4, 24))


def test_processor_is_that_of_the_threshold_and_the_unknown_videos(tmp_path):
    convert_checkpoint(GOLDEN, tmp_path / "out", config_overrides=SETTINGS)
    processor = AutoVideoProcessor.from_pretrained(tmp_path / "out")
    assert processor.views == (1, 3) and (processor.num_frames, processor.sampler) == (4, "openset")
    # The middle clip of every second frame: 100 frames leave 93 starts.
    assert SAMPLERS[processor.sampler](100, 4).tolist() == [[46, 48, 50, 52]]
    assert (processor.resize_rounding, processor.size["shortest_edge"]) == ("nearest", 16)
    mean, std = np.array([123.675, 116.28, 103.53]) / 255, np.array([58.395, 57.12, 57.375]) / 255
    assert processor.image_mean == pytest.approx(mean) and processor.image_std == pytest.approx(std)
    assert "1 x 3 views, as in the released test on UCF-101" in (tmp_path / "out/README.md").read_text()


def test_101_classes_are_those_of_ucf101(tmp_path):
    content = tensors()
    for name, shape in (("weight", (101, 24)), ("bias", (101,))):
        content[f"cls_head.fc_cls.{name}"] = torch.zeros(shape)
    torch.save({"state_dict": content}, tmp_path / "mine.pth")
    report = convert_checkpoint(tmp_path / "mine.pth", tmp_path / "out", config_overrides=SETTINGS)
    assert report.head == "ucf101"
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert list(config["id2label"].values()) == load_labels("ucf101")


def test_missing_and_unknown_tensors_are_errors(tmp_path):
    for change, message in (
        ("cls_head.fc_cls.bias", "missing.*cls_head.fc_cls.bias"),
        (None, "unknown in this model"),
    ):
        content = tensors()
        if change is None:
            content["cls_head.debias.weight"] = torch.zeros(1)
        else:
            del content[change]
        torch.save({"state_dict": content}, tmp_path / "mine.pth")
        with pytest.raises(CheckpointError, match=message):
            convert_checkpoint(tmp_path / "mine.pth", tmp_path / "out", config_overrides=SETTINGS)
