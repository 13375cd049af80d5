"""Features by several workers."""

import shutil
from pathlib import Path

import pytest
from program import run
from search.gallery import write

from internvideo_hf.data.executors import processes
from internvideo_hf.inference.extraction import Extraction, Target, extract_on_engine
from internvideo_hf.inference.features import FeatureExtractor, extract_to_file


class Here:
    """An engine in this process."""

    workers = decoders = 1

    def map_ordered(self, task, items, workers, name_of=str, *, timeout=None):
        return processes.map_ordered(task, items, workers, name_of)

    def device(self):
        return "cpu"


@pytest.fixture
def targets(tmp_path):
    videos = [write(tmp_path / f"{name}.mp4", (name, 20), ("grey", 7)) for name in ("red", "green")]
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    return [
        Target(str(video), tmp_path / f"out/{video.name}.safetensors") for video in [*videos, tmp_path / "broken.mp4"]
    ]


def contents(folder):
    return {file.name: file.read_bytes() for file in Path(folder).iterdir() if file.is_file()}


def test_files_are_equal_to_those_of_one_process_and_are_not_made_twice(mae_folder, targets, tmp_path):
    options = {"model": str(mae_folder), "window": 16, "stride": 4, "batch_size": 2}
    extractor = FeatureExtractor(**options, device="cpu")
    for target in targets[:2]:
        extract_to_file(extractor, *target, as_npy=True)
    expected = contents(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    settings = Extraction(options, extractor.settings.revision, {"as_npy": True})
    first = list(extract_on_engine(targets, settings, Here()))
    assert [target for target, _ in first] == targets and [result for _, result in first[:2]] == [True, True]
    assert contents(tmp_path / "out") == expected and len(expected) == 6
    assert isinstance(first[2][1], ValueError) and "broken.mp4" in str(first[2][1])
    assert [result for _, result in extract_on_engine(targets[:2], settings, Here())] == [False, False]


def test_another_model_in_a_worker_is_refused(mae_folder, targets):
    settings = Extraction({"model": str(mae_folder), "window": 16}, "another")
    with pytest.raises(ValueError, match="Put the same model there on all machines"):
        list(extract_on_engine(targets, settings, Here()))


@pytest.mark.slow
def test_a_limit_of_time_extracts_in_a_process_of_its_own(mae_folder, targets, tmp_path):
    options = ("--model", mae_folder, "--device", "cpu", "--out")
    done = run("extract", *(video for video, _ in targets), *options, tmp_path / "limited", "--video-timeout", 250)
    assert done.returncode == 1 and "broken.mp4" in done.stderr
    run("extract", *(video for video, _ in targets), *options, tmp_path / "plain", "--quiet")
    assert contents(tmp_path / "limited") == contents(tmp_path / "plain") != {}
