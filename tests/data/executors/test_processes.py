"""The process pool."""

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dying
import pytest
from data.crash import (
    die_once,
    double,
    double_or_hang,
    process_of,
    slow_first,
    verify,
)

from internvideo_hf.data.executors import processes
from internvideo_hf.data.executors.processes import KILLED, Processes, map_ordered, map_unordered, time_limit
from internvideo_hf.utils.files import DiskFullError, atomic_path
from internvideo_hf.utils.processes import is_running
from internvideo_hf.video import VideoDecodeError


@pytest.mark.slow
def test_an_item_that_kills_its_process_is_named_and_the_others_are_done():
    results = dict(map_unordered(double, range(8), 2))
    killed, refused = results.pop(3), results.pop(5)
    assert results == {0: 0, 1: 2, 2: 4, 4: 8, 6: 12, 7: 14}
    assert isinstance(killed, VideoDecodeError) and KILLED in str(killed) and str(killed).startswith("3")
    assert str(refused).startswith("5: five is refused")


def test_an_item_that_hangs_is_named_and_the_others_are_done():
    results = dict(map_unordered(double_or_hang, range(5), 2, timeout=0.5))
    hung = results.pop(3)
    assert results == {0: 0, 1: 2, 2: 4, 4: 8}
    assert isinstance(hung, VideoDecodeError) and "3: the decoder did not finish within 0.5 seconds" in str(hung)


def test_order_is_that_of_the_items_and_one_worker_with_a_timeout_is_a_process():
    assert list(map_ordered(slow_first, range(9), 3, timeout=60)) == [(item, 2 * item) for item in range(9)]
    ((_, killed),) = map_ordered(double, [3], 1, timeout=60)
    assert KILLED in str(killed)


def test_a_process_is_there_from_its_first_task_until_one_kills_it():
    child = processes.Child(method="forkserver")
    assert not child.is_running
    assert child.run(double, 4, "4") == 8 and child.is_running
    assert KILLED in str(child.run(double, 3, "3")) and not child.is_running
    assert child.run(double, 4, "4") == 8
    child.close()
    assert not child.is_running


def test_an_item_whose_process_died_once_is_run_again(tmp_path):
    items = [(number, tmp_path / "mark") for number in range(5)]
    assert [result for _, result in map_ordered(die_once, items, 2)] == [0, 2, 4, 6, 8]
    assert (tmp_path / "mark").exists()


class Unlucky(processes.Child):
    """A process that is lost as it is told: at its start, when an item comes, or by a signal while the item runs."""

    def __init__(self, *losses: str | int):
        super().__init__()
        self.losses, self.lost = list(losses), None

    def _start(self):
        if self.losses[:1] == ["start"]:
            self.losses.pop(0)
            raise EOFError
        return self

    def send(self, what: object) -> None:
        """Take an item."""

    def poll(self, timeout: float | None) -> bool:
        """Say that the answer has come."""
        return True

    def recv(self) -> object:
        """Say that the item begins, and give its result next."""
        if self.losses:
            if self.losses[0] == "begin" or isinstance(self.losses[0], int) and self.begun:
                self.lost = self.losses.pop(0)
                raise EOFError
        self.begun = not self.begun
        return "result", "done"

    def _end(self) -> int | None:
        self.begun = False
        return -self.lost if isinstance(self.lost, int) else None

    begun = False


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(
    ("losses", "found"),
    [
        ([signal.SIGSEGV], "done"),
        ([signal.SIGSEGV] * 2, KILLED),
        ([signal.SIGKILL] * 2, "done"),
        ([signal.SIGKILL] * 3, KILLED),
        ([signal.SIGKILL, signal.SIGSEGV], KILLED),
        (["start", "begin", signal.SIGSEGV, "begin", "start"], "done"),
        (["start", "start", "begin"], "The processes that decode end as soon as they start"),
    ],
)
def test_an_item_is_blamed_only_for_processes_that_are_lost_while_it_runs(losses, found):
    try:
        result = Unlucky(*losses).run(double, 4, "4")
    except processes.NoProcessError as error:
        result = error
    assert found in str(result)


@pytest.mark.slow
def test_videos_that_kill_or_hang_their_decoder_are_failures(tmp_path, bikes):
    videos = [str(tmp_path / name) for name in ("a.mp4", "kills.mp4", "b.mp4", "hangs.mp4", "c.mp4")]
    for video in videos:
        os.symlink(bikes, video)
    # The first call imports torch, which the limit counts where a task imports late.
    found = [result for _, result in map_ordered(verify, videos, 2, timeout=10)]
    assert [found[0], found[2], found[4]] == [250, 250, 250]
    assert found[1].source == videos[1] and found[1].cause == KILLED
    assert found[3].source == videos[3] and "did not finish within 10 seconds" in found[3].cause


