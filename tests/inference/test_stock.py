"""Encoders of transformers and sentence-transformers: what is around a model gives what their own code gives."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from program import assert_refused, run
from sentence_transformers import SentenceTransformer
from stock_models import write_sentence_model, write_stock
from transformers import (
    AutoModel,
    AutoModelForVideoClassification,
    AutoProcessor,
    AutoVideoProcessor,
    BertConfig,
    BertModel,
    VideoMAEImageProcessor,
)
from video.clips import moving_picture, write_video

from internvideo_hf import FeatureExtractor, VideoIndex, VideoReader
from internvideo_hf.inference.embedder import Embedder
from internvideo_hf.inference.features import extract_to_file, load_features
from internvideo_hf.inference.stock import load_stock
from internvideo_hf.search.clips import Windowing, read_clips

NAMES = ("videomae", "vjepa2", "videoprism", "videoprism-clip", "xclip")
TEXTS = ["a dog runs", "rain"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stock")
    for name in (*NAMES, "vjepa2-fps", "videomae-classifier"):
        write_stock(name, folder / name)
    write_sentence_model(folder / "st")
    return folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of videos of two lengths and two sizes, at 30 frames a second."""
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "long.mp4", 40)
    write_video(folder / "short.mp4", 21, size=(64, 48))
    return folder


def frames_of(video: Path, indices: list[int]) -> np.ndarray:
    with VideoReader(video) as reader:
        return reader.read(np.array(indices))


def by_hand(folder: Path, name: str, frames: list[np.ndarray]) -> torch.Tensor:
    """Return features by the stock model and the stock processor, with one call for each clip."""
    model = AutoModel.from_pretrained(folder / name).eval()
    rows = []
    for clip in frames:
        if name == "videomae":
            inputs = VideoMAEImageProcessor.from_pretrained(folder / name)([list(clip)], return_tensors="pt")
        elif name in ("xclip", "videoprism-clip"):
            more = {} if name == "xclip" else {"do_sample_frames": False}
            inputs = AutoProcessor.from_pretrained(folder / name)(videos=[clip], return_tensors="pt", **more)
        else:
            processor = AutoVideoProcessor.from_pretrained(folder / name)
            inputs = processor(videos=[clip], do_sample_frames=False, return_tensors="pt")
        with torch.no_grad():
            if name in ("xclip", "videoprism-clip"):
                rows.append(model.get_video_features(**inputs).pooler_output.reshape(1, -1))
            else:
                rows.append(model(**inputs).last_hidden_state.mean(dim=1))
    return torch.cat(rows)


