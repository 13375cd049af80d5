"""Fusing two classifiers to one folder."""

from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from models.internvideo.conftest import encoders as encoders_fixture
from models.internvideo.test_modeling_internvideo import clips
from safetensors.torch import load_file
from transformers import AutoModelForVideoClassification, AutoVideoProcessor

from internvideo_hf import InternVideoVideoProcessor, fuse_encoders

encoders = encoders_fixture


@pytest.fixture
def folders(encoders: tuple[Path, Path]) -> tuple[Path, Path]:
    for folder, frames in zip(encoders, (4, 3), strict=True):
        InternVideoVideoProcessor(num_frames=frames).save_pretrained(folder)
    return encoders


@torch.no_grad()
@pytest.mark.parametrize("adapters_only", [False, True])
def test_the_folder_holds_model_processor_and_card(adapters_only, folders, tmp_path):
    out = tmp_path / "fused"
    model = fuse_encoders(*folders, out, adapters_only=adapters_only, cross_attention_head_size=8)
    loaded = AutoModelForVideoClassification.from_pretrained(out)
    inputs = clips(1)
    torch.testing.assert_close(loaded.eval()(**inputs).logits, model.eval()(**inputs).logits, atol=1e-6, rtol=1e-6)
    processor = AutoVideoProcessor.from_pretrained(out)
    assert [branch.num_frames for branch in processor.branches.values()] == [4, 3]
    frozen = [name for name in load_file(out / "model.safetensors") if "internvideo_mae.layers" in name]
    assert bool(frozen) != adapters_only
    card = ModelCard.load(out / "README.md")
    assert "# InternVideo of mae and uniformerv2\n" in card.content and "not trained" in card.content
    assert ("holds none of their frozen weights" in card.content) == adapters_only
    assert card.data.pipeline_tag == "video-classification" and card.data.base_model is None


def test_encoders_and_other_folders_are_not_replaced(folders, tmp_path):
    with pytest.raises(FileExistsError, match="holds one of the encoders"):
        fuse_encoders(*folders, folders[0], overwrite=True)
    (tmp_path / "notes.txt").touch()
    for overwrite in (False, True):
        with pytest.raises(FileExistsError):
            fuse_encoders(*folders, tmp_path, overwrite=overwrite)
    assert (tmp_path / "notes.txt").is_file()
