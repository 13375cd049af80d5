"""What `datasets` and WebDataset write is read as `load_dataset` reads it; bad files are refused in one line."""

import csv
import json
import shutil
from pathlib import Path

import dataset_repositories
import datasets
import pyarrow as pa
import pytest
from data.sets import CLASSES, make_dataset, write_tar
from object_stores import new_memory, write
from pyarrow import parquet

from internvideo_hf import VideoDecodeError, VideoReader
from internvideo_hf.data.folders import find_videos, name_videos, read_metadata
from internvideo_hf.data.manifests import find_classes, load_manifest, read_manifest
from internvideo_hf.data.records import ManifestError, class_names, list_path, read_records
from internvideo_hf.video.members import read_member

FRAMES = [20, 24, 28, 32, 36, 40]


@pytest.fixture(scope="module")
def videos(rows) -> list[str]:
    return [row["video"] for row in rows]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def frames_of(video: str) -> int:
    with VideoReader(video) as reader:
        return reader.num_frames


def check_like_datasets(path: Path, expected: datasets.Dataset) -> None:
    """Check that a list has the videos and the named labels of a data set with a column of videos."""
    table, videos = load_manifest(path), expected.cast_column("video", datasets.Video(decode=False))
    assert table.features["label"] == expected.features["label"] == datasets.ClassLabel(names=CLASSES)
    assert table["label"][:] == expected["label"][:]
    for row, video in zip(table, videos["video"], strict=True):
        content = video["bytes"] or Path(video["path"]).read_bytes()
        found = read_member(row["video"])
        assert (found if isinstance(found, bytes) else Path(found).read_bytes()) == content
    assert find_classes(path) == class_names(path) == CLASSES


def test_parquet_with_bytes(videos, tmp_path):
    make_dataset(videos).to_parquet(tmp_path / "data/train-00000-of-00001.parquet")
    expected = datasets.load_dataset(str(tmp_path), split="train")
    check_like_datasets(tmp_path / "data/train-*.parquet", expected)
    check_like_datasets(tmp_path, expected)
    (name, *_), _ = zip(*name_videos([str(tmp_path)]), strict=True)
    assert name == f"{tmp_path}/data/train-00000-of-00001.parquet/0/0.mp4"


def test_parquet_with_paths(videos, tmp_path):
    make_dataset(videos, embed=False).to_parquet(tmp_path / "x.parquet")
    assert [row["video"] for row in read_manifest(tmp_path / "x.parquet")] == videos
    check_like_datasets(
        tmp_path / "x.parquet", datasets.load_dataset("parquet", data_files=str(tmp_path / "x.parquet"), split="train")
    )


@pytest.mark.parametrize("statistics", [True, False])
def test_parquet_with_some_bytes(videos, tmp_path, statistics):
    table = pa.concat_tables([make_dataset(videos[:3]).data.table, make_dataset(videos[3:], embed=False).data.table])
    parquet.write_table(table, tmp_path / "x.parquet", row_group_size=4, write_statistics=statistics)
    found = [row["video"] for row in read_manifest(tmp_path / "x.parquet")]
    assert found == [*(f"{tmp_path}/x.parquet/{row}/{row}.mp4" for row in range(3)), *videos[3:]]


