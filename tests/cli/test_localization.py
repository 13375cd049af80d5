"""`localize`: actions of raw videos, files beside them, and refusals in one line."""

import json
import shutil

import pytest
import torch
from PIL import Image
from program import assert_refused, run
from safetensors.torch import load_file
from stock_models import write_stock
from tasks.temporal_localization.heads import write_encoder, write_head, write_holed
from transformers import AutoModel, VideoMAEImageProcessor, pipeline
from video.clips import decode_in_order, write_video

from internvideo_hf.inference.features import FeatureExtractor


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a head, its encoder, and two videos in `videos`, one of which is damaged."""
    folder = tmp_path_factory.mktemp("localize")
    write_head(folder / "head", write_encoder(folder / "encoder"))
    (folder / "videos").mkdir()
    write_video(folder / "videos/clip.mp4", 40)
    write_holed(folder / "videos/holed.mkv", 60, 24, 26)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INTERNVIDEO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_json_holds_what_the_pipeline_answers(folder, cache):
    done = run(
        "localize", folder / "videos", "--model", folder / "head", "--json", "-q", "--top-k", 4, "--min-score", 0
    )
    assert (done.returncode, done.stderr) == (0, "")
    clip, holed = json.loads(done.stdout)
    answer = pipeline("temporal-action-localization", model=folder / "head", device="cpu")
    for found in (clip, holed):
        expected = answer(found.pop("video"), top_k=4)
        for ours, theirs in zip(found.pop("segments"), expected.pop("segments"), strict=True):
            assert ours == pytest.approx(theirs, abs=1e-4)
        assert found["gaps"] == [pytest.approx(gap, abs=1e-4) for gap in expected["gaps"]]
    assert holed["gaps"] == [pytest.approx([0.8, 26 / 30], abs=2e-3)]
    assert not list(cache.rglob("*.*")), "nothing stays in the cache"


def test_actions_are_printed_and_written(folder, tmp_path):
    out = (
        "--timeline",
        tmp_path / "t",
        "--vtt",
        tmp_path / "v",
        "--ass",
        tmp_path / "a",
        "--activitynet",
        tmp_path / "x/r.json",
    )
    videos = (tmp_path / "missing.mp4", folder / "videos")
    done = run("localize", *videos, "--model", folder / "head", "--encoder", folder / "encoder", *out)
    assert done.returncode == 1 and "missing.mp4" in done.stderr.split("1 of 3 failed:")[1]
    assert "damaged: nothing is known" in done.stdout and "0:00:00.8 - 0:00:00.9" in done.stdout
    assert done.stdout.count("%") <= 40
    assert {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*.*")} == {
        "t/clip.mp4.png", "t/holed.mkv.png", "v/clip.mp4.vtt", "v/holed.mkv.vtt", "a/clip.mp4.ass", "a/holed.mkv.ass",
        "x/r.json",
    }  # fmt: skip
    results = json.loads((tmp_path / "x/r.json").read_text())["results"]
    assert set(results) == {"clip", "holed"} and len(results["clip"]) > 10
    assert Image.open(tmp_path / "t/clip.mp4.png").width > 1000
    none = run("localize", folder / "videos/clip.mp4", "--model", folder / "head", "--min-score", 1, "-q")
    assert "no action scores 1 or more (--min-score)" in none.stdout


def test_videos_of_equal_names_have_entries_of_their_own(folder, tmp_path):
    for name in ("x/a.mp4", "y/a.mp4", "y/b.mp4", "y/v_abcdefghij-.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(folder / "videos/clip.mp4", tmp_path / name)
    done = run("localize", tmp_path, "--model", folder / "head", "--activitynet", tmp_path / "r.json", "-q")
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "r.json").read_text())["results"]
    assert set(results) == {"x/a.mp4", "y/a.mp4", "b", "abcdefghij-"} and all(results.values())


def test_features_are_kept_and_read_again(folder, tmp_path, monkeypatch):
    clip = write_video(tmp_path / "clip.mp4", 40)
    call = ("localize", clip, "--model", folder / "head", "--keep-features", "--json", "-q")
    first = run(*call)
    assert first.returncode == 0, first.stderr
    (kept,) = tmp_path.glob("clip.mp4.*.safetensors")
    assert len(load_file(kept)["features"]) == 19
    monkeypatch.setattr(FeatureExtractor, "_embed", None)  # the encoder is not asked
    monkeypatch.setattr(FeatureExtractor, "row_shape", (16,))
    assert run(*call).stdout == first.stdout
    given = run("localize", clip, "--model", folder / "head", "--features", kept, "--json", "-q")
    assert given.stdout == first.stdout, given.stderr


def test_features_may_be_those_of_an_encoder_of_transformers(tmp_path):
    clip = write_video(tmp_path / "clip.mp4", 40)
    encoder = write_stock("videomae", tmp_path / "encoder")
    head = write_head(tmp_path / "head", encoder)
    done = run("localize", clip, "--model", head, "--keep-features", "--json", "-q")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)
    (kept,) = tmp_path.glob("clip.mp4.*.safetensors")
    model, processor = AutoModel.from_pretrained(encoder).eval(), VideoMAEImageProcessor.from_pretrained(encoder)
    frames = decode_in_order(clip)
    with torch.no_grad():
        inputs = processor([list(frames[start : start + 4]) for start in range(0, 37, 2)], return_tensors="pt")
        expected = model(**inputs).last_hidden_state.mean(dim=1)
    torch.testing.assert_close(load_file(kept)["features"], expected, atol=1e-5, rtol=1e-5)
    other = write_stock("videoprism", tmp_path / "other")
    refused = run("localize", clip, "--model", head, "--encoder", other)
    assert_refused(refused, "was trained on features of", "makes others")
    longer = write_head(tmp_path / "longer", None, features={"window": 16, "stride": 2})
    refused = run("localize", clip, "--model", longer, "--encoder", encoder)
    assert_refused(
        refused, "was trained on windows of 16 frames", "encoder cannot take: window=16 must be 4", "--features"
    )
    assert "--window" not in refused.stderr  # which does not go with an encoder


def test_a_killed_call_is_taken_up_where_it_was(folder, tmp_path, monkeypatch, cache):
    monkeypatch.setattr("internvideo_hf.utils.journal.CHECKPOINT_EVERY_SECONDS", 0.0)
    clip = write_video(tmp_path / "clip.mp4", 40)
    call = ("localize", clip, "--model", folder / "head", "--batch-size", 2, "--json", "-q")
    whole, embed, calls = run(*call), FeatureExtractor._embed, []

    def count(self, clips):
        calls.append(len(clips))
        if len(calls) == 6:
            raise KeyboardInterrupt
        return embed(self, clips)

    monkeypatch.setattr(FeatureExtractor, "_embed", count)
    assert run(*call).returncode == 130 and list(cache.rglob("*.safetensors"))
    again = run(*call)
    assert again.stdout == whole.stdout and sum(calls) < 19 + 2 + 2 + 2


def test_a_classifier_names_the_actions(folder, tmp_path):
    head = write_head(tmp_path / "proposals", folder / "encoder", id2label={0: "LABEL_0"})
    call = ("localize", folder / "videos/clip.mp4", "--model", head, "--json", "-q", "--min-score", 0)
    (named,) = json.loads(run(*call, "--classifier", folder / "encoder").stdout)
    assert {one["label"] for one in named["segments"]} <= {"jump", "run", "wave"}
    (tmp_path / "scores.json").write_text('{"clip": [0.1, 0.7, 0.2]}')
    (tmp_path / "labels.txt").write_text("swim\ndive\nrest\n")
    of_file = run(*call, "--classifier", tmp_path / "scores.json", "--labels-file", tmp_path / "labels.txt")
    assert json.loads(of_file.stdout)[0]["segments"][0]["label"] == "dive"
    assert_refused(
        run(*call, "--labels-file", tmp_path / "labels.txt"), "--labels-file names the classes of --classifier"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "demo-classifier"), ("demo-classifier is not a head on features", "internvideo classify VIDEO")),
        (("--model", "{head}", "--encoder", "{head}"), ("is a head on features, not an encoder",)),
        (("--model", "{head}", "--encoder", "demo-classifier"), ("was trained on features of", "makes others")),
        (("--model", "{loose}", "--encoder", "{wide}"), ("takes features of 16 channels", "wide gives 24")),
        (("--model", "{head}", "--classifier", "demo-mm"), ("demo-mm is not a classifier",)),
        (("--model", "{head}", "--stride", "4"), ("--stride is for --features",)),
        (("--model", "{head}", "--features", "x.npy", "--stride", "4"), ("both or none",)),
        (("--model", "{head}", "--features", "x.npy"), ("x.npy",)),
        (("--model", "{head}", "--features", "x.npy", "--keep-features"), ("--keep-features is for",)),
        (("--model", "{head}", "--timeline", "x.vtt"), ("ending of x.vtt", ".png")),
        (("--model", "{head}", "--vtt", "x.png"), ("ending of x.png", ".vtt")),
        (("--model", "{head}", "--activitynet", "{folder}"), ("is a folder. Give the name of a file",)),
        (("--model", "{head}", "--classifier", "x.json", "--labels-file", "no.txt"), ("--labels-file no.txt cannot",)),
        (("--model", "{short}",), ("clip.mp4: it has 40 frames, fewer than the 64 of one window",)),
    ],
)  # fmt: skip
def test_a_mistake_is_refused_in_one_line(folder, tmp_path, arguments, words):
    paths = {"head": folder / "head", "folder": tmp_path}
    if "{loose}" in arguments:
        paths |= {"loose": write_head(tmp_path / "loose", None), "wide": write_encoder(tmp_path / "wide", 24)}
    if "{short}" in arguments:
        features = {"window": 64, "stride": 4, "encoder": str(folder / "encoder")}
        paths["short"] = write_head(tmp_path / "short", None, features=features)
    refused = run("localize", folder / "videos/clip.mp4", *(text.format(**paths) for text in arguments), "-q")
    assert_refused(refused, *words)
    assert len(refused.stderr.strip().splitlines()) <= 2


def test_extract_leaves_gaps_where_it_is_told_to(folder, tmp_path):
    call = ("extract", folder / "videos/holed.mkv", "--model", folder / "encoder", "--window", 4, "--out", tmp_path)
    refused = run(*call, "-q")
    assert refused.returncode == 2 and "holed.mkv" in refused.stderr
    done = run(*call, "--gaps", "-q")
    assert done.returncode == 0, done.stderr
    gaps = json.loads((tmp_path / "holed.mkv.json").read_text())["gaps"]
    assert gaps == [pytest.approx([24 / 30, 28 / 30], abs=2e-3)]  # the window from frame 24 to 28
    assert load_file(tmp_path / "holed.mkv.safetensors")["features"].isnan().any(dim=1).tolist() == [
        start < 26 and start + 4 > 24 for start in range(0, 57, 4)
    ]


def test_extract_takes_seconds_layers_and_poolings(folder, tmp_path):
    """Of 4 frames, the model's number: half a second has 8 a second."""
    options = ("--window", "0.5s", "--stride", "0.25s", "--layer", 1, "--pooling", "tokens", "--parquet", "-q")
    done = run("extract", folder / "videos/clip.mp4", "--model", folder / "encoder", "--out", tmp_path, *options)
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "clip.mp4.json").read_text())
    told = {name: facts[name] for name in ("window", "stride", "sampled_fps", "layer", "pooling")}
    assert told == {"window": 4, "stride": 2, "sampled_fps": 8.0, "layer": 1, "pooling": "tokens"}
    assert load_file(tmp_path / "clip.mp4.safetensors")["features"].shape == (4, 8, 16)  # 2 tubelets of 2 x 2 patches
    assert (tmp_path / "clip.mp4.parquet").is_file()
    call = ("extract", folder / "videos/clip.mp4", "--model", folder / "encoder", "--out", tmp_path / "other")
    rounded = run(*call, "--window", "0.6s", "--stride", "0.2s")
    assert "At 6.667 frames a second, the stride is 0.15 s, 1 frames, in place of 0.2 s." in rounded.stderr
    assert_refused(run(*call, "--pooling", "max"), "pooling: got 'max', expected one of auto, mean, tokens, attention")
    assert_refused(run(*call, "--layer", 9), "layer=9: ", "has layers 1 to 1, where -1 is the last")
    assert_refused(run(*call, "--fps", -1), "fps=-1.0 must be above 0")
