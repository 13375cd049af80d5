"""A model of another kind is refused before it is loaded, with the commands that take it."""

import json
import logging

import pytest
from program import assert_refused, run

from internvideo_hf.checkpoints.model_names import demo_path


def write_config(folder, model_type: str, architecture: str | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = {"model_type": model_type} | ({} if architecture is None else {"architectures": [architecture]})
    (folder / "config.json").write_text(json.dumps(content))


CLASSIFIER_USE = "demo-classifier is not a model of video and text: it holds a UniFormerV2ForVideoClassification. What"
DUAL_USE = "`internvideo zero-shot VIDEO --model demo-mm --labels"


def test_a_head_on_features_is_not_for_videos(tmp_path):
    write_config(tmp_path, "tcanet", "TCANetForTemporalLocalization")
    refused = run("classify", "x.mp4", "--model", tmp_path)
    assert_refused(refused, "holds a TCANetFor", "reads features that `internvideo extract` writes")


def test_a_head_that_grounds_sentences_is_not_for_videos_alone(tmp_path):
    write_config(tmp_path, "vslnet", "VSLNetForTemporalGrounding")
    refused = run("classify", "x.mp4", "--model", tmp_path)
    assert_refused(refused, "holds a VSLNetForTemporalGrounding", "`internvideo ground VIDEO")


def test_a_planner_is_not_for_videos(tmp_path):
    write_config(tmp_path, "vln_planner", "VLNPlannerForNavigation")
    refused = run("classify", "x.mp4", "--model", tmp_path)
    assert_refused(refused, "holds a VLNPlannerFor", "is used from Python, by `internvideo_hf.tasks.navigation.agent`")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["zero-shot", "x.mp4", "--labels", "a"], (CLASSIFIER_USE, "`internvideo classify VIDEO --model demo-class")),
        (["classify", "x.mp4"], ("demo-mm is not a classifier: it holds an InternVideoMMModel.", DUAL_USE)),
        (["reconstruct", "x.mp4", "--out", "x.png"], ("not a masked autoencoder", "InternVideoMM", DUAL_USE)),
        (["evaluate", "classification/k400"], ("is not a classifier", DUAL_USE)),
        (["evaluate", "retrieval/msrvtt"], (CLASSIFIER_USE, "`internvideo evaluate --model demo-classifier")),
        (["evaluate", "zero_shot/k400"], (CLASSIFIER_USE, "`internvideo classify VIDEO")),
    ],
)
def test_the_command_that_works_is_named(arguments, words):
    model = "demo-classifier" if CLASSIFIER_USE in words else "demo-mm"
    refused = run(*arguments, "--model", model)
    assert_refused(refused, *words)
    assert str(demo_path(model)) not in refused.stderr, "the name is the user's"


def test_an_index_of_a_model_without_texts_is_searched_by_video(drawn, tmp_path):
    videos = drawn[0] / "test"
    made = run("index", videos, "--model", "demo-classifier", "--out", tmp_path / "index", "--jobs", 1)
    assert made.returncode == 0, made.stderr
    assert "can be searched by --video and --image, not by text.\n" in made.stderr.split("Indexing")[0]
    refused = run("search", tmp_path / "index", "a red heart")
    assert_refused(refused, "not a model of video and text", f"search {tmp_path}/index --video FILE`, or by --image")
    found = run("search", tmp_path / "index", "--video", next(videos.glob("*.mp4")))
    assert found.returncode == 0, found.stderr


def test_the_directory_of_a_run_is_told_from_its_model(tmp_path):
    write_config(tmp_path / "run/final", "uniformerv2", "UniFormerV2ForVideoClassification")
    (tmp_path / "stopped/checkpoint-3").mkdir(parents=True)
    for command in (["classify"], ["extract", "--out", tmp_path / "x"], ["index", "--out", tmp_path / "x"]):
        refused = run(*command, "x.mp4", "--model", tmp_path / "run")
        assert_refused(refused, f"run is the directory of a training run; its model is {tmp_path}/run/final.")
        assert_refused(run(*command, "x.mp4", "--model", tmp_path / "stopped"), "run that has not ended. Run its comm")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--labels", "a, b, a"], "--labels has a twice"),
        (["--labels", " , "], "--labels is empty, expected at least one label"),
        (["--labels", "a", "--template", "{}", "--prompts", "kinetics"], "--template or --prompts, not both"),
        (["--labels", "word " * 60], "expected at most 32. Shorten it."),
    ],
)
def test_mistakes_are_said_in_words_of_the_shell(arguments, words):
    refused = run("zero-shot", "none.mp4", "--model", "demo-mm", *arguments)
    assert_refused(refused, words)
    for word in ("candidate_labels", "truncation", "hypothesis_template", "none.mp4"):
        assert word not in refused.stderr


def test_a_query_too_long_is_said_in_words_of_the_shell(drawn):
    refused = run("search", drawn[0] / "index", "red " * 60)
    assert_refused(refused, "Shorten it.")
    assert "truncation" not in refused.stderr


def test_texts_in_other_scripts_are_remarked_on_once(drawn, tmp_path, monkeypatch):
    folder, captions = drawn
    # As in a shell, where no handler takes the library's warnings, and none came before.
    monkeypatch.setattr(logging.root, "handlers", [])
    logging.Logger.warning_once.cache_clear()
    done = run("search", folder / "index", "красный круг")
    assert done.returncode == 0 and done.stderr.count("Most letters of a text are not Latin") == 1
    assert "Latin" not in run("search", folder / "index", captions[0]).stderr
    (tmp_path / "labels.txt").write_text("ein roter Kreis\n红色的圆圈\n青い星\n")
    video = next((folder / "test").glob("*.mp4"))
    done = run("zero-shot", video, "--model", "demo-mm", "--labels", tmp_path / "labels.txt", "--json")
    assert done.returncode == 0 and done.stderr.count("Write the text in English.") == 1
    assert len(json.loads(done.stdout)[0]["results"]) == 3


def test_a_model_of_anticipation_is_evaluated_and_does_not_classify(tmp_path):
    write_config(tmp_path / "sta", "internvideo_mae", "InternVideoMAEForShortTermAnticipation")
    (tmp_path / "sta/model.safetensors").write_bytes(b"")
    name = "ego4d/short_term_anticipation"
    words = f"it holds an InternVideoMAEForShortTermAnticipation. What takes it: `internvideo evaluate {name} --model"
    assert_refused(run("classify", "v.mp4", "--model", tmp_path / "sta"), f"is not a classifier: {words}")
    assert_refused(
        run("evaluate", name, "--model", "demo-classifier"),
        "demo-classifier is not a model of short-term anticipation: it holds a UniFormerV2ForVideoClassification, "
        "which has no head that tells what will be done to objects",
    )
