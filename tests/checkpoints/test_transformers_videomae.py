"""The export of VideoMAE models to transformers' own classes."""

from pathlib import Path
from typing import Any

import forks
import pytest
import torch
from checkpoints.families import test_internvideo_mae as files
from checkpoints.families.test_internvideo_mae import (
    CUBES,
    SETTINGS,
    WIDTH,
    classifier,
    config_of,
    mask,
    pretraining,
    video,
)
from transformers import AutoModelForPreTraining, AutoModelForVideoClassification

from internvideo_hf.recipes.labels import load_labels

convert = files.convert  # a fixture

STOCK = """
import sys
import torch
import transformers

class Closed:
    def find_spec(self, name, path=None, target=None):
        assert name.partition(".")[0] != "internvideo_hf", "the folder asks for internvideo_hf"

sys.meta_path.insert(0, Closed())
folder, auto_class, arguments = sys.argv[1], getattr(transformers, sys.argv[2]), torch.load(sys.argv[3])
model, info = auto_class.from_pretrained(folder, output_loading_info=True)
assert not any(info.values()), info
processor = transformers.AutoVideoProcessor.from_pretrained(folder)
frames = torch.zeros(30, 3, 20, 40, dtype=torch.uint8)
assert processor(frames, return_tensors="pt")["pixel_values"].shape == (1, 4, 3, 16, 16)
with torch.no_grad():
    outputs = model(**arguments)
names = type(model).__name__, type(processor).__name__, model.config.id2label
torch.save({"logits": outputs.logits, "loss": outputs.loss, "names": names}, sys.argv[4])
assert "internvideo_hf" not in sys.modules
"""


def run_stock(tmp_path: Path, folder: Path, auto_class: str, **arguments: torch.Tensor) -> dict[str, Any]:
    torch.save(arguments, tmp_path / "arguments.pt")
    result = forks.run(STOCK, folder, auto_class, tmp_path / "arguments.pt", tmp_path / "result.pt")
    assert result.returncode == 0, result.stderr
    return torch.load(tmp_path / "result.pt")


# transformers' last layer norm has an epsilon of 1e-5, ours one of 1e-6, which no configuration reaches.
STOCK_TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}


@pytest.mark.slow
@torch.no_grad()
def test_stock_classifier_loads_without_this_package_and_gives_the_same_logits(convert, tmp_path):
    source, labels = classifier(51), torch.tensor([3, 50])
    convert(source)
    ours = AutoModelForVideoClassification.from_pretrained(tmp_path / "out")(video(), labels=labels)
    report = convert(source, to="transformers-videomae", overwrite=True)
    assert report.head == "hmdb51" and report.num_parameters == sum(tensor.numel() for tensor in source.values())
    assert config_of(tmp_path)["architectures"] == ["VideoMAEForVideoClassification"]
    assert config_of(tmp_path)["layer_norm_eps"] == 1e-6
    stock = run_stock(
        tmp_path, tmp_path / "out", "AutoModelForVideoClassification", pixel_values=video(), labels=labels
    )
    torch.testing.assert_close(stock["logits"], ours.logits, **STOCK_TOLERANCE)
    torch.testing.assert_close(stock["loss"], ours.loss, **STOCK_TOLERANCE)
    expected = dict(enumerate(load_labels("hmdb51")))
    assert stock["names"] == ("VideoMAEForVideoClassification", "VideoMAEVideoProcessor", expected)


@pytest.mark.slow
@torch.no_grad()
def test_stock_pretraining_loads_without_this_package_and_gives_the_same_loss(convert, tmp_path):
    convert(pretraining())
    ours = AutoModelForPreTraining.from_pretrained(tmp_path / "out")(video(), mask())
    convert(pretraining(), to="transformers-videomae", overwrite=True)
    stock = run_stock(
        tmp_path, tmp_path / "out", "AutoModelForPreTraining", pixel_values=video(), bool_masked_pos=mask()
    )
    torch.testing.assert_close(stock["logits"], ours.logits, **STOCK_TOLERANCE)
    torch.testing.assert_close(stock["loss"], ours.loss, **STOCK_TOLERANCE)
    assert stock["names"][0] == "VideoMAEForPreTraining"


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ({}, {"position_image_size": 8}, "its position table is re-sampled from another clip size"),
        ({}, {"position_num_frames": 2}, "its position table is re-sampled from another clip size"),
        ({"pos_embed": torch.ones(1, CUBES, WIDTH)}, {}, "its position table is learned"),
        (
            {f"blocks.{layer}.gamma_{branch}": torch.ones(WIDTH) for layer in range(2) for branch in (1, 2)},
            {},
            "its layers have a layer scale",
        ),
    ],
)
def test_what_transformers_cannot_compute_is_refused_with_the_reason(change, settings, message, convert, tmp_path):
    with pytest.raises(ValueError, match=f"transformers' VideoMAE cannot compute this model: {message}"):
        convert(classifier() | change, config_overrides=SETTINGS | settings, to="transformers-videomae")
    assert not (tmp_path / "out").exists()


def test_released_384_pixel_model_is_refused_for_transformers(convert):
    with pytest.raises(ValueError, match="re-sampled from another clip size"):
        convert(
            classifier(400),
            "ViT-H_f32_res384_89.54.pth",
            config_overrides={"num_attention_heads": 2},
            to="transformers-videomae",
        )


def test_pretraining_on_other_pixels_is_refused_for_transformers(convert):
    settings = SETTINGS | {"image_mean": [0.5, 0.5, 0.5]}
    with pytest.raises(ValueError, match="another normalization than ImageNet's"):
        convert(pretraining(), config_overrides=settings, to="transformers-videomae")
    convert(classifier(), config_overrides=settings, to="transformers-videomae")  # its processor holds them


def test_unknown_targets_and_other_families_are_refused(convert, golden):
    with pytest.raises(ValueError, match="'timm', expected one of transformers-videomae"):
        convert(classifier(), to="timm")
    source = torch.load(golden / "mm_tiny_b/checkpoint.ckpt", weights_only=True)
    with pytest.raises(ValueError, match="internvideo_mm cannot be written as transformers-videomae"):
        convert(source, to="transformers-videomae")
