"""Two nodes of a Ray cluster on this machine: the index is that of one process, whatever is lost."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest
from search.gallery import write
from search.poison import embed_poisoned
from tasks.lists import write_lists

from internvideo_hf.checkpoints.model_names import demo_path
from internvideo_hf.cli.lines import pipeline_question
from internvideo_hf.curation.build import BuildSettings, build_dataset
from internvideo_hf.curation.shots import ShotSettings
from internvideo_hf.data.dataset import VideoDataset
from internvideo_hf.data.executors import parts
from internvideo_hf.data.executors.local import LocalEngine
from internvideo_hf.data.failures import HUNG, KILLED, FailureTable
from internvideo_hf.data.transcoding import TranscodeSettings, transcode_videos
from internvideo_hf.data.verification import verify_videos
from internvideo_hf.evaluation.protocols import load_protocol
from internvideo_hf.evaluation.run import evaluate
from internvideo_hf.inference import answering, rows
from internvideo_hf.inference.extraction import Extraction, Target, extract_on_engine
from internvideo_hf.inference.features import FeatureExtractor, extract_to_file
from internvideo_hf.search import embedding, sharding
from internvideo_hf.search.index import VideoIndex
from internvideo_hf.training import cache_filling
from internvideo_hf.training.feature_cache import FeatureCache, fill_on_engine

ray = pytest.importorskip("ray")
from internvideo_hf.data.executors import cluster  # noqa: E402

CLIPS = 200
SHARD = 16
NO_VIDEOS = ("broken.mp4", "kills.mp4", "hangs.mp4")
TIMEOUT = 20.0
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def nodes():
    """Start a cluster of two nodes with one CPU each."""
    from ray.cluster_utils import Cluster

    root = Path(__file__).parents[3]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(root / "src"), str(root / "tests")])
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    started = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    started.add_node(**NODE)
    ray.init(address=started.address, log_to_driver=False)
    yield started
    ray.shutdown()
    started.shutdown()


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Return a folder of clips, each of other scenes, and of files that are none."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(CLIPS):
        lengths = (1 + number % 6, 1 + number // 6 % 6, 1 + number // 36)
        write(folder / f"{number:03}.mp4", *zip(("red", "blue", "green"), lengths, strict=True))
    for name in NO_VIDEOS:
        (folder / name).write_bytes(b"no video")
    return folder


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    """Return a folder of short videos and lists."""
    return write_lists(tmp_path_factory.mktemp("lists"))


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    for module in (sharding, embedding):
        monkeypatch.setattr(module, "cut", lambda items, name_of: parts.cut(items, name_of, SHARD))


@pytest.fixture(scope="module")
def local(small_folder, videos, tmp_path_factory):
    """Return the files of the index that one process makes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding, "cut", lambda items, name_of: parts.cut(items, name_of, SHARD))
        folder = tmp_path_factory.mktemp("local") / "index"
        VideoIndex(small_folder, folder=folder, device="cpu").update([videos], batch_size=4)
    return contents(folder)


