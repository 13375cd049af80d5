"""`internvideo evaluate`: scores equal to a manual computation, damaged videos never correct, atomic files."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from program import run
from transformers import AutoModel, AutoProcessor, pipeline
from video.clips import write_video

import internvideo_hf  # noqa: F401
from internvideo_hf.inference.ranking import retrieval_metrics
from internvideo_hf.recipes.labels import load_labels

VIDEOS = 4
SENTENCES = ["a wave in red", "water", "a slow dance of colours, it seems", "noise"]
CLASSES = "data.labels=hmdb51"  # 400 classes in 16 sentences each would take half a minute
HERE = ("--workers", 0, "--device", "cpu", "--quiet")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Return a few short videos, and lists of them in published layouts."""
    root = tmp_path_factory.mktemp("data")
    (root / "all").mkdir()
    for number in range(VIDEOS):
        write_video(root / f"all/video{number}.mp4", num_frames=20 + 30 * number)
    lines = [f"ret{number},msr{number},video{number},{SENTENCES[number]!r}" for number in range(VIDEOS)]
    csv = "\n".join(["key,vid_key,video_id,sentence", *lines]).replace("'", '"')
    (root / "MSRVTT_JSFUSION_test.csv").write_text(csv)
    labels = load_labels("hmdb51")
    (root / "test.csv").write_text("".join(f"all/video{n}.mp4,{labels[n]}\n" for n in range(VIDEOS)))
    questions = [
        {"clip_name": f"video{number}", "options": [*SENTENCES, "x"], "answer": number} for number in range(VIDEOS)
    ]
    (root / "msrvtt_mc_test.jsonl").write_text("".join(f"{json.dumps(question)}\n" for question in questions))
    captions = {f"video{n}": [SENTENCES[n].split(), ["one", "more"], ["and", str(n)]][: n + 1] for n in range(VIDEOS)}
    (root / "raw-captions.pkl").write_bytes(pickle.dumps(captions))
    (root / "test_list.txt").write_text("video2\nvideo1\nvideo3\n")
    return root


def evaluate(protocol: str, model: Path, root: Path, *options: object) -> tuple[dict, str]:
    out = root / "result.json"
    out.unlink(missing_ok=True)
    done = run("evaluate", protocol, *options, "--model", model, "--data-root", root, "--out", out, *HERE)
    assert done.returncode == 0, done.stderr
    assert not list(root.glob(".unfinished*"))
    return json.loads(out.read_text()), done.stdout


@torch.no_grad()
def similarity_by_hand(model: Path, videos: list[Path], texts: list[str], **options: object) -> np.ndarray:
    dual, processor = AutoModel.from_pretrained(model).eval(), AutoProcessor.from_pretrained(model)
    inputs = processor(text=texts, videos=[str(video) for video in videos], return_tensors="pt", **options)
    return dual(**inputs).logits_per_text.numpy()


def test_retrieval_is_that_of_the_model_asked_by_hand(mm_folder, data):
    result, printed = evaluate("retrieval/msrvtt", mm_folder, data)
    pixels = {"sampler": "retrieval_fps", "size": {"shortest_edge": 224}, "resize_method": "pil_bicubic"}
    videos = [data / f"all/video{number}.mp4" for number in range(VIDEOS)]
    assert result["scores"] == retrieval_metrics(similarity_by_hand(mm_folder, videos, SENTENCES, **pixels))
    assert result["data"]["videos"] == result["data"]["texts"] == VIDEOS and result["damaged"] == []
    assert len(result["data"]["files"]["MSRVTT_JSFUSION_test.csv"]) == 64
    assert result["settings"]["merge"] == {"weight": 0.5, "variant": "retrieval"}
    for words in ("8 by retrieval_fps", "short side 224 by pil_bicubic", "77 tokens", "split has 1000", "0.5 CLIP"):
        assert words in printed
    lines = [line.split()[-5:] for line in printed.splitlines() if "read-me" in line]
    assert lines == [["40.00", "65.30", "74.10", "2.00", "23.90"], ["37.50", "63.30", "71.30", "3.00", "24.20"]]
    assert "text to video, dual softmax" in printed and "paper, dual softmax" in printed


def test_several_captions_of_a_video_are_one_video(mm_folder, data):
    result, printed = evaluate("retrieval/msvd", mm_folder, data, "processor.num_frames=4")
    assert (result["data"]["videos"], result["data"]["texts"]) == (3, 2 + 3 + 3)
    assert result["data"]["files"].keys() == {"raw-captions.pkl", "test_list.txt"}
    assert "4 by retrieval_seconds" in printed
    assert result["protocol"] == "retrieval/msvd processor.num_frames=4"


def test_classes_are_those_of_the_pipeline(mm_folder, data):
    result, printed = evaluate("zero_shot/k400", mm_folder, data, CLASSES)
    classify = pipeline(
        "zero-shot-video-classification",
        model=AutoModel.from_pretrained(mm_folder),
        processor=AutoProcessor.from_pretrained(mm_folder),
        device="cpu",
        candidate_labels=load_labels("hmdb51"),
        prompts="kinetics",
        sampler="internvideo_mm_intervals",
        size={"height": 256, "width": 256},
        resize_method="pil_bicubic",
    )
    answers = classify([str(data / f"all/video{number}.mp4") for number in range(VIDEOS)])
    places = [[entry["label"] for entry in answer].index(load_labels("hmdb51")[n]) for n, answer in enumerate(answers)]
    expected = {f"top-{k}": 100 * np.mean([place < k for place in places]) for k in (1, 5)}
    assert result["scores"] == expected | {"mean": np.mean(list(expected.values()))}
    assert "prompts of kinetics" in printed and "64.25" in printed and "InternVideo-MM-B-16" in printed


