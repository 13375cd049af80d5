"""Cost of an addition: a throw-away family in a copy of the package, and the files it had to edit."""

import filecmp
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

NEW_FILES = {
    "models/toy/__init__.py": "",
    "models/toy/configuration_toy.py": """
from huggingface_hub.dataclasses import strict
from transformers.configuration_utils import PreTrainedConfig


@strict
class ToyConfig(PreTrainedConfig):
    model_type = "toy"

    hidden_size: int = 8
    num_frames: int = 4
    image_size: int = 16
""",
    "models/toy/modeling_toy.py": """
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_utils import PreTrainedModel

from internvideo_hf.models.toy.configuration_toy import ToyConfig


class ToyModel(PreTrainedModel):
    config_class = ToyConfig

    def __init__(self, config):
        super().__init__(config)
        self.projection = nn.Linear(3, config.hidden_size)
        self.post_init()

    def forward(self, pixel_values_videos, **kwargs):
        return BaseModelOutputWithPooling(pooler_output=self.projection(pixel_values_videos.mean(dim=(1, 3, 4))))
""",
    "processing/presets/toy.py": """
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor


def build_processor(config):
    side = {"height": config.image_size, "width": config.image_size}
    return InternVideoVideoProcessor(num_frames=config.num_frames, size=side, do_center_crop=False)
""",
    "checkpoints/families/toy.py": """
from transformers import AutoModel

from internvideo_hf.checkpoints.converter import Converter
from internvideo_hf.checkpoints.table import rename
from internvideo_hf.models.toy.configuration_toy import ToyConfig

CONVERTER = Converter(
    recognizes=lambda tensors: "toy.weight" in tensors,
    normalize=dict,
    table_for=lambda tensors: {"toy.*": rename("projection.{}")},
    model_class=lambda tensors: AutoModel,
    config_from=lambda tensors, overrides: ToyConfig(**{"hidden_size": len(tensors["toy.weight"]), **overrides}),
)
""",
}
ENTRY = '    "toy": Family("toy", "ToyConfig", {"AutoModel": "ToyModel"}),\n'
ROW = {
    "name": "Toy-S",
    "file": "toy.pth",
    "address": None,
    "family": "toy",
    "config": {"num_frames": 2},
    "labels": None,
    "licence": "none",
    "manifest": None,
    "note": None,
    "evaluation": None,
}

USE = """
import sys, torch
import internvideo_hf
from transformers import AutoModel, AutoVideoProcessor

assert internvideo_hf.__file__.startswith(sys.argv[1]), internvideo_hf.__file__
torch.save({"toy.weight": torch.ones(5, 3), "toy.bias": torch.zeros(5)}, "toy.pth")
report = internvideo_hf.convert_checkpoint("toy.pth", "out")
assert (report.family, report.num_tensors) == ("toy", 2), report
model, processor = AutoModel.from_pretrained("out"), AutoVideoProcessor.from_pretrained("out")
assert type(model) is internvideo_hf.ToyModel and (model.config.hidden_size, processor.num_frames) == (5, 2)
clip = torch.randint(0, 256, (6, 24, 32, 3), dtype=torch.uint8).numpy()
assert model(**processor([clip], return_tensors="pt")).pooler_output.shape == (1, 5)
assert internvideo_hf.FeatureExtractor("out", window=4, stride=2, device="cpu").settings.window == 4
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return a copy of the package."""
    copy = tmp_path / "src/internvideo_hf"
    shutil.copytree(ROOT / "src/internvideo_hf", copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def edited(copy: Path) -> set[str]:
    """Return the files that differ between the package and its copy."""
    names = {str(file.relative_to(copy)) for file in copy.rglob("*") if file.is_file() and file.suffix != ".pyc"}
    original = ROOT / "src/internvideo_hf"
    return {
        name for name in names if (original / name).is_file() and not filecmp.cmp(copy / name, original / name, False)
    }


def test_a_family_edits_two_files(package, tmp_path):
    for name, text in NEW_FILES.items():
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).write_text(text)
    table = package / "auto.py"
    table.write_text(table.read_text().replace("\nFAMILIES = {\n", f"\nFAMILIES = {{\n{ENTRY}", 1))
    rows = package / "checkpoints/released.json"
    rows.write_text(json.dumps([*json.loads(rows.read_text()), ROW]))
    environment = os.environ | {"PYTHONPATH": str(package.parent)}
    command = [sys.executable, "-c", USE, str(package.parent)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert edited(package) == {"auto.py", "checkpoints/released.json"}