def test_folders_of_save_to_disk(videos, tmp_path):
    whole = make_dataset(videos)
    whole.save_to_disk(tmp_path / "one", num_shards=2)
    check_like_datasets(tmp_path / "one", datasets.load_from_disk(tmp_path / "one"))
    splits = datasets.DatasetDict({"train": whole.select(range(4)), "test": whole.select([5])})
    splits.save_to_disk(tmp_path / "two")
    for name, split in (("train.csv", "train"), ("test", "test")):
        check_like_datasets(list_path(tmp_path / "two", name), datasets.load_from_disk(tmp_path / "two")[split])
    assert len(find_videos([str(tmp_path / "two")])) == 5
    with pytest.raises(
        ManifestError, match="it holds the splits test, train. Name the shards of one, such as .*two/t"
    ):
        load_manifest(tmp_path / "two")


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "metadata.parquet"])
def test_videofolder_with_metadata(videos, tmp_path, name):
    metadata = []
    for split, number in (("train", 0), ("train", 1), ("test", 2)):
        (tmp_path / split / "clips").mkdir(parents=True, exist_ok=True)
        shutil.copy(videos[number], tmp_path / split / "clips")
        metadata.append({"file_name": f"clips/{number}.mp4", "caption": f"clip {number}", "score": number / 2})
    for split, rows in (("train", metadata[:2]), ("test", metadata[2:])):
        write_metadata(tmp_path / split / name, rows)
    expected = datasets.load_dataset("videofolder", data_dir=str(tmp_path))
    for split, list_name in (("train", "train.csv"), ("test", "test.csv")):
        rows = load_manifest(list_path(tmp_path, list_name), tmp_path)
        paths = expected[split].cast_column("video", datasets.Video(decode=False))["video"]
        assert [(row["caption"], row["video"]) for row in rows] == [
            (caption, video["path"]) for caption, video in zip(expected[split]["caption"], paths, strict=True)
        ]
    about = read_metadata(str(tmp_path / "train" / name))
    assert about[f"{tmp_path}/train/clips/1.mp4"] == {"caption": "clip 1", "score": 0.5}


