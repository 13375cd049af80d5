"""A newcomer converts a released checkpoint and publishes it, by what our pages and `--help` say."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from checkpoints.hub import use
from huggingface_hub import ModelCard
from newcomer import Newcomer
from repositories import Repositories, serve

USE = """
import json
import internvideo_hf
from transformers import pipeline

classify = pipeline("zero-shot-video-classification", model="you/mm")
answers = classify({video!r}, candidate_labels="a dog, a cat")
print(json.dumps([type(classify.model).__name__, type(classify.processor).__name__, answers]))
"""


@pytest.mark.parametrize("outside", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_newcomer_converts_and_publishes_a_model(random_checkpoint, drawn, tmp_path, monkeypatch, outside):
    monkeypatch.chdir(tmp_path)
    newcomer, video = Newcomer(outside), drawn[0] / "test/00000.mp4"
    shutil.copy(random_checkpoint, "InternVideo-MM-L-14.ckpt")
    assert "0 tensors of the file were left out" in newcomer.say("convert", "InternVideo-MM-L-14.ckpt", "mm")
    card = ModelCard.load("mm/README.md")
    assert card.data.pipeline_tag == "zero-shot-video-classification" and "import internvideo_hf" in card.text
    ask = ("zero-shot", video, "--labels", "a dog, a cat", "--json", "--model")
    local = json.loads(newcomer.say(*ask, "mm")) if outside else []

    published = Repositories()
    with serve(published) as address:
        settings = {"ENDPOINT": address, "TOKEN": "hf_you", "HOME": str(tmp_path / "home")}
        settings |= {"HUB_DISABLE_XET": "1", "HUB_DISABLE_UPDATE_CHECK": "1"}
        for name, value in settings.items():
            monkeypatch.setenv(f"HF_{name}", value)
        use(SimpleNamespace(address=address), monkeypatch, tmp_path)
        assert "/you/mm/commit/" in newcomer.say("push", "mm", "you/mm")
        assert published["you/mm"] == {file.name: file.read_bytes() for file in Path("mm").iterdir()}
        shutil.rmtree("mm")

        *classes, answers = json.loads(newcomer.python(USE.format(video=str(video))))
        assert classes == ["InternVideoMMModel", "InternVideoProcessor"]
        assert {one["label"] for one in answers} == {"a dog", "a cat"}
        if outside:
            assert json.loads(newcomer.say(*ask, "you/mm")) == local
            assert [one["label"] for one in answers] == [one["label"] for one in local[0]["results"]]