def evenly(total: int, number: int = 4) -> list[int]:
    return [place * total // number for place in range(number)]


@pytest.mark.parametrize("name", NAMES)
def test_an_index_holds_the_features_of_the_stock_model_and_processor(folder, videos, name):
    index = VideoIndex(folder / name, device="cpu")
    assert index.update([videos]).failures == []
    places = {Path(clip[0]).stem: row for row, clip in enumerate(index.clips)}
    clips = [frames_of(videos / f"{stem}.mp4", evenly(total)) for stem, total in (("long", 40), ("short", 21))]
    expected = torch.nn.functional.normalize(by_hand(folder, name, clips), dim=-1)
    found = index.embeddings[[places["long"], places["short"]]]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (index.remark != "") == (name in ("videomae", "xclip", "videoprism-clip"))
    assert index.search(video=videos / "short.mp4")[0].video == str(videos / "short.mp4")


def test_frames_by_the_second_are_those_of_the_processors_rule(folder, videos, tmp_path):
    index = VideoIndex(folder / "vjepa2-fps", device="cpu", window=0.5)
    assert index.update([videos / "long.mp4"]).failures == []
    # 40 frames of 30 a second: two windows of 15 frames and the rest, 0.33 s, which is a window of its own.
    assert [clip[1:] for clip in index.clips] == [(0, 0.5), (0.5, 1), (1, pytest.approx(4 / 3, abs=1e-3))]
    # Four a second: int(15 / 30 * 4) = 2, and int(10 / 30 * 4) = 1, of which a tubelet takes two.
    spans = [[0, 7], [15, 22], [30, 30]]
    expected = by_hand(folder, "vjepa2-fps", [frames_of(videos / "long.mp4", span) for span in spans])
    torch.testing.assert_close(index.embeddings, torch.nn.functional.normalize(expected, dim=-1), atol=1e-5, rtol=1e-5)


def test_windows_of_other_numbers_of_frames_share_no_batch(folder, videos):
    index = VideoIndex(folder / "vjepa2-fps", device="cpu")
    assert index.update([videos], batch_size=2).failures == []
    totals = {"long": (40, 5), "short": (21, 2)}
    for row, clip in enumerate(index.clips):
        total, number = totals[Path(clip[0]).stem]
        places = [place * total // number for place in range(number)]
        frames = frames_of(Path(clip[0]), places + places[-1:] * (number % 2))
        expected = torch.nn.functional.normalize(by_hand(folder, "vjepa2-fps", [frames]), dim=-1)
        torch.testing.assert_close(index.embeddings[row : row + 1], expected, atol=1e-5, rtol=1e-5)


def test_a_short_video_repeats_frames(folder):
    frames = moving_picture(3)
    embedder = Embedder(folder / "videomae", device="cpu")
    expected = torch.nn.functional.normalize(by_hand(folder, "videomae", [frames[[0, 0, 1, 2]]]), dim=-1)
    torch.testing.assert_close(embedder.embed_video(frames), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["xclip", "videoprism-clip"])
def test_texts_are_those_of_the_stock_model(folder, name):
    embedder = Embedder(folder / name, device="cpu")
    inputs = AutoProcessor.from_pretrained(folder / name)(
        text=TEXTS, return_tensors="pt", **({"padding": True} if name == "xclip" else {})
    )
    with torch.no_grad():
        expected = AutoModel.from_pretrained(folder / name).eval().get_text_features(**inputs).pooler_output
    expected = torch.nn.functional.normalize(expected, dim=-1)
    torch.testing.assert_close(embedder.embed_texts(TEXTS), expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match=r"has \d+ tokens, expected at most (16|64)"):
        embedder.embed_texts(["word and word " * 40])


def test_a_model_without_texts_says_so(folder):
    embedder = Embedder(folder / "videomae", device="cpu")
    with pytest.raises(ValueError, match=r"it is an encoder of videos alone. Search by video or image"):
        embedder.embed_texts(TEXTS)


@pytest.mark.parametrize("name", NAMES)
def test_extracted_windows_are_those_of_the_stock_model(folder, videos, tmp_path, name):
    extractor = FeatureExtractor(folder / name, 4, 8, device="cpu")
    extract_to_file(extractor, videos / "long.mp4", tmp_path / "f.safetensors")
    clips = [frames_of(videos / "long.mp4", list(range(start, start + 4))) for start in range(0, 37, 8)]
    found, _ = load_features(tmp_path / "f.safetensors")
    torch.testing.assert_close(found, by_hand(folder, name, clips), atol=1e-5, rtol=1e-5)


def test_a_sentence_transformers_model_gives_what_it_encodes(folder, videos, tmp_path):
    sentences = SentenceTransformer(str(folder / "st/sentences"), device="cpu")
    frames = {stem: frames_of(videos / f"{stem}.mp4", evenly(total)) for stem, total in (("long", 40), ("short", 21))}
    index = VideoIndex(folder / "st/sentences", device="cpu")
    assert index.update([videos]).failures == []  # of two sizes, which no batch holds together
    options = {"processing_kwargs": {"video": {"do_sample_frames": False}}}
    for row, clip in enumerate(index.clips):
        expected = sentences.encode([{"video": frames[Path(clip[0]).stem]}], **options).reshape(-1)
        np.testing.assert_allclose(index.embeddings[row], expected, atol=1e-5, rtol=1e-5)
    expected = sentences.encode(TEXTS).reshape(2, -1)
    np.testing.assert_allclose(index.encoder.embed_texts(TEXTS), expected, atol=1e-5, rtol=1e-5)
    assert len(index.search("a dog runs")) == 2
    extractor = FeatureExtractor(folder / "st/sentences", 4, 36, device="cpu")
    extract_to_file(extractor, videos / "long.mp4", tmp_path / "f.safetensors")
    found, _ = load_features(tmp_path / "f.safetensors")
    first = sentences.encode([{"video": frames_of(videos / "long.mp4", [0, 1, 2, 3])}], **options)
    np.testing.assert_allclose(found[:1], first.reshape(1, -1), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="gives one vector of a clip, no tokens and no layers"):
        FeatureExtractor(folder / "st/sentences", 4, 4, device="cpu", pooling="tokens")


def test_a_model_is_known_by_its_weights_processor_and_vocabulary(folder, videos, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder / "xclip", copy)
    before = Embedder(folder / "xclip", device="cpu").fingerprint
    assert Embedder(copy, device="cpu").fingerprint == before
    (copy / "checkpoint-5").mkdir()  # what training leaves is no part of the model
    (copy / "checkpoint-5/config.json").write_text("{}")
    assert Embedder(copy, device="cpu").fingerprint == before
    VideoIndex(copy, device="cpu", folder=tmp_path / "index").update([videos])
    file = copy / "processor_config.json"
    file.write_text(file.read_text().replace('"shortest_edge": 32', '"shortest_edge": 40'))
    assert Embedder(copy, device="cpu").fingerprint != before
    with pytest.raises(ValueError, match="made with another model or processor"):
        VideoIndex.load(tmp_path / "index", device="cpu").search(video=videos / "long.mp4")
    shutil.copytree(folder / "videomae", tmp_path / "mae")
    extractor = FeatureExtractor(tmp_path / "mae", 4, 36, device="cpu")
    extract_to_file(extractor, videos / "long.mp4", tmp_path / "f.safetensors")
    file = tmp_path / "mae/preprocessor_config.json"
    file.write_text(file.read_text().replace("0.5", "0.4"))
    changed = FeatureExtractor(tmp_path / "mae", 4, 36, device="cpu")
    with pytest.raises(FileExistsError, match=r"features of other settings \(model"):
        extract_to_file(changed, videos / "long.mp4", tmp_path / "f.safetensors")
    shutil.copytree(folder / "st/sentences", tmp_path / "st")
    revision = FeatureExtractor(tmp_path / "st", 4, device="cpu").settings.revision
    modules = tmp_path / "st/modules.json"
    modules.write_text(json.dumps(json.loads(modules.read_text())[:1]))  # vectors of any length
    assert FeatureExtractor(tmp_path / "st", 4, device="cpu").settings.revision != revision
    tokenizer = copy / "tokenizer.json"
    before = Embedder(copy, device="cpu").fingerprint
    tokenizer.write_text(tokenizer.read_text() + "\n")
    assert Embedder(copy, device="cpu").fingerprint != before


@pytest.mark.parametrize("name", ["videomae", "xclip", "st/sentences"])
def test_decoders_take_a_copy_of_the_processor(folder, videos, name):
    processor = load_stock(folder / name, "cpu").video_processor
    copy = pickle.loads(pickle.dumps(processor))
    here, there = (read_clips((str(videos / "long.mp4"), None), one, Windowing(0.5)) for one in (processor, copy))
    assert np.array_equal(here.pixels, there.pixels)


def test_a_stock_classifier_is_evaluated(folder, videos, tmp_path):
    (videos / "list.csv").write_text("video,label\nlong.mp4,0\nshort.mp4,2\n")
    out = tmp_path / "result.json"
    command = ("evaluate", "data.list=list.csv", "--data-root", videos, "--workers", 0, "--device", "cpu", "--quiet")
    done = run(*command, "--model", folder / "videomae-classifier", "--out", out, "--report", tmp_path / "report")
    assert done.returncode == 0, done.stderr
    model = AutoModelForVideoClassification.from_pretrained(folder / "videomae-classifier").eval()
    processor = VideoMAEImageProcessor.from_pretrained(folder / "videomae-classifier")
    right = 0
    for stem, total, label in (("long", 40, 0), ("short", 21, 2)):
        inputs = processor([list(frames_of(videos / f"{stem}.mp4", evenly(total)))], return_tensors="pt")
        with torch.no_grad():
            right += int(model(**inputs).logits.argmax()) == label
    assert json.loads(out.read_text())["scores"]["top-1"] == pytest.approx(100 * right / 2)
    refused = run(*command, "--model", folder / "videomae", "--out", out)
    assert_refused(refused, "is not a classifier: it holds a VideoMAEModel")
    refused = run(*command, "--model", folder / "videomae-classifier", "num_clips=4")
    assert_refused(refused, "num_clips=4", "makes one view of a video")


def test_what_is_no_encoder_of_videos_is_refused_in_one_line(tmp_path, videos):
    BertModel(BertConfig(vocab_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(
        tmp_path / "bert"
    )
    made = run("index", videos, "--model", tmp_path / "bert", "--out", tmp_path / "index")
    assert_refused(made, "is not an encoder of videos: its model_type is bert")
    assert "Indexing" not in made.stderr
    assert not (tmp_path / "index").exists()
    (tmp_path / "empty").mkdir()
    for command in (("index", videos), ("extract", videos)):
        refused = run(*command, "--model", tmp_path / "empty", "--out", tmp_path / "out")
        assert_refused(refused, "empty holds no model")


def test_commands_index_and_search(folder, videos, tmp_path):
    index = tmp_path / "index"
    made = run("index", videos, "--model", folder / "xclip", "--out", index, "--device", "cpu", "--jobs", 1)
    assert made.returncode == 0, made.stderr
    assert "does not say which frames it takes: clips have 4" in made.stderr
    for query in (["--video", videos / "long.mp4"], ["a dog runs"]):
        found = run("search", index, *query, "--device", "cpu", "--json")
        assert found.returncode == 0, found.stderr
        assert len(json.loads(found.stdout)["hits"]) == 2
    refused = run("classify", videos, "--model", folder / "videomae-classifier")
    assert_refused(refused, "A video encoder of transformers is for `extract`, `index`, `probe`")


def test_a_folder_without_a_processor_says_so(folder, videos, tmp_path):
    shutil.copytree(folder / "videomae", tmp_path / "model", ignore=shutil.ignore_patterns("*preprocessor*"))
    refused = run("index", videos, "--model", tmp_path / "model", "--out", tmp_path / "index", "--quiet")
    assert_refused(refused, "has no processor of videos beside its weights (video_preprocessor_config.json")
    assert not (tmp_path / "index").exists()


def test_no_code_of_a_folder_runs(folder, tmp_path, videos):
    shutil.copytree(folder / "st/sentences", tmp_path / "st")
    (tmp_path / "st/evil.py").write_text("raise SystemExit('ran')")
    modules = json.loads((tmp_path / "st/modules.json").read_text())
    modules[1]["type"] = "evil.Normalize"
    (tmp_path / "st/modules.json").write_text(json.dumps(modules))
    refused = run("extract", videos, "--model", tmp_path / "st", "--out", tmp_path / "out", "--window", 4)
    assert_refused(refused, "names evil.Normalize, code that is not of sentence-transformers, and not run")
    config = folder / "videomae/config.json"
    (tmp_path / "auto").mkdir()
    content = json.loads(config.read_text()) | {"auto_map": {"AutoModel": "evil.Model"}}
    (tmp_path / "auto/config.json").write_text(json.dumps(content))
    assert_refused(run("index", videos, "--model", tmp_path / "auto", "--out", tmp_path / "o"), "names Python code")