def write_metadata(path: Path, rows: list[dict]) -> None:
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def test_videofolder_of_classes_has_the_classes_of_datasets(videos, tmp_path):
    for number, name in enumerate(["b", "a", "b"]):
        (tmp_path / "train" / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(videos[number], tmp_path / "train" / name)
    expected = datasets.load_dataset("videofolder", data_dir=str(tmp_path), split="train")
    found = load_manifest(list_path(tmp_path, "train.csv"))
    assert found.features["label"] == expected.features["label"] and found["label"][:] == expected["label"][:]


@pytest.fixture
def tars(videos, tmp_path) -> Path:
    content = [Path(video).read_bytes() for video in videos]
    about = [json.dumps({"label": number, "text": f"clip {number}", "author": "me"}).encode() for number in range(4)]
    write_tar(
        tmp_path / "tars/000000.tar",
        {f"./{n}.{e}": (content if e == "mp4" else about)[n] for n in range(2) for e in ("json", "mp4")},
    )
    write_tar(
        tmp_path / "tars/000001.tar",
        {"deep/2.mp4": content[2], "deep/2.json": about[2], "deep/3.mp4": content[3], "deep/3.json": about[3]},
    )
    return tmp_path / "tars"


def test_webdataset(tars):
    expected = datasets.load_dataset("webdataset", data_files=str(tars / "*.tar"), split="train").cast_column(
        "mp4", datasets.Video(decode=False)
    )
    for path in (tars, tars / "*.tar", tars / "{000000..000001}.tar"):
        found = load_manifest(path)
        assert found["label"][:] == [row["label"] for row in expected["json"]]
        assert found["caption"][:] == [row["text"] for row in expected["json"]]
        assert [read_member(video) for video in found["video"]] == [row["bytes"] for row in expected["mp4"]]
    assert [name for _, name in name_videos([str(tars / "000001.tar")])] == [
        "000001.tar/deep/2.mp4",
        "000001.tar/deep/3.mp4",
    ]
    assert read_metadata(str(tars))[f"{tars}/000000.tar/1.mp4"] == {"author": "me", "label": 1, "caption": "clip 1"}


def test_texts_and_classes_beside_videos(videos, tmp_path):
    video = Path(videos[0]).read_bytes()
    members = {"1.mp4": video, "1.txt": b"a wave\n", "1.cls": b"dog", "2.webm": video, "2.cls": b" 3\n"}
    found = [record for _, record in read_records(write_tar(tmp_path / "x.tar", members))]
    assert found == [
        {"video": f"{tmp_path}/x.tar/1.mp4", "caption": "a wave", "label": "dog"},
        {"video": f"{tmp_path}/x.tar/2.webm", "label": 3},
    ]


def test_samples_are_named_up_to_the_first_dot_of_a_file_as_in_datasets(videos, tmp_path):
    content = [Path(video).read_bytes() for video in videos[:2]]
    members = {"v1.0/x.front.mp4": content[0], "v1.0/x.json": b'{"label": "a"}', "._y.front.mp4": b"x", "README": b"x"}
    path = write_tar(tmp_path / "x.tar", {**members, "v1.0/y.front.mp4": content[1], "v1.0/y.json": b'{"label": "b"}'})
    expected = datasets.load_dataset("webdataset", data_files=str(path), split="train")
    assert expected["__key__"] == ["v1.0/x", "v1.0/y"]
    found = [record for _, record in read_records(path)]
    assert found == [
        {"label": "a", "video": f"{path}/v1.0/x.front.mp4"},
        {"label": "b", "video": f"{path}/v1.0/y.front.mp4"},
    ]
    assert [row["label"] for row in expected["json"]] == [record["label"] for record in found]
    assert [read_member(record["video"]) for record in found] == content


def test_the_video_and_its_texts_in_a_sample_of_several_fields(tmp_path):
    members = {"1.depth.mp4": b"d", "1.mp4": b"v", "1.depth.txt": b"depth", "1.txt": b"plain", "2.gif": b"g"}
    members |= {"2.webm": b"v", "clip_0.5.mp4": b"v", "clip_0.5.cls": b"dog", "clip_0.cls": b"cat"}
    path = write_tar(tmp_path / "x.tar", members)
    assert [record for _, record in read_records(path)] == [
        {"video": f"{path}/1.mp4", "caption": "plain"},
        {"video": f"{path}/2.webm"},
        {"video": f"{path}/clip_0.5.mp4", "label": "dog"},
    ]
    write_tar(path, {f"d/2024.{day:02d}.mp4": b"v" for day in range(1, 9)})
    with pytest.raises(
        ManifestError, match=r"x\.tar: the sample d/2024: \.01\.mp4, \.02\.mp4, \.03\.mp4, \.\.\. are "
    ):
        list(read_records(path))


def test_only_the_columns_that_mean_something_are_read(videos, tmp_path):
    made = make_dataset(videos, weight=[0.5] * 6, embedding=[[1.0]] * 6, text=[f"clip {n}" for n in range(6)])
    made.rename_columns({"video": "mp4", "label": "class"}).to_parquet(tmp_path / "x.parquet")
    table = load_manifest(tmp_path / "x.parquet")
    assert table["caption"][:] == [f"clip {n}" for n in range(6)] and table["label"][:] == [0, 1] * 3
    assert read_metadata(str(tmp_path / "x.parquet"))[table["video"][1]] == {
        "weight": 0.5,
        "caption": "clip 1",
        "label": "ant",
    }


def test_of_several_columns_of_a_meaning_the_first_known_name_counts(videos, tmp_path):
    made = make_dataset(videos, text=["b"] * 6, caption=["a"] * 6, label_name=["x"] * 6)
    made.to_parquet(tmp_path / "x.parquet")
    (row, *_) = read_manifest(tmp_path / "x.parquet")
    assert (row["caption"], row["label"]) == ("a", 0)


def test_labels_of_other_names_are_those_of_the_same_name(videos, tmp_path):
    make_dataset(videos).to_parquet(tmp_path / "x.parquet")
    labels = [row["label"] for row in read_manifest(tmp_path / "x.parquet", labels=["ant", "cow", "zebra"])]
    assert labels == [2, 0] * 3
    streamed = load_manifest(tmp_path / "x.parquet", streaming=True)
    assert streamed.features["label"].names == CLASSES and [row["label"] for row in streamed] == [0, 1] * 3


def test_classes_that_are_called_by_numbers(videos, tmp_path):
    features = datasets.Features(
        {"video": datasets.Video(decode=False), "label": datasets.ClassLabel(names=["10", "2"])}
    )
    made = {"video": [{"bytes": b"x", "path": None}] * 2, "label": [0, 1]}
    datasets.Dataset.from_dict(made, features).to_parquet(tmp_path / "x.parquet")
    found = load_manifest(tmp_path / "x.parquet")
    assert found["label"][:] == [0, 1] and found.features["label"].names == ["10", "2"]


def test_a_list_that_load_manifest_has_made_is_read_back(videos, tmp_path):
    for names in (CLASSES, ["10", "2"]):
        (tmp_path / "x.csv").write_text("".join(f"{video},{names[n % 2]}\n" for n, video in enumerate(videos)))
        table = load_manifest(tmp_path / "x.csv", labels=None if names == CLASSES else names)
        table = table.cast_column("label", datasets.ClassLabel(names=sorted(names) if names == CLASSES else names))
        table.to_parquet(tmp_path / "x.parquet")
        again = load_manifest(tmp_path / "x.parquet")
        assert again.to_list() == table.to_list() and again.features["label"] == table.features["label"]


def test_a_predicate_sees_all_columns(videos, tmp_path):
    make_dataset(videos, weight=[n / 10 for n in range(6)]).to_parquet(tmp_path / "x.parquet")
    found = load_manifest(tmp_path / "x.parquet", keep=lambda record: record["weight"] > 0.25)
    assert [Path(video).name for video in found["video"]] == ["3.mp4", "4.mp4", "5.mp4"]


def test_several_labels(tmp_path):
    features = datasets.Features(
        {"video": datasets.Video(decode=False), "labels": datasets.List(datasets.ClassLabel(names=CLASSES))}
    )
    made = {"video": [{"bytes": b"x", "path": None}] * 3, "labels": [[1], [0, 1], []]}
    datasets.Dataset.from_dict(made, features).to_parquet(tmp_path / "x.parquet")
    found = load_manifest(tmp_path / "x.parquet", several=True)
    assert found["label"][:] == [[1], [0, 1], []] and found.features["label"].feature.names == CLASSES


def test_unknown_labels_and_labels_that_are_none(videos, tmp_path):
    table = make_dataset(videos).data.table
    for label, words in ((-1, None), (7, "row 1: the label is 7, expected 0 to 1")):
        changed = table.set_column(1, table.schema.field(1), pa.array([label, 0, 1, 0, 1, 0]))
        parquet.write_table(changed, tmp_path / "x.parquet")
        if words is None:
            assert load_manifest(tmp_path / "x.parquet")["label"][:2] == [None, 0]
        else:
            with pytest.raises(ManifestError, match=words):
                load_manifest(tmp_path / "x.parquet")
            assert len(find_videos([str(tmp_path / "x.parquet")])) == 6  # where labels do not matter


def two_columns(path: Path) -> None:
    features = datasets.Features({"a": datasets.Video(decode=False), "b": datasets.Video(decode=False)})
    row = {"bytes": b"x", "path": None}
    datasets.Dataset.from_dict({"a": [row], "b": [row]}, features).to_parquet(path)


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        (
            "x.parquet",
            lambda path: parquet.write_table(pa.table({"a": [1]}), path),
            "which video is meant: there are a",
        ),
        ("x.parquet", two_columns, "the columns a, b are videos, and none of them is called video"),
        ("x.arrow", lambda path: path.write_bytes(b"\xff\xff\xff\xff" + bytes(9)), "it is not valid arrow"),
        ("x.arrow", lambda path: path.write_bytes(b"PAR1"), "the name says .arrow, the content is parquet"),
        ("x.tar", lambda path: write_tar(path, {"1.json": b"{}", "1.txt": b"x"}), "it holds no videos"),
        ("x.tar", lambda path: path.write_bytes(write_tar(path, {"1.mp4": b"x" * 99}).read_bytes()[:600]), "cut off"),
        ("{0..1}.tar", lambda path: write_tar(path.parent / "0.tar", {"1.mp4": b"x"}), "1.tar: it cannot be opened"),
        ("d/metadata.csv", lambda path: write_metadata(path, [{"name": "a.mp4"}]), "there is no file_name"),
        ("d/metadata.csv", lambda path: write_metadata(path, [{"file_name": "a.mp4"}]), "there is no .*d/a.mp4"),
    ],
)
def test_bad_files_are_refused(tmp_path, name, write, words):
    (tmp_path / "d").mkdir()
    write(tmp_path / name)
    path = tmp_path / name
    with pytest.raises(ManifestError, match=words) as raised:
        list(read_manifest(path.parent if path.name == "metadata.csv" else path))
    assert "\n" not in str(raised.value)


