"""Atomic writes: readers see the old content or the new one, and no temporary file remains."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from internvideo_hf.utils.files import (
    DiskFullError,
    atomic_directory,
    atomic_path,
    atomic_write,
    atomic_write_text,
    check_output,
    remove_leftovers,
    remove_leftovers_of,
)


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


def test_leftovers_of_another_machine_stay_for_a_day(tmp_path):
    fresh, stale = tmp_path / ".unfinished-1@abcdef-a.mp4", tmp_path / ".unfinished-1@abcdef-b.mp4"
    for file in (fresh, stale):
        file.touch()
    os.utime(stale, (time.time() - 2 * 86400,) * 2)
    remove_leftovers(tmp_path)
    assert fresh.exists() and not stale.exists()


def test_leftovers_of_one_file_go_and_those_of_others_stay(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name in ("bad.json", "other-bad.json"):
        (tmp_path / f".unfinished-{dead.pid}-{name}").touch()
    remove_leftovers_of(tmp_path / "bad.json")
    assert [file.name for file in tmp_path.iterdir()] == [f".unfinished-{dead.pid}-other-bad.json"]


def test_names_as_long_as_the_system_allows_are_written(tmp_path):
    for name in ("x" * 244 + ".json", "\N{HIRAGANA LETTER A}" * 83 + ".a"):
        atomic_write_text(tmp_path / name, "1")
        assert (tmp_path / name).read_text() == "1"


def test_text_with_a_name_that_is_not_utf_8_is_written_and_json_reads_it_again(tmp_path):
    name = os.fsdecode(b"caf\xe9.mp4")
    atomic_write_text(tmp_path / "a.json", json.dumps({"video": name}, ensure_ascii=False))
    assert json.loads((tmp_path / "a.json").read_bytes().decode()) == {"video": name}


WRITERS = {
    "text": "atomic_write_text(path, 'x' * 10**6)",
    "safetensors": "atomic_write(path, lambda file: save_file({'a': torch.zeros(10**6)}, file))",
    "numpy": "atomic_write(path.with_suffix('.npy'), lambda file: np.save(file, np.zeros(10**6)))",
    "picture": "atomic_write(path.with_suffix('.bmp'), Image.new('RGB', (900, 900)).save)",
}
_FULL_DISK = """
import pathlib, resource, sys
import numpy as np, torch
from PIL import Image
from safetensors.torch import save_file
from internvideo_hf.utils.files import DiskFullError, atomic_write, atomic_write_text
# A file may have no more than 100 KB: the system refuses the rest, as where a disk is full or a quota exceeded.
resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, 10**5))
for number, write in enumerate(sys.argv[2:]):
    path = pathlib.Path(sys.argv[1], f"{number}.bin")
    try:
        exec(write)
        print("written", write)
    except DiskFullError as error:
        assert str(path.with_suffix("")) in str(error) and "MB free" in str(error), error
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limits of file sizes")
def test_a_full_disk_is_named_whatever_library_writes(tmp_path):
    command = [sys.executable, "-c", _FULL_DISK, tmp_path, *WRITERS.values()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr + result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["s3://bucket/result.json", Path("gs://bucket/folder")])
def test_an_output_in_an_object_store_is_refused(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match=r"(s3|gs)://bucket/\w+(\.json)? is in an object store, .* and copy it"):
        check_output(path)
    assert not list(tmp_path.iterdir())


def test_an_output_that_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch):
    check_output(tmp_path / "new/er/out.json")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file/out cannot be written"):
        check_output(tmp_path / "file/out")
    with pytest.raises(OSError, match="cannot be written .File name too long"):
        check_output(tmp_path / ("x" * 256))
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=2 * 10**6))
    check_output(tmp_path / "out", needed=10**6)
    with pytest.raises(DiskFullError, match="2.0 MB free, and 3.0 MB are needed"):
        check_output(tmp_path / "out", needed=3 * 10**6)


def test_a_directory_that_a_killed_process_was_exchanging_is_there_again(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    scratch = tmp_path / f".out.{dead.pid}.abcd1234"
    for name in ("old", "new"):
        (scratch / name).mkdir(parents=True)
        (scratch / name / name).touch()
    (tmp_path / ".out.mine").mkdir()
    with pytest.raises(ValueError, match="stop"), atomic_directory(tmp_path / "out"):
        raise ValueError("stop")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["old"]
    assert {file.name for file in tmp_path.iterdir()} == {"out", ".out.mine"}
