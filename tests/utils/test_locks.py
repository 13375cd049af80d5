"""Locks: the second writer is told who the first is; the lock of a killed one is free."""

import datetime
import json
import os
import socket
import subprocess
import sys
import threading
import time

import fsspec
import pytest
from object_stores import new_memory

from internvideo_hf.utils import locks
from internvideo_hf.utils.locks import LOCK, LockedError, is_own_file, lock_file, lock_folder
from internvideo_hf.utils.storage import StoragePath

HOLD = """
import sys, time
from internvideo_hf.utils import locks
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


@pytest.fixture
def stored():
    return StoragePath(new_memory())


def leave_lock(place: StoragePath, age: float, **about: object) -> None:
    """Write the lock of another process, as old as it is."""
    known = {"pid": 2**22 + 1, "host": "another", "since": 0.0, "command": "internvideo index", "token": "t", **about}
    place.write_bytes(json.dumps(known).encode())
    files, path = fsspec.url_to_fs(str(place))
    files.store[path].modified -= datetime.timedelta(seconds=age)


def test_the_second_writer_of_a_store_is_told_who_the_first_is(stored):
    with lock_folder(stored), lock_file(stored / "a.json"):
        assert all(is_own_file(stored / name) for name in stored.files()) and len(stored.files()) == 2
        for lock in (lock_folder(stored), lock_file(stored / "a.json")):
            with pytest.raises(LockedError, match=rf"is being written by process {os.getpid()} on \S+ since 20"), lock:
                pass
        with lock_file(stored / "b.json"):
            pass
    assert stored.files() == []


@pytest.mark.parametrize(
    ("age", "about"), [(0, {"host": socket.gethostname()}), (61, {}), (61, {"host": socket.gethostname(), "pid": 1})]
)
def test_the_lock_of_a_dead_process_in_a_store_is_taken_over(stored, age, about, monkeypatch):
    monkeypatch.setattr(locks, "_SETTLED", 0.0)
    leave_lock(stored / LOCK, age, **about)
    with lock_folder(stored):
        assert json.loads((stored / LOCK).read_text())["pid"] == os.getpid()
    assert stored.files() == []


def test_a_process_of_another_machine_that_gave_a_sign_lives(stored):
    leave_lock(stored / LOCK, 20)
    with pytest.raises(LockedError, match="process 4194305 on another since 1970"), lock_folder(stored):
        pass


def test_who_waits_for_a_store_goes_on_when_it_is_free(stored, monkeypatch):
    monkeypatch.setattr(locks, "_BEAT", 0.1)
    leave_lock(stored / f"{LOCK}-a", 0)
    threading.Timer(0.3, (stored / f"{LOCK}-a").unlink).start()
    with lock_file(stored / "a", wait=True):
        pass


def test_a_lock_in_a_store_is_written_again_and_its_loss_is_an_error(stored, monkeypatch):
    monkeypatch.setattr(locks, "_BEAT", 0.05)
    with pytest.raises(LockedError, match="took over from this process"), lock_folder(stored):
        first = (stored / LOCK).modified()
        deadline = time.monotonic() + 20
        while (stored / LOCK).modified() == first and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (stored / LOCK).modified() > first
        leave_lock(stored / LOCK, 0)
        time.sleep(0.5)
    assert json.loads((stored / LOCK).read_text())["host"] == "another"


def test_a_lock_in_a_store_that_was_deleted_is_made_again(stored, monkeypatch):
    monkeypatch.setattr(locks, "_BEAT", 0.05)
    with lock_folder(stored):
        (stored / LOCK).unlink()
        deadline = time.monotonic() + 20
        while not (stored / LOCK).exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert json.loads((stored / LOCK).read_text())["pid"] == os.getpid()
    assert stored.files() == []


def test_a_folder_of_a_store_is_no_object(stored):
    stored.write_bytes(b"")
    with pytest.raises(FileExistsError, match="is an object"), lock_folder(stored):
        pass
