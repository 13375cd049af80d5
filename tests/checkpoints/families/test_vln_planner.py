"""Policies of navigation: no missing or unused tensors, settings of Habitat as plain data, encoders left out."""

import json
import sys
import types
from pathlib import Path

import pytest
import torch

from internvideo_hf import CheckpointError, VLNPlannerConfig, VLNPlannerForNavigation, convert_checkpoint
from internvideo_hf.checkpoints import convert as conversion
from internvideo_hf.checkpoints.families.vln_planner import TABLE, config_from, normalize, recognizes
from internvideo_hf.checkpoints.table import check_complete, convert_state_dict

MANIFESTS = Path(__file__).parents[2] / "manifests"
TINY = {"num_attention_heads": 4, "still_size": 8}  # of the case, which no tensor shows


@pytest.fixture
def content(golden: Path) -> dict[str, torch.Tensor]:
    return torch.load(golden / "vln_planner_tiny/checkpoint.pth", weights_only=True)["state_dict"]


@pytest.mark.parametrize(("size", "video", "critic"), [("large", 1024, True), ("base", 768, False)])
def test_nothing_is_missing_and_nothing_left_over(size, video, critic):
    stored = json.loads((MANIFESTS / f"vln_hamt_policy_{size}_without_encoders.json").read_text())
    tensors = {name: torch.empty(shape, device="meta") for name, shape in stored["parameters"].items()}
    assert len(tensors) == stored["num_tensors"]
    assert recognizes(tensors) and conversion._recognize(tensors, "file") == "vln_planner"
    tensors = normalize(tensors)
    config = config_from(tensors, {})
    expected = VLNPlannerConfig(video_size=video, use_critic=critic, mirrored_video_views=True).to_dict()
    assert {name: config.to_dict()[name] for name in expected} == expected
    converted, left_out = convert_state_dict(tensors, TABLE)
    assert not left_out
    with torch.device("meta"):
        model = VLNPlannerForNavigation(config)
    check_complete(model, converted, TABLE)
    assert sum(p.numel() for p in model.parameters()) == stored["total_numel_state_dict"]


class Habitat:
    """A module of Habitat's settings, as long as a file is written."""

    def __enter__(self):
        self.module = types.ModuleType("habitat.config.default")
        self.module.Config = type("Config", (dict,), {"__module__": self.module.__name__, "__qualname__": "Config"})
        self.names = {"habitat": types.ModuleType("habitat"), "habitat.config": types.ModuleType("habitat.config")}
        sys.modules.update(self.names | {self.module.__name__: self.module})
        return self.module.Config

    def __exit__(self, *_):
        for name in (*self.names, self.module.__name__):
            del sys.modules[name]


def write_policy(content: dict, path: Path, **extra) -> Path:
    with Habitat() as settings:
        config = settings(IL=settings(lr=3e-5, max_traj_len=25), EVAL=settings(SPLIT="val_unseen"))
        config.__dict__ |= {"__immutable__": True, "__deprecated_keys__": set(), "__renamed_keys__": {}}
        optimizer = {"state": {0: {"step": 3, "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 3e-5}]}
        torch.save(
            {"state_dict": content, "config": config, "optim_state": optimizer, "iteration": 6900, **extra}, path
        )
    return path


def test_settings_of_habitat_are_read_as_plain_data(content, tmp_path):
    file = write_policy(content, tmp_path / "base_ckpt.iter6900.pth")
    assert "habitat" not in sys.modules
    report = convert_checkpoint(file, tmp_path / "out", config_overrides=TINY)
    assert report.family == "vln_planner" and not report.left_out
    model = VLNPlannerForNavigation.from_pretrained(tmp_path / "out")
    assert model.config.mirrored_video_views and model.config.video_size == 12
    assert "layout could not be checked" in (tmp_path / "out/README.md").read_text()


class Foreign:
    """Unpickles into an object of a class that is not there."""

    def __reduce__(self):
        return Foreign, ()


def test_other_objects_beside_them_are_refused_by_name(content, tmp_path):
    file = write_policy(content, tmp_path / "policy.pth", more=Foreign())
    with pytest.raises(CheckpointError, match=r"would run [\w.]*Foreign.*--trust-pickle") as refused:
        convert_checkpoint(file, tmp_path / "out", config_overrides=TINY)
    assert "habitat" not in str(refused.value)


def test_encoders_and_prefixes_of_parallel_training_are_left_out(content, tmp_path):
    names = {name.replace("net.", "net.module.", 1): tensor for name, tensor in content.items()}
    encoders = {
        f"net.module.{encoder}.{name}": torch.ones(2)
        for encoder, name in (
            ("rgb_encoder", "model.blocks.0.norm1.weight"),
            ("clip_encoder", "model.visual.proj"),
            ("depth_encoder", "visual_encoder.backbone.conv1.0.weight"),
        )
    }
    torch.save({"state_dict": names | encoders}, tmp_path / "policy.pth")
    report = convert_checkpoint(tmp_path / "policy.pth", tmp_path / "out", config_overrides=TINY)
    assert len(report.left_out) == 3
    assert "InternVideo's VideoMAE" in report.left_out["rgb_encoder.model.blocks.0.norm1.weight"]


def test_sizes_that_do_not_fit_are_named(content):
    content = normalize(content)
    with pytest.raises(CheckpointError, match="takes 20 channels, of which stills are 512"):
        config_from(content, {"num_attention_heads": 4})
    narrow = content | {"vln_bert.img_embeddings.img_linear.weight": torch.zeros(16, 15)}
    with pytest.raises(CheckpointError, match="rgb_embedding_projection.weight is 16 wide and .*img_linear.weight 15"):
        config_from(narrow, TINY)
