"""Locks: the second writer is told who the first is; the lock of a killed one is free."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from internvideo_hf.utils.locks import LOCK, LockedError, is_own_file, lock_file, lock_folder

HOLD = """
import sys, time
from internvideo_hf.utils.locks import lock_folder
with lock_folder(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Return a process that holds the folder `out`."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "out"], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_writer_is_told_who_the_first_is(holder, tmp_path):
    with pytest.raises(LockedError, match=rf"out is being written by process {holder.pid} on \S+ since 20"):
        with lock_folder(tmp_path / "out"):
            pass
    with lock_folder(tmp_path / "other"):
        pass


def test_the_lock_of_a_killed_process_is_free(holder, tmp_path):
    holder.kill()
    holder.wait()
    assert all(is_own_file(file) for file in (tmp_path / "out").iterdir())
    with lock_folder(tmp_path / "out"):
        (tmp_path / "out/a").touch()
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["a"]


@pytest.mark.parametrize("host", ["another", socket.gethostname()])
def test_what_a_dead_writer_left_is_taken_over(tmp_path, host):
    """Whatever it says: a lock that no process holds is stale."""
    (tmp_path / LOCK).touch()
    stale = {"pid": 2**22 + 1, "host": host, "since": 0.0, "command": "internvideo index"}
    (tmp_path / f"{LOCK}.json").write_text(json.dumps(stale))
    with lock_folder(tmp_path):
        assert json.loads((tmp_path / f"{LOCK}.json").read_text())["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_a_lock_keeps_no_password_of_an_address(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["internvideo", "index", "https://me:s3cret@host/v.mp4"])
    with lock_folder(tmp_path):
        assert json.loads((tmp_path / f"{LOCK}.json").read_text())["command"].endswith("https://me:***@host/v.mp4")


def test_a_new_folder_that_stays_empty_goes_and_an_old_one_stays(tmp_path):
    (tmp_path / "old").mkdir()
    for name in ("old", "new"):
        with lock_folder(tmp_path / name):
            assert (tmp_path / name).is_dir()
    assert [file.name for file in tmp_path.iterdir()] == ["old"]
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="is a file"), lock_folder(tmp_path / "file"):
        pass


def test_a_file_is_locked_also_under_a_long_name(tmp_path):
    path = tmp_path / ("x" * 250)
    with lock_file(path):
        with pytest.raises(LockedError, match=f"process {os.getpid()} "), lock_file(path):
            pass
        with lock_file(tmp_path / "other"):
            pass
    assert list(tmp_path.iterdir()) == []


def test_who_waits_for_a_file_gets_it_when_its_holder_has_ended(tmp_path):
    order, held = [], threading.Event()

    def hold():
        with lock_file(tmp_path / "a"):
            held.set()
            time.sleep(0.2)
            order.append("first")

    first = threading.Thread(target=hold)
    first.start()
    held.wait()
    with lock_file(tmp_path / "a", wait=True):
        order.append("second")
    first.join()
    assert order == ["first", "second"] and not list(tmp_path.iterdir())
