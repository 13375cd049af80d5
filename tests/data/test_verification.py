"""Bad files are found, and good files pass."""

import json

import pytest
from PIL import Image
from video.clips import write_sound, write_video

from internvideo_hf.data.executors import processes
from internvideo_hf.data.verification import verify_video, verify_videos, write_report
from internvideo_hf.video import VideoDecodeError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "good.mp4", 40)
    write_video(folder / "good.webm", 40, codec="libvpx")
    write_video(folder / "edited.mp4", 40, shift=-3)
    write_sound(folder / "sound.mp4")
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("no video")
    whole = write_video(folder / "fast.mp4", 60, container_options={"movflags": "faststart"}).read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    (folder / "frames").mkdir()
    for number, size in enumerate([(8, 8), (8, 8), (8, 8), (8, 8), (9, 8)]):
        Image.new("RGB", size).save(folder / f"frames/{number}.png")
    return folder


def test_good_videos_are_good(folder):
    videos = [str(folder / name) for name in ("good.mp4", "good.webm", "edited.mp4", "fast.mp4")]
    assert verify_videos(videos) == [] and verify_videos(videos, whole=True) == []
    assert verify_video(videos[0]) == 40


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("sound.mp4", "video"),
        ("empty.mp4", "empty"),
        ("text.mp4", "Invalid|no video|not"),
        ("none.mp4", "no such file"),
        ("cut.mp4", "promises 60 frames"),
        ("frames", "8x9|9x8"),
    ],
)
def test_bad_videos_are_named_with_their_cause(folder, name, cause):
    with pytest.raises(VideoDecodeError, match=cause) as caught:
        verify_video(str(folder / name), whole=True)
    assert str(folder) in caught.value.source


@pytest.mark.slow
def test_the_report_is_in_the_order_of_the_list(folder, tmp_path):
    videos = [str(folder / name) for name in ("text.mp4", "good.mp4", "empty.mp4")]
    done = []
    bad = verify_videos(videos, jobs=2, on_done=lambda: done.append(1))
    assert len(done) == 3 and [error.source for error in bad] == [videos[0], videos[2]]
    write_report(tmp_path / "new/bad.json", 3, bad)
    report = json.loads((tmp_path / "new/bad.json").read_text())
    assert report["checked"] == 3 and [entry["video"] for entry in report["bad"]] == [videos[0], videos[2]]


def test_another_executor_runs_the_decoders(bikes, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    videos, asked = [str(bikes), str(tmp_path / "broken.mp4")], []

    class Executor:
        def map_ordered(self, task, items, workers, name_of=str, *, timeout=None):
            asked.append((workers, timeout))
            return processes.map_ordered(task, items, 1, name_of)

    bad = verify_videos(videos, jobs=7, executor=Executor())
    assert [error.source for error in bad] == videos[1:]
    verify_videos(videos[:1], jobs=1, timeout=3, executor=Executor())
    assert asked == [(7, 600), (1, 3)]
