"""Whoever has a data set of `datasets` or WebDataset trains, evaluates, classifies and indexes it as it is."""

import glob
import json
import re
import shlex
import shutil
import tempfile
from pathlib import Path

import datasets
import pyarrow as pa
import pytest
from conftest import ROOT
from data.sets import write_tar
from program import assert_refused, run
from pyarrow import parquet

from internvideo_hf.demo.synthetic import ACTIONS, clip_at

KINDS = ("parquet", "saved", "videofolder", "webdataset")
SOME_SLOW = [
    "parquet",
    "webdataset",
    *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("saved", "videofolder")),
]
SPLITS = {"train": 6, "validation": 3, "test": 3}
CLASSES = list(ACTIONS)[::-1]  # the bundled classifier has them the other way round
LISTS = {
    "parquet": "data/test-*.parquet",
    "saved": "test",
    "videofolder": "test",
    "webdataset": "test-{000000..000000}.tar",
}

QUICK = (
    *("training.max_steps=1", "training.warmup_steps=0", "training.dataloader_num_workers=0"),
    *("training.per_device_train_batch_size=2", "batch_size=2"),
)


@pytest.fixture(scope="module")
def sets(drawn, tmp_path_factory) -> Path:
    """Write the same clips as a data set of each kind."""
    folder, made = tmp_path_factory.mktemp("sets"), {}
    features = datasets.Features(
        {
            "video": datasets.Video(decode=False),
            "label": datasets.ClassLabel(names=CLASSES),
            "caption": datasets.Value("string"),
            "id": datasets.Value("int64"),
        }
    )
    for split, count in SPLITS.items():
        files = [drawn[0] / f"test/{number:05d}.mp4" for number in range(count)]
        content, actions = [file.read_bytes() for file in files], [clip_at("test", n, 1).action for n in range(count)]
        about = [{"label": actions[n], "caption": drawn[1][n], "id": n} for n in range(count)]
        rows = [{"video": {"bytes": content[n], "path": files[n].name}, **about[n]} for n in range(count)]
        made[split] = datasets.Dataset.from_list(rows, features)
        made[split].to_parquet(folder / f"parquet/data/{split}-00000-of-00001.parquet")
        said = [json.dumps(row) for row in about]
        members = [{f"{n}.json": said[n].encode(), f"{n}.mp4": content[n]} for n in range(count)]
        write_tar(folder / f"webdataset/{split}-000000.tar", {k: v for one in members for k, v in one.items()})
        (folder / f"videofolder/{split}").mkdir(parents=True)
        for file in files:
            shutil.copy(file, folder / f"videofolder/{split}")
        lines = [json.dumps({"file_name": files[n].name, **about[n]}) + "\n" for n in range(count)]
        (folder / f"videofolder/{split}/metadata.jsonl").write_text("".join(lines))
    datasets.DatasetDict(made).save_to_disk(folder / "saved")
    return folder


