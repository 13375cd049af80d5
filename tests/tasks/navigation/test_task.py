"""`evaluate navigation/r2r_ce`: recorded paths beside the published scores, without a model."""

import json
from dataclasses import replace

import pytest
from program import run
from tasks.navigation.walks import LOST, STRAIGHT

from internvideo_hf.evaluation.protocols import load_protocol
from internvideo_hf.evaluation.report import table
from internvideo_hf.evaluation.run import evaluate
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.navigation.paths import write_paths


@pytest.fixture
def root(tmp_path):
    write_paths(tmp_path / "paths.json", [replace(STRAIGHT, reference=None, episode="1"), replace(LOST, episode="2")])
    (tmp_path / "val_unseen").mkdir()
    episodes = [{"episode_id": "1", "reference_path": STRAIGHT.reference}]
    (tmp_path / "val_unseen/val_unseen.json").write_text(json.dumps({"episodes": episodes}))
    return tmp_path


def protocol(*changes):
    return load_protocol("navigation/r2r_ce", ["data.references=val_unseen/val_unseen.json", *changes])


def test_paths_are_scored_beside_the_published_numbers(root):
    result = evaluate(protocol(), None, root, report=root / "report", quiet=True)
    assert result["scores"]["SR"] == 50 and result["scores"]["NE"] == 2.5
    text = table(result)
    assert "52.90" in text and "61.55" in text and "no model" in text
    assert (root / "report/predictions.json").is_file()


def test_the_program_needs_no_model(root):
    done = run("evaluate", "navigation/r2r_ce", "data.references=null", "--data-root", root, "--quiet")
    assert done.returncode == 2 and "episode 1: reference missing" in done.stderr
    done = run(
        "evaluate", "navigation/r2r_ce", "data.references=val_unseen/val_unseen.json", "--data-root", root, "--quiet"
    )
    assert done.returncode == 0, done.stderr
    assert "the published split has 1839" in done.stdout


def test_settings_that_change_nothing_are_refused():
    with pytest.raises(RecipeError, match="data.labels changes nothing in navigation"):
        protocol("data.labels=k400")
    with pytest.raises(RecipeError, match="data.references changes nothing in classification"):
        load_protocol("classification/custom", ["data.references=a.json"])
