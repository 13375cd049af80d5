"""Cost of an addition: a throw-away family and task in a copy of the package, and the files they had to edit."""

import filecmp
import json
import shutil
from pathlib import Path

import forks
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

# A task with a head of its own, training, an evaluation and a pipeline: how bright is a video?
TASK_FILES = {
    "models/internvideo_mae/modeling_brightness.py": """
import torch
from torch import nn
from transformers.modeling_outputs import ImageClassifierOutput

from internvideo_hf.models.internvideo_mae.modeling_internvideo_mae import (
    InternVideoMAEModel,
    InternVideoMAEPreTrainedModel,
)


class InternVideoMAEForBrightness(InternVideoMAEPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.internvideo_mae = InternVideoMAEModel(config)
        self.classifier = nn.Linear(config.hidden_size, 1)
        self.post_init()

    def forward(self, pixel_values_videos, labels=None, **kwargs):
        scores = self.classifier(self.internvideo_mae(pixel_values_videos).pooler_output)
        loss = None if labels is None else nn.functional.mse_loss(scores[:, 0], labels.float())
        return ImageClassifierOutput(loss=loss, logits=scores)
""",
    "tasks/brightness/__init__.py": "",
    "tasks/brightness/task.py": """
from functools import partial

import numpy as np
from transformers import AutoConfig

from internvideo_hf.auto import auto_class
from internvideo_hf.data.collation import VideoCollator
from internvideo_hf.inference.runner import load_model, read_videos, read_views, stack_views
from internvideo_hf.tasks.base import Task, Training
from internvideo_hf.tasks.protocol import Evaluation, Outcome, Samples, read_rows, require_column, unique_clips


def make_collator(*, training, **_):
    return VideoCollator(targets=("labels",), keep_names=True, fill_gaps=not training)


def mean_error(prediction):
    return {"error": float(np.abs(prediction.predictions[:, 0] - prediction.label_ids).mean())}


def read(protocol, data_root, model):
    rows = read_rows(protocol.data, data_root)
    require_column(rows, "label", protocol.data.list)
    videos, owners = unique_clips(rows)
    return Samples(videos, owners, labels=np.array([row["label"] for row in rows]))


def evaluate(protocol, samples, run):
    from transformers import AutoVideoProcessor

    model = load_model(auto_class("AutoModelForBrightness"), run.model, run.device)
    read_one = partial(read_views, processor=AutoVideoProcessor.from_pretrained(run.model))
    scores, causes = np.full(len(samples.videos), np.nan), {}
    for batch in read_videos(samples.videos, read_one, run.settings, at_once=2):
        causes |= {row: str(item) for row, item in batch if not isinstance(item, dict)}
        for rows, views in stack_views(batch):
            scores[rows] = model(views["pixel_values_videos"][:, 0]).logits[:, 0].detach().numpy()
    error = float(np.abs(scores[samples.owners] - samples.labels).mean())
    return Outcome({"error": error}, causes, {"family": model.config.model_type, "parameters": 1, "device": "cpu"})


TASK = Task(
    "brightness",
    training=Training(
        "AutoModelForBrightness", make_collator, ("labels",), column="label", compute_metrics=mean_error
    ),
    evaluation=Evaluation(read=read, run=evaluate, columns=("error",), check=lambda protocol: None),
)
""",
    "tasks/brightness/pipeline.py": """
from internvideo_hf.inference.pipeline import VideoPipeline


class BrightnessPipeline(VideoPipeline):
    _load_video_processor = True

    def _sanitize_parameters(self, **options):
        return self._processor_parameters(options), {}, {}

    def _forward(self, inputs):
        return {"score": self.model(inputs["pixel_values_videos"][:, 0]).logits[:, 0]}

    def postprocess(self, outputs):
        return {"brightness": outputs["score"].item()}
""",
    "recipes/demo/brightness.yaml": """
title: How bright is a video?
source: [made up]
model:
  family: internvideo_mae
  task: brightness
  config:
    {hidden_size: 8, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 8, image_size: 16, patch_size: 8,
    num_frames: 2}
  processor: {size: {height: 16, width: 16}, do_center_crop: false}
data:
  train: train.csv
  validation: train.csv
  labels: 10
  clip: {sampler: videomae_dense_train, sampler_options: {sampling_rate: 2}, view: processor}
batch_size: 2
training:
  {max_steps: 1, per_device_train_batch_size: 2, dataloader_num_workers: 0, eval_strategy: steps, eval_steps: 1}
""",
    "recipes/evaluation/brightness/any.yaml": """
title: Brightness of any videos
source: [made up]
task: brightness
data: {list: train.csv}
""",
}
TASK_LINE = '    "brightness": Pipeline("video-brightness", "BrightnessPipeline", "AutoModelForBrightness"),\n'
HEAD = '            "AutoModelForBrightness": "modeling_brightness.InternVideoMAEForBrightness",\n'

