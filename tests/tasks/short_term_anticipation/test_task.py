"""A model learns from drawn hands, and is evaluated as by hand: on a detector's boxes, true ones, and from a file."""

import json
from functools import partial
from pathlib import Path

import pytest
from program import run as run_command
from tasks.short_term_anticipation.drawn import CONTACT, MOMENTS, NOUNS, RATE, TINY, write_ego4d, write_model
from tasks.workers import assert_equal_results

from internvideo_hf.data.failures import TooManyFailuresError
from internvideo_hf.data.records import ManifestError
from internvideo_hf.evaluation.protocols import load_protocol
from internvideo_hf.evaluation.report import table
from internvideo_hf.evaluation.run import evaluate
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.short_term_anticipation import task
from internvideo_hf.tasks.short_term_anticipation.annotations import read_interactions, read_predictions
from internvideo_hf.tasks.short_term_anticipation.metrics import SCORES
from internvideo_hf.training.recipes import load_recipe
from internvideo_hf.training.run import train

NAME = "ego4d/short_term_anticipation"
SHORT = [
    *(*TINY, "training.learning_rate=0.02", "training.num_train_epochs=12", "training.logging_steps=3"),
    *("training.save_strategy=no", "training.eval_strategy=steps", "training.eval_steps=24"),
]
VAL, TEST = (f"annotations/fho_sta_{name}.json" for name in ("val", "test_unannotated"))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("ego4d")
    write_ego4d(root, videos=6)
    return root


@pytest.fixture(scope="module")
def trained(data) -> Path:
    return train(load_recipe(NAME, SHORT), data, data / "run", quiet=True).parent


@pytest.fixture
def model(tmp_path) -> Path:
    return write_model(tmp_path / "model")


def score(root: Path, model: Path | None, *changes: str, **options) -> dict:
    options = {"device": "cpu", "workers": 0, "quiet": True, "batch_size": 4, **options}
    return evaluate(load_protocol(NAME, changes), model, root, **options)


def log_of(trained: Path) -> list[dict]:
    return [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]


def test_losses_fall_and_the_model_is_saved_with_its_verbs_and_its_processor(trained):
    lines = log_of(trained)
    losses = [line for line in lines if "verb_loss" in line and "loss" in line]
    first, last = losses[0], losses[-1]
    assert last["loss"] < first["loss"] / 2 and last["verb_loss"] < first["verb_loss"] / 4
    assert last["time_loss"] < first["time_loss"]
    config = json.loads((trained / "final/config.json").read_text())
    assert list(config["id2label"].values()) == ["take", "cut", "no verb"]
    assert config["architectures"] == ["InternVideoMAEForShortTermAnticipation"]
    processor = json.loads((trained / "final/video_preprocessor_config.json").read_text())
    assert processor["size"] == {"shortest_edge": 32} and processor["sampler_kwargs"] == {"sampling_rate": 2}
    assert "Training: 12 key frames of the list `fho_sta_train.json`" in (trained / "final/README.md").read_text()


def test_it_tells_cut_from_take_and_the_evaluation_scores_as_the_training_does(trained, data):
    logged = [line for line in log_of(trained) if f"eval_{SCORES[0]}" in line][-1]
    assert logged["eval_map_box_noun_verb"] == 100
    result = score(data, trained / "final", report=data / "report", out=data / "result.json")
    assert list(result["scores"]) == list(SCORES)
    assert result["scores"] == pytest.approx({name: logged[f"eval_{name}"] for name in SCORES}, abs=0.1)
    printed = table(result)
    assert "12, of object_detections.json with scores from 0" in printed and "as published" in printed
    assert "short side 32 by cv2_linear, no crop" in printed and "map_box_noun_verb_ttc" in printed
    uids = [moment.uid for moment in read_interactions(data / VAL).moments]
    ours, theirs = (
        read_predictions(file / "submission.json", uids) for file in (data / "report", trained / "answers")
    )
    assert ours.times == pytest.approx(theirs.times, abs=1e-4) and (ours.boxes == theirs.boxes).all()


