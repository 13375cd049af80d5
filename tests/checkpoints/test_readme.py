"""The page on conversion says what the package does."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from parity import internvideo_mae, internvideo_mm, uniformerv2, viclip
from parity.compare import load_config

from internvideo_hf.checkpoints.convert import FAMILIES
from internvideo_hf.checkpoints.released import published, released, rows_of_file

FOLDER = Path(__file__).parents[2] / "conversion"


def table_row(row: dict) -> str:
    file, alone = row["file"], len(rows_of_file(row["file"], row["family"])) == 1
    if (row["address"] or "").startswith("https://huggingface.co/"):  # the other addresses no longer answer
        file = f"[{file}]({row['address']})"
    # The settings of a name that is one file's alone are found by it.
    settings = f"`{json.dumps(row['config'])}`" if row["config"] and not alone else ""
    remark = "; ".join(filter(None, [published(row), row["note"]]))
    return f"| {' | '.join([row['name'], file, row['labels'] or '', settings, remark])} |"


def test_the_table_of_released_files_equals_released_json():
    lines = (FOLDER / "README.md").read_text().splitlines()
    start = lines.index("| Model | File | Classes | Settings file | Remark |") + 2
    rows = lines[start : lines.index("", start)]
    assert rows == [table_row(row) for row in released()]


def run_script(monkeypatch: pytest.MonkeyPatch, family: str, *arguments: object) -> int:
    script = FOLDER / f"convert_{family}_to_hf.py"
    monkeypatch.setattr(sys, "argv", [script.name, *map(str, arguments)])
    with pytest.raises(SystemExit) as done:
        runpy.run_path(str(script), run_name="__main__")
    return done.value.code or 0


CASES = {
    "internvideo_mm": ("mm_tiny_b/checkpoint.ckpt", internvideo_mm.overrides, "caption_decoder.visual_queries"),
    "internvideo_mae": ("vm_cls_mean/checkpoint.pth", internvideo_mae.overrides, "recognized as internvideo_mae"),
    "uniformerv2": ("ufv2_local_global/checkpoint.pth", uniformerv2.overrides, "recognized as uniformerv2"),
    "viclip": ("viclip_tiny/checkpoint.pth", viclip.overrides, "recognized as viclip"),
}


def test_every_family_has_a_script():
    assert {path.name for path in FOLDER.glob("*.py")} == {f"convert_{family}_to_hf.py" for family in CASES}
    assert set(CASES) == set(FAMILIES)


@pytest.mark.parametrize("family", CASES)
def test_the_script_is_the_command(family, golden, tmp_path, monkeypatch, capsys):
    file, overrides, said = CASES[family]
    checkpoint = golden / file
    (tmp_path / "overrides.json").write_text(json.dumps(overrides(load_config(checkpoint.parent))))
    options = ("--config", tmp_path / "overrides.json")
    assert run_script(monkeypatch, family, checkpoint, tmp_path / "out", *options) == 0
    printed = capsys.readouterr().out
    assert said in printed and "Wrote" in printed
    assert (tmp_path / "out/config.json").is_file()

    torch.save({"state_dict": {}}, tmp_path / "empty.ckpt")
    assert run_script(monkeypatch, family, tmp_path / "empty.ckpt", tmp_path / "none") == 2
    assert "holds no tensors" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