USE_TASK = """
import sys
import numpy as np
import internvideo_hf
from internvideo_hf.evaluation.report import table
from transformers import pipeline
from PIL import Image

assert internvideo_hf.__file__.startswith(sys.argv[1]), internvideo_hf.__file__
for number in range(2):
    (folder := __import__("pathlib").Path(f"video{number}")).mkdir()
    for frame in range(6):
        Image.fromarray(np.full((24, 24, 3), 40 * number + frame, dtype=np.uint8)).save(folder / f"{frame}.png")
open("train.csv", "w").write("video0,0\\nvideo1,4\\n")
final = internvideo_hf.train(internvideo_hf.load_recipe("demo/brightness"), ".", "run", quiet=True)
assert "eval_error" in (final.parent / "log.jsonl").read_text()
protocol = internvideo_hf.load_protocol("brightness/any")
result = internvideo_hf.evaluate(protocol, final, ".", workers=0, quiet=True, device="cpu")
assert result["scores"]["error"] >= 0 and "error" in table(result)
answer = pipeline("video-brightness", model=str(final), device="cpu")(["video0", "video1"])
assert len(answer) == 2 and isinstance(answer[0]["brightness"], float)
assert issubclass(internvideo_hf.BrightnessPipeline, object) and internvideo_hf.InternVideoMAEForBrightness
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


def add(package: Path, files: dict[str, str], lines: dict[str, tuple[str, str]]) -> None:
    """Write new files, and insert a line behind another in existing ones."""
    for name, text in files.items():
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).write_text(text)
    for name, (before, line) in lines.items():
        text = (package / name).read_text()
        assert text.count(before) == 1, before
        (package / name).write_text(text.replace(before, before + line))


def use(package: Path, script: str, folder: Path) -> None:
    there = f"import os; os.chdir({str(folder)!r})\n"
    done = forks.run(there + script, package.parent, environment={"PYTHONPATH": str(package.parent)})
    assert done.returncode == 0, done.stderr


def test_a_family_edits_two_files(package, tmp_path):
    add(package, NEW_FILES, {"auto.py": ("\nFAMILIES = {\n", ENTRY)})
    rows = package / "checkpoints/released.json"
    rows.write_text(json.dumps([*json.loads(rows.read_text()), ROW]))
    use(package, USE, tmp_path)
    assert edited(package) == {"auto.py", "checkpoints/released.json"}


def test_a_task_edits_two_files(package, tmp_path):
    lines = {
        "tasks/__init__.py": ('    "multiple_choice": None,\n', TASK_LINE),
        "auto.py": ('            "AutoModelForPreTraining": "InternVideoMAEForPreTraining",\n', HEAD),
    }
    add(package, TASK_FILES, lines)
    use(package, USE_TASK, tmp_path)
    assert edited(package) == {"tasks/__init__.py", "auto.py"}
