"""The notebooks run from top to bottom, with the right answers, and are stored without outputs."""

import json
import os
import re
import sys
from pathlib import Path

import pytest
from conftest import ROOT

BOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))


def execute(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run a notebook in a folder; return what each cell of code prints, "<picture>" where it shows one."""
    nbformat, client = (pytest.importorskip(name, reason="needs the extra docs") for name in ("nbformat", "nbclient"))
    # Cells call the program, which need not be on the path of the tests.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    book = nbformat.read(path, as_version=4)
    client.NotebookClient(book, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    return [
        "".join("<picture>" if "image/png" in out.get("data", {}) else out.get("text", "") for out in cell.outputs)
        for cell in book.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells)
    assert cells[0]["source"][0].startswith("# ")
    assert max(len(line) for cell in cells for line in cell["source"]) <= 150


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fine_tune_my_clips(tmp_path, monkeypatch):
    printed = execute(ROOT / "docs/notebooks/fine_tune_my_clips.ipynb", tmp_path, monkeypatch)
    assert sum("<picture>" in text for text in printed) == 4
    table = (tmp_path / "run/answers/summary.txt").read_text()
    rows = re.findall(r"^(\w+) +(\d+) +(\d+\.\d+) ", table, re.M)
    assert {name for name, *_ in rows} == {"breathes", "circles", "spins", "swings", "travels"}
    right = sum(int(videos) * float(score) for _, videos, score in rows) / sum(int(videos) for _, videos, _ in rows)
    assert right >= 60  # a third of the clips is of the largest class


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_search_my_videos(tmp_path, monkeypatch):
    printed = execute(ROOT / "docs/notebooks/search_my_videos.ipynb", tmp_path, monkeypatch)
    everything = "\n".join(printed)
    assert "25 videos, 45 windows; 0 could not be read" in everything and everything.count("<picture>") == 2
    assert "* matches: " in printed[2] and "Nothing here matches: " in printed[3]
    # The long video's moon moves down from second 7 to 10.
    assert re.search(r"^long\.mp4  0:0[68]-0:(08|10)  cosine", printed[4], re.M)
    assert "new: -\nmoved: moved.mp4\ncopied: copy.mp4\nremoved: -\n" in everything
    assert re.search(r"00006\.mp4\s+1\.000 .*copy\.mp4\s+1 groups of near-copies", printed[-1])
