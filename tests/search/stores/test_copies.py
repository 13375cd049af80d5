"""Copies of the files of an index in an object store."""

from pathlib import Path

import pytest
from object_stores import new_memory, write

from internvideo_hf.search.stores import copies
from internvideo_hf.search.stores.copies import Copies
from internvideo_hf.utils.storage import StoragePath


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("INTERNVIDEO_CACHE", str(tmp_path / "cache"))
    return StoragePath(new_memory())


def test_a_file_of_a_disk_is_itself(tmp_path):
    found = Copies(tmp_path)
    assert found.put("a.txt", lambda path: path.write_text("1")) == found.get("a.txt") == tmp_path / "a.txt"
    found.keep([])
    assert (tmp_path / "a.txt").read_text() == "1"


def test_an_object_is_copied_once_for_each_version(folder, monkeypatch):
    copied, download = [], copies.download
    monkeypatch.setattr(copies, "download", lambda address, file: (copied.append(address), download(address, file)))
    write(f"{folder}/rows-1.bin", b"1")
    paths = {Copies(folder).get("rows-1.bin") for _ in range(2)}
    assert len(paths) == len(copied) == 1 and paths.pop().read_bytes() == b"1"
    write(f"{folder}/rows-1.bin", b"2")
    assert Copies(folder).get("rows-1.bin").read_bytes() == b"2" and len(copied) == 2
    with pytest.raises(FileNotFoundError):
        Copies(folder).get("rows-2.bin")


def test_what_is_written_is_the_object_and_its_copy(folder, tmp_path, monkeypatch):
    found = Copies(folder)
    path = found.put("rows-1.bin", lambda path: path.write_text("1"))
    monkeypatch.setattr(copies, "download", None)  # there is no need
    assert found.get("rows-1.bin") == path and (folder / "rows-1.bin").read_text() == path.read_text() == "1"
    other = found.put("rows-2.bin", lambda path: path.write_text("2"))
    kept = found.put("null.bin", lambda path: path.write_text("3"))
    found.keep(["rows-2.bin"])
    assert not path.exists() and other.exists() and kept.exists()
    assert {file.parent for file in Path(tmp_path).rglob("*.bin")} == {kept.parent}
