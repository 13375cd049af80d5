"""The file of the predictor of waypoints: no missing or unused tensors, sizes from shapes."""

import json
from pathlib import Path

import pytest
import torch

from internvideo_hf import CheckpointError, VLNWaypointsConfig, VLNWaypointsModel, convert_checkpoint
from internvideo_hf.checkpoints import convert as conversion
from internvideo_hf.checkpoints.families.vln_waypoints import TABLE, config_from, recognizes
from internvideo_hf.checkpoints.table import check_complete, convert_state_dict

MANIFEST = Path(__file__).parents[2] / "manifests/vln_waypoint_predictor.json"
IDLE = {f"{layer}.{kind}" for layer in ("visual_merge.0", "mergefeats_LayerNorm") for kind in ("weight", "bias")}


@pytest.fixture
def content(golden: Path) -> dict[str, torch.Tensor]:
    file = golden / "vln_planner_tiny/waypoint_predictor.pth"
    return torch.load(file, weights_only=True)["predictor"]["state_dict"]


def test_nothing_is_missing_and_nothing_left_over():
    stored = json.loads(MANIFEST.read_text())
    tensors = {name: torch.empty(shape, device="meta") for name, shape in stored["parameters"].items()}
    assert len(tensors) == stored["num_tensors"]
    assert recognizes(tensors) and conversion._recognize(tensors, "file") == "vln_waypoints"
    config = config_from(tensors, {})
    public, found = VLNWaypointsConfig().to_dict(), config.to_dict()
    assert {name: found[name] for name in public} == public
    converted, left_out = convert_state_dict(tensors, TABLE)
    assert set(left_out) == IDLE
    with torch.device("meta"):
        model = VLNWaypointsModel(config)
    check_complete(model, converted, TABLE)
    idle = sum(tensors[name].numel() for name in IDLE)
    assert sum(p.numel() for p in model.parameters()) == stored["total_numel_state_dict"] - idle


def test_heads_and_another_heatmap_are_asked_for(content):
    with pytest.raises(CheckpointError, match="num_attention_heads in a JSON file by --config"):
        config_from(content, {})
    heads = {"num_attention_heads": 12}
    assert config_from(content, heads).depth_size == 64
    narrow = content | {"vis_classifier.2.weight": content["vis_classifier.2.weight"][:60]}
    with pytest.raises(
        CheckpointError, match="scores 60 places a view.* Give num_angles, num_views and num_distances"
    ):
        config_from(narrow, heads)
    assert config_from(narrow, heads | {"num_distances": 6}).num_distances == 6


def test_the_card_says_that_the_layout_could_not_be_checked(content, tmp_path):
    file = tmp_path / "check_cwp_bestdist_hfov90"
    torch.save({"predictor": {"state_dict": content}, "epoch": 3}, file)
    report = convert_checkpoint(file, tmp_path / "out", config_overrides={"num_attention_heads": 12})
    assert report.family == "vln_waypoints" and set(report.left_out) == IDLE
    card = (tmp_path / "out/README.md").read_text()
    assert "layout could not be checked" in card and "pretrained.zip" in card
