"""Features by several workers."""

import shutil
from pathlib import Path

import pytest
from program import run
from search.gallery import write

from internvideo_hf.data.executors import processes
from internvideo_hf.inference import extraction
from internvideo_hf.inference.extraction import Extraction, Target, extract_on_engine
from internvideo_hf.inference.features import FeatureExtractor, extract_to_file
from internvideo_hf.video.errors import VideoDecodeError


class Here:
    """An engine in this process."""

    workers = decoders = 1

    def map_ordered(self, task, items, workers, name_of=str, *, timeout=None):
        return processes.map_ordered(task, items, workers, name_of)

    def device(self):
        return "cpu"

    def executor(self):
        return processes


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


@pytest.mark.slow
def test_pieces_of_a_video_have_the_bits_of_the_whole(small_folder, bikes, tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "_PIECE_BYTES", 1)  # 32 frames
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(hurt(Path(bikes).read_bytes()))
    targets = [
        Target(str(video), tmp_path / f"{name}/x.safetensors") for name, video in (("a", bikes), ("b", damaged))
    ]
    for fps in (None, 40.0):  # of which the second repeats frames
        options = {"model": str(small_folder), "window": 8, "stride": 8, "fps": fps}
        extractor = FeatureExtractor(**options, device="cpu")
        output = {"gaps": True, "overwrite": True}
        for target in targets:
            extract_to_file(extractor, *target, **output)
        expected = [contents(target.path.parent) for target in targets]
        for target in targets:
            shutil.rmtree(target.path.parent)
        found = list(extract_on_engine(targets, Extraction(options, extractor.settings.revision, output), Here()))
        assert [result for _, result in found] == [True, True]
        assert [contents(target.path.parent) for target in targets] == expected
        pieces = [
            extraction._Piece(target.video, range(first, first + 32)) for target in targets for first in (64, 96)
        ]
        assert [extraction._read(piece, extractor.encoder.process) is None for piece in pieces] == [False] * 3 + [True]
        assert b'"gaps"' in expected[1]["x.json"] and b'"gaps"' not in expected[0]["x.json"]


def hurt(content):
    """Return a file with noise in the middle of its pictures."""
    middle = len(content) // 2
    return content[:middle] + bytes(range(256)) * 4 + content[middle + 1024 :]


def test_a_video_that_kills_a_decoder_is_a_failure(mae_folder, bikes, tmp_path, monkeypatch):
    class Killed(Here):
        def executor(self):
            return self

        def map_ordered(self, task, items, workers, name_of=str, *, timeout=None):
            if isinstance(items[0], Target):
                return super().map_ordered(task, items, workers, name_of)
            return ((item, VideoDecodeError(name_of(item), processes.KILLED, "Leave it out.")) for item in items)

    settings = Extraction({"model": str(mae_folder)}, FeatureExtractor(mae_folder, device="cpu").settings.revision)
    ((_, result),) = extract_on_engine([Target(str(bikes), tmp_path / "x.safetensors")], settings, Killed())
    assert result.cause == processes.KILLED and not (tmp_path / "x.safetensors").exists()


def test_another_model_in_a_worker_is_refused(mae_folder, targets):
    settings = Extraction({"model": str(mae_folder), "window": 16}, "another")
    with pytest.raises(ValueError, match="Put the same model there on all machines"):
        list(extract_on_engine(targets, settings, Here()))


@pytest.mark.slow
def test_a_limit_of_time_extracts_in_a_process_of_its_own(mae_folder, targets, tmp_path, capfd):
    options = ("--model", mae_folder, "--device", "cpu", "--out")
    done = run("extract", *(video for video, _ in targets), *options, tmp_path / "limited", "--video-timeout", 250)
    assert done.returncode == 1 and "broken.mp4" in done.stderr
    assert "LOAD REPORT" not in capfd.readouterr().err, "of transformers, in the worker"
    run("extract", *(video for video, _ in targets), *options, tmp_path / "plain", "--quiet")
    assert contents(tmp_path / "limited") == contents(tmp_path / "plain") != {}