def test_options_are_compared_with_their_video(mm_folder, data):
    result, printed = evaluate("multiple_choice/msrvtt", mm_folder, data)
    pixels = {"sampler": "internvideo_mm_intervals", "size": {"height": 256, "width": 256}}
    videos = [data / f"all/video{number}.mp4" for number in range(VIDEOS)]
    similarity = similarity_by_hand(mm_folder, videos, [*SENTENCES, "x"], **pixels, resize_method="pil_bicubic")
    right = (similarity.argmax(axis=0) == np.arange(VIDEOS)).mean()
    assert result["scores"] == {"top-1": 100 * right} and "93.44" in printed


def test_viclip_has_protocols_of_its_own(viclip_folder, mm_folder, data):
    texts = AutoProcessor.from_pretrained(viclip_folder).tokenizer.model_max_length
    frames = AutoModel.from_pretrained(viclip_folder).config.vision_config.num_frames
    changes = [f"text_length={texts}", f"processor.num_frames={frames}"]
    result, printed = evaluate("retrieval/viclip_msrvtt", viclip_folder, data, *changes)
    assert "places among captions" in printed and result["model"]["family"] == "viclip"
    refused = run("evaluate", "retrieval/viclip_msrvtt", "--model", mm_folder, "--data-root", data, *HERE)
    assert refused.returncode == 2 and "for viclip" in refused.stderr and "family=internvideo_mm" in refused.stderr


@pytest.fixture
def damaged(data, tmp_path) -> Path:
    """Return the same data, with one video cut off and one gone."""
    root = tmp_path / "damaged"
    (root / "all").mkdir(parents=True)
    for file in data.rglob("*.*"):
        if file.is_file():
            (root / file.relative_to(data)).write_bytes(file.read_bytes())
    (root / "all/video1.mp4").write_bytes((data / "all/video1.mp4").read_bytes()[:100])
    (root / "all/video3.mp4").unlink()
    return root


@pytest.mark.parametrize(
    "protocol",
    [
        ["retrieval/msrvtt"],
        pytest.param(["multiple_choice/msrvtt"], marks=pytest.mark.slow),
        pytest.param(["zero_shot/k400", CLASSES], marks=pytest.mark.slow),
    ],
)
def test_damaged_videos_never_count_and_are_listed_last(protocol, mm_folder, damaged):
    arguments = ("evaluate", *protocol, "--model", mm_folder, "--data-root", damaged, *HERE)
    out = damaged / "damaged.json"
    stopped = run(*arguments, "--out", out)
    assert (
        stopped.returncode == 2 and "of all 4 at most a fraction of 0.01 may be" in stopped.stderr and not out.exists()
    )
    assert "Traceback" not in stopped.stderr
    done = run(*arguments, "--out", out, "--max-damaged", 0.5)
    assert done.returncode == 1 and "2 of them damaged" in done.stdout
    assert "2 of 4 failed" in done.stderr and "video1.mp4" in done.stderr and "video3.mp4" in done.stderr
    result = json.loads(out.read_text())
    assert [Path(entry["video"]).name for entry in result["damaged"]] == ["video1.mp4", "video3.mp4"]
    scores = result["scores"]
    recalls = scores["text_to_video"]["plain"] if "text_to_video" in scores else scores
    assert max(value for key, value in recalls.items() if key.startswith(("R@", "top"))) <= 50


def test_workers_decode_the_same(mm_folder, data):
    alone, _ = evaluate("retrieval/msrvtt", mm_folder, data)
    options = ("--model", mm_folder, "--data-root", data, "--out", data / "r.json", "--device", "cpu")
    done = run("evaluate", "retrieval/msrvtt", *options, "--workers", 2, "--batch-size", 3)
    assert done.returncode == 0 and "Embedding videos: 100%" in done.stderr
    scores = json.loads((data / "r.json").read_text())["scores"]
    assert scores == alone["scores"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["retrieval/msrvtt", "text_length=100"], "at most 77 tokens. Set text_length=77"),
        (["retrieval/msrvtt", "data.list=none.csv"], "none.csv"),
        (["retrieval/msrvtt", "data.list=test.csv", "data.layout=null"], "rows without a caption"),
        (["zero_shot/k400", CLASSES, "data.list=MSRVTT_JSFUSION_test.csv"], "rows without a label"),
        (["retrieval/msvd", "data.only=none.txt"], "none.txt cannot be read"),
        (["retrieval/msrvtt", "--out", "."], "is a folder"),
        (["retrieval/nothing"], "No recipe 'retrieval/nothing'"),
        ([], "Give a protocol and --model"),
    ],
)
def test_mistakes_are_refused_in_one_line(arguments, words, mm_folder, data):
    refused = run("evaluate", *arguments, "--model", mm_folder, "--data-root", data, *HERE)
    assert refused.returncode == 2 and words in refused.stderr and "Traceback" not in refused.stderr
