"""Atomic writes: readers see the old content or the new one, and no temporary file remains."""

import os
import subprocess
import sys

import pytest

from internvideo_hf.utils.files import atomic_directory, atomic_path, atomic_write, atomic_write_text, remove_leftovers


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path):
    path = tmp_path / "a.txt"
    atomic_write_text(path, "old")

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("full disk")

    with pytest.raises(OSError, match="full disk"):
        atomic_write(path, fail)
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"] and path.read_text() == "old"


def test_a_file_is_readable_for_all_and_its_temporary_name_has_process_and_suffix(tmp_path):
    with atomic_path(tmp_path / "a.safetensors") as temporary:
        assert str(os.getpid()) in temporary.name and temporary.suffix == ".safetensors"
        temporary.touch(mode=0o600)
        assert not (tmp_path / "a.safetensors").exists()
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == 0o644


def test_a_failed_directory_keeps_the_old_one(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/old").touch()
    with pytest.raises(ValueError, match="stop"), atomic_directory(tmp_path / "out") as folder:
        (folder / "new").touch()
        raise ValueError("stop")
    assert [file.name for file in tmp_path.iterdir()] == ["out"] and (tmp_path / "out/old").exists()
    with atomic_directory(tmp_path / "out") as folder:
        (folder / "new").touch()
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["new"]


def test_leftovers_of_dead_processes_go_and_those_of_running_ones_stay(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name in (f".unfinished-{dead.pid}-a.mp4", ".unfinished-b.mp4", f".unfinished-{os.getpid()}-c.mp4", "d.mp4"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {f".unfinished-{os.getpid()}-c.mp4", "d.mp4"}