def test_a_sample_without_a_video_or_with_a_bad_row_is_one_bad_item(videos, tmp_path):
    video = Path(videos[0]).read_bytes()
    members = {"1.txt": b"a", "2.mp4": video, "3.json": b"[1]", "3.mp4": video, "4.txt": b"\xff", "4.mp4": video}
    path = write_tar(tmp_path / "x.tar", members)
    assert find_videos([str(path)]) == [f"{path}/{name}" for name in ("1", "2.mp4", "3.json", "4.txt")]
    for name, words in (
        ("1", "no video beside 1.txt"),
        ("3.json", "FFmpeg cannot open"),
        ("4.txt", "FFmpeg cannot open"),
    ):
        with pytest.raises(VideoDecodeError, match=words):
            frames_of(f"{path}/{name}")
    assert frames_of(f"{path}/2.mp4") == FRAMES[0]


@pytest.mark.parametrize("name", ["data/train-*.parquet", "data", "", "000000.tar"])
def test_data_sets_in_stores_are_read_where_they_are(videos, tmp_path, name):
    make_dataset(videos).to_parquet(tmp_path / "x.parquet")
    content = [Path(video).read_bytes() for video in videos]
    tar = write_tar(tmp_path / "x.tar", {f"{number}.mp4": content[number] for number in range(6)})
    root = new_memory()
    write(
        f"{root}/{'000000.tar' if name.endswith('tar') else 'data/train-00000-of-00001.parquet'}",
        (tar if name.endswith("tar") else tmp_path / "x.parquet").read_bytes(),
    )
    found = [row["video"] for row in read_manifest(f"{root}/{name}".rstrip("/"), check_labels=False)]
    assert [read_member(video) for video in found] == content and all(video.startswith(root) for video in found)
    assert [frames_of(video) for video in found[::-1]] == FRAMES[::-1]


