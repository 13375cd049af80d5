"""The command `doctor`: output and exit codes."""

import pytest
from program import run

from internvideo_hf.cli import checks, main


def test_doctor_finds_this_machine_fit():
    result = run("doctor")
    assert result.returncode == 0, result.stdout + result.stderr
    lines = {line.split("  ")[0]: line for line in result.stdout.splitlines()}
    for name in ("Python", "torch", "torchvision", "transformers", "decoder pyav", "attention sdpa"):
        assert " works " in lines[name]
    assert {"decoder torchcodec", "decoder decord", "extra [deepspeed] deepspeed"} <= set(lines)


def test_the_program_ends_with_1_when_the_core_is_broken(monkeypatch, capsys):
    monkeypatch.setattr(checks, "_torch", lambda: 1 / 0)
    monkeypatch.setattr("sys.argv", ["internvideo", "doctor"])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 1
    printed = capsys.readouterr()
    assert "BROKEN" in printed.out and "torch" in printed.err
