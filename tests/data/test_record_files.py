"""Records that are written are those that are read, in all formats."""

import datetime
import json

import pytest

from internvideo_hf.data.record_files import check_record_file, json_line, write_records
from internvideo_hf.data.records import read_records

RECORDS = [{"YoutubeID": "a" * 11, "Caption": 'é "x"\n', "n": None}, {"YoutubeID": "b", "Caption": "y", "n": 0.1}]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet"])
def test_records_survive(name, tmp_path):
    path = tmp_path / "new" / name
    assert write_records(path, iter(RECORDS)) == 2
    assert [record for _, record in read_records(path)] == RECORDS
    assert [file.name for file in path.parent.iterdir()] == [name]


def test_a_json_list_without_records_is_one(tmp_path):
    write_records(tmp_path / "a.json", [])
    assert json.loads((tmp_path / "a.json").read_text()) == []


def test_a_failure_leaves_the_old_file(tmp_path):
    def records():
        yield RECORDS[0]
        raise ValueError("no more")

    write_records(tmp_path / "a.jsonl", RECORDS)
    with pytest.raises(ValueError, match="no more"):
        write_records(tmp_path / "a.jsonl", records())
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]
    assert len(list(read_records(tmp_path / "a.jsonl"))) == 2


def test_parquet_refuses_what_its_columns_cannot_hold(tmp_path, monkeypatch):
    monkeypatch.setattr("internvideo_hf.data.record_files._CHUNK", 1)
    write_records(tmp_path / "a.parquet", [{"a": None}, {"a": "text"}])
    with pytest.raises(ValueError, match="several types"):
        write_records(tmp_path / "a.parquet", [{"a": 1}, {"a": "text"}])
    with pytest.raises(ValueError, match="lack the column b"):
        write_records(tmp_path / "a.parquet", [{"a": 1}, {"b": 1}])


def test_endings_are_checked_and_dates_are_text(tmp_path):
    with pytest.raises(ValueError, match="expected one of .jsonl, .json, .parquet"):
        check_record_file(tmp_path / "a.csv")
    assert json_line({"d": datetime.date(2023, 7, 13)}) == '{"d": "2023-07-13"}'
