"""The process pool."""

import pytest
from data.crash import double

from internvideo_hf.data.executors.processes import KILLED, map_unordered
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
