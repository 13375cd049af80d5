"""Evaluation by several workers: results are those of one process, to the last digit."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data.executors.here import Here
from inference.row_work import two_workers
from tasks.lists import CLASSES, write_lists

from internvideo_hf.data.failures import TooManyFailuresError
from internvideo_hf.evaluation import run as evaluation_run
from internvideo_hf.evaluation.ensemble_run import evaluate_ensemble
from internvideo_hf.evaluation.ensembles import Scores
from internvideo_hf.evaluation.protocols import load_ensemble, load_protocol
from internvideo_hf.evaluation.run import evaluate
from internvideo_hf.inference import rows
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks import evaluation_tasks

OPTIONS = {"device": "cpu", "workers": 0, "batch_size": 2, "max_damaged": 0.5, "quiet": True}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(rows, "SHARD_ROWS", 2)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Return a folder of short videos and lists, one of the videos damaged."""
    root = write_lists(tmp_path_factory.mktemp("data"))
    (root / "all/video2.mp4").write_bytes(b"no video")
    return root


@pytest.fixture
def models(mm_folder, classifiers, answerer, captioner):
    return {"mm": mm_folder, "classifier": classifiers[0], "answerer": answerer, "captioner": captioner}


def run(protocol, model, root, out, **options):
    result = evaluate(load_protocol(protocol[0], protocol[1:]), model, root, out, **OPTIONS | options)
    content = json.loads(out.read_text())
    table = out.with_name(f"{out.name}.failures.jsonl")
    assert sorted(out.parent.iterdir()) == [out, *([table] if content["damaged"] else [])]  # no parts are left
    assert content == json.loads(json.dumps(result))
    return {name: value for name, value in content.items() if name != "seconds"}


PROTOCOLS = [
    ("mm", ["retrieval/msrvtt"]),
    ("mm", ["zero_shot/k400", CLASSES, "processor.num_clips=2"]),
    ("mm", ["multiple_choice/msrvtt"]),
]


@pytest.mark.parametrize(("model", "protocol"), PROTOCOLS, ids=lambda value: str(value))
def test_the_result_is_that_of_one_process(models, model, protocol, data, tmp_path):
    for folder in ("one", "many"):
        (tmp_path / folder).mkdir()
    engine = Here()
    one = run(protocol, models[model], data, tmp_path / "one/result.json")
    many = run(protocol, models[model], data, tmp_path / "many/result.json", engine=engine)
    assert one == many and len(engine.shards) == 2 and len(one["damaged"]) == 1


def test_classification_and_its_report_are_those_of_one_process(classifiers, clips, tmp_path):
    protocol = ["classification/custom", "data.list=val.csv", "num_clips=2"]
    results = []
    for name, engine in (("one", None), ("many", Here())):
        (tmp_path / name).mkdir()
        report = tmp_path / f"{name}-report"
        out = tmp_path / name / "result.json"
        results.append(run(protocol, classifiers[1], clips, out, engine=engine, report=report))
    assert results[0] == results[1]
    tables = [(tmp_path / f"{name}-report/answers.csv").read_bytes() for name in ("one", "many")]
    assert tables[0] == tables[1]


def test_members_of_an_ensemble_have_equal_scores(classifiers, clips, tmp_path):
    protocol = load_ensemble("classifiers", ["data.list=val.csv"])
    for name, engine in (("one", None), ("many", Here())):
        evaluate_ensemble(protocol, classifiers, clips, scores=tmp_path / name, engine=engine, **OPTIONS)
    one, many = (sorted((tmp_path / name).iterdir()) for name in ("one", "many"))
    assert [file.name for file in one] == [file.name for file in many] and len(one) == 2
    for scores, others in zip(map(Scores.load, one), map(Scores.load, many), strict=True):
        np.testing.assert_array_equal(scores.probabilities, others.probabilities)
        assert scores.facts == others.facts
    with pytest.raises(RecipeError, match="--scores"):
        evaluate_ensemble(protocol, classifiers, clips, engine=Here(), **OPTIONS)


def test_an_interrupted_evaluation_goes_on_with_its_shards(mm_folder, data, tmp_path):
    protocol, out = load_protocol("retrieval/msrvtt"), tmp_path / "result.json"
    with pytest.raises(KeyboardInterrupt):
        evaluate(protocol, mm_folder, data, out, engine=Here(stop_at=1), **OPTIONS)
    assert len(list(tmp_path.rglob("shards/*.safetensors"))) == 2 and not out.exists()
    again = Here()
    evaluate(protocol, mm_folder, data, out, engine=again, **OPTIONS)
    assert len(again.shards) == 0 and out.exists()


def test_too_many_damaged_videos_end_it(mm_folder, data, tmp_path):
    options = OPTIONS | {"max_damaged": 0.1}
    with pytest.raises(TooManyFailuresError, match="1 of the first 4 videos"):
        evaluate(load_protocol("retrieval/msrvtt"), mm_folder, data, tmp_path / "r.json", engine=Here(), **options)


@pytest.mark.parametrize(
    ("protocol", "model", "words"),
    [
        (["navigation/r2r_ce"], None, "names a file of answers, which one process scores"),
        (["action_detection/custom", "data.boxes.predictions=x.csv"], None, "which one process scores"),
        (["retrieval/msrvtt"], "x", "Name it by --out"),
    ],
)
def test_what_several_workers_cannot_do_is_refused(protocol, model, words):
    with pytest.raises(RecipeError, match=words):
        evaluate(load_protocol(protocol[0], protocol[1:]), model, engine=Here())


def test_a_task_that_does_without_rows_is_refused(monkeypatch):
    tasks = {"retrieval": replace(evaluation_tasks()["retrieval"], on_engines=False)}
    monkeypatch.setattr(evaluation_run, "evaluation_tasks", lambda: tasks)
    with pytest.raises(RecipeError, match="retrieval is evaluated by one model in one process"):
        evaluate(load_protocol("retrieval/msrvtt"), "x", engine=Here())


@pytest.mark.parametrize(
    ("protocol", "options", "words"),
    [
        (["retrieval/msrvtt"], {}, "--out"),
        (["retrieval/msrvtt", "data.list=nowhere.csv"], {"out": "out.json"}, "nowhere.csv"),
        (["retrieval/msrvtt"], {"out": "out.json", "report": "report"}, "A report is of"),
    ],
)
def test_what_is_refused_is_refused_before_workers_start(protocol, options, words, mm_folder, data, tmp_path):
    def start():
        pytest.fail("it has started")

    paths = {name: tmp_path / file for name, file in options.items()}
    with pytest.raises(ValueError, match=words):
        evaluate(load_protocol(protocol[0], protocol[1:]), mm_folder, data, engine=start, **paths)
    started = []
    engine = lambda: started.append(Here()) or started[0]  # noqa: E731
    evaluate(load_protocol("retrieval/msrvtt"), mm_folder, data, tmp_path / "out.json", engine=engine, **OPTIONS)
    assert len(started[0].shards) == 2


@pytest.mark.slow
@pytest.mark.parametrize(("model", "protocol"), PROTOCOLS[:2], ids=lambda value: str(value))
def test_two_workers_on_this_machine_make_the_same_result(models, model, protocol, data, tmp_path):
    for folder in ("one", "many"):
        (tmp_path / folder).mkdir()
    one = run(protocol, models[model], data, tmp_path / "one/result.json")
    assert run(protocol, models[model], data, tmp_path / "many/result.json", engine=two_workers()) == one
