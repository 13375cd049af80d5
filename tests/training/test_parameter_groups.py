"""Optimizer groups: layer-wise rates, and exemption from weight decay."""

import pytest
import torch
from models.internvideo_mae.test_modeling_internvideo_mae import tiny_config as mae_config
from models.internvideo_mm.test_modeling_internvideo_mm import tiny_config as mm_config
from models.uniformerv2.test_modeling_uniformerv2 import tiny_config as uniformer_config

from internvideo_hf import InternVideoMAEForVideoClassification, InternVideoMMModel, UniFormerV2ForVideoClassification
from internvideo_hf.training.parameter_groups import layer_scales, parameter_groups


def by_name(model, **options) -> dict[str, dict]:
    groups = parameter_groups(model, 0.1, 0.05, **options)
    found = {name: group for group in groups for name in group["names"]}
    assert sum(len(group["params"]) for group in groups) == len(found)
    return found


def test_every_trained_parameter_is_in_one_group():
    model = UniFormerV2ForVideoClassification(uniformer_config(num_labels=3))
    assert by_name(model).keys() == dict(model.named_parameters()).keys()
    model.freeze_backbone()
    assert by_name(model).keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="all are frozen"):
        parameter_groups(model, 0.1, 0.05)


def test_rates_fall_from_the_head_to_the_embedding():
    model = InternVideoMAEForVideoClassification(mae_config(num_hidden_layers=3))
    found = by_name(model, layer_decay=0.5)
    rates = {name: found[name]["lr"] for name in found}
    assert rates["classifier.weight"] == rates["internvideo_mae.pooler_layernorm.weight"] == 0.1
    assert rates["internvideo_mae.layers.2.mlp.fc1.weight"] == pytest.approx(0.05)
    assert rates["internvideo_mae.layers.0.mlp.fc1.weight"] == pytest.approx(0.0125)
    assert rates["internvideo_mae.embeddings.weight"] == pytest.approx(0.00625)


def test_two_towers_fall_each_by_its_own_depth():
    model = InternVideoMMModel(mm_config())
    scales, groups = layer_scales(model, 0.5), model.layer_groups()
    for tower in ("vision", "text"):
        depth = sum(group.startswith(f"{tower}.layers.") for group in groups)
        assert {scales[name] for name in groups[f"{tower}.layers.{depth - 1}"]} == {0.5}
        assert {scales[name] for name in groups[f"{tower}.embeddings"]} == {0.5 ** (depth + 1)}
    assert {scales[name] for name in groups["head.vision"] + groups["head.scale"]} == {1.0}


@pytest.mark.parametrize(
    ("rule", "decayed", "spared"),
    [
        (
            "uniformerv2",
            ["video_embedding", "position_embedding"],
            ["fusion_gate", "class_embedding", "layer_norm1.weight"],
        ),
        ("retrieval", ["layer_norm1.weight", "fusion_gate"], ["q_proj.bias"]),
        ("all", ["layer_norm1.weight", "fusion_gate", "q_proj.bias"], []),
        (
            "internvideo_mm",
            ["patch_embedding.weight", "mlp.fc1.weight"],
            ["position_embedding", "fusion_gate", "fc1.bias"],
        ),
    ],
)
def test_rules_spare_what_their_recipes_do(rule, decayed, spared):
    found = by_name(UniFormerV2ForVideoClassification(uniformer_config()), rule=rule)
    for ends, expected in ((decayed, 0.05), (spared, 0.0)):
        for end in ends:
            assert {group["weight_decay"] for name, group in found.items() if name.endswith(end)} == {expected}, end


def test_unknown_rules_and_factors_are_refused():
    model = UniFormerV2ForVideoClassification(uniformer_config())
    with pytest.raises(ValueError, match="'adamw', expected one of videomae"):
        parameter_groups(model, 0.1, 0.05, rule="adamw")
    for factor in (0.0, 1.5):
        with pytest.raises(ValueError, match="layer_decay"):
            parameter_groups(model, 0.1, 0.05, layer_decay=factor)


def test_torch_takes_the_groups():
    model = InternVideoMAEForVideoClassification(mae_config())
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.1, 0.05, 0.75))
    assert {group["lr"] for group in optimizer.param_groups} == {0.1 * 0.75**power for power in range(5)}