def test_answers_have_the_box_the_noun_and_the_score_of_the_object(trained, data):
    score(data, trained / "final", report=data / "report")
    submission = json.loads((data / "report/submission.json").read_text())
    assert submission["version"] == "1.0" and set(submission) == {"version", "challenge", "results"}
    detected = json.loads((data / "object_detections.json").read_text())
    for uid, answers in submission["results"].items():
        assert [{key: row[key] for key in ("box", "score", "noun_category_id")} for row in answers] == detected[uid]
        assert all(isinstance(row["time_to_contact"], float) and row["time_to_contact"] > 0 for row in answers)
    lines = (data / "report/answers.csv").read_text().splitlines()
    assert lines[0] == "class,boxes,found,AP noun,AP noun+verb,AP noun+time,AP" and len(lines) == 3
    assert {line.split(",")[0] for line in lines[1:]} == set(NOUNS)


def test_a_file_of_the_challenge_is_scored_without_a_model(trained, data):
    result = score(data, trained / "final", report=data / "report")
    file = score(data, None, "data.interactions.predictions=report/submission.json")
    assert file["scores"] == pytest.approx(result["scores"]) and file["model"]["name"] == "no model"
    assert "objects answers of report/submission.json" in table(file)
    with pytest.raises(RecipeError, match="Give no model"):
        score(data, trained / "final", "data.interactions.predictions=report/submission.json")


def test_right_answers_score_all_points(data):
    moments = json.loads((data / VAL).read_text())["annotations"]
    results = {row["uid"]: [{**one, "score": 0.5} for one in row["objects"]] for row in moments}
    (data / "right.json").write_text(json.dumps({"results": results}))
    scores = score(data, None, "data.interactions.predictions=right.json")["scores"]
    assert scores == dict.fromkeys(SCORES, 100.0)
    assert [row["objects"][0]["time_to_contact"] for row in moments[:3]] == [(CONTACT - m) / RATE for m in MOMENTS]


def test_moments_without_objects_count_as_missed_unless_as_published(data):
    moments = json.loads((data / VAL).read_text())["annotations"]
    results = {row["uid"]: [{**one, "score": 0.5} for one in row["objects"]] for row in moments}
    results[moments[0]["uid"]] = []
    (data / "half.json").write_text(json.dumps({"results": results}))
    half = "data.interactions.predictions=half.json"
    assert score(data, None, half)["scores"]["ap_box"] == 100
    assert score(data, None, half, "as_published=false")["scores"]["ap_box"] == pytest.approx(100 * 5 / 6)
    (data / "none.json").write_text(json.dumps({"results": {uid: [] for uid in results}}))
    with pytest.raises(RecipeError, match=r"nothing is scored\. Check none\.json, .* as_published=false"):
        score(data, None, "data.interactions.predictions=none.json")
    none = score(data, None, "data.interactions.predictions=none.json", "as_published=false")
    assert none["scores"] == dict.fromkeys(SCORES, 0.0)


def test_a_list_without_objects_is_answered_and_not_scored(model, data):
    result = score(data, model, f"data.list={TEST}", report=data / "test", out=data / "test.json")
    assert result["scores"] == {} and "none: moments are not annotated" in table(result)
    submission = json.loads((data / "test/submission.json").read_text())["results"]
    assert len(submission) == 6 and all(len(answers) == 2 for answers in submission.values())
    assert "true ones are not known" in (data / "test/summary.txt").read_text()
    with pytest.raises(RecipeError, match="no boxes to look at.*detections"):
        score(data, model, f"data.list={TEST}", "data.interactions.detections=null")


def test_true_boxes_take_the_place_of_a_detector(model, data):
    result = score(data, model, "data.interactions.detections=null")
    assert result["model"]["objects"] == 6 and result["scores"]["map_box_noun"] == 100
    assert "6, true ones" in table(result)


