"""Folders written by version 0.1 before its modules moved: they load, answer and resume as before.

`saved/v0_1` holds an adapters-only fused model with the two classifiers that it refers to, an index and its model,
features, the scores of an ensemble member, and a run interrupted after the first of two epochs. `expected.*` are that
version's outputs.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file
from transformers import AutoModelForVideoClassification, AutoVideoProcessor

from internvideo_hf import (
    FeatureExtractor,
    VideoIndex,
    evaluate_ensemble,
    load_ensemble,
    load_recipe,
    train,
)
from internvideo_hf.inference.features import extract_to_file

SAVED = ROOT / "tests/saved/v0_1"
EXPECTED = json.loads((SAVED / "expected.json").read_text())


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    return load_file(SAVED / "expected.safetensors")


@torch.no_grad()
def test_adapters_of_a_fused_model_load_and_answer(tensors):
    folders = {"internvideo_mae": SAVED / "mae", "uniformerv2": SAVED / "uniformerv2"}
    model = AutoModelForVideoClassification.from_pretrained(SAVED / "fused", encoder_folders=folders).eval()
    inputs = AutoVideoProcessor.from_pretrained(SAVED / "fused")([str(SAVED / "videos/two.mp4")], return_tensors="pt")
    clips = {name: pixels.flatten(0, 1) if pixels.ndim == 6 else pixels for name, pixels in inputs.items()}
    torch.testing.assert_close(model(**clips).logits, tensors["fused_logits"], atol=1e-5, rtol=1e-5)


def test_an_index_opens_and_finds_the_same(tensors, tmp_path):
    shutil.copytree(SAVED / "index", tmp_path / "index")  # where a search keeps the null captions' embeddings
    index = VideoIndex.load(tmp_path / "index", model=SAVED / "demo-mm", device="cpu")
    hits = index.search(EXPECTED["query"], top_k=4)
    found = [[Path(hit.video).name, hit.start, hit.end] for hit in hits]
    assert found == EXPECTED["hits"]
    similarity = torch.tensor([hit.similarity for hit in hits])
    torch.testing.assert_close(similarity, tensors["similarity"], atol=1e-5, rtol=1e-5)


def test_features_are_known_as_done(tmp_path):
    shutil.copytree(SAVED / "features", tmp_path / "features")
    extractor = FeatureExtractor(SAVED / "mae", 4, 4, device="cpu")
    path = tmp_path / "features/two.mp4.safetensors"
    path.with_suffix(".json").touch()  # after the video, which a checkout may write last
    assert extract_to_file(extractor, SAVED / "videos/two.mp4", path) is False


def test_scores_of_a_member_are_taken(tmp_path):
    (scores,) = (SAVED / "scores").glob("*.safetensors")
    for name in ("val.csv", "red.mp4", "green.mp4", "two.mp4"):
        shutil.copy(SAVED / "videos" / name, tmp_path)
    result = evaluate_ensemble(load_ensemble("classifiers"), [scores], tmp_path, quiet=True)
    assert result["scores"] == EXPECTED["ensemble"]


def test_a_stopped_run_resumes_to_the_same_weights(tensors, tmp_path):
    for name in ("run", "shapes"):
        shutil.copytree(SAVED / name, tmp_path / name)
    final = train(load_recipe(tmp_path / "shapes/recipe.yaml"), tmp_path / "shapes", tmp_path / "run", quiet=True)
    expected = {name.removeprefix("trained."): value for name, value in tensors.items() if "trained." in name}
    trained = load_file(final / "model.safetensors")
    assert trained.keys() == expected.keys()
    for name, value in expected.items():
        # Looser than 1e-5: the second epoch runs on whatever processor this is, and AdamW divides by small numbers.
        torch.testing.assert_close(trained[name], value, atol=1e-4, rtol=1e-4, msg=name)
