"""Packing of runs into bundled models."""

import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForVideoClassification

from internvideo_hf.demo.packing import main, pack
from internvideo_hf.demo.synthetic import make_data_set
from internvideo_hf.training.recipes import load_recipe
from internvideo_hf.training.run import train

SHORT = ["batch_size=8", "training.max_steps=1", "training.warmup_steps=0", "training.dataloader_num_workers=0"]


def test_a_run_is_packed_with_its_recipe_log_and_sums(tmp_path, monkeypatch):
    make_data_set(tmp_path / "data", 12)
    final = train(load_recipe("demo/classifier", SHORT), tmp_path / "data", tmp_path / "run", quiet=True)
    out, stage = tmp_path / "out", tmp_path / "stage"
    shutil.copytree(final.parent, stage)
    (stage / "log.jsonl").write_text("of the stage before\n")
    monkeypatch.setattr(sys, "argv", ["packing", str(stage), str(final.parent), str(out)])
    main()
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=out, check=True)
    assert {"README.md", "recipe.yaml", "log.jsonl", "config.json"} <= {file.name for file in out.iterdir()}
    assert (out / "log-stage.jsonl").read_text() == "of the stage before\n"
    assert (out / "recipe-stage.yaml").read_bytes() == (out / "recipe.yaml").read_bytes()
    full, half = (load_file(folder / "model.safetensors") for folder in (final, out))
    assert full.keys() == half.keys()
    assert all(torch.equal(half[name], full[name].half()) for name in full if full[name].is_floating_point())
    assert AutoModelForVideoClassification.from_pretrained(out).dtype == torch.float32

    with pytest.raises(FileExistsError, match="overwrite"):
        pack([final.parent], out)
    (out / "README.md").write_text("a card that somebody wrote")
    pack([stage, final.parent], out, overwrite=True)
    assert (out / "README.md").read_text() == "a card that somebody wrote"


def test_wrong_runs_are_refused(tmp_path, monkeypatch, capsys):
    for runs in ([], [tmp_path / "a/run", tmp_path / "b/run"]):
        with pytest.raises(ValueError, match="different names"):
            pack(runs, tmp_path / "out")
    monkeypatch.setattr(sys, "argv", ["packing", str(tmp_path / "none"), str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "expected a finished run of `train`" in capsys.readouterr().err


def test_a_run_that_has_not_ended_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a finished run"):
        pack([tmp_path], tmp_path / "out")
    assert not (tmp_path / "out").exists()
