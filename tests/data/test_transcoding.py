"""Small copies: size, frames, times and keyframes; resumption; refusal of lossy cases."""

import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from object_stores import new_memory, write
from video.clips import decode_in_order, moving_picture, set_rotation, write_video

from internvideo_hf.data.executors import processes
from internvideo_hf.data.transcoding import (
    TranscodeSettings,
    cut_video,
    targets_of,
    transcode_video,
    transcode_videos,
    videos_there,
    write_pictures,
)
from internvideo_hf.utils.storage import StoragePath
from internvideo_hf.utils.transfers import fetched
from internvideo_hf.video import VideoDecodeError, VideoReader

SMALL = TranscodeSettings(short_side=32, keyframe_interval=5)


def keyframes(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        return [i for i, packet in enumerate(p for p in container.demux(video=0) if p.size) if packet.is_keyframe]


def seconds(path: Path) -> np.ndarray:
    with VideoReader(path, backend="pyav") as reader:
        return reader.seconds


def test_the_copy_is_small_and_has_every_frame_at_its_time(tmp_path):
    source = write_video(tmp_path / "v.mkv", 23, size=(64, 98), gop=250, times=[i * (1 + i // 10) for i in range(23)])
    assert transcode_video(source, tmp_path / "out/v.mp4", SMALL)
    copy, original = decode_in_order(tmp_path / "out/v.mp4"), decode_in_order(source)
    assert copy.shape == (23, 32, 48, 3), "98 / 2 = 49 is made even"
    assert len(keyframes(tmp_path / "out/v.mp4")) >= 5
    assert max(np.diff(keyframes(tmp_path / "out/v.mp4"))) <= 5
    np.testing.assert_allclose(seconds(tmp_path / "out/v.mp4"), seconds(source), atol=2e-3)
    assert abs(copy.mean((1, 2)) - original.mean((1, 2))).max() < 4
    assert not list((tmp_path / "out").glob(".*"))


def test_nothing_is_enlarged_and_odd_sides_become_even():
    assert TranscodeSettings().size(240, 426) == (240, 426)
    assert TranscodeSettings().size(721, 1281) == (320, 568)
    assert TranscodeSettings().size(1280, 720) == (568, 320)
    assert TranscodeSettings().size(101, 33) == (100, 32)
    for wrong in ({"short_side": 321}, {"short_side": 0}, {"keyframe_interval": 0}, {"quality": 52}):
        with pytest.raises(ValueError, match="even short side"):
            TranscodeSettings(**wrong)


def test_rotation_is_applied_and_sound_is_left_out(tmp_path):
    source = set_rotation(write_video(tmp_path / "v.mp4", 6, size=(64, 96), audio=True), 90)
    transcode_video(source, tmp_path / "small.mp4", SMALL)
    with av.open(str(tmp_path / "small.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]
    copy, original = decode_in_order(tmp_path / "small.mp4"), decode_in_order(source)
    assert copy.shape == (6, 48, 32, 3) and original.shape == (6, 96, 64, 3)
    assert abs(copy.astype(int) - original[:, ::2, ::2]).mean() < 25


def test_what_is_done_is_not_done_again(tmp_path):
    source, target = write_video(tmp_path / "v.mp4", 6), tmp_path / "out/v.mp4"
    assert transcode_video(source, target, SMALL)
    written = target.stat().st_mtime_ns
    assert not transcode_video(source, target, SMALL) and target.stat().st_mtime_ns == written
    with pytest.raises(FileExistsError, match="other settings.*short_side 32, now 16"):
        transcode_video(source, target, TranscodeSettings(short_side=16))
    target.write_text("a note")
    with pytest.raises(FileExistsError, match="was not made by `internvideo shrink`"):
        transcode_video(source, target, SMALL)


def test_a_bad_source_leaves_nothing(tmp_path):
    whole = write_video(tmp_path / "f.mp4", 60, container_options={"movflags": "faststart"}).read_bytes()
    (tmp_path / "text.mp4").write_text("no video")
    damaged = bytearray(whole)
    damaged[len(whole) // 2 :] = os.urandom(len(whole) - len(whole) // 2)
    (tmp_path / "damaged.mp4").write_bytes(damaged)
    (tmp_path / "frames").mkdir()
    for name in ("text.mp4", "none.mp4", "frames", "damaged.mp4"):
        with pytest.raises(VideoDecodeError, match=name):
            transcode_video(tmp_path / name, tmp_path / "out" / name, SMALL)
    with pytest.raises(VideoDecodeError, match="Download it"):
        transcode_video("https://x.org/y.mp4", tmp_path / "out/y.mp4", SMALL)
    assert not [file for file in tmp_path.glob("out/*")]


@pytest.mark.slow
def test_several_processes_go_on_where_a_kill_left_off(tmp_path):
    videos = []
    for name in ("in/w.mp4", "in/1/v.avi", "in/2/v.avi"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        videos.append(str(write_video(tmp_path / name, 6)))
    (tmp_path / "in/bad.mp4").write_text("no video")
    targets = targets_of([*videos, str(tmp_path / "in/bad.mp4")], tmp_path / "out")
    transcode_video(videos[0], targets[videos[0]], SMALL)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = tmp_path / f"out/.unfinished-{dead.pid}-v.mp4"
    left.touch()
    done = []
    already, failures = transcode_videos(targets, SMALL, jobs=2, on_done=lambda: done.append(1))
    assert (already, len(failures), len(done)) == (1, 1, 4) and "bad.mp4" in failures[0]
    files = {str(file.relative_to(tmp_path / "out")) for file in tmp_path.glob("out/**/*") if file.is_file()}
    assert files == {"w.mp4", "1/v.mp4", "2/v.mp4"}


def test_places_are_kept_and_none_is_taken_twice(tmp_path):
    assert targets_of(["/d/a/x.webm", "/d/b/y.mp4"], "out", "/d") == {
        "/d/a/x.webm": Path("out/a/x.mp4"),
        "/d/b/y.mp4": Path("out/b/y.mp4"),
    }
    for videos, folder, words in [
        (["/d/x.webm", "/d/x.avi"], "out", "both go to"),
        (["/d/x.mp4"], "/d", "replaced"),
        (["/e/x.mp4"], "out", "not below"),
    ]:
        with pytest.raises(ValueError, match=words):
            targets_of(videos, folder, "/d")


def test_places_of_addresses_are_kept():
    addresses = ["s3://bucket/in/a/x.webm", "s3://bucket/in/b/y.mp4"]
    expected = [Path("out/a/x.mp4"), Path("out/b/y.mp4")]
    assert list(targets_of(addresses, "out").values()) == expected
    assert list(targets_of(addresses, "out", Path("s3://bucket/in")).values()) == expected
    assert targets_of(["/d/x.mkv"], "s3://bucket/out") == {"/d/x.mkv": StoragePath("s3://bucket/out/x.mp4")}
    for videos, folder, root, words in [
        (["s3://bucket/x.mp4"], "s3://bucket", None, "replaced"),
        (["s3://one/x.mp4", "s3://two/x.mp4"], "out", None, "no folder in common"),
        (["s3://one/x.mp4"], "out", "s3://on", "not below"),
    ]:
        with pytest.raises(ValueError, match=words):
            targets_of(videos, folder, root)


def test_an_object_becomes_an_object_and_its_settings_are_known(tmp_path):
    root = StoragePath(new_memory())
    source = write(f"{root}/in/v.avi", write_video(tmp_path / "v.avi", 6).read_bytes())
    targets = targets_of([source], root / "out")
    assert videos_there(root / "out", targets.values(), SMALL) == set()
    assert transcode_videos(targets, SMALL, jobs=1) == (0, [])
    assert (root / "out").files() == ["shrink.json", "v.mp4"]
    with fetched(root / "out/v.mp4") as file:
        assert decode_in_order(file).shape[0] == 6
    assert videos_there(root / "out", targets.values(), SMALL) == set(targets.values())
    assert transcode_videos(targets, SMALL, jobs=1) == (1, []), "without a listing, too"
    with pytest.raises(FileExistsError, match="short_side 32, now 48"):
        videos_there(root / "out", targets.values(), TranscodeSettings(48, 5))
    (root / "out/shrink.json").unlink()
    with pytest.raises(FileExistsError, match=r"v\.mp4 was not made by `internvideo shrink`"):
        videos_there(root / "out", targets.values(), SMALL)
    bad = write(f"{root}/in/bad.mp4", b"none")
    _, failures = transcode_videos(targets_of([bad], root / "out"), SMALL, jobs=1)
    assert len(failures) == 1 and (root / "out").files() == ["v.mp4"]


def test_a_cut_has_the_frames_asked_and_decodes_none_behind_them(tmp_path):
    class Damaged(VideoReader):
        def blocks(self, size, start=0):
            for number, block in enumerate(super().blocks(size, start), start):
                assert number < 8, "a frame behind the cut was decoded"
                yield block

    source = write_video(tmp_path / "a.mp4", 12)
    with Damaged(source, backend="pyav") as reader:
        cut_video(reader, tmp_path / "cut.mp4", range(3, 8), TranscodeSettings())
        with pytest.raises(OSError, match="cut.mp4 cannot be written"):
            cut_video(reader, tmp_path / "none/cut.mp4", range(3, 8), TranscodeSettings())
    frames, known = (decode_in_order(path).astype(float) for path in (tmp_path / "cut.mp4", source))
    assert len(frames) == 5 and np.abs(frames - known[3:8]).mean() < np.abs(frames - known[2:7]).mean() / 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "cut.mp4"]


def test_the_same_video_gives_the_same_bytes_whatever_the_process_did_before(tmp_path):
    source = write_video(tmp_path / "source.mkv", 40, size=(96, 128), bframes=0)
    written = set()
    for number in range(6):
        filled = [np.full(1000 * size, number * 40, np.uint8) for size in range(1, 200)]  # memory that is not zero
        del filled[::2]
        target = tmp_path / f"{number}.mp4"
        transcode_video(source, target, TranscodeSettings(short_side=96))
        written.add(target.read_bytes())
    assert len(written) == 1


def test_a_damaged_frame_fails_the_copy(tmp_path):
    source = write_video(tmp_path / "source.avi", 30, codec="mpeg4", options={"qscale": "2"})
    content = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        packet = [bytes(packet) for packet in container.demux(video=0) if packet.size][12]
    place = content.index(packet) + len(packet) // 2
    content[place : place + 40] = bytes(40)
    source.write_bytes(content)
    with av.open(str(source)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        assert any(frame.is_corrupt for frame in container.decode(video=0)), "FFmpeg flags it"
    with pytest.raises(VideoDecodeError, match="frame .* cannot be decoded without damage"):
        transcode_video(source, tmp_path / "bad.mp4", SMALL)
    assert not (tmp_path / "bad.mp4").exists()


def test_pictures_are_written_at_their_times(tmp_path):
    frames = moving_picture(6, 32, 48)
    write_pictures(
        zip([0.0, 0.1, 0.5, 0.6, 0.7, 1.5], frames, strict=True), tmp_path / "a.mp4", 10, TranscodeSettings()
    )
    with VideoReader(tmp_path / "a.mp4") as reader:
        assert (reader.num_frames, reader.height, reader.width) == (6, 32, 48)
        assert reader.seconds == pytest.approx([0.0, 0.1, 0.5, 0.6, 0.7, 1.5], abs=1e-3)
        assert abs(reader.read(range(6)).astype(int).mean(axis=(1, 2)) - frames.mean(axis=(1, 2))).max() < 12
    with pytest.raises(OSError, match="cannot be written"):
        write_pictures([(0.0, frames[0])], tmp_path / "none/a.mp4", 10, TranscodeSettings())


def test_another_executor_runs_the_encoders(bikes, tmp_path):
    class Executor:
        def map_ordered(self, task, items, workers, name_of=str, *, timeout=None):
            assert (workers, timeout, [name_of(item) for item in items]) == (5, 3600, [str(bikes)])
            return processes.map_ordered(task, items, 1, name_of)

    targets = {str(bikes): tmp_path / "small.mp4"}
    assert transcode_videos(targets, TranscodeSettings(64), jobs=5, executor=Executor()) == (0, [])
    assert (tmp_path / "small.mp4").exists()