def test_processes_stay_for_the_next_list_and_end_with_the_last():
    executor = Processes()
    assert list(executor.map_ordered(os.path.abspath, ["/a", "/b"], 2)) == [("/a", "/a"), ("/b", "/b")]
    ((_, first),) = executor.map_ordered(process_of, [0], 1)
    ((_, second),) = executor.map_ordered(process_of, [0], 1)
    assert first == second != os.getpid() and is_running(first)
    executor.close()
    assert not is_running(first)


def test_leaving_early_ends_the_processes():
    results = map_unordered(double_or_hang, [0, 3, 3], 2, timeout=60)
    assert next(results) == (0, 0)
    begin = time.monotonic()
    results.close()
    assert time.monotonic() - begin < 30


def test_a_task_that_cannot_be_loaded_ends_the_batch():
    with pytest.raises(Exception, match=r"pickle|local object"):
        list(map_unordered(lambda item: item, [1, 2], 2))


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="masks of signals are POSIX's")
def test_the_first_process_never_sees_ctrl_c_as_the_others_do():
    program = (  # of its own, which has started no process: it may only be the first once
        "import signal\n"
        "from data.crash import blocked_signals, has_shared_lock\n"
        "from internvideo_hf.data.executors.processes import Child\n"
        "if __name__ == '__main__':\n"
        "    child = Child(is_leaf=False)\n"
        "    print(signal.SIGINT in child.run(blocked_signals, None, ''), child.run(has_shared_lock, None, ''))\n"
        "    child.close()\n"
        "    print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))"
    )
    tests = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [tests, os.environ.get("PYTHONPATH")]))
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    # The lock would outlive the process.
    assert ran.stdout.split() == ["True", "False", "False"], ran.stderr


@pytest.mark.slow
def test_a_child_ends_with_its_parent(tmp_path):
    program = (
        "import os, sys, time; from internvideo_hf.data.executors.processes import Child\n"
        "if __name__ == '__main__':\n"
        "    child = Child(); child.run(os.path.abspath, '/', '')\n"
        "    print(child._process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    child = int(ran.stdout)
    for _ in range(100):
        if not is_running(child):
            break
        time.sleep(0.1)
    assert not is_running(child)


def test_only_processes_have_a_limit_by_default():
    assert time_limit(None, 600, apart=False) is None and time_limit(None, 600) == 600
    assert time_limit(5, 600, apart=False) == time_limit(5, 600) == 5 and time_limit(math.inf, 600) is None


def test_one_job_stays_in_this_process():
    assert [result for _, result in map_unordered(lambda item: item + 1, [1, 2], 1)] == [2, 3]
    with pytest.raises(ValueError, match="got 0 workers"):
        list(map_unordered(double, [1], 0))


@pytest.mark.parametrize(
    "error", [IndexError("x"), MemoryError(), RecursionError("x"), KeyError("x"), ZeroDivisionError()]
)
def test_any_exception_is_the_failure_of_its_item(error):
    def fail_at_2(item):
        if item == 2:
            raise error
        return item

    (_, one), (_, failure), (_, three) = map_unordered(fail_at_2, [1, 2, 3], 1)
    assert (one, three) == (1, 3) and isinstance(failure, VideoDecodeError) and failure.source == "2"


def test_a_full_disk_ends_the_batch():
    done = []

    def fail_at_2(item):
        done.append(item)
        if item == 2:
            raise DiskFullError("no room")

    with pytest.raises(DiskFullError):
        list(map_unordered(fail_at_2, [1, 2, 3], 1))
    assert done == [1, 2]


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="Windows has no masks of signals")
def test_workers_inherit_that_ctrl_c_is_not_theirs():
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with processes.without_interrupts():
        blocked = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))"
        assert subprocess.run([sys.executable, "-c", blocked], capture_output=True).stdout.strip() == b"True"
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_a_stopped_worker_deletes_what_it_was_writing(tmp_path):
    def write_and_stop(path):
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)

    def work():
        processes._prepare_worker()
        processes.outcome_of(write_and_stop, tmp_path / "a.mp4", "a.mp4")

    assert dying.run(work) == 1 and list(tmp_path.iterdir()) == []
