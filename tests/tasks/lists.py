"""Short videos with lists in published layouts, their evaluation by the program, and the model called by hand."""

import json
import pickle
import tempfile
from pathlib import Path

import numpy as np
import torch
from program import run
from transformers import AutoModel, AutoProcessor
from video.clips import write_video

from internvideo_hf.recipes.labels import load_labels

VIDEOS = 4
SENTENCES = ["a wave in red", "water", "a slow dance of colors, it seems", "noise"]
CLASSES = "data.labels=hmdb51"  # 400 classes in 16 sentences each would take half a minute
HERE = ("--workers", 0, "--device", "cpu", "--quiet")


def write_lists(root: Path) -> Path:
    """Write the videos and lists into a folder, and return it."""
    (root / "all").mkdir(parents=True)
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
    """Return the result and the output of `internvideo evaluate`."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        done = run("evaluate", protocol, *options, "--model", model, "--data-root", root, "--out", out, *HERE)
        assert done.returncode == 0, done.stderr
        assert list(Path(folder).iterdir()) == [out]
        return json.loads(out.read_text()), done.stdout


def videos_of(root: Path) -> list[str]:
    return [str(root / f"all/video{number}.mp4") for number in range(VIDEOS)]


@torch.no_grad()
def similarity_by_hand(model: Path, videos: list[str], texts: list[str], **options: object) -> np.ndarray:
    """Return the model's logits, `(texts, videos)`."""
    dual, processor = AutoModel.from_pretrained(model).eval(), AutoProcessor.from_pretrained(model)
    inputs = processor(text=texts, videos=videos, return_tensors="pt", **options)
    return dual(**inputs).logits_per_text.numpy()
