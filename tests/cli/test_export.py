"""`export`: outputs and refusals."""

import sys

import pytest
from program import assert_refused, run


@pytest.fixture(autouse=True)
def _extra():
    pytest.importorskip("onnxscript", reason="needs the extra export")


def test_export_writes_a_folder_that_commands_take(mae_folder, bikes, tmp_path):
    out = tmp_path / "out"
    result = run("export", mae_folder, out, "--frames", 4, "--size", 32)
    assert result.returncode == 0, result.stderr
    assert "Tracing video in 4 x 3 x 32 x 32" in result.stdout and "video.logits: cosine 1.000000" in result.stdout
    answer = run("classify", bikes, "--model", out, "--top-k", 1, "--device", "cpu", "--quiet")
    assert answer.returncode == 0 and "bikes.mp4" in answer.stdout, answer.stderr
    features = run("extract", bikes, "--model", out, "--window", 4, "--stride", 200, "--out", tmp_path / "f", "-q")
    assert features.returncode == 0 and list((tmp_path / "f").glob("*.safetensors")), features.stderr
    classes = tmp_path / "videos/val/abseiling"
    classes.mkdir(parents=True)
    (classes / "bikes.mp4").symlink_to(bikes)
    score = tmp_path / "score.json"
    options = ("--data-root", tmp_path / "videos", "--workers", 0, "--device", "cpu", "--out", score, "--quiet")
    evaluated = run("evaluate", "--model", out, *options)
    assert evaluated.returncode == 0 and score.is_file(), evaluated.stderr
    assert_refused(run("export", mae_folder, out), "--overwrite")
    assert_refused(run("export", out, tmp_path / "again"), "is exported already")
    assert_refused(run("classify", bikes, "--model", out, "--dtype", "float16"), "was exported in float32")
    (out / "extra.py").touch()
    assert_refused(run("classify", bikes, "--model", out), "extra.py, which export.json does not list")


def test_export_refuses_and_leaves_nothing_behind(mae_folder, mae_pretrained_folder, bikes, tmp_path):
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(b"noise")
    refusals = [
        (("export", mae_folder, tmp_path / "x", "--format", "onxn"), "onnx"),
        (("export", mae_folder, tmp_path / "x", "--dtype", "int3"), "int3"),
        (("export", mae_folder, tmp_path / "x", "--size", 60), "size=60 is not a multiple of the patch size 16"),
        (("export", mae_pretrained_folder, tmp_path / "x"), "not exported"),
        (("export", mae_folder, tmp_path / "x", "--dtype", "bfloat16"), "float32, float16, int8"),
        (("export", mae_folder, tmp_path / "x", "--dtype", "int8"), "int8 needs videos of calibration"),
        (("export", mae_folder, tmp_path / "x", "--calibrate", bikes), "takes no videos of calibration, got 1"),
        (("export", mae_folder, tmp_path / "x", "--dtype", "int8", "--calibrate", noise), "noise.mp4"),
        (("export", mae_folder, tmp_path / "x", "--format", "pt2", "--dtype", "int8"), "float32, bfloat16, float16"),
        (("export", mae_folder, tmp_path / "x", "--evaluate", tmp_path / "missing.csv"), "missing.csv"),
        (
            ("export", mae_folder, tmp_path / "x", "--dtype", "int8", "--calibrate", tmp_path / "missing.csv"),
            f"it cannot be opened (No such file or directory); {tmp_path} holds noise.mp4. Check the path.\n",
        ),
        (("export", "demo-actionformer", tmp_path / "x", "--frames", 8), "Leave out --frames"),
        (("export", "demo-actionformer", tmp_path / "x", "--dtype", "int8", "--calibrate", bikes), "reads features"),
        (("export", mae_folder, noise), "noise.mp4"),
        (("export", "no-such-model", tmp_path / "x"), "no-such-model"),
    ]
    for arguments, word in refusals:
        assert_refused(run(*arguments), word)
    assert list(tmp_path.iterdir()) == [noise]


def test_a_missing_extra_is_named(mae_folder, tmp_path, monkeypatch):
    for package in ("onnxscript", "openvino"):
        monkeypatch.setitem(sys.modules, package, None)
    arguments = (mae_folder, tmp_path / "out", "--frames", 2, "--size", 32)
    assert_refused(run("export", *arguments), "internvideo-hf[export]")
    assert_refused(run("export", *arguments, "--format", "openvino"), "internvideo-hf[openvino]")
    assert not list(tmp_path.iterdir())


def test_no_command_opens_pt2(mae_folder, bikes, tmp_path):
    out = tmp_path / "out"
    result = run("export", mae_folder, out, "--format", "pt2", "--frames", 2, "--size", 32)
    assert result.returncode == 0 and "video.logits: cosine 1.000000" in result.stdout, result.stderr
    assert_refused(run("classify", bikes, "--model", out), "exported as pt2, for other programs")
