"""Evaluation by mteb: all its tasks of videos, its own result files, resumption, and the command."""

import json
import re
import shlex
import sys

import numpy as np
import pytest
from conftest import ROOT
from program import assert_refused, run

mteb = pytest.importorskip("mteb", reason="needs the extra mteb")

import mteb.mocks.mock_tasks as mocks  # noqa: E402
from evaluation.mteb_tasks import VIDEO_TASKS, Broken, DrawnRetrieval, named, ndcg  # noqa: E402
from mteb.benchmarks.benchmark import Benchmark  # noqa: E402

from internvideo_hf.evaluation.mteb_encoder import VideoTextEncoder  # noqa: E402
from internvideo_hf.evaluation.mteb_run import evaluate_on_mteb, find_tasks, table  # noqa: E402
from internvideo_hf.inference.embedder import Embedder  # noqa: E402

HERE = {"device": "cpu", "workers": 0, "quiet": True}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Return a folder with results of all tasks of videos, and what was returned."""
    out = tmp_path_factory.mktemp("mteb") / "out"
    return out, evaluate_on_mteb("demo-mm", [task() for task in VIDEO_TASKS], out, **HERE)


def test_all_tasks_of_videos_leave_results_that_mteb_reads(done):
    out, outcome = done
    assert not outcome.failed and not outcome.left_out and not outcome.damaged
    results = mteb.ResultCache(out).load_results()
    (model,) = results.model_results
    assert model.model_name == outcome.model == "internvideo_hf/demo-mm"
    read = {result.task_name: result.get_score() for result in model.task_results}
    assert read == {score.task: score.value for score in outcome.scores}
    assert set(read) == set(named([task() for task in VIDEO_TASKS])) and len(read) == 7
    assert all(0 <= value <= 1 for value in read.values())
    assert all(result.mteb_version == mteb.__version__ for result in model.task_results)
    about = json.loads(next(out.rglob("model_meta.json")).read_text())
    assert about["name"] == "internvideo_hf/demo-mm" and about["embed_dim"] == 128
    assert str(out) not in json.dumps(about)


def test_the_other_family_of_video_and_text_takes_all_tasks(viclip_folder, tmp_path):
    outcome = evaluate_on_mteb(viclip_folder, [task() for task in VIDEO_TASKS], tmp_path, **HERE)
    assert len(outcome.scores) == 7 and not outcome.failed and not outcome.left_out


def test_a_score_is_that_of_our_embeddings(drawn, tmp_path):
    files = sorted((drawn[0] / "test").glob("*.mp4"))
    own = Embedder("demo-mm", device="cpu")
    videos = np.concatenate([own.embed_video(file).numpy() for file in files])
    expected = ndcg(own.embed_texts(drawn[1]).numpy() @ videos.T)
    (score,) = evaluate_on_mteb("demo-mm", DrawnRetrieval(files, drawn[1]), tmp_path, **HERE).scores
    assert score.metric == "ndcg_at_10" and score.value == pytest.approx(expected, abs=1e-4)
    assert expected > 0.6  # chance is 0.49


def test_results_that_are_there_are_not_computed_again(done, monkeypatch):
    out, before = done
    torn = next(out.rglob("MockVideoClassification.json"))
    torn.write_text(torn.read_text()[:99])
    ran = []
    encode = VideoTextEncoder.encode
    monkeypatch.setattr(
        VideoTextEncoder,
        "encode",
        lambda *arguments, **options: ran.append(options["task_metadata"].name) or encode(*arguments, **options),
    )
    told = []
    tasks = [task() for task in VIDEO_TASKS]
    outcome = evaluate_on_mteb("demo-mm", tasks, out, **HERE, on_task=lambda *about: told.append(about))
    assert set(ran) == {"MockVideoClassification"}
    assert [(score.task, score.value) for score in outcome.scores] == [
        (score.task, score.value) for score in before.scores
    ]
    assert told[0] == ("MockVideoClassification", 1, 7) and len(told) == 7


def test_a_task_that_fails_does_not_end_the_others(tmp_path, drawn):
    unreadable = DrawnRetrieval([b"no video", (drawn[0] / "test/00000.mp4").read_bytes()], drawn[1][:2])
    outcome = evaluate_on_mteb("demo-mm", [Broken(), unreadable, mocks.MockVideoClusteringTask()], tmp_path, **HERE)
    assert named([mocks.MockVideoClusteringTask()]) == [score.task for score in outcome.scores]
    assert outcome.failed["Broken"] == "ConnectionError: the Hub does not answer"
    assert "1 of the first 2 videos are unreadable" in outcome.failed["DrawnRetrieval"]


def test_tasks_that_need_what_the_model_does_not_take_are_left_out(tmp_path, mae_folder):
    tasks = [mocks.MockVideoAudioClassification(), mocks.MockVideoRetrievalT2V(), mocks.MockVideoClassification()]
    outcome = evaluate_on_mteb(mae_folder, tasks, tmp_path, **HERE)
    assert outcome.left_out == {"MockVideoAudioClassification": "audio", "MockVideoRetrievalT2V": "text"}
    assert [score.task for score in outcome.scores] == ["MockVideoClassification"]
    assert "left out: MockVideoRetrievalT2V, which needs text" in table(outcome)
    with pytest.raises(
        ValueError,
        match="demo-mm takes none of the tasks: MockVideoAudioClassification needs audio. .*"
        r'"mteb/MVEB\(text, video\)"\.',
    ):
        evaluate_on_mteb("demo-mm", tasks[0], tmp_path, **HERE)
    with pytest.raises(ValueError, match=r'needs text\. Take .*"mteb/MVEB\(video\)", or a model of video and text\.'):
        evaluate_on_mteb(mae_folder, tasks[1], tmp_path, **HERE)


def test_tasks_and_benchmarks_are_found_by_name():
    names = named(find_tasks("MVEB"))
    assert names == named(mteb.get_benchmark("MVEB").tasks) and len(names) == 23
    assert named(find_tasks("mveb(video)", ["kinetics600v"])) == ["Kinetics600V"]
    assert named(find_tasks("MSVDV2TRetrieval")) == ["MSVDV2TRetrieval"]


def test_the_benchmarks_of_a_task_are_named_where_it_is_not_in_the_one_asked_for():
    with pytest.raises(ValueError, match=r'MVEB\(v1\) has no task .*"mteb/MVEB\(text, video\)"\. Name that benchmark'):
        find_tasks("MVEB", ["msvdv2tretrieval"])
    alone = "VCDBCoreRetrieval"  # in no benchmark
    assert all(alone not in named(one.tasks) for one in mteb.get_benchmarks())
    with pytest.raises(ValueError, match=f"nor has another benchmark. Name the task alone, mteb/{alone}"):
        find_tasks("MVEB", [alone])


def test_commands_in_texts_name_benchmarks_and_tasks_of_mteb():
    """Nothing stands in for mteb here; names alone need no data."""
    commands = []
    for file in ("README.md", "CHANGELOG.md", "docs/hub.md", "docs/peers.md", "docs/reference/cli.md"):
        text = (ROOT / file).read_text(encoding="utf-8")
        commands += re.findall(r'internvideo evaluate "?mteb/(?!\.\.\.)[^`\n]*', text)
    assert len(commands) >= 4
    for command in commands:
        words = shlex.split(command)
        only = words[words.index("--tasks") + 1].split(",") if "--tasks" in words else []
        assert find_tasks(words[2].removeprefix("mteb/"), [name.strip() for name in only]), command
    page = (ROOT / "docs/hub.md").read_text(encoding="utf-8")
    named_there = re.findall(r'`"?mteb/([^`"]+)"?`', page) + re.findall(r'get_tasks\(tasks=\["(\w+)"\]\)', page)
    assert len(named_there) >= 5 and all(find_tasks(name) for name in named_there)


TASKS = [mocks.MockVideoClassification, Broken, mocks.MockVideoRetrievalT2V]


@pytest.fixture
def mine(monkeypatch):
    """Let mteb know a benchmark of three tasks, and no other."""
    made = [task() for task in TASKS]
    monkeypatch.setattr(mteb, "get_tasks", lambda **filters: made)
    monkeypatch.setattr(mteb, "get_benchmarks", lambda: [Benchmark(name="Mine(v1)", tasks=made, aliases=["Mine"])])


def evaluate(out, name, *more):
    options = ("--model", "demo-mm", "--out", out, "--device", "cpu", "--workers", 0)
    return run("evaluate", name, *options, *more)


def test_the_command_writes_results_and_prints_a_table(mine, tmp_path):
    told = evaluate(tmp_path, "mteb/Mine", "--tasks", "MockVideoRetrievalT2V, MockVideoClassification")
    assert told.returncode == 0, told.stderr
    (file,) = (tmp_path / "results/internvideo_hf__demo-mm").rglob("MockVideoRetrievalT2V.json")
    score = mteb.results.TaskResult.from_disk(file).get_score()
    assert f"MockVideoRetrievalT2V    ndcg_at_10  {100 * score:6.2f}" in told.stdout
    assert "mean of 2" in told.stdout and f"The results are in {tmp_path / 'results'}." in told.stdout
    assert "1/2 MockVideoRetrievalT2V" in told.stderr
    partial = evaluate(tmp_path, "mteb/mine", "--quiet")
    assert partial.returncode == 1 and "1 of 3 failed:\n  Broken: ConnectionError" in partial.stderr
    assert evaluate(tmp_path, "mteb/Broken").returncode == 2


REFUSED = {
    "benchmark": (["mteb/Mien"], "mteb has no benchmark or task 'Mien'. Did you mean Mine"),
    "task": (
        ["mteb/Mine", "--tasks", "MockVideoRetrieval"],
        "Mine(v1) has no task 'MockVideoRetrieval'. Did you mean",
    ),
    "one task": (["mteb/Broken", "--tasks", "Broken"], "is a task of mteb, not a benchmark: leave out --tasks"),
    "settings": (["mteb/Mine", "num_frames=4"], "Tasks of mteb have no settings: leave out num_frames=4"),
    "option": (["mteb/Mine", "--data-root", "x"], "Tasks of mteb do not take --data-root"),
    "no mteb": (["classification/custom", "--tasks", "x"], "--tasks is of a benchmark of mteb"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_go_together_is_refused(mine, tmp_path, case):
    arguments, message = REFUSED[case]
    told = evaluate(tmp_path / "out", *arguments)
    assert_refused(told, message)
    assert len(told.stderr.strip().splitlines()) == 1 and not (tmp_path / "out").exists()


def test_a_head_on_features_is_refused(mine, tmp_path):
    told = run("evaluate", "mteb/Mine", "--model", "demo-actionformer", "--out", tmp_path / "out")
    assert_refused(told, "demo-actionformer is not an encoder: it holds an ActionFormerForTemporalLocalization.")


def test_model_and_folder_are_needed(tmp_path):
    assert_refused(run("evaluate", "mteb/MVEB", "--model", "demo-mm"), "mteb needs --model, and --out")


def test_without_mteb_the_command_names_the_extra(tmp_path, monkeypatch):
    for name in ("mteb_run", "mteb_encoder"):
        monkeypatch.delitem(sys.modules, f"internvideo_hf.evaluation.{name}")
    monkeypatch.setitem(sys.modules, "mteb", None)
    monkeypatch.delattr(sys.modules["internvideo_hf.evaluation"], "mteb_run")
    told = evaluate(tmp_path, "mteb/MVEB")
    assert_refused(told, "mteb is not installed: pip install 'internvideo-hf[mteb]'")
