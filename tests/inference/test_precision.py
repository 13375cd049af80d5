"""Models in other number types, and compiled ones, against the same model in float32."""

from pathlib import Path

import pytest
import torch
from tasks.small_classifiers import write_classifier
from transformers import AutoModel, AutoModelForVideoClassification

from internvideo_hf.inference.runner import cast_of, load_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_classifier(tmp_path_factory.mktemp("model"), num_labels=3)


CLIPS = torch.rand(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def logits(folder: Path, dtype: str | None) -> tuple[torch.Tensor, str | None]:
    model = load_model(AutoModelForVideoClassification, folder, "cpu", dtype)
    return model(CLIPS.to(model.dtype)).logits.float(), cast_of(model)


def test_weights_of_eight_bits_change_answers_by_their_rounding(folder):
    pytest.importorskip("torchao")
    exact, found = logits(folder, None)[0], logits(folder, "int8")
    assert found[1] == "int8"
    # A weight is rounded to one of 255 values up to the largest of its row.
    torch.testing.assert_close(found[0], exact, rtol=0, atol=0.05 * exact.abs().max().item())
    assert not torch.equal(found[0], exact)


def test_the_linear_layers_of_eight_bits_hold_the_nearest_multiples_of_a_scale(folder):
    pytest.importorskip("torchao")
    exact = load_model(AutoModel, folder, "cpu")
    rounded = load_model(AutoModel, folder, "cpu", "int8")
    name = "layers.0.mlp.fc1"
    weight = exact.get_submodule(name).weight.detach()
    steps = weight.abs().amax(dim=1, keepdim=True) / 127.5
    off = (rounded.get_submodule(name).weight.dequantize() - weight).abs()
    assert (off <= 0.51 * steps).all() and off.max() > 0
    assert torch.equal(rounded.layers[0].layer_norm1.weight, exact.layers[0].layer_norm1.weight)


def test_an_unknown_number_type_is_refused_before_weights_are_read(tmp_path):
    with pytest.raises(ValueError, match="int4"):
        load_model(AutoModel, tmp_path / "none", "cpu", "int4")


@pytest.mark.slow  # a compiler runs
def test_a_compiled_model_has_the_same_answers(folder, monkeypatch):
    monkeypatch.setenv("INTERNVIDEO_RUN_COMPILE", "1")
    torch.compiler.reset()
    compiled = load_model(AutoModelForVideoClassification, folder, "cpu")
    assert compiled.vision_model._compiled_call_impl is not None
    with torch.no_grad():
        found = compiled(CLIPS).logits
    monkeypatch.delenv("INTERNVIDEO_RUN_COMPILE")
    torch.testing.assert_close(found, logits(folder, None)[0], rtol=1e-5, atol=1e-5)


def test_compilation_without_a_compiler_is_refused(folder, monkeypatch):
    monkeypatch.setenv("INTERNVIDEO_RUN_COMPILE", "1")
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match="no-such-compiler is not installed"):
        load_model(AutoModelForVideoClassification, folder, "cpu")
