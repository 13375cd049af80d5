"""The process pool."""

import os
import signal
import subprocess
import sys
import time

import dying
import pytest
from data.crash import double

from internvideo_hf.data.executors import processes
from internvideo_hf.data.executors.processes import KILLED, map_unordered
from internvideo_hf.utils.files import DiskFullError, atomic_path
from internvideo_hf.video import VideoDecodeError


@pytest.mark.slow
def test_an_item_that_kills_its_process_is_named_and_the_others_are_done():
    results = dict(map_unordered(double, range(8), 2))
    killed, refused = results.pop(3), results.pop(5)
    assert results == {0: 0, 1: 2, 2: 4, 4: 8, 6: 12, 7: 14}
    assert isinstance(killed, VideoDecodeError) and KILLED in str(killed) and str(killed).startswith("3")
    assert str(refused).startswith("5: five is refused")


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
        processes._outcome(write_and_stop, tmp_path / "a.mp4", "a.mp4")

    assert dying.run(work) == 1 and list(tmp_path.iterdir()) == []
