"""Work by several processes, and which videos are meant."""

import pytest
from data.crash import double
from PIL import Image

from internvideo_hf.data.executors.processes import KILLED, each, find_videos
from internvideo_hf.video import VideoDecodeError


@pytest.mark.slow
def test_an_item_that_kills_its_process_is_named_and_the_others_are_done():
    results = dict(each(double, range(8), 2))
    killed, refused = results.pop(3), results.pop(5)
    assert results == {0: 0, 1: 2, 2: 4, 4: 8, 6: 12, 7: 14}
    assert isinstance(killed, VideoDecodeError) and KILLED in str(killed) and str(killed).startswith("3")
    assert str(refused) == "five is refused"


def test_one_job_stays_in_this_process():
    assert [result for _, result in each(lambda item: item + 1, [1, 2], 1)] == [2, 3]
    with pytest.raises(ValueError, match="jobs: got 0"):
        list(each(double, [1], 0))


def test_videos_of_lists_folders_and_files_come_once(tmp_path):
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "frames").mkdir()
    for name in ("deep/b.webm", "deep/er/a.MP4", "deep/notes.md"):
        (tmp_path / name).touch()
    Image.new("RGB", (8, 8)).save(tmp_path / "frames/1.png")
    (tmp_path / "list.csv").write_text("deep/b.webm,some text\nmissing.mp4,2\n")
    sources = [str(tmp_path / name) for name in ("list.csv", "deep", "frames", "none.avi")] + ["https://x.org/y.mp4"]
    names = ["deep/b.webm", "missing.mp4", "deep/er/a.MP4", "frames", "none.avi"]
    assert find_videos(sources) == [*(str(tmp_path / name) for name in names), "https://x.org/y.mp4"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no videos"):
        find_videos([str(tmp_path / "empty")])
