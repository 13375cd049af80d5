"""Files and folders of stores by way of temporary files."""

import os
import subprocess
import sys
import tempfile

import pytest
from object_stores import new_memory, write

from internvideo_hf.utils.processes import machine_mark
from internvideo_hf.utils.storage import StoragePath
from internvideo_hf.utils.transfers import check_writable, fetched, remove_folder, uploaded_file, uploaded_folder


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """Give this test a directory of temporary files of its own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def folder():
    return StoragePath(new_memory())


def test_a_file_is_itself_and_an_object_a_copy_that_goes(folder, scratch):
    (scratch / "a").write_bytes(b"1")
    with fetched(scratch / "a") as file:
        assert file == scratch / "a"
    write(f"{folder}/b.bin", b"2")
    with fetched(folder / "b.bin") as file:
        assert file.read_bytes() == b"2" and file.suffix == ".bin" and file.is_relative_to(scratch)
    assert os.listdir(scratch) == ["a"]
    with pytest.raises(FileNotFoundError), fetched(folder / "none"):
        pass


def test_an_object_appears_at_the_end_and_not_after_an_error(folder, scratch):
    with pytest.raises(KeyError), uploaded_file(folder / "a.txt") as file:
        file.write_text("half")
        raise KeyError
    assert folder.files() == []
    with uploaded_file(folder / "a.txt") as file:
        file.write_text("all")
        assert folder.files() == [] and file.suffix == ".txt"
    assert (folder / "a.txt").read_text() == "all" and os.listdir(scratch) == []


def test_a_folder_takes_the_place_of_the_old_one(folder):
    write(f"{folder}/old.txt", b"1")
    write(f"{folder}/deep/b.txt", b"1")
    with uploaded_folder(folder) as new:
        (new / "deep").mkdir()
        (new / "deep/b.txt").write_text("2")
        (new / "c.txt").write_text("3")
    assert folder.files() == ["c.txt", "deep/b.txt"] and (folder / "deep/b.txt").read_text() == "2"
    remove_folder(folder)
    remove_folder(folder)
    assert folder.files() == []


def test_what_a_killed_process_left_is_deleted(folder, scratch):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for process in (ended.pid, os.getpid()):
        (scratch / f"internvideo-transfer-{process}@{machine_mark()}-abc").mkdir()
    with uploaded_file(folder / "a") as file:
        file.touch()
    assert os.listdir(scratch) == [f"internvideo-transfer-{os.getpid()}@{machine_mark()}-abc"]


def test_a_folder_is_tried_once_and_left_as_it_was(folder, monkeypatch):
    check_writable(folder)
    assert folder.files() == []
    monkeypatch.delattr(StoragePath, "write_bytes")  # a second attempt would fail
    check_writable(folder)


def test_hubs_are_only_read():
    with pytest.raises(OSError, match=r"^hf://datasets/o/n cannot be written: hf:// is only read\."):
        check_writable(StoragePath("hf://datasets/o/n"))
