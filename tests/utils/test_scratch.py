"""Temporary files: gone at the end, and after a kill gone with the next start."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from internvideo_hf.utils.scratch import scratch_directory, scratch_file

HOLD = """
import sys, time
from internvideo_hf.utils.scratch import scratch_directory
with scratch_directory("test") as folder:
    (folder / "upload.mp4").write_text("private")
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_directory_is_private_and_gone_at_the_end(place):
    with scratch_directory("test") as folder:
        assert folder.parent == place and folder.stat().st_mode & 0o077 == 0
        with scratch_directory("test") as other:
            assert other != folder and folder.exists()
    assert not list(place.iterdir())


@pytest.mark.timeout(60)
def test_the_next_start_deletes_what_a_killed_process_left(place):
    (place / "internvideo-test-of-others").symlink_to(Path(__file__).parent)
    (place / "internvideo-test-no-lock").mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(place)}
    ) as process:
        folder = Path(process.stdout.readline().strip())
        with scratch_directory("test"):
            assert (folder / "upload.mp4").exists(), "its owner runs"
        process.send_signal(signal.SIGKILL)
    with scratch_directory("test"):
        assert not folder.exists()
    assert sorted(path.name for path in place.iterdir()) == ["internvideo-test-no-lock", "internvideo-test-of-others"]
    assert Path(__file__).exists()


def test_old_files_of_processes_that_are_gone_are_deleted(place):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    files = {
        name: place / f"internvideo-file-{name}" for name in (f"{gone.pid}-a", f"{gone.pid}-new", f"{os.getpid()}-b")
    }
    for name, file in files.items():
        file.touch()
        if not name.endswith("new"):
            os.utime(file, (1e9, 1e9))
    handle, name = scratch_file("file", ".mp4")
    os.close(handle)
    assert Path(name).parent == place and name.endswith(".mp4")
    assert [file.exists() for file in files.values()] == [False, True, True]
