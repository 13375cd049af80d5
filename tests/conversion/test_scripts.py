"""The scripts in conversion/ are the command, and the table of released files is generated."""

import json
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch
from parity import actionformer, internvideo_mae, internvideo_mm, navigation, tcanet, uniformer, uniformerv2, viclip
from parity.compare import load_config

from internvideo_hf.checkpoints.convert import FAMILIES
from internvideo_hf.checkpoints.released import released_rows, rows_of_file

FOLDER = Path(__file__).parents[2] / "conversion"


def test_the_page_is_what_the_script_generates():
    script = runpy.run_path(str(FOLDER / "table.py"))
    page = (FOLDER / "README.md").read_text()
    assert script["generate"](page) == page, "run `python conversion/table.py --write`"
    assert all(script["table_row"](row) in page for row in released_rows())


def test_an_edited_table_is_replaced():
    script = runpy.run_path(str(FOLDER / "table.py"))
    page = (FOLDER / "README.md").read_text()
    edited = re.sub(r"\| VideoMAE-B K400 \|.*\n", "| mine | mine.pth |  |  |  |\n", page)
    assert edited != page and script["generate"](edited) == page


def test_the_address_of_a_file_is_given_while_it_answers():
    table_row = runpy.run_path(str(FOLDER / "table.py"))["table_row"]
    row = {**rows_of_file("ViCLIP-L_InternVid-FLT-10M.pth", "viclip")[0], "note": "ours"}
    assert table_row(row) == (
        "| ViCLIP-L-14 InternVid-10M-FLT | [ViCLIP-L_InternVid-FLT-10M.pth]"
        "(https://huggingface.co/OpenGVLab/ViCLIP) |  |  | ours |\n"
    )
    assert "http" not in table_row({**row, "address": "https://pjlab-gvm-data.oss-cn-shanghai.aliyuncs.com/a.pth"})


def run_script(monkeypatch: pytest.MonkeyPatch, family: str, *arguments: object) -> int:
    script = FOLDER / f"convert_{family}_to_hf.py"
    monkeypatch.setattr(sys, "argv", [script.name, *map(str, arguments)])
    with pytest.raises(SystemExit) as done:
        runpy.run_path(str(script), run_name="__main__")
    return done.value.code or 0


CASES = {
    "actionformer": (
        "actionformer_anet_tiny/checkpoint.pth.tar",
        actionformer.overrides,
        "recognized as actionformer",
    ),
    "internvideo_mm": ("mm_tiny_b/checkpoint.ckpt", internvideo_mm.overrides, "caption_decoder.visual_queries"),
    "internvideo_mae": ("vm_cls_mean/checkpoint.pth", internvideo_mae.overrides, "recognized as internvideo_mae"),
    "tcanet": ("tcanet_tiny/checkpoint.pth", tcanet.overrides, "recognized as tcanet"),
    "uniformer": (
        "ego4d_fhp_uniformer_tiny/checkpoint.pth",
        uniformer.overrides,
        "recognized as uniformer",
    ),
    "uniformerv2": ("ufv2_local_global/checkpoint.pth", uniformerv2.overrides, "recognized as uniformerv2"),
    "vln_planner": (
        "vln_planner_tiny/checkpoint.pth",
        navigation.planner_overrides,
        "recognized as vln_planner",
    ),
    "vln_waypoints": (
        "vln_planner_tiny/waypoint_predictor.pth",
        navigation.waypoints_overrides,
        "recognized as vln_waypoints",
    ),
    "viclip": ("viclip_tiny/checkpoint.pth", viclip.overrides, "recognized as viclip"),
}


def test_every_family_has_a_script():
    assert {path.name for path in FOLDER.glob("convert_*.py")} == {f"convert_{family}_to_hf.py" for family in CASES}
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
