"""Clips in folders by class, and what stands for a list that is not there."""

from pathlib import Path

import pytest
from datasets import load_dataset

from internvideo_hf.data.class_folders import find_list, read_class_folders
from internvideo_hf.data.manifests import load_manifest, read_manifest
from internvideo_hf.data.records import MANIFEST_SUFFIXES, ManifestError

CLIPS = ["jump/b.mp4", "jump/deep/a.webm", "10/x.mp4", "2/x.mp4"]


def write(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_the_first_folder_is_the_class(tmp_path):
    write(tmp_path, *CLIPS, "notes.txt", ".hidden/c.mp4")
    found = [(record["file"], record["class_folder"]) for record in read_class_folders(tmp_path)]
    assert found == [("10/x.mp4", "10"), ("2/x.mp4", "2"), ("jump/b.mp4", "jump"), ("jump/deep/a.webm", "jump")]
    write(tmp_path, "loose.mp4")
    assert {"file": "loose.mp4", "class_folder": None} in list(read_class_folders(tmp_path))


def test_names_of_folders_are_labels_also_if_they_are_numbers(tmp_path):
    rows = load_manifest(write(tmp_path, *CLIPS))
    assert rows.features["label"].names == ["10", "2", "jump"]
    assert [(Path(row["video"]).parts[-2], row["label"]) for row in rows][:3] == [("10", 0), ("2", 1), ("jump", 2)]
    labels = [row["label"] for row in read_manifest(tmp_path, labels=["jump", "2", "10"])]
    assert labels == [2, 1, 0, 0]


def test_names_and_numbers_are_those_of_videofolder(tmp_path):
    folder = write(tmp_path / "train", "walk/a.mp4", "jump/b.mp4", "Run/c.mp4", "Run/d.mp4")
    theirs = load_dataset("videofolder", data_dir=str(tmp_path), split="train", cache_dir=str(tmp_path / "cache"))
    ours = load_manifest(folder)
    assert ours.features["label"].names == theirs.features["label"].names == ["Run", "jump", "walk"]
    assert ours["label"][:] == theirs["label"][:] == [0, 0, 1, 2]


def test_a_folder_with_metadata_is_that_list(tmp_path):
    write(tmp_path, "clips/a.mp4", "clips/b.mp4")
    (tmp_path / "metadata.csv").write_text("file_name,label\nclips/a.mp4,walk\nclips/b.mp4,jump\n")
    rows = load_manifest(tmp_path)
    assert (rows["video"][0], rows["label"][:]) == (str(tmp_path / "clips/a.mp4"), [1, 0])


def test_a_folder_of_splits_or_without_videos_is_refused(tmp_path):
    write(tmp_path, "train/jump/a.mp4", "test/jump/b.mp4")
    with pytest.raises(ManifestError, match=r"it holds the splits test, train; name one of them, such as .*/test"):
        load_manifest(tmp_path)
    # A class may be called so beside others.
    assert load_manifest(write(tmp_path, "plane/c.mp4")).features["label"].names == ["plane", "test", "train"]
    with pytest.raises(ManifestError, match=r"it holds a.png, and no videos\. A list is one of: a folder"):
        load_manifest(write(tmp_path / "pictures", "a.png"))
    (tmp_path / "bare").mkdir()
    with pytest.raises(ManifestError, match=r"bare: it holds no files, and no videos\. "):
        load_manifest(tmp_path / "bare")


@pytest.mark.parametrize(
    ("names", "wanted", "found"),
    [
        (["train.csv", "train/a/b.mp4"], "train.csv", "train.csv"),
        (["train/a/b.mp4"], "train.csv", "train"),
        (["Training/a/b.mp4"], "train.csv", "Training"),
        (["train.txt", "train/a/b.mp4"], "train.csv", "train.txt"),
        (["validate.csv"], "val.csv", "validate.csv"),
        (["validation/a/b.mp4", "test/a/b.mp4"], "val.csv", "validation"),
        (["test/a/b.mp4"], "val.csv", "val.csv"),
        (["test/a/b.mp4"], "test", "test"),
        (["walk/b.mp4", "run/c.mp4", "notes.md"], "train.csv", "."),
        (["walk/b.mp4"], "val.csv", "val.csv"),
        (["walk/b.mp4", "c.mp4"], "train.csv", "train.csv"),
        (["test/a/b.mp4"], "train.csv", "train.csv"),
        (["train/a/b.mp4"], "mine.csv", "mine.csv"),
    ],
)
def test_what_stands_for_a_list(tmp_path, names, wanted, found):
    write(tmp_path, *names)
    assert find_list(tmp_path, wanted, MANIFEST_SUFFIXES) == tmp_path / found


def test_several_that_could_be_meant_are_named(tmp_path):
    write(tmp_path, "val/a/b.mp4", "validation/a/b.mp4")
    with pytest.raises(LookupError, match="no val.csv, but val, validation; name one"):
        find_list(tmp_path, "val.csv", MANIFEST_SUFFIXES)