def test_a_data_set_on_the_hub_is_read_where_it_is(videos, tmp_path, monkeypatch):
    make_dataset(videos).to_parquet(tmp_path / "x.parquet")
    files = {"data/test-00000-of-00001.parquet": (tmp_path / "x.parquet").read_bytes(), "README.md": b"# Clips\n"}
    with dataset_repositories.as_the_hub(files, monkeypatch):
        for name in ("/data/test-*.parquet", "/data", ""):
            table = load_manifest(f"hf://datasets/{dataset_repositories.NAME}{name}")
            assert table.features["label"].names == CLASSES and table["label"][:] == [0, 1] * 3
            assert [frames_of(video) for video in table["video"]] == FRAMES
        root = f"hf://datasets/{dataset_repositories.NAME}"
        assert str(list_path(root, "test.csv")) == f"{root}/data/test-*.parquet"


def test_the_metadata_of_a_folder_come_with_its_videos(videos, tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        for video in videos[:2]:
            shutil.copy(video, tmp_path / split)
    write_metadata(tmp_path / "train/metadata.csv", [{"file_name": "1.mp4", "score": "3", "caption": "a wave"}])
    (tmp_path / "test/metadata.csv").write_text("what,ever\n1,2\n")
    lines, metadata = [], {}
    found = find_videos([str(tmp_path)], metadata=metadata, on_left_out=lines.append)
    assert len(found) == 4
    assert metadata == {f"{tmp_path}/train/1.mp4": {"score": 3.0, "caption": "a wave"}}
    assert any(f"No metadata: {tmp_path}/test/metadata.csv: there is no file_name" in line for line in lines)
