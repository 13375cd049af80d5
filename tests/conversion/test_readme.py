"""The page on conversion says what the package does."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

from internvideo_hf.conversion.released import released

FOLDER = Path(__file__).parents[2] / "conversion"


def table_row(row: dict) -> str:
    folder = row["name"].lower().replace(" ", "-")
    command, settings = f"internvideo convert {row['file']} {folder}", ""
    if row["config"]:
        command, settings = f"{command} --config {folder}.json", f"`{json.dumps(row['config'])}`"
    cells = [row["name"], f"[{row['file']}]({row['address']})", f"`{command}`", settings, row["note"] or ""]
    return f"| {' | '.join(cells)} |"


def test_the_table_of_released_files_equals_released_json():
    lines = (FOLDER / "README.md").read_text().splitlines()
    start = lines.index("| Model | File | Command | Settings file | Remark |") + 2
    rows = lines[start : lines.index("", start)]
    assert rows == [table_row(row) for row in released()]


def run_script(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["convert_internvideo_mm_to_hf.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as done:
        runpy.run_path(str(FOLDER / "convert_internvideo_mm_to_hf.py"), run_name="__main__")
    return done.value.code or 0


def test_the_script_is_the_command(case, settings, tmp_path, monkeypatch, capsys):
    (tmp_path / "overrides.json").write_text(json.dumps(settings))
    options = ("--config", tmp_path / "overrides.json")
    assert run_script(monkeypatch, case / "checkpoint.ckpt", tmp_path / "out", *options) == 0
    printed = capsys.readouterr().out
    assert "caption_decoder.visual_queries" in printed and "Wrote" in printed
    assert (tmp_path / "out/config.json").is_file()

    torch.save({"state_dict": {}}, tmp_path / "empty.ckpt")
    assert run_script(monkeypatch, tmp_path / "empty.ckpt", tmp_path / "none") == 2
    assert "holds no tensors" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
