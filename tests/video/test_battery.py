"""Every frame of many containers, codecs and oddities is the one that FFmpeg shows, in its order, on every path."""

from pathlib import Path

import av
import numpy as np
import pytest
from video import battery
from video.clips import decode_in_order, write_video

from internvideo_hf.video import VideoDecodeError, VideoReader
from internvideo_hf.video.reader import available_backends


def assert_every_path_shows(path: Path, expected: np.ndarray) -> None:
    numbers = np.random.default_rng(0).permutation(len(expected))
    with VideoReader(path, backend="pyav") as reader:
        assert reader.num_frames == len(expected)
        np.testing.assert_array_equal(reader.read(range(len(expected))), expected)
        np.testing.assert_array_equal(np.concatenate(list(reader.blocks(7))), expected)
        np.testing.assert_array_equal(next(reader.blocks(5, len(expected) // 2)), expected[len(expected) // 2 :][:5])
        for number in numbers:
            np.testing.assert_array_equal(reader.read([number])[0], expected[number], err_msg=f"frame {number}")
    with VideoReader(path.read_bytes(), backend="pyav") as reader:
        np.testing.assert_array_equal(reader.read(numbers), expected[numbers])
    for backend in set(available_backends()) - {"pyav"}:
        try:
            with VideoReader(path, backend=backend) as reader:
                frames = reader.read(numbers)
        except VideoDecodeError as error:
            assert "pyav" in error.advice, error
            continue
        # Other releases of FFmpeg round the inverse transform of MPEG-4 and its like in another way.
        assert np.abs(frames.astype(int) - expected[numbers]).max() <= 2, backend


@pytest.mark.slow
@pytest.mark.skipif(not battery.has_ffmpeg(), reason="no ffmpeg command")
@pytest.mark.parametrize("name", battery.names())
def test_frames_are_those_of_the_ffmpeg_command(name, tmp_path):
    path = battery.make(name, tmp_path)
    with VideoReader(path) as reader:
        shape = reader.height, reader.width, 3
    expected = battery.shown(path, shape)
    assert len(expected) > 10
    assert_every_path_shows(path, expected)


@pytest.mark.slow
@pytest.mark.skipif(not battery.has_ffmpeg(), reason="no ffmpeg command")
def test_the_battery_is_large():
    assert len(battery.names()) >= 80


def copy_packets(source: Path, target: Path, change) -> Path:
    """Copy a video with `change(packets)`, which returns the packets to write, `(data, pts, dts, is_keyframe)`."""
    with av.open(str(source)) as reading, av.open(str(target), "w") as writing:
        stream = reading.streams.video[0]
        copy = writing.add_stream_from_template(stream)
        packets = [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in reading.demux(stream) if p.size]
        for data, pts, dts, is_keyframe in change(packets):
            packet = av.Packet(data)
            packet.pts, packet.dts, packet.is_keyframe, packet.time_base = pts, dts, is_keyframe, stream.time_base
            packet.stream = copy
            writing.mux(packet)
    return target


def packed(packets):
    """Pack B-frames as DivX does: each in the packet of the frame before it, an empty picture in its place."""
    mark, empty = b"\x00\x00\x01\xb2DivX503b1393p", b"\x00\x00\x01\xb6\x50\x80\x7f"
    data = [packet[0] for packet in packets]
    is_b = [d[d.index(b"\x00\x00\x01\xb6") + 4] >> 6 == 2 for d in data]
    for i, b in enumerate(is_b):
        if b:
            data[i - 1], data[i] = data[i - 1] + data[i], empty
    start = data[0].index(b"\x00\x00\x01\xb6")
    data[0] = data[0][:start] + mark + data[0][start:]
    return in_decoding_order([(d, *rest) for d, (_, *rest) in zip(data, packets, strict=True)])


def in_decoding_order(packets):
    step = packets[1][2] - packets[0][2]
    return [(data, i * step, i * step, key) for i, (data, _, _, key) in enumerate(packets)]


def doubled(packets):
    step = 2 * packets[1][1]
    return [(data, pts // step * step, pts // step * step, key) for data, pts, _, key in packets]


ODD = {
    "H.264 with B-frames in AVI": ("a.avi", {}, None),
    "MPEG-4 with B-frames in AVI": ("b.avi", {"codec": "mpeg4"}, None),
    "packed B-frames in AVI": ("c.avi", {"codec": "mpeg4", "bframes": 1}, packed),
    "packed B-frames in mkv": ("d.mkv", {"codec": "mpeg4", "bframes": 1}, packed),
    "times in the order of decoding": ("e.mkv", {}, in_decoding_order),
    "doubled times": ("f.mkv", {"bframes": 0}, doubled),
    "H.263, all of whose packets are called keyframes": ("g.avi", {"codec": "h263p", "size": (48, 64)}, None),
    "H.264 in open groups": ("h.mkv", {"options": {"x264-params": "open-gop=1:scenecut=0:bframes=3"}}, None),
    "raw MPEG-4": ("i.m4v", {"codec": "mpeg4"}, None),
    "FLV": ("j.flv", {}, None),
    "VP8 in AVI": ("k.avi", {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "9"}}, None),
    "MPEG-1": ("l.mpg", {"codec": "mpeg1video"}, None),
}


@pytest.mark.parametrize("kind", ODD)
def test_frames_of_odd_files_are_those_of_the_decoder_in_its_order(kind, tmp_path):
    name, keywords, change = ODD[kind]
    path = write_video(tmp_path / name, 26, **keywords)
    if change is not None:
        path = copy_packets(write_video(tmp_path / "plain.mp4", 26, **keywords), path, change)
    expected = decode_in_order(path)
    assert len(expected) > 20
    assert_every_path_shows(path, expected)


def test_streams_that_were_joined_are_read_to_the_end(tmp_path):
    part = write_video(tmp_path / "part.ts", 20).read_bytes()
    joined = tmp_path / "joined.ts"
    joined.write_bytes(part * 2)
    expected = decode_in_order(joined)
    assert len(expected) == 40
    assert_every_path_shows(joined, expected)


def test_frames_of_another_size_are_scaled_to_the_first_one(tmp_path):
    small, large = write_video(tmp_path / "small.ts", 12), write_video(tmp_path / "large.ts", 12, size=(96, 128))
    path = tmp_path / "both.ts"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    with VideoReader(path) as reader:
        frames = reader.read(range(24))
        np.testing.assert_array_equal(np.concatenate(list(reader.blocks(5))), frames)
        np.testing.assert_array_equal(reader.read([20])[0], frames[20])
    np.testing.assert_array_equal(frames[:12], decode_in_order(small))
    halved = decode_in_order(large).reshape(12, 48, 2, 64, 2, 3).mean(axis=(2, 4))
    assert np.abs(frames[12:] - halved).mean() < 6
