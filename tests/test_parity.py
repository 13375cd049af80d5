"""Every reference case of `--golden-root`, through the adapter of its kind.

A case is a folder with `config.json`, a tiny checkpoint in the released layout and the tensors or tables that the
original implementation produced from it. The folder's `index.json` names the kind of each case.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from parity import ADAPTERS
from safetensors.torch import load_file, save_file

GOLDEN = Path(__file__).parent / "golden"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" not in metafunc.fixturenames:
        return
    root = metafunc.config.getoption("--golden-root")
    index = json.loads((root / "index.json").read_text())
    metafunc.parametrize(
        "case", [pytest.param((root / name, entry["kind"]), id=name) for name, entry in index.items()]
    )


def test_case_equals_the_original(case: tuple[Path, str], tmp_path: Path) -> None:
    folder, kind = case
    if kind not in ADAPTERS:
        pytest.skip(f"no adapter for kind {kind}")
    ADAPTERS[kind](folder, tmp_path)


def _forget_terms(config: dict) -> None:
    for entry in config["entries"]:
        del entry["entries"]


@pytest.mark.parametrize(
    ("name", "leave_out", "change"),
    [
        (
            "os_baselines",
            ("labels", "RPLoss.loss", "RPLoss.top", "GCPLoss.loss", "GCPLoss.top", "bnn.loss", "bnn.total"),
            None,
        ),
        ("os_baselines", ("bnn.train", "bnn.loss", "bnn.total"), lambda config: config["bnn"].pop("train")),
        ("os_baselines", ("openmax.eu", "openmax.cos"), None),
        ("os_edl_losses", (), _forget_terms),
        ("os_threshold_auc", ("entropy",), None),
    ],
)
def test_open_set_cases_may_lack_stages_and_hide_none(name, leave_out, change, tmp_path):
    folder = tmp_path / name
    shutil.copytree(GOLDEN / name, folder)
    config = json.loads((folder / "config.json").read_text())
    if change is not None:
        change(config)
        (folder / "config.json").write_text(json.dumps(config))
    stored = folder / "io.safetensors"
    tensors = {key: tensor for key, tensor in load_file(stored).items() if not key.startswith(leave_out or "-")}
    kind = json.loads((GOLDEN / "index.json").read_text())[name]["kind"]
    save_file(tensors, stored)
    ADAPTERS[kind](folder, tmp_path)
    save_file(tensors | {"another": torch.zeros(1)}, stored)
    with pytest.raises(AssertionError, match="stored but never compared: .'another'"):
        ADAPTERS[kind](folder, tmp_path)
