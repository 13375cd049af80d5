"""A newcomer classifies their own folders of clips, by commands that our pages and `--help` say."""

import json
from pathlib import Path

import pytest
from newcomer import Newcomer
from program import run
from transformers import AutoConfig

from internvideo_hf.demo.synthetic import ACTIONS

CLASSES = list(ACTIONS)[:4]


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    """Return a folder with the newcomer's clips, `clips/train/CLASS/NUMBER.mp4` and `clips/val/...`: drawn ones."""
    folder = tmp_path_factory.mktemp("newcomer")
    assert run("make-demo-data", folder / "shapes", "--clips", 12, "--jobs", 1, "--quiet").returncode == 0
    names = (folder / "shapes/labels.txt").read_text().splitlines()
    for split in ("train", "val"):
        for line in (folder / f"shapes/{split}.jsonl").read_text().splitlines():
            row = json.loads(line)
            file = folder / "clips" / split / names[row["label"]] / Path(row["video"]).name
            if names[row["label"]] in CLASSES:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.symlink_to(folder / "shapes" / row["video"])
    return folder


def test_a_newcomer_classifies_their_folders_of_clips(desk, monkeypatch):
    monkeypatch.chdir(desk)
    say, pages = Newcomer().say, Newcomer().pages
    assert "videos/train/CLASS/clip.mp4" in pages and "evaluate --model run/final --data-root videos" in pages
    few = ["batch_size=4", "training.max_steps=2", "training.per_device_train_batch_size=4"]
    few += ["training.dataloader_num_workers=0"]  # no time for processes
    recipe = "uniformerv2/finetune_base"
    assert recipe in say("recipes")
    trained = say("train", recipe, "--data-root", "clips", "--start-from", "demo-classifier", *few)
    assert "The model is in run/final." in trained

    # Names of the folders are the classes, sorted; the card says so.
    names = sorted(path.name for path in Path("clips/train").iterdir())
    assert list(AutoConfig.from_pretrained("run/final").id2label.values()) == names and len(names) == len(CLASSES)
    card = Path("run/final/README.md").read_text()
    assert ", ".join(f"`{name}`" for name in names) in card and f"`{recipe}`" in card
    assert "4 clips of the folder `train`" in card and "started from demo-classifier" in card

    video = next(Path("clips/val").glob("*/*.mp4"))
    answers = json.loads(say("classify", video, "--model", "run/final", "--json"))
    assert sorted(answer["label"] for answer in answers[0]["results"]) == names

    say("evaluate", "--model", "run/final", "--data-root", "clips", "--out", "result.json", "--workers", 0)
    result = json.loads(Path("result.json").read_text())
    assert result["data"]["videos"] == 4 and result["scores"]["top-5"] == 100
    table = say("evaluate", "data.list=train", "--model", "run/final", "--data-root", "clips", "--workers", 0)
    assert "4 of train" in table

    # The directory of the run is not the model, and the message says so.
    refused = run("classify", video, "--model", "run")
    assert refused.returncode == 2 and "its model is run/final. Give that." in refused.stderr
    refused = run("search", "clips", "a star", "--model", "run/final")
    assert refused.returncode == 2 and "internvideo index" in refused.stderr
