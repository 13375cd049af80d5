"""Marks of processes in names of files."""

import os
import subprocess
import sys
import time

from internvideo_hf.utils.processes import is_running, machine_mark, may_run, process_mark


def test_a_mark_names_process_and_machine(tmp_path):
    assert process_mark() == f"{os.getpid()}@{machine_mark()}" and len(machine_mark()) == 6
    assert may_run(process_mark(), tmp_path) and not may_run("new", tmp_path)


def test_an_ended_process_does_not_run(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert is_running(os.getpid()) and not is_running(ended.pid)
    assert not may_run(f"{ended.pid}@{machine_mark()}", tmp_path) and not may_run(str(ended.pid), tmp_path)


def test_a_process_of_another_machine_may_run_for_a_day(tmp_path):
    file = tmp_path / "file"
    file.touch()
    assert may_run("1@000000", file)
    os.utime(file, (time.time() - 90_000,) * 2)
    assert not may_run("1@000000", file)
