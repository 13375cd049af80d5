"""Commands whose inputs and outputs are in an object store: S3 as served by moto."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from object_stores import s3, write
from program import assert_refused, run
from safetensors.torch import load as load_tensors
from safetensors.torch import load_file
from search.rows import rows_of
from search.stores.conftest import SETTINGS
from training.recipes import write_data, write_recipe
from video.clips import video_bytes, write_video

from internvideo_hf.checkpoints.model_names import demo_path
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.search.stores.opening import load_store, new_store
from internvideo_hf.training.run import _cache_folder
from internvideo_hf.utils.locks import LOCK, LockedError
from internvideo_hf.utils.storage import StoragePath

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def videos():
    return {"a.mp4": video_bytes(24), "deep/b.mp4": video_bytes(30), "bad.mp4": b"no video"}


@pytest.fixture(scope="module")
def bucket(videos):
    with s3() as address:
        for name, content in videos.items():
            write(f"{address}/in/{name}", content)
        yield StoragePath(address)


@pytest.fixture
def disk(tmp_path, videos):
    """Return a folder of the disk with the videos of the bucket."""
    for name, content in videos.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    return tmp_path


def lines_of(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_scan_writes_its_report_and_its_failures(bucket):
    result = run("scan", bucket / "in", "--jobs", 2, "--out", bucket / "scan/bad.json", "-q")
    assert result.returncode == 1
    assert [entry["video"] for entry in json.loads((bucket / "scan/bad.json").read_text())["bad"]] == [
        f"{bucket}/in/bad.mp4"
    ]
    (row,) = lines_of((bucket / "scan/bad.json.failures.jsonl").read_text())
    assert (row["video"], row["attempts"]) == (f"{bucket}/in/bad.mp4", 1)
    assert (bucket / "scan").files() == ["bad.json", "bad.json.failures.jsonl"]


def test_shrink_reads_and_writes_objects_and_resumes_by_a_listing(bucket):
    command = ("shrink", bucket / "in", "--out", bucket / "small", "--short-side", 32, "--jobs", 2)
    result = run(*command)
    assert result.returncode == 1 and f"Wrote 2 videos to {bucket}/small; 0 already existed" in result.stdout
    assert (bucket / "small").files() == ["a.mp4", "deep/b.mp4", "failures.jsonl", "shrink.json"]
    before = (bucket / "small/a.mp4").modified()
    assert "Wrote 0 videos to s3://clips/small; 2 already existed" in run(*command).stdout
    assert (bucket / "small/a.mp4").modified() == before
    assert_refused(run(*command, "--quality", 30), "quality 23, now 30")
    assert_refused(run("shrink", bucket / "in/a.mp4", "--out", bucket / "in"), "small copy")


def test_extract_writes_what_it_writes_to_a_disk(bucket, disk):
    options = ("--model", demo_path("demo-classifier"), "--window", 8, "--stride", 8, "--device", "cpu", "-q", "--npy")
    for root in (bucket, disk):
        assert run("extract", root / "in", "--out", root / "features", *options).returncode == 1
    names = sorted(str(file.relative_to(disk / "features")) for file in disk.glob("features/**/*") if file.is_file())
    assert (bucket / "features").files() == names and "deep/b.mp4.npy" in names
    here = load_file(disk / "features/a.mp4.safetensors")["features"]
    there = load_tensors((bucket / "features/a.mp4.safetensors").read_bytes())["features"]
    np.testing.assert_array_equal(there, here)
    again = run("extract", bucket / "in", "--out", bucket / "features", *options[:-2])
    assert again.stdout.count("(already existed)") == 2
    assert_refused(
        run("extract", bucket / "in/a.mp4", "--out", bucket / "features", "--stride", 4, *options[:4], *options[6:]),
        "other settings (stride 8, now 4)",
    )


def test_lists_become_the_lines_of_a_disk(bucket, disk):
    options = ("--model", demo_path("demo-classifier"), "--device", "cpu", "-q")
    for root in (bucket, disk):
        assert run("classify", root / "in", "--out", root / "out/answers.jsonl", *options).returncode == 1
    assert (bucket / "out").files() == ["answers.jsonl", "answers.jsonl.failures.jsonl"]
    there = (bucket / "out/answers.jsonl").read_text().replace(str(bucket), str(disk))
    found, expected = lines_of(there), lines_of((disk / "out/answers.jsonl").read_text())
    assert [entry["video"] for entry in found] == [entry["video"] for entry in expected]
    assert [entry.get("results") for entry in found] == [entry.get("results") for entry in expected]
    assert "error" in found[1]


def test_an_index_is_that_of_a_disk_and_is_read_from_copies(bucket, disk, monkeypatch):
    monkeypatch.setenv("INTERNVIDEO_CACHE", str(disk / "cache"))
    model, options = ("--model", demo_path("demo-mm")), ("--jobs", 1, "-q")
    for root in (bucket, disk):
        assert run("index", root / "in", *model, "--out", root / "videos.index", *options).returncode == 1
    names = sorted(file.name for file in (disk / "videos.index").iterdir())
    assert len(names) == 3 and [name[:5] for name in (bucket / "videos.index").files()] == [name[:5] for name in names]
    (row,) = lines_of((bucket / "videos.index.failures.jsonl").read_text())
    assert row["video"] == f"{bucket}/in/bad.mp4"
    query = ("a red circle", "--json", "--device", "cpu")
    expected = json.loads(run("search", disk / "videos.index", *query).stdout)
    for _ in range(2):
        found = json.loads(run("search", bucket / "videos.index", *query).stdout)
        assert [hit["video"].removeprefix(f"{bucket}/") for hit in found["hits"]] == [
            hit["video"].removeprefix(f"{disk}/") for hit in expected["hits"]
        ]
        assert [hit["similarity"] for hit in found["hits"]] == [hit["similarity"] for hit in expected["hits"]]
        shutil.rmtree(disk / "cache")
    assert "(1 unchanged)" in run("index", bucket / "in/a.mp4", "--out", bucket / "videos.index").stdout
    assert_refused(run("index", bucket / "in", "--out", bucket / "none.index"), "holds no index yet")
    assert_refused(run("search", bucket / "none.index", "x"), "holds no index")


def test_videos_lists_results_and_reports_of_an_evaluation_may_be_stored(bucket, disk):
    write(f"{bucket}/in/val.csv", b"a.mp4,0\ndeep/b.mp4,1\nbad.mp4,2\n")
    (disk / "in/val.csv").write_bytes((bucket / "in/val.csv").read_bytes())
    options = ("data.list=val.csv", "--model", demo_path("demo-classifier"), "--max-damaged", 0.5, "--device", "cpu")
    options += ("--workers", 0, "-q")
    for root in (bucket, disk):
        outputs = ("--out", root / "out/result.json", "--report", root / "report")
        done = run("evaluate", *options, "--data-root", root / "in", *outputs)
        assert done.returncode == 1, done.stderr
    found, expected = (json.loads((root / "out/result.json").read_text()) for root in (bucket, disk))
    assert found["scores"] == expected["scores"] and found["data"] == expected["data"]
    assert found["damaged"][0]["video"].endswith("in/bad.mp4") and (bucket / "out/result.json").exists()
    names = sorted(str(file.relative_to(disk / "report")) for file in disk.glob("report/**/*") if file.is_file())
    assert (bucket / "report").files() == names and "summary.txt" in names
    written = [name for name in (bucket / "out").files() if "result" in name]
    assert written == ["result.json", "result.json.failures.jsonl"]
    again = run("evaluate", *options, "--data-root", bucket / "in", "--report", bucket / "in")
    assert_refused(again, "holds other files than a report")


def test_training_reads_lists_and_videos_of_a_store(bucket, tmp_path):
    data = write_data(tmp_path / "data")
    for file in data.iterdir():
        write(f"{bucket}/training/{file.name}", file.read_bytes())
    recipe = write_recipe(tmp_path)
    options = ("training.max_steps=2", "training.use_cpu=true", "-q")
    losses = {}
    for name, root, more in (
        ("disk", data, ()),
        ("root", bucket / "training", ()),
        # A list in a store, and videos on a disk.
        ("list", data, (f"data.train={bucket}/training/train.csv", f"data.validation={bucket}/training/train.csv")),
    ):
        done = run("train", recipe, *options, *more, "--data-root", root, "--output-dir", tmp_path / name)
        assert done.returncode == 0, done.stderr
        assert "There is no" not in done.stderr
        states = sorted((tmp_path / name).glob("**/trainer_state.json"))
        losses[name] = [entry.get("loss") for entry in json.loads(states[-1].read_text())["log_history"]]
    assert losses["root"] == losses["list"] == losses["disk"]
    with pytest.raises(RecipeError, match=r"s3://clips/training/cache, in an object store"):
        _cache_folder({"folder": "cache"}, Path(f"{bucket}/training"))
    assert _cache_folder({"folder": str(tmp_path)}, Path(f"{bucket}/training")) == tmp_path


def test_a_data_set_of_stored_videos_is_built_in_a_store(bucket, disk, monkeypatch):
    options = ("--until", "clips", "--detector", "fixed", "--window", 0.5, "--min-seconds", 0.1, "--jobs", 1)
    states: list[dict] = []
    for cache in ("one", "two"):  # the second machine knows nothing of the first, and does nothing again
        monkeypatch.setenv("INTERNVIDEO_CACHE", str(disk / cache))
        done = run("dataset", "build", bucket / "in", "--out", bucket / "set", *options)
        assert done.returncode == 1 and f"{bucket}/set/README.md is the data card" in done.stdout, done.stderr
        files = (bucket / "set").files()
        records = lines_of((bucket / "set/records.jsonl").read_text())
        assert len(records) == 4 and {record["video"] for record in records} <= set(files)
        clips = (bucket / "set/clips").states()
        assert clips and clips == (states or [clips])[0]
        states.append(clips)
    (failure,) = lines_of((bucket / "set/failures/shots.jsonl").read_text())
    assert "bad" in failure["video"] and not [name for name in files if name.rpartition("/")[2].startswith(".")]
    assert_refused(
        run("dataset", "build", bucket / "in", "--out", bucket / "set", *options[:-2], "--engine", "ray"),
        "a cluster builds on a disk",
    )


def test_a_store_that_refuses_is_named_before_the_work(bucket, tmp_path):
    write_video(tmp_path / "v.mp4", 8)
    place = "s3://no-such-bucket/out.json"
    assert_refused(run("scan", tmp_path / "v.mp4", "--out", place), "no-such-bucket")
    assert_refused(run("scan", tmp_path / "v.mp4", "--out", bucket / "in"), "is a folder")
    assert_refused(run("scan", tmp_path / "v.mp4", "--out", "hf://datasets/o/n/bad.json"), "hf:// is only read")
    assert_refused(run("shrink", tmp_path / "v.mp4", "--out", bucket / "in/a.mp4"), "is a file")


def test_an_index_of_lancedb_in_a_bucket_has_one_writer(bucket, monkeypatch):
    pytest.importorskip("lancedb")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    address = f"lance:{bucket}/lance"
    first, second = (new_store(dict(SETTINGS), address) for _ in range(2))
    with first.writing():
        first.upsert(rows_of("/a", [0, 1], 2))
        with pytest.raises(LockedError, match="is being written by process"), second.writing():
            pass
    with second.writing():
        second.upsert(rows_of("/bb", [0], 1))
    assert list(load_store(address).known().videos) == ["/a", "/bb"]
    assert not any(name.startswith(LOCK) for name in (bucket / "lance").files())
