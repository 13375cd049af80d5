"""Records of files and folders."""

import pytest

from internvideo_hf.data.records import ManifestError, list_path, read_records


def test_places_and_records_of_each_kind(tmp_path):
    (tmp_path / "a.csv").write_text("x.mp4,1\n")
    assert list(read_records(tmp_path / "a.csv")) == [("line 1", {"line": "x.mp4,1", "delimiter": ","})]
    (tmp_path / "clips/walk").mkdir(parents=True)
    (tmp_path / "clips/walk/a.mp4").touch()
    assert list(read_records(tmp_path / "clips")) == [("walk/a.mp4", {"file": "walk/a.mp4", "class_folder": "walk"})]


def test_a_list_that_is_not_there_is_met_with_what_is(tmp_path):
    (tmp_path / "walk").mkdir()
    (tmp_path / "mine.csv").touch()
    with pytest.raises(ManifestError, match=r"val.csv: it cannot be opened .*holds mine.csv, walk/\. .*A list is one"):
        list(read_records(tmp_path / "val.csv"))
    for name in ("train.csv", "training.txt", "train.json"):
        (tmp_path / name).touch()
    with pytest.raises(ManifestError, match=r"no train.tsv, but train.csv, train.json, training.txt; name one"):
        list_path(tmp_path, "train.tsv")
    assert list_path(tmp_path, "train.csv") == tmp_path / "train.csv"
