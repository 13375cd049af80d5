"""Training on videos and images by turns, from a recipe."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from training.recipes import write_data, write_recipe
from training.test_run import run_ranks

from internvideo_hf.checkpoints.model_names import demo_path
from internvideo_hf.models.internvideo_mm.modeling_internvideo_mm import InternVideoMMModel
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.training.recipes import parse_recipe
from internvideo_hf.training.run import train

VIEW = {"sampler": "viclip_train", "view": "contrastive", "view_options": {"flip_probability": 0}}
RECIPE = {
    "title": "Videos and images",
    "source": ["made up"],
    "model": {
        "family": "internvideo_mm",
        "task": "contrastive",
        "start": "a dual encoder",
        "config_of_start": True,
        "classes_of_start": False,
    },
    "data": {
        "train": "captions.csv",
        "validation": None,
        "images": {"train": "images.csv", "per_video": 3, "clip": VIEW},
        "clip": VIEW,
    },
    "batch_size": 2,
    "training": {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-3,
        "dataloader_num_workers": 0,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": 3,
        "save_total_limit": 9,
    },
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = write_data(tmp_path_factory.mktemp("images") / "data", 5)
    names = [f"{number}.png" for number in range(13)]
    for number, name in enumerate(names):
        Image.new("RGB", (40 + number, 30), (number * 15, 9, 200)).save(root / name)
    lines = [f"{name},an image with the number {number}\n" for number, name in enumerate(names)]
    (root / "images.csv").write_text("path,caption\n" + "".join(lines))
    return root


def run(data: Path, output: Path, **training: object) -> Path:
    recipe = RECIPE | {"training": RECIPE["training"] | training}
    return train(parse_recipe(recipe), data, output, start=demo_path("demo-mm"), quiet=True)


@pytest.fixture
def shapes(monkeypatch) -> list[tuple[int, int]]:
    """Return a list to which every forward pass adds its clips and frames."""
    seen: list[tuple[int, int]] = []
    forward = InternVideoMMModel.forward

    def note(self, pixel_values_videos, **inputs):
        seen.append(tuple(pixel_values_videos.shape[:2]))
        return forward(self, pixel_values_videos=pixel_values_videos, **inputs)

    monkeypatch.setattr(InternVideoMMModel, "forward", note)
    return seen


def test_steps_alternate(data, tmp_path, shapes):
    final = run(data, tmp_path / "run", num_train_epochs=1, save_strategy="no")
    assert shapes == [(2, 8), (6, 1)] * 2  # of five videos and thirteen images
    card = (final / "README.md").read_text()
    assert "Training by turns: 13 clips of the list `images.csv`" in card


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_weights(data, tmp_path, shapes):
    final = run(data, tmp_path / "run")
    whole = load_file(final / "model.safetensors")
    for later in tmp_path.glob("run/checkpoint-[4-9]"):
        shutil.rmtree(later)
    shutil.rmtree(final)
    shapes.clear()
    ours = load_file(run(data, tmp_path / "run") / "model.safetensors")  # from within an epoch, after videos
    assert shapes == [(6, 1), *[(2, 8), (6, 1)] * 2]
    assert all(torch.equal(tensor, whole[name]) for name, tensor in ours.items())


@pytest.mark.slow
def test_two_processes_train_the_weights_of_one(data, tmp_path):
    changes = {"batch_norm": "frozen", "save_strategy": "no", "learning_rate": 1e-5}
    one = load_file(run(data, tmp_path / "one", **changes) / "model.safetensors")
    recipe = write_recipe(tmp_path, RECIPE | {"training": RECIPE["training"] | changes})
    options = ["--data-root", data, "--start-from", "demo-mm", "--quiet", "--output-dir", tmp_path / "two"]
    run_ranks("train", recipe, *options)
    assert json.loads((tmp_path / "two/versions.json").read_text())["devices"] == 2
    two = load_file(tmp_path / "two/final/model.safetensors")
    before = load_file(demo_path("demo-mm") / "model.safetensors")
    names = [name for name, tensor in one.items() if tensor.is_floating_point()]
    moved, apart = (sum(float((one[name] - other[name]).abs().sum()) for name in names) for other in (before, two))
    # AdamW makes steps of one size even from gradients that are nothing but rounding.
    assert 0 < apart < moved / 100


@pytest.mark.parametrize(
    ("section", "changes", "words"),
    [
        ("model", {"task": "pretraining"}, "data.images is for the task contrastive or captioning alone"),
        ("data", {"similar_batches": {"share": 0.5}}, "both order the rows"),
        ("data", {"images": {"train": "images.csv", "per_video": 0, "clip": VIEW}}, "must be at least 1"),
        ("data", {"images": {"train": "images.csv", "clip": VIEW | {"num_views": 2}}}, "has no num_views"),
        ("data", {"images": {"train": "images.csv"}}, "data.images.clip must be given"),
    ],
)
def test_what_cannot_be_is_refused(section, changes, words):
    with pytest.raises(RecipeError, match=words):
        parse_recipe({**RECIPE, section: RECIPE[section] | changes})


def test_short_lists_are_refused(data, tmp_path):
    with pytest.raises(RecipeError, match=r"data\.images: got 5 videos and 13 images for steps of 6 videos and 18"):
        train(parse_recipe(RECIPE | {"batch_size": 6}), data, tmp_path / "a", start=demo_path("demo-mm"), quiet=True)


@pytest.mark.slow
def test_unreadable_images_are_listed(data, tmp_path, shapes):
    shutil.copytree(data, tmp_path / "data")
    for name in "0.png", "1.png":
        (tmp_path / "data" / name).write_bytes(b"no image")
    run(tmp_path / "data", tmp_path / "run", num_train_epochs=1, save_strategy="no")
    lines = (tmp_path / "run/image_failures.jsonl").read_text().splitlines()
    failed = {json.loads(line)["index"] for line in lines}
    assert failed and failed <= {0, 1} and sum(images for images, frames in shapes if frames == 1) == 12 - len(failed)
