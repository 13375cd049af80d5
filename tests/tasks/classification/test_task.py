"""`internvideo evaluate classification/...`: the released views, scores as by hand, published rows beside."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from models.model_checks import move_from_start
from program import run
from video.clips import write_video

from internvideo_hf import InternVideoVideoProcessor, UniFormerV2Config, UniFormerV2ForVideoClassification
from internvideo_hf.checkpoints.released import released
from internvideo_hf.evaluation.protocols import load_protocol
from internvideo_hf.evaluation.run import evaluate
from internvideo_hf.models.internvideo_mae.configuration_internvideo_mae import InternVideoMAEConfig
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.classification.data import find_tests, view_settings
from internvideo_hf.utils.journal import Journal

DATA_SETS = ["k400", "k600", "k700", "ssv2", "ssv1", "hmdb51", "mit", "anet", "hacs"]
HERE = {"workers": 0, "device": "cpu", "quiet": True}
CHANGES = ["data.labels=null"]


@pytest.mark.parametrize("name", DATA_SETS)
def test_every_released_classifier_of_the_data_set_is_a_row(name):
    protocol = load_protocol(f"classification/{name}")
    expected = {row["name"] for row in released() if (row["evaluation"] or {}).get("data_set") == protocol.released}
    assert {entry.model for entry in protocol.published} == expected != set()
    assert all(entry.scores["top-1"] > 40 for entry in protocol.published if entry.scores)


# Transcribed from the model zoos and test scripts, by hand.
TESTS = [
    ("k400", "VideoMAE-B K400", (5, 3), {"top-1": 81.52, "top-5": 94.88}),
    ("k400", "VideoMAE-H K400 384", (7, 3), {"top-1": 89.54}),
    ("k400", "UniFormerV2-L K400 from K710 64x336", (2, 3), {"top-1": 90.0}),
    ("k400", "UniFormerV2-L K400 8x336 frozen", (3, 1), {"top-1": 86.7}),
    ("ssv2", "VideoMAE-B SSv2", (2, 3), {"top-1": 71.22, "top-5": 93.31}),
    ("ssv2", "UniFormerV2-L SSv2 32x224", (1, 3), {"top-1": 73.0}),
    ("hmdb51", "VideoMAE-H HMDB51 split 2", (None, None), {"top-1": 89.92}),
    ("anet", "UniFormerV2-L ActivityNet 16x224", (10, 3), {"top-1": 94.3}),
    ("mit", "UniFormerV2-B MiT 8x224", (4, 3), {"top-1": 42.6}),
]


@pytest.mark.parametrize(("data_set", "model", "views", "scores"), TESTS)
def test_views_and_scores_are_as_published(data_set, model, views, scores):
    (entry,) = [one for one in load_protocol(f"classification/{data_set}").published if one.model == model]
    assert (entry.test["num_clips"], entry.test["num_crops"]) == views and entry.scores == scores


def config_of(size: str, **values: object) -> InternVideoMAEConfig:
    return InternVideoMAEConfig.from_size(size, **values)


def test_a_released_model_is_found_by_its_configuration():
    k400, ssv2 = load_protocol("classification/k400"), load_protocol("classification/ssv2")
    (base,) = find_tests(k400, config_of("base"))
    assert base.model == "VideoMAE-B K400"
    (found,) = find_tests(ssv2, config_of("base"))
    assert view_settings([found])["processor"]["sampler"] == "videomae_sparse"
    large = UniFormerV2Config.from_size("large", "scene", num_frames=8, image_size=336, use_fusion_gate=False)
    tests = find_tests(k400, large)
    assert {test.model for test in tests} == {
        "UniFormerV2-L K400 from K710 8x336 frozen",
        "UniFormerV2-L K400 8x336 frozen",
    }
    assert find_tests(k400, config_of("base", num_frames=8)) == []


def test_a_model_may_be_named():
    protocol = load_protocol("classification/k400", ["model=VideoMAE-L K400"])
    (found,) = find_tests(protocol, config_of("base", num_frames=8))
    assert found.model == "VideoMAE-L K400"
    with pytest.raises(RecipeError, match="model is 'VideoMAE-X', expected .*VideoMAE-L K400"):
        find_tests(load_protocol("classification/k400", ["model=VideoMAE-X"]), config_of("base"))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Path:
    config = UniFormerV2Config(
        num_hidden_layers=2,
        num_attention_heads=2,
        hidden_size=24,
        image_size=32,
        patch_size=16,
        num_frames=3,
        global_layers=[0, 1],
        id2label={0: "runs", 1: "jumps", 2: "sits"},
    )
    folder = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(0)
    model = UniFormerV2ForVideoClassification(config)
    move_from_start(model, seed=0).save_pretrained(folder)
    pixels = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, "num_frames": 3}
    InternVideoVideoProcessor(**pixels, sampler="uniformerv2", num_clips=2, num_crops=3).save_pretrained(folder)
    return folder


@pytest.fixture
def data(tmp_path) -> Path:
    root = tmp_path / "data"
    root.mkdir()
    for number in range(3):
        write_video(root / f"clip{number}.mp4", num_frames=20 + 10 * number)
    (root / "val.csv").write_text("clip0.mp4,runs\nclip1.mp4,jumps\nclip2.mp4,sits\n")
    return root


def by_hand(folder: Path, video: Path, clips: int, crops: int) -> np.ndarray:
    pixels = InternVideoVideoProcessor.from_pretrained(folder)(
        [str(video)], num_clips=clips, num_crops=crops, return_tensors="pt"
    )
    model = UniFormerV2ForVideoClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(pixels["pixel_values_videos"]).logits.double().softmax(dim=-1).mean(dim=0).numpy()


@pytest.mark.parametrize(("changes", "views"), [([], (2, 3)), (["num_clips=1", "num_crops=1"], (1, 1))])
def test_scores_are_those_of_the_model_asked_by_hand(classifier, data, changes, views):
    protocol = load_protocol("classification/k400", [*CHANGES, *changes])
    for batch_size in (1, 8):
        result = evaluate(protocol, classifier, data, batch_size=batch_size, **HERE)
        best = [by_hand(classifier, data / f"clip{number}.mp4", *views).argmax() for number in range(3)]
        assert result["scores"]["top-1"] == 100 * np.mean(np.array(best) == [0, 1, 2])
        assert result["model"]["views"] == list(views) and result["data"]["videos"] == 3
        assert result["model"]["test_of"] == []


def test_the_command_prints_views_and_published_rows(classifier, data):
    options = ("--model", classifier, "--data-root", data, "--workers", 0, "--quiet")
    done = run("evaluate", "classification/k400", *CHANGES, *options)
    assert done.returncode == 0, done.stderr
    for words in ("2 clips x 3 crops", "as its processor is configured", "3 by uniformerv2", "short side 32"):
        assert words in done.stdout
    lines = [line.split() for line in done.stdout.splitlines() if "VideoMAE-B K400" in line]
    assert [line[-2:] for line in lines] == [["81.52", "94.88"]]


def test_parts_of_videos_are_classified_by_themselves(classifier, data):
    (data / "parts.csv").write_text("video,label,start,end\nclip2.mp4,runs,0,0.6\nclip2.mp4,jumps,0.6,1.2\n")
    result = evaluate(
        load_protocol("classification/k400", [*CHANGES, "data.list=parts.csv"]), classifier, data, **HERE
    )
    assert result["data"]["videos"] == 2


def test_an_unreadable_video_is_wrong_and_listed(classifier, data):
    (data / "clip1.mp4").write_bytes(b"no video")
    protocol = load_protocol("classification/k400", CHANGES)
    result = evaluate(protocol, classifier, data, max_damaged=0.5, **HERE)
    assert [Path(entry["video"]).name for entry in result["damaged"]] == ["clip1.mp4"]
    assert result["scores"]["top-1"] <= 67


def test_a_stopped_run_continues(classifier, data, monkeypatch):
    monkeypatch.setattr("internvideo_hf.utils.journal.CHECKPOINT_EVERY_SECONDS", 0.0)
    protocol, out = load_protocol("classification/k400", CHANGES), data / "result.json"
    append, calls = Journal.append, []

    def stopping(self, rows, notes=None):
        append(self, rows, notes)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "append", stopping)
    with pytest.raises(KeyboardInterrupt):
        evaluate(protocol, classifier, data, out, batch_size=1, **HERE)
    assert not out.exists()
    result = evaluate(protocol, classifier, data, out, batch_size=1, **HERE)
    assert len(calls) == 3, "two of three videos had been kept"
    assert json.loads(out.read_text())["scores"] == result["scores"]
    assert not list(data.glob(".result*"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([], "does not know the classes of data.labels=k400.*--head k400"),
        (["data.labels=null", "num_clips=0"], "num_clips is 0, expected 1 or more"),
        (["data.labels=null", "family=viclip"], "for viclip"),
        (["data.labels=k401"], "data.labels is 'k401'"),
    ],
)
def test_mistakes_are_refused(classifier, data, changes, words):
    with pytest.raises(RecipeError, match=words):
        evaluate(load_protocol("classification/k400", changes), classifier, data, **HERE)
