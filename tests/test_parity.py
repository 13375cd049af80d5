"""Every reference case of `--golden-root`, through the adapter of its kind.

A case is a folder with `config.json`, a tiny checkpoint in the released layout and the tensors or tables that the
original implementation produced from it. The folder's `index.json` names the kind of each case.
"""

import json
from pathlib import Path

import pytest
from parity import ADAPTERS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
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
