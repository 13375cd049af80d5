"""Values of shared options."""

import math
import os
import sys
from types import SimpleNamespace

import pytest
import torch
import typer
from program import assert_refused, run
from typer.testing import CliRunner

from internvideo_hf.cli import options
from internvideo_hf.cli.options import (
    AnswerTimeout,
    Quiet,
    Videos,
    decoders,
    engine_of,
    engine_starter,
    has_limit,
    parse_device,
    parse_dtype,
    read_json,
    takes_addresses,
)
from internvideo_hf.utils import devices
from internvideo_hf.video.downloads import DownloadSettings

LABELS = "riding a bike, cooking pasta, playing chess"


def test_a_folder_that_holds_no_model_is_refused(bikes, tmp_path):
    assert_refused(run("zero-shot", bikes, "--model", tmp_path, "--labels", LABELS), str(tmp_path))


def test_classify_tells_a_pretrained_model_and_a_folder_of_transformers_own(
    mae_folder, mae_pretrained_folder, bikes, tmp_path
):
    wanted = ("is not a classifier: it holds an InternVideoMAEForPreTraining",)
    assert_refused(run("classify", bikes, "--model", mae_pretrained_folder), *wanted)
    checkpoint, stock = mae_folder.with_name("classifier.pth"), tmp_path / "stock"
    assert run("convert", checkpoint, stock, "--to", "transformers-videomae").returncode == 0
    for command in (["classify"], ["reconstruct", "--out", tmp_path / "x.png"]):
        assert_refused(run(*command, bikes, "--model", stock), "'videomae'", "transformers' own pipelines")
    done = run("extract", bikes, "--model", stock, "--out", tmp_path / "out", "--stride", 300, "-q")
    assert done.returncode == 0, "features of any video encoder"


def test_options_of_downloads_reach_the_processes_that_download(monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    seen = []

    def command(videos: Videos, quiet: Quiet = False) -> None:
        """Do nothing."""
        seen.append((videos, quiet, DownloadSettings.default()))

    program = typer.Typer()
    program.command()(takes_addresses(command))
    call = ["a.mp4", "-q", "--download-deadline", "9.5", "--download-max-bytes", "5000000000", "--allow-playlists"]
    assert CliRunner().invoke(program, call).exit_code == 0
    assert seen == [(["a.mp4"], True, DownloadSettings(deadline=9.5, max_bytes=5_000_000_000, allow_playlists=True))]
    refused = CliRunner().invoke(program, ["a.mp4", "--download-deadline", "-1"])
    assert "expected seconds above 0" in str(refused.exception)


def test_json_that_is_nested_without_end_is_refused(tmp_path):
    (tmp_path / "a.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"a\.json is not valid JSON"):
        read_json(tmp_path / "a.json")


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is there")
def test_a_device_that_is_not_there_is_refused_in_one_line(mae_folder, bikes):
    result = run("classify", bikes, "--model", mae_folder, "--device", "cuda")
    assert_refused(result, "internvideo: --device cuda: ", "Leave it out for ")
    assert len(result.stderr.strip().splitlines()) == 1
    assert parse_device(None) is None and parse_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("command", ["index", "extract", "localize", "classify"])
@pytest.mark.parametrize("seconds", ["inf", "1e300", "nan", "0.01", "soon"])
def test_seconds_that_no_clock_counts_are_refused(command, seconds):
    result = run(command, "x", "--model", "x", "--out", "x", "--video-timeout", seconds)
    assert_refused(result, "'--video-timeout'", f"{seconds}: expected seconds")


@pytest.mark.parametrize("given", [[], ["--video-timeout", "9"], *(["--video-timeout", v] for v in ("0", "none"))])
def test_a_limit_of_time_can_be_switched_off(given):
    seen = []

    def command(video_timeout: AnswerTimeout = None) -> None:
        """Do nothing."""
        seen.append(video_timeout)

    program = typer.Typer()
    program.command()(command)
    assert CliRunner().invoke(program, given).exit_code == 0
    expected = {0: None, "9": 9.0}.get(given[-1] if given else 0, math.inf)
    assert seen == [expected] and has_limit(seen[0]) == (expected == 9.0)


def test_options_of_a_cluster_belong_together(monkeypatch):
    with pytest.raises(ValueError, match="Add --engine ray"):
        engine_of("local", "auto", None, None, None)
    with pytest.raises(ValueError, match="Leave it out"):
        engine_of("ray", None, None, 4, None)
    with pytest.raises(ValueError, match="--engine"):
        engine_of("rye", None, None, None, None)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r'pip install "internvideo-hf\[ray\]"'):
        engine_of("ray", None, None, None, None)


def test_several_accelerators_need_to_be_there(monkeypatch):
    assert engine_of("local", None, None, 4, "cpu") is engine_of("local", None, 1, None, None) is None
    with pytest.raises(ValueError, match="Give one"):
        engine_of("local", None, 2, None, "cuda:0")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with pytest.raises(ValueError, match="--gpus 2: this machine has 0 accelerators"):
        engine_of("local", None, 2, None, None)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 3)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    engine = engine_of("local", None, 2, 8, None)
    assert engine.devices == ("cuda:0", "cuda:1") and (engine.workers, engine.decoders) == (2, 4)


def test_one_model_apart_has_a_decoder_for_each_core(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    for jobs, expected in ((None, 5), (3, 3)):
        engine = engine_of("local", None, None, jobs, "cpu", apart=True)
        assert engine.devices == ("cpu",) and (engine.workers, engine.decoders) == (1, expected)


def test_decoders_are_processes_unless_there_is_a_cluster(monkeypatch):
    assert decoders("local", None, 3, 2) == {"jobs": 2, "executor": None}
    cluster = SimpleNamespace(workers=2, decoders=3, executor=lambda: "tasks")
    monkeypatch.setattr(options, "engine_of", lambda *arguments: cluster)
    assert decoders("ray", "auto", None, 2) == {"jobs": 6, "executor": "tasks"}


def test_an_address_is_checked_before_ray_starts(monkeypatch):
    monkeypatch.setattr("internvideo_hf.data.executors.cluster.require_ray", lambda: None)
    with pytest.raises(ValueError, match='expected "auto" or HOST:PORT'):
        engine_starter("ray", "nowhere", None, None, None)


def test_auto_leaves_exported_models_as_they_are(monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "fastest_dtype", lambda device: "bfloat16")
    assert parse_dtype("auto", None, "model", None) == "bfloat16"
    (tmp_path / "export.json").touch()
    assert parse_dtype("auto", None, None, str(tmp_path)) is None
    assert parse_dtype("bfloat16", None, str(tmp_path)) == "bfloat16", "what is asked for is refused later"


def test_a_file_of_labels_that_is_not_there_is_named_with_a_remedy(tmp_path):
    words = "none.txt cannot be read (No such file or directory). Check the path."
    for option in ("--labels", "--labels-file"):
        assert_refused(run("zero-shot", "a.mp4", "--model", "demo-mm", option, tmp_path / "none.txt"), words)
