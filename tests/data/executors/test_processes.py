"""The process pool."""

import pytest
from data.crash import double

from internvideo_hf.data.executors.processes import KILLED, map_unordered
from internvideo_hf.utils.files import DiskFullError
from internvideo_hf.video import VideoDecodeError


@pytest.mark.slow
def test_an_item_that_kills_its_process_is_named_and_the_others_are_done():
    results = dict(map_unordered(double, range(8), 2))
    killed, refused = results.pop(3), results.pop(5)
    assert results == {0: 0, 1: 2, 2: 4, 4: 8, 6: 12, 7: 14}
    assert isinstance(killed, VideoDecodeError) and KILLED in str(killed) and str(killed).startswith("3")
    assert str(refused) == "five is refused"


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
