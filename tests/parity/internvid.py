"""Adapter of the DIV subset: the choice of the script, in its order, from file to file."""

import json
from pathlib import Path

from internvideo_hf.data.subsets import DIV_SEED, div_subset
from parity.compare import load_config


def internvid_div_sampling(folder: Path, tmp_path: Path) -> None:
    config = load_config(folder)
    stored = json.loads((folder / "output.json").read_text(encoding="utf-8"))
    count, seed = config.get("num_sampled", len(stored)), config.get("numpy_seed", DIV_SEED)
    report = div_subset([folder / "input.json"], tmp_path / "chosen.json", count, seed=seed)
    assert json.loads((tmp_path / "chosen.json").read_text(encoding="utf-8")) == stored
    assert report.read == config.get("num_input", report.read) and report.kept == len(stored)