def runners():
    """Return the processes of the actors of this cluster, the last one of a test last."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "ray::_Runner" in " ".join(process.cmdline()):
                found.append((process.create_time(), process.pid, process))
    return [process for *_, process in sorted(found)]


def contents(folder):
    return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


def build(model, folder, videos, on_done=lambda done, total: None, **options):
    index = VideoIndex(model, folder=folder, device="cpu")
    return index.update([videos], batch_size=4, engine=cluster.RayEngine(), on_done=on_done, **options)


def variable(name):
    return os.environ.get(name)


def variables(name):
    """Return a variable of the environment of this worker, and of a child of its task."""
    tasks = cluster.RayEngine().executor()
    return variable(name), [result for _, result in tasks.map_ordered(variable, [name], 1)][0]


def test_workers_and_decoders_have_the_settings_of_the_command_but_no_key(nodes, monkeypatch):
    monkeypatch.setenv("INTERNVIDEO_READ_MAX_PIXELS", "77")
    monkeypatch.setenv("INTERNVIDEO_API_KEY", "secret")
    names = ["INTERNVIDEO_READ_MAX_PIXELS", "INTERNVIDEO_API_KEY"]
    found = dict(cluster.RayEngine().map_ordered(variables, names, 1))
    assert found == {names[0]: ("77", "77"), names[1]: (None, None)}
    monkeypatch.delenv("INTERNVIDEO_READ_MAX_PIXELS")
    found = dict(cluster.RayEngine().map_ordered(variables, names[:1], 1))
    assert found == {names[0]: (None, None)}, "Ray gives the same processes to the next command"


def test_the_index_is_equal_though_videos_kill_and_hang_their_decoders(
    nodes, small_folder, videos, local, tmp_path, monkeypatch
):
    engine = cluster.RayEngine()
    assert (engine.workers, engine.decoders) == (2, 1)
    monkeypatch.setattr(sharding, "embed_shard", embed_poisoned)
    change = build(small_folder, tmp_path / "index", videos, timeout=TIMEOUT)
    assert contents(tmp_path / "index") == local
    assert len({file.read_bytes() for file in videos.iterdir()}) == CLIPS + 1 and len(change.new) == CLIPS
    causes = {Path(error.source).name: error.cause for error in change.failures}
    assert causes.keys() == {*NO_VIDEOS}
    assert (causes["kills.mp4"], causes["hangs.mp4"]) == (KILLED, HUNG.format(TIMEOUT))


def test_a_killed_actor_costs_its_shard(nodes, small_folder, videos, local, tmp_path):
    killed = []

    def kill(done, total):
        if done > 10 and not killed:
            killed.append(runners()[-1])
            killed[-1].kill()

    build(small_folder, tmp_path / "index", videos, kill)
    assert killed and contents(tmp_path / "index") == local


def test_a_removed_node_costs_its_shards(nodes, small_folder, videos, local, tmp_path):
    extra, removed = nodes.add_node(**NODE), []

    def remove(done, total):
        if done > 10 and not removed:
            removed.append(extra)
            nodes.remove_node(extra, allow_graceful=False)

    build(small_folder, tmp_path / "index", videos, remove)
    assert removed and contents(tmp_path / "index") == local


def test_a_killed_driver_continues_with_the_parts_that_are_there(nodes, small_folder, videos, local, tmp_path):
    program = (
        "import sys; from internvideo_hf.data.executors import parts, cluster; "
        "from internvideo_hf.search import embedding, sharding; "
        "from internvideo_hf.search.index import VideoIndex; from internvideo_hf.utils import journal\n"
        f"sharding.cut = lambda items, name_of: parts.cut(items, name_of, {SHARD})\n"
        "journal.CHECKPOINT_EVERY_SECONDS = 1e9\n"  # parts stay until the end
        "engine = cluster.RayEngine(sys.argv[1])\n"
        "VideoIndex(sys.argv[2], folder=sys.argv[3], device='cpu').update([sys.argv[4]], batch_size=4, engine=engine)"
    )
    folder, held = tmp_path / "index", tmp_path / ".index.parts"
    command = [sys.executable, "-c", program, nodes.address, str(small_folder), str(folder), str(videos)]
    driver = subprocess.Popen(command)
    while len(parts.PartFolder(held).keys()) < 3 and driver.poll() is None:
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    while runners():  # Ray ends them
        time.sleep(0.1)
    before = {file: file.stat().st_mtime_ns for file in held.glob("*.safetensors")}
    assert before
    seen = {}

    def look(done, total):
        seen.update({file: file.stat().st_mtime_ns for file in before if file.exists()})

    build(small_folder, folder, videos, look)
    assert seen == before  # taken, not computed again
    assert contents(folder) == local and not held.exists()


def test_features_are_equal_byte_for_byte(nodes, small_folder, videos, tmp_path):
    options = {"model": str(small_folder), "window": 8, "stride": 4}
    extractor = FeatureExtractor(**options, device="cpu")
    names = [f"{number:03}.mp4" for number in range(6)]
    for name in names:
        extract_to_file(extractor, str(videos / name), tmp_path / f"local/{name}.safetensors")
    targets = [Target(str(videos / name), tmp_path / f"ray/{name}.safetensors") for name in [*names, "broken.mp4"]]
    settings = Extraction(options, extractor.settings.revision)
    results = [result for _, result in extract_on_engine(targets, settings, cluster.RayEngine(), timeout=200)]
    assert results[:-1] == [True] * 6 and "broken.mp4" in str(results[-1])
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


def test_a_data_set_is_equal_byte_for_byte(nodes, videos, tmp_path):
    rows = [{"video": f"{number:03}.mp4", "start": 0.0, "end": 0.2, "caption": "a wall"} for number in range(12)]
    rows.append({**rows[0], "video": "broken.mp4"})
    (videos / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = BuildSettings(
        shots=ShotSettings(min_seconds=0), encoding=TranscodeSettings(16), similarity=str(demo_path("demo-mm"))
    )
    reports = [
        build_dataset([videos / "list.jsonl"], tmp_path / name, settings, data_root=videos, engine=engine)
        for name, engine in (("local", None), ("ray", cluster.RayEngine()))
    ]
    assert reports[0] == reports[1] and reports[0].stages[-1].rows_out == 12
    local, found = (
        {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        for folder in (tmp_path / "local", tmp_path / "ray")
    )
    assert local == found


def test_scan_and_shrink_run_on_the_cluster(nodes, videos, tmp_path):
    names = [str(videos / name) for name in ("000.mp4", "broken.mp4", "001.mp4")]
    bad = verify_videos(names, jobs=2, executor=cluster.RayEngine().executor())
    assert [error.source for error in bad] == names[1:2]
    targets = {name: tmp_path / Path(name).name for name in names}
    done, failures = transcode_videos(targets, TranscodeSettings(16), jobs=2, executor=cluster.RayEngine().executor())
    assert (
        done == 0 and len(failures) == 1 and sorted(file.name for file in tmp_path.iterdir()) == ["000.mp4", "001.mp4"]
    )


def test_items_that_kill_or_hang_their_actors_are_failures(nodes):
    from data.crash import double_or_die

    results = dict(cluster.RayEngine().map_ordered(double_or_die, range(6), 2, timeout=TIMEOUT))
    assert HUNG.format(TIMEOUT) in str(results.pop(4))
    assert "its worker was lost 3 times" in str(results.pop(3)) and results == {0: 0, 1: 2, 2: 4, 5: 10}


def test_workers_that_end_at_their_start_are_not_started_without_end(nodes, monkeypatch):
    from data.crash import EndsAtItsStart, double

    monkeypatch.setattr(cluster, "_Runner", EndsAtItsStart)
    with pytest.raises(RuntimeError, match=r"end as soon as they start \(.*no such package\)"):
        list(cluster.RayEngine().map_ordered(double, [1, 2], 1))


def test_a_cache_is_equal_though_an_actor_is_killed(nodes, tmp_path, monkeypatch):
    from training import cache_work

    monkeypatch.setattr(cache_filling, "SHARD_CLIPS", 2)
    (tmp_path / "clips").mkdir()
    listed = cache_work.rows(tmp_path / "clips", [24] * 12 + [cache_work.KILLS])
    cache = FeatureCache(VideoDataset(listed[:-1], cache_work.settings()), cache_work.Means(), tmp_path / "one")
    assert cache.fill(1, 2, quiet=True) == 12
    other = FeatureCache(VideoDataset(listed, cache_work.settings()), cache_work.Means(), tmp_path / "ray")
    load, table = partial(cache_work.load, mark=tmp_path / "mark"), FailureTable(tmp_path / "failed.jsonl", "cache")
    done = fill_on_engine([other], load, cluster.RayEngine(), 2, table=table, quiet=True)
    assert (tmp_path / "mark").exists() and done.computed == 12
    assert [error.cause for error in done.failures.values()] == [KILLED]
    files = [{file.name: file.read_bytes() for file in kept.folder.rglob("*.safetensors")} for kept in (cache, other)]
    assert files[0] == files[1] and len(files[0]) == 12
    wrong = partial(cache_work.load, weight=2.0)
    third = FeatureCache(other.dataset, cache_work.Means(), tmp_path / "third")
    with pytest.raises(ValueError, match="Put the same model there on all machines"):
        fill_on_engine([third], wrong, cluster.RayEngine(), 2, table=FailureTable(None, "cache"), quiet=True)


def test_more_accelerators_than_there_are_count_machines_without_any(nodes):
    assert cluster.RayEngine(gpus=3).workers == 3


def test_an_evaluation_is_equal_though_an_actor_is_killed(nodes, small_folder, lists, tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "SHARD_ROWS", 1)
    protocol = load_protocol("retrieval/msrvtt", ["processor.num_frames=2"])
    options = {"device": "cpu", "workers": 0, "batch_size": 1, "quiet": True}
    evaluate(protocol, small_folder, lists, tmp_path / "one.json", **options)
    killed, check = [], rows.check_damaged

    def kill(*arguments):
        if not killed:
            killed.append(runners()[-1])
            killed[-1].kill()
        check(*arguments)

    monkeypatch.setattr(rows, "check_damaged", kill)
    evaluate(protocol, small_folder, lists, tmp_path / "many.json", engine=cluster.RayEngine(), **options)
    results = [json.loads((tmp_path / name).read_text()) for name in ("one.json", "many.json")]
    for result in results:
        result.pop("seconds")
    assert killed and results[0] == results[1]


def test_lines_are_equal_though_an_actor_is_killed(nodes, small_folder, videos, tmp_path, monkeypatch):
    monkeypatch.setattr(answering, "SHARD_VIDEOS", 2)
    names = [str(videos / name) for name in ("000.mp4", "broken.mp4", *(f"{number:03}.mp4" for number in range(1, 9)))]
    kind = ("zero-shot-video-classification", "AutoModel", str(small_folder))
    asked = pipeline_question(*kind, None, {"candidate_labels": ["red", "blue"], "max_views": 8})
    answering.write_lines(tmp_path / "one.jsonl", names, asked, LocalEngine(("cpu",)), quiet=True)
    killed, answer = [], answering.answer_videos

    def kill(*arguments):
        for found in answer(*arguments):
            if not killed:
                killed.append(runners()[-1])
                killed[-1].kill()
            yield found

    monkeypatch.setattr(answering, "answer_videos", kill)
    failures = answering.write_lines(tmp_path / "many.jsonl", names, asked, cluster.RayEngine(), quiet=True)
    assert killed and len(failures) == 1 and "broken.mp4" in failures[0]
    assert (tmp_path / "many.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()
