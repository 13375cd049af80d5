"""Models load with every weight or not at all."""

from pathlib import Path

import pytest
import torch
from models.uniformerv2.test_modeling_uniformerv2 import tiny_config
from safetensors.torch import load_file, save_file
from transformers import AutoModelForVideoClassification

from internvideo_hf import UniFormerV2ForVideoClassification, UniFormerV2Model
from internvideo_hf.models.common.loading import check_classifier, classes_of, load_strict, revision

LABELS = {number: f"class {number}" for number in range(12)}


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    UniFormerV2ForVideoClassification(tiny_config(id2label=LABELS)).save_pretrained(tmp_path)
    return tmp_path


def test_missing_weights_are_an_error_that_names_them(folder):
    model = load_strict(AutoModelForVideoClassification, folder)
    assert classes_of(model.config) == list(LABELS.values())
    tensors = load_file(folder / "model.safetensors")
    del tensors["classifier.bias"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lacks weights: classifier.bias. Convert or download it again"):
        load_strict(AutoModelForVideoClassification, folder)


def test_code_in_weights_is_not_run(folder):
    class Code:
        def __reduce__(self):
            return Path.touch, (folder / "ran",)

    (folder / "model.safetensors").unlink()
    torch.save({"classifier.bias": Code()}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="hold code, which is not run. Get them as model.safetensors"):
        load_strict(AutoModelForVideoClassification, folder)
    assert not (folder / "ran").exists()


def test_a_model_without_the_head_is_named(tmp_path):
    UniFormerV2Model(tiny_config()).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds a UniFormerV2Model, expected a UniFormerV2ForVideoClassification"):
        load_strict(AutoModelForVideoClassification, tmp_path)


def test_a_classifier_is_told_before_its_weights_are_read(folder, tmp_path_factory):
    assert check_classifier(folder).num_labels == len(LABELS)
    other = tmp_path_factory.mktemp("encoder")
    tiny_config(architectures=["UniFormerV2Model"]).save_pretrained(other)  # no weights
    with pytest.raises(ValueError, match="is not a classifier: it holds a UniFormerV2Model. Give a fine-tuned model"):
        check_classifier(other)


def test_revision_follows_the_weights(folder):
    model = load_strict(AutoModelForVideoClassification, folder)
    before = revision(folder, model)
    assert before.startswith("sha256:") and revision(folder, model) == before
    with torch.no_grad():
        model.classifier.bias += 1
    model.save_pretrained(folder)
    assert revision(folder, model) != before
    model.config._commit_hash = "abc"
    assert revision(folder, model) == "abc"
