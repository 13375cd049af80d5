"""Every command that writes: killed before a file has its name, or on a full disk, it leaves nothing half done.

What is there afterwards is whole; the same call again finishes, and deletes what the first one left.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import dying
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from video.clips import decode_in_order, write_video

from internvideo_hf.checkpoints.merging import merge_checkpoints
from internvideo_hf.checkpoints.model_names import demo_path
from internvideo_hf.data.record_files import write_records
from internvideo_hf.data.records import read_records
from internvideo_hf.data.shards import read_shard, write_shards
from internvideo_hf.data.subsets import div_subset
from internvideo_hf.data.transcoding import TranscodeSettings, transcode_videos
from internvideo_hf.data.verification import verify_videos, write_report
from internvideo_hf.demo import untrimmed
from internvideo_hf.demo.synthetic import NUM_FRAMES, SPLITS, make_data_set
from internvideo_hf.demo.tour import draw_clips
from internvideo_hf.evaluation.ensembles import Scores
from internvideo_hf.evaluation.run import prepare_out, write_result
from internvideo_hf.inference.answer_sets import AnswerSet
from internvideo_hf.tasks.action_detection.detection import Detections
from internvideo_hf.tasks.action_detection.detectors import People
from internvideo_hf.tasks.action_detection.drawing import draw_video
from internvideo_hf.utils.journal import Journal
from internvideo_hf.utils.pictures import save_picture


@dataclass
class Writer:
    """What writes into a folder, in a fork of this process.

    Attributes:
        last: pattern of a file that it writes.
        write: call it with the folder; the second call finishes what the first one began.
        check: call it with the folder; raises if a file is not whole.
        files: number of files at the end.
    """

    last: str
    write: object
    check: object
    files: int


def _journal(folder: Path) -> None:
    journal = Journal(folder, seconds=0)
    while len(journal) < 6:
        journal.append({"a": torch.full((2, 4000), float(len(journal)))}, {f"{len(journal)}": "a note"})


def _check_journal(folder: Path) -> None:
    rows = Journal(folder).tensors().get("a", torch.empty(0, 1))[:, 0].tolist()
    assert rows == [0.0, 0.0, 2.0, 2.0, 4.0, 4.0][: len(rows)]


def _scores(folder: Path) -> None:
    videos = [f"{number}.mp4" for number in range(2000)]
    probabilities = np.full((2000, 2), 0.5)
    path = prepare_out(folder / "a.safetensors")
    Scores(videos, np.zeros(2000, np.int64), probabilities, ["a", "b"], {}).save(path)


def _data_set(folder: Path) -> None:
    with mock.patch("internvideo_hf.demo.synthetic.split_sizes", lambda clips: dict.fromkeys(SPLITS, 2)):
        make_data_set(folder, 2)


def _untrimmed(folder: Path) -> None:
    with mock.patch("internvideo_hf.demo.untrimmed.SECONDS", (9, 10)):
        untrimmed.make_data_set(folder, 1)


def _check_untrimmed(folder: Path) -> None:
    for file in folder.glob("videos/[tv]*.mp4"):
        assert len(decode_in_order(file)) >= 9 * untrimmed.RATE
    if (file := folder / untrimmed.ANNOTATIONS).is_file():
        assert len(json.loads(file.read_text())["database"]) == 3


def _nobody() -> Detections:
    none = torch.zeros(0, dtype=torch.int64)
    people = People(torch.zeros(0, 4), torch.zeros(0), none)
    times, scores = np.array([0.0]), torch.zeros(0, 1)
    return Detections(times, np.array([0]), np.array([True]), none, people, none, scores, ["stand"], (64, 64), 0.4)


def _subset(folder: Path) -> None:
    write_records(folder / "t.json", ({"YoutubeID": f"{number:011d}"} for number in range(90)))
    div_subset([folder / "t.json"], folder / "div.jsonl", 80)


def _answers(folder: Path) -> None:
    answers = ({"video": f"{number}.mp4", "results": [{"label": "a", "score": 0.5}]} for number in range(2000))
    AnswerSet(folder / "answers", str(demo_path("demo-classifier")), ["a", "b"], {}).write(answers)


def _read(folder: Path, pattern: str, read: object) -> None:
    for file in folder.glob(pattern):
        read(file)


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("videos")
    return [str(write_video(folder / f"{number}.mp4", 10, size=(64, 64))) for number in range(3)]


def _writers(videos: list[str]) -> dict[str, Writer]:
    rows = [{"video": video, "label": number} for number, video in enumerate(videos)]
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8))
    small = TranscodeSettings(32)
    return {
        "shrink": Writer(
            "2.mp4",
            lambda out: transcode_videos({video: out / Path(video).name for video in videos}, small),
            lambda out: _read(out, "[0-9]*.mp4", lambda file: len(decode_in_order(file)) == 10 or 1 / 0),
            3,
        ),
        "shards": Writer(
            "000001.tar",
            lambda out: write_shards(rows, out, samples_per_shard=2),
            lambda out: _read(out, "0*.tar", lambda file: list(read_shard(str(file)))),
            3,
        ),
        "scan": Writer(
            "bad.json",
            lambda out: write_report(out / "bad.json", 2000, verify_videos([f"none-{n}.mp4" for n in range(2000)])),
            lambda out: _read(out, "bad.json", lambda file: json.loads(file.read_text())),
            1,
        ),
        "evaluate": Writer(
            "result.json",
            lambda out: write_result({"scores": ["x" * 100] * 1000}, prepare_out(out / "result.json")),
            lambda out: _read(out, "result.json", lambda file: json.loads(file.read_text())),
            1,
        ),
        "scores": Writer("a.safetensors", _scores, lambda out: _read(out, "a.safetensors", Scores.load), 1),
        "dataset div": Writer(
            "div.jsonl",
            _subset,
            lambda out: _read(out, "div.jsonl", lambda file: len(list(read_records(file))) == 80 or 1 / 0),
            2,
        ),
        "montage": Writer(
            "hits.png",
            lambda out: save_picture(noise, out / "hits.png"),
            lambda out: _read(out, "hits.png", lambda file: Image.open(file).load()),
            1,
        ),
        "detect-actions": Writer(
            "drawn.mp4",
            lambda out: draw_video(videos[0], _nobody(), out / "drawn.mp4"),
            lambda out: _read(out, "drawn.mp4", lambda file: len(decode_in_order(file)) == 10 or 1 / 0),
            1,
        ),
        "parts": Writer("000000004.safetensors", _journal, _check_journal, 6),
        "make-demo-data": Writer(
            "00001.mp4",
            _data_set,
            lambda out: _read(out, "*/0*.mp4", lambda file: len(decode_in_order(file)) == NUM_FRAMES or 1 / 0),
            31,
        ),
        "make-demo-data --untrimmed": Writer("validation_0000.mp4", _untrimmed, _check_untrimmed, 7),
        "demo": Writer(
            "00001.mp4",
            lambda out: draw_clips(out, 2, seed=1),
            lambda out: _read(out, "*/0*.mp4", lambda file: len(decode_in_order(file)) == NUM_FRAMES or 1 / 0),
            3,
        ),
        "merge": Writer(
            "model",
            lambda out: merge_checkpoints(demo_path("demo-mm"), [demo_path("demo-mm")], out / "model", overwrite=True),
            lambda out: _read(out, "model/model.safetensors", load_file),
            10,
        ),
        "classify --dataset": Writer(
            "answers",
            _answers,
            lambda out: _read(
                out, "answers", lambda folder: len(list(read_records(folder / "data"))) == 2000 or 1 / 0
            ),
            2,
        ),
    }


NAMES = tuple(_writers([]))


def files_in(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def writer(request, videos) -> Writer:
    return _writers(videos)[request.param]


@pytest.mark.parametrize("writer", NAMES, indirect=True)
@pytest.mark.parametrize("death", ["killed", "full"])
def test_what_is_there_is_whole_and_the_next_call_finishes(writer, death, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    how = {"kill_before": writer.last} if death == "killed" else {"file_size": 1500}
    assert dying.run(lambda: writer.write(out), **how) == (dying.KILLED if death == "killed" else dying.FULL)
    writer.check(out)
    assert dying.run(lambda: writer.write(out)) == 0
    writer.check(out)
    left = {file for file in files_in(tmp_path) if "unfinished" in file or "lock" in file or "/." in file}
    assert left == set() and len(files_in(tmp_path)) == writer.files