def test_batches_and_workers_change_no_answer(model, data):
    tables = []
    for size in (1, 4):
        score(data, model, report=data / f"of{size}", batch_size=size, workers=size % 2)
        uids = [moment.uid for moment in read_interactions(data / VAL).moments]
        tables.append(read_predictions(data / f"of{size}/submission.json", uids))
    assert (tables[0].verbs == tables[1].verbs).all() and len(tables[0]) == 12
    assert tables[0].times == pytest.approx(tables[1].times, abs=1e-5)


def test_an_evaluation_goes_on_where_it_was_stopped(model, data, tmp_path, monkeypatch):
    whole = score(data, model, out=tmp_path / "whole.json", batch_size=1)
    monkeypatch.setattr("internvideo_hf.utils.journal.CHECKPOINT_EVERY_SECONDS", 0)
    real, calls = task._of_batch, []

    def stops(model, batch):
        calls.append(len(batch))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(model, batch)

    monkeypatch.setattr(task, "_of_batch", stops)
    with pytest.raises(KeyboardInterrupt):
        score(data, model, out=tmp_path / "part.json", batch_size=1)
    found = score(data, model, out=tmp_path / "part.json", batch_size=1)
    assert found["scores"] == whole["scores"] and len(calls) < 10


def test_footage_that_is_damaged_missing_or_short_is_named(model, tmp_path):
    write_ego4d(tmp_path, videos=6)
    (tmp_path / "full_scale/video-5.mp4").write_bytes(b"nothing")
    with pytest.raises(TooManyFailuresError, match="of the first 4 key frames are unreadable"):
        score(tmp_path, model)
    # What cannot be read is missed, also as published: half of the nouns.
    damaged = score(tmp_path, model, max_damaged=0.5)
    assert len(damaged["damaged"]) == 3 == len(MOMENTS) and "video-5.mp4" in damaged["damaged"][0]["cause"]
    assert damaged["scores"]["map_box_noun"] == 50
    (tmp_path / "full_scale/video-5.mp4").unlink()
    with pytest.raises(ManifestError, match=r"3 of 6 moments have no footage, the first is video-5_0000008.*folder"):
        score(tmp_path, model)
    document = json.loads((tmp_path / VAL).read_text())
    document["annotations"] = document["annotations"][:2]
    document["annotations"][1]["frame"] = 20
    (tmp_path / VAL).write_text(json.dumps(document))
    short = score(tmp_path, model, max_damaged=0.5)
    assert "it has 20 frames, and the moment is frame 20" in short["damaged"][0]["cause"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("data.layout=text", "data.layout changes nothing"),
        ("data.interactions.min_score=2", r"min_score is 2.* from 0 to 1"),
        ("data.interactions.top_k=0", "top_k is 0, expected 1 or more"),
        ("data.interactions.short_sides=[9]", r"short_sides is \[9\]"),
        ("data.boxes={}", "data.boxes"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, words, model, data):
    with pytest.raises(RecipeError, match=words):
        score(data, model, change)


def test_other_models_are_refused_with_the_way_on(data):
    with pytest.raises(RecipeError, match="anticipates no interactions. Train a model for it, such as by ego4d/"):
        score(data, "demo-classifier")


def test_commands_train_and_evaluate(data, tmp_path):
    done = run_command(
        *("train", NAME, *TINY, "training.max_steps=1", "training.eval_strategy=no", "training.save_strategy=no"),
        *("--data-root", data, "--output-dir", tmp_path / "run"),
    )
    assert done.returncode == 0, done.stderr
    done = run_command(
        "evaluate", NAME, "--model", tmp_path / "run/final", "--data-root", data, "--out", tmp_path / "r"
    )
    assert done.returncode == 0, done.stderr
    assert "map_box_noun_verb_ttc" in done.stdout and "12, of object_detections.json" in done.stdout


def test_workers_make_the_same_result(model, data, tmp_path, engine):
    assert_equal_results(partial(score, data, model), tmp_path, engine)
