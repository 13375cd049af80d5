"""Index of a file: which frames it holds, when they are shown, and at what rate."""

import av
import numpy as np
import pytest
from video.clips import (
    assert_reads_like_decoding_in_order,
    write_video,
)

from internvideo_hf.video.reader import VideoReader, available_backends


def test_a_stream_without_times_is_counted_by_decoding(folder):
    path = write_video(folder / "raw.h264", format="h264")
    assert_reads_like_decoding_in_order(path, "pyav")
    assert_reads_like_decoding_in_order(path, "auto")


def test_frames_before_the_first_keyframe_are_not_counted(folder):
    whole, cut = write_video(folder / "whole.mkv", options={"x264-params": "scenecut=0"}), folder / "cut.mkv"
    with av.open(str(whole)) as source, av.open(str(cut), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if number >= 7 and packet.size:
                packet.stream = stream
                target.mux(packet)
    for backend in available_backends():
        assert_reads_like_decoding_in_order(cut, backend)


def test_opening_decodes_nothing(plain):
    with VideoReader(plain, backend="pyav") as reader:
        assert (reader.num_frames, reader.frames_decoded) == (40, 0)


@pytest.mark.parametrize("name", ["rate.mp4", "rate.mkv", "rate.avi"])
def test_rate_and_duration_come_from_the_file(folder, name, backend):
    codec = "mjpeg" if name.endswith("avi") else "libx264"
    with VideoReader(write_video(folder / name, codec=codec), backend=backend) as reader:
        assert reader.num_frames == len(reader) == 40
        assert reader.fps == pytest.approx(30, rel=1e-3)
        assert reader.duration == pytest.approx(40 / 30, abs=2e-3)


def test_the_rate_of_a_variable_rate_is_its_mean(folder):
    path = write_video(folder / "vfr.mkv", times=[*range(20), *range(20, 80, 3)])
    with VideoReader(path) as reader:
        assert reader.duration == pytest.approx(80 / 30, abs=0.11)
        assert reader.fps == pytest.approx(39 / (77 / 30), rel=0.03)


def test_seconds_are_the_times_of_the_frames(tmp_path):
    uneven = [0, 1, 2, 6, 7, 12]
    path = write_video(tmp_path / "v.mkv", 6, times=uneven, shift=9)
    with VideoReader(path) as reader:
        np.testing.assert_allclose(reader.seconds, np.array(uneven) / 30, atol=1e-3)
    assert VideoReader(np.zeros((2, 8, 8, 3), np.uint8), fps=5).seconds is None
