"""Which files a list is made of: patterns, braces, folders of shards, folders that `datasets` wrote, splits."""

import json
from pathlib import Path

import pytest

from internvideo_hf.data.class_folders import find_list
from internvideo_hf.data.records import MANIFEST_SUFFIXES, ManifestError, read_records
from internvideo_hf.data.shard_files import is_pattern, shards_of, split_of


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def names_of(folder: Path, name: str) -> list[str]:
    return [str(path.relative_to(folder)) for path in shards_of(folder / name)]


@pytest.mark.parametrize(
    ("files", "name", "expected"),
    [
        (["a-1.parquet", "a-0.parquet", "b.parquet"], "a-*.parquet", ["a-0.parquet", "a-1.parquet"]),
        ([], "{008..011}.tar", ["008.tar", "009.tar", "010.tar", "011.tar"]),
        ([], "{a,b}-{0..1}.tar", ["a-0.tar", "a-1.tar", "b-0.tar", "b-1.tar"]),
        ([], "{9..010}.tar", ["9.tar", "10.tar"]),
        ([], "{02..00}.tar", ["02.tar", "01.tar", "00.tar"]),
        ([], "{test-000..test-001}.tar", []),
        (["{a}-0.tar", "{a}-1.tar"], "{a}-*.tar", ["{a}-0.tar", "{a}-1.tar"]),
        (["a-0.tar", "b-0.tar", "c-0.tar"], "{a,b}-*.tar", ["a-0.tar", "b-0.tar"]),
        (["d/1.tar", "d/0.tar", "d/shards.json"], "d", ["d/0.tar", "d/1.tar"]),
        (["d/data/train-0.parquet", "d/README.md"], "d", ["d/data/train-0.parquet"]),
        (["d/0.parquet", "d/cache-1.arrow"], "d", ["d/0.parquet"]),
        (["d/0.tar", "d/a.mp4"], "d", []),
        (["d/a/b.mp4"], "d", []),
        (["{x}.tar"], "{x}.tar", []),
        (["a.tar"], "a.tar", []),
    ],
)
def test_shards_of_patterns_and_folders(tmp_path, files, name, expected):
    assert names_of(touch(tmp_path, *files), name) == expected


def test_folders_of_save_to_disk_say_which_files_are_theirs(tmp_path):
    touch(tmp_path, "one/data-00000-of-00001.arrow", "one/cache-7.arrow")
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}, {"filename": "../secret.arrow"}]}
    (tmp_path / "one/state.json").write_text(json.dumps(state))
    assert names_of(tmp_path, "one") == ["one/data-00000-of-00001.arrow"]
    touch(tmp_path, "two/test/data.arrow", "two/train/data.arrow", "two/other/data.arrow")
    (tmp_path / "two/dataset_dict.json").write_text('{"splits": ["train", "test", "gone"]}')
    assert names_of(tmp_path, "two") == ["two/train/data.arrow", "two/test/data.arrow"]
    (tmp_path / "two/dataset_dict.json").write_text("[")
    assert names_of(tmp_path, "two") == []


@pytest.mark.parametrize("name", ["{0..1000000}.tar", "{000..999}-{000..999}-{a,b}.tar", "{0..9999999999999}.tar"])
def test_braces_that_name_too_many_files_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="its braces name more than 1,000,000 files") as raised:
        shards_of(tmp_path / name)
    assert str(raised.value).startswith(f"{tmp_path}/{name}: ")


def test_braces_of_no_range_stand_in_the_message_as_they_were_given(tmp_path):
    with pytest.raises(ManifestError) as raised:
        list(read_records(tmp_path / "{test-000..test-001}.tar"))
    assert str(raised.value).startswith(f"{tmp_path}/{{test-000..test-001}}.tar: it cannot be opened")


def test_a_name_that_exists_is_no_pattern(tmp_path):
    assert is_pattern(tmp_path / "[a].tar")
    touch(tmp_path, "[a].tar")
    assert not is_pattern(tmp_path / "[a].tar") and not is_pattern(tmp_path / "a.tar")


@pytest.mark.parametrize(
    ("shard", "split"),
    [
        ("data/train-00000-of-00002.parquet", "train"),
        ("validation-0.parquet", "validation"),
        ("test/data-00000-of-00001.arrow", "test"),
        ("test.parquet", "test"),
        ("clips/000000.tar", None),
        ("training_notes.tar", "training"),
        ("trained.tar", None),
    ],
)
def test_the_split_of_a_shard(shard, split):
    assert split_of(Path(shard)) == split


@pytest.mark.parametrize(
    ("files", "wanted", "found"),
    [
        (["data/train-0.parquet", "data/test-0.parquet"], "train.csv", "data/train-*.parquet"),
        (["data/train-0.parquet", "data/test-0.parquet"], "val.csv", "val.csv"),
        (["data/validation-0.parquet"], "val.csv", "data/validation-*.parquet"),
        (["training-0.tar"], "train.csv", "training-*.tar"),
        (["train/0.tar", "data/train-0.parquet"], "train.csv", "train"),
        (["train.parquet", "test.parquet"], "train.csv", "train.parquet"),
        (["000000.tar"], "train.csv", "."),
        (["metadata.csv", "a.mp4"], "train.csv", "."),
        (["test-0.parquet"], "train.csv", "train.csv"),
    ],
)
def test_the_shards_of_a_split_stand_for_its_list(tmp_path, files, wanted, found):
    touch(tmp_path, *files)
    assert find_list(tmp_path, wanted, MANIFEST_SUFFIXES) == tmp_path / found


def test_several_kinds_of_shards_of_a_split_are_named(tmp_path):
    touch(tmp_path, "train-0.parquet", "train-0.tar")
    with pytest.raises(LookupError, match=r"train-\*.parquet, .*train-\*.tar; name one"):
        find_list(tmp_path, "train.csv", MANIFEST_SUFFIXES)