@pytest.fixture(autouse=True)
def desk(tmp_path, monkeypatch):
    """Work in an empty folder; no video may be left among the temporary files."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    yield
    assert [file.name for file in scratch.rglob("*") if file.is_file() and file.stat().st_size > 1000] == []


def good(*arguments: object) -> str:
    result = run(*arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_a_classifier_is_evaluated_by_names_and_answers(sets, kind):
    where = ("--model", "demo-classifier", "--data-root", sets / kind)
    good("evaluate", "data.list=test.csv", *where, "--out", "result.json", "-q")
    found = json.loads(Path("result.json").read_text())
    assert found["data"]["videos"] == 3 and found["damaged"] == [] and found["scores"]["top-1"] == 100
    answers = json.loads(good("classify", sets / kind / LISTS[kind], "--model", "demo-classifier", "--json", "-q"))
    assert [answer["results"][0]["label"] for answer in answers] == [clip_at("test", n, 1).action for n in range(3)]


@pytest.mark.parametrize("kind", SOME_SLOW)
def test_a_classifier_learns(sets, kind):
    settings = ("data.labels=null", "data.train=train.csv", "data.validation=val.csv", "data.missing=skip")
    good("train", "demo/classifier", "--data-root", sets / kind, "--output-dir", "run", *settings, *QUICK, "-q")
    names = json.loads(Path("run/final/config.json").read_text())["id2label"].values()
    # A ClassLabel orders the classes and names all of them; names alone are sorted.
    found = sorted(clip_at("test", n, 1).action for n in range(6))
    assert list(names) == (CLASSES if kind in ("parquet", "saved") else found)
    card = Path("run/final/README.md").read_text()
    assert re.search(r"Training: 6 clips of the (list|folder) ", card) and "Validation: 3 clips" in card
    answers = Path("run/answers")
    assert any(answers.rglob("*")) and "failed" not in card


@pytest.mark.parametrize("kind", ["webdataset", pytest.param("parquet", marks=pytest.mark.slow)])
def test_captions_teach_a_dual_encoder(sets, kind):
    settings = ("data.train=train.csv", "data.validation=val.csv", "data.similar_batches=null")
    good("train", "demo/viclip", "--data-root", sets / kind, "--output-dir", "run", *settings, *QUICK, "-q")
    assert (Path("run/final/model.safetensors")).is_file()


@pytest.mark.parametrize("kind", SOME_SLOW)
def test_an_index_finds_what_a_caption_says(sets, drawn, kind):
    source = sets / kind / LISTS[kind]
    good("index", source, "--model", "demo-mm", "--out", "x.index", "--jobs", 1)
    found = good("search", "x.index", drawn[1][1], "--top-k", 1, "--montage", "hits.png")
    assert re.search(r"1\. .*(00001\.mp4|/1\.mp4)$", found, re.M) and Path("hits.png").stat().st_size > 1000
    again = good("index", source, "--out", "x.index", "--jobs", 1)
    assert "3 unchanged" in again
    chosen = good("search", "x.index", drawn[1][1], "--where", "id = 2", "--top-k", 3)
    assert len(re.findall(r"^[ *] +\d+\. .*\.mp4$", chosen, re.M)) == 1 and re.search(
        r"(00002|/2)\.mp4$", chosen, re.M
    )


def test_features_and_small_copies_lie_below_the_name_of_the_file(sets):
    source = sets / "parquet/data/test-00000-of-00001.parquet"
    good("extract", source, "--model", "demo-classifier", "--window", "16", "--out", "features", "-q")
    names = sorted(str(file.relative_to("features")) for file in Path("features").rglob("*.safetensors"))
    assert names == [f"{source.name}/{n}/{n:05d}.mp4.safetensors" for n in range(3)]
    good("shrink", source, "--out", "small", "--short-side", 32, "--jobs", 1, "-q")
    assert len(list(Path("small").rglob("*.mp4"))) == 3
    assert "3" in good("scan", sets / "webdataset/test-000000.tar", "--whole", "--jobs", 1)


@pytest.mark.parametrize("out", [None, pytest.param("answers.jsonl", marks=pytest.mark.slow)])
def test_answers_are_a_data_set(sets, out):
    also = () if out is None else ("--out", out)
    source = ("classify", sets / "parquet/data/test-*.parquet", "none.mp4")
    result = run(*source, "--model", "demo-classifier", *also, "--dataset", "answers", "-q")
    assert result.returncode == 1 and "1 of 4 failed" in result.stderr
    found = datasets.load_dataset("answers", split="predictions")
    label = found.features["label"]
    named = [None if number is None else label.int2str(number) for number in found["label"]]
    assert named == [*(clip_at("test", n, 1).action for n in range(3)), None]
    assert label.names == list(ACTIONS) and "no such file" in found["error"][3]


def test_captions_and_given_labels_are_data_sets(sets):
    source = sets / "parquet/data/test-*.parquet"
    captions = good("caption", source, "--model", "demo-captioner", "--dataset", "captions", "-q")
    assert all(row["caption"] in captions for row in datasets.load_dataset("captions", split="predictions"))
    given = ("--labels", "a cross grows, a heart shakes", "--dataset", "scores", "-q")
    good("zero-shot", source, "--model", "demo-mm", *given)
    found = datasets.load_dataset("scores", split="predictions")
    assert found.features["label"].names == ["a cross grows", "a heart shakes"]
    assert all(-1 <= answer["similarity"] <= 1 for row in found for answer in row["answers"])
    Path("mine").mkdir()
    Path("mine/a.txt").touch()
    refused = run("classify", source, "--model", "demo-classifier", "--dataset", "mine")
    assert_refused(refused, "mine holds something else than answers")


def test_bad_items_fail_alone(sets):
    good_video = (sets / "videofolder/test/00000.mp4").read_bytes()
    values = [{"bytes": good_video, "path": "a.mp4"}, {"bytes": None, "path": None}, {"bytes": b"x", "path": "b.mp4"}]
    values += [{"bytes": None, "path": "none.mp4"}]
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"video": pa.array(values, struct), "label": [0, 0, 0, 0]})
    parquet.write_table(table, "x.parquet")
    write_tar(Path("x.tar"), {"1.mp4": good_video, "2.txt": b"no video here", "3.mp4": b"x"})
    for name, count, failed in (("x.parquet", 4, 3), ("x.tar", 3, 2)):
        result = run("classify", name, "--model", "demo-classifier", "--json", "-q")
        assert result.returncode == 1 and f"{failed} of {count} failed" in result.stderr
        assert ["error" in answer for answer in json.loads(result.stdout)] == [False] + [True] * failed
        result = run("scan", name, "--jobs", 1, "--out", "bad.json")
        assert result.returncode == 1 and len(json.loads(Path("bad.json").read_text())["bad"]) == failed
    assert "the row has neither bytes nor a path" in run("scan", "x.parquet", "--jobs", 1).stderr


def test_bad_lists_are_refused_in_one_line(sets):
    parquet.write_table(pa.table({"text": ["a"]}), "no_video.parquet")
    write_tar(Path("no_video.tar"), {"1.txt": b"a"})
    table = parquet.read_table(sets / "parquet/data/test-00000-of-00001.parquet")
    place = table.schema.get_field_index("label")
    parquet.write_table(table.set_column(place, table.schema.field(place), pa.array([0, 77, 0])), "strange.parquet")
    Path("missing").mkdir()
    Path("missing/metadata.csv").write_text("file_name,label\nnone.mp4,0\n")
    for name, words in (
        ("no_video.parquet", "which video is meant"),
        ("no_video.tar", "it holds no videos"),
    ):
        assert_refused(run("classify", name, "--model", "demo-classifier"), f"{name}", words)
    for name, words in (("strange.parquet", "the label is 77, expected 0 to 11"), ("nonsense", "nonsense")):
        result = run("evaluate", f"data.list={name}", "--model", "demo-classifier", "--data-root", ".")
        assert_refused(result, name, words)
    settings = ("data.labels=null", "data.train=missing", "data.validation=null", "--output-dir", "run")
    assert_refused(run("train", "demo/classifier", "--data-root", ".", *settings), "missing/none.mp4")
    assert not Path("run").exists()
    unknown = ("data.labels=null", "data.train=strange.parquet", "data.validation=null", "--output-dir", "run")
    assert_refused(run("train", "demo/classifier", "--data-root", ".", *unknown), "the label is 77, expected 0 to 11")


def test_the_page_on_data_sets_does_what_it_says(sets, capsys):
    page = (ROOT / "docs/datasets.md").read_text()
    assert "docs/datasets.md" in (ROOT / "README.md").read_text()
    shutil.copytree(sets / "parquet", "mine")
    shutil.copytree(sets / "saved", "saved")
    for number, split in enumerate(("train", "test")):
        Path("shards").mkdir(exist_ok=True)
        shutil.copy(sets / f"webdataset/{split}-000000.tar", f"shards/{number:06d}.tar")
    commands = [line for block in re.findall(r"```bash\n(.*?)```", page, re.S) for line in block.splitlines()]
    quick = {"train": QUICK[2:], "index": ("--jobs", "1"), "scan": ("--jobs", "1")}
    for line in commands:
        name, *words = shlex.split(line, posix=True)[1:]
        words = [file for word in words for file in (sorted(glob.glob(word)) if "*" in word else [word])]
        good(name, *words, *quick.get(name, ()))
    assert len(commands) == 6 and len(datasets.load_dataset("answers", split="predictions")) == 3
    assert len(list(Path("features").rglob("*.safetensors"))) == 3
    snippets = re.findall(r"```python\n(.*?)```", page, re.S)
    for code in snippets:
        exec(compile(code, "docs/datasets.md", "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out.splitlines()
    assert len(snippets) == 2 and sum(line.startswith("[{'score': ") for line in printed) == SPLITS["train"]
    assert sum("/mine/data/test-00000-of-00001.parquet/" in line for line in printed) == SPLITS["test"]
