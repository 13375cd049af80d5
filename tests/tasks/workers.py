"""Evaluations by one process and by several workers, whose results must be equal."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def assert_equal_results(score: Callable[..., dict], folder: Path, engine: Any, *, has_report: bool = True) -> dict:
    """Evaluate twice, and compare the results and the tables of the reports; return the result.

    Args:
        score: evaluates, with options of `evaluate`.
        folder: for outputs.
        engine: runs the workers.
        has_report: the task has one.
    """
    results = []
    for name, own in (("one", None), ("many", engine)):
        (folder / name).mkdir()
        report = {"report": folder / name / "report"} if has_report else {}
        score(out=folder / name / "result.json", engine=own, batch_size=2, **report)
        results.append(json.loads((folder / name / "result.json").read_text()) | {"seconds": 0})
        assert not list((folder / name).glob(".*")), "no parts are left"
    assert results[0] == results[1] and results[0]["scores"]
    for file in sorted((folder / "one").rglob("*.*")):
        if file.suffix in (".csv", ".json", ".txt", ".jsonl") and file.name != "result.json":
            assert file.read_bytes() == (folder / "many" / file.relative_to(folder / "one")).read_bytes(), file.name
    return results[0]
