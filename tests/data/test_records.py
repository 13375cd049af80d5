"""Records of files and folders."""

import pytest

from internvideo_hf.data.records import ManifestError, are_numbers, list_path, read_json, read_records


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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "it is not valid JSON"),
        (b"[" * 100_000, "it is not valid JSON"),
        (b"9" * 5000, "it is not valid JSON"),
        (b"\xff", "it is not text in UTF-8"),
    ],
)
def test_json_that_cannot_be_read_is_named(tmp_path, content, message):
    file = tmp_path / "a.json"
    file.write_bytes(content)
    with pytest.raises(ManifestError, match=f"a.json: {message}"):
        read_json(file)
    with pytest.raises(ManifestError, match="none.json: it cannot be opened"):
        read_json(tmp_path / "none.json")
    file.write_text('\ufeff{"a": 1}', encoding="utf-8")
    assert read_json(file) == {"a": 1}


def test_lists_of_finite_numbers():
    assert are_numbers([1, 2.5]) and are_numbers((0.0,), 1) and are_numbers([])
    for value in ([1, True], [1, "2"], [1, float("nan")], [10**400], [1, None], 3, None, "12", {1: 2}):
        assert not are_numbers(value)
    assert not are_numbers([1, 2], 3)
