"""The reader: indices, sources, broken files, processes."""

import contextlib
import copy
import gc
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from video.clips import (
    FAR_APART,
    EndsOfVideo,
    decode_in_order,
    moving_picture,
    video_bytes,
    write_frames,
    write_sound,
    write_video,
)

from internvideo_hf.video.backends import torchcodec_problem
from internvideo_hf.video.reader import VideoDecodeError, VideoReader


@pytest.mark.parametrize(
    "backend",
    ["pyav", *(pytest.param(other, marks=pytest.mark.slow) for other in ("decord", "torchcodec"))],
    indirect=True,
)
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


@pytest.mark.parametrize("source", [None, 3, {"path": "a.mp4"}, [1, 2], ["a.png"]])
def test_what_is_no_video_is_refused_with_the_kinds_that_are(source):
    with pytest.raises(TypeError, match="a video is a path, an http.* got "):
        VideoReader(source)


def test_what_holds_videos_is_refused_with_what_to_pass(plain):
    import datasets

    rows = datasets.Dataset.from_dict({"video": [str(plain)], "label": [1]})
    with pytest.raises(TypeError, match=r"got Dataset; pass the column .* table\['video'\]"):
        VideoReader(rows)
    for row in (rows[0], [rows[0]]):
        with pytest.raises(TypeError, match=r"dict; pass the value .* row\['video'\]"):
            VideoReader(row)
    if torchcodec_problem() is None:
        from torchcodec.decoders import VideoDecoder

        decoder = VideoDecoder(str(plain))
        with pytest.raises(TypeError, match=r"got VideoDecoder; .* iter\(decoder\)"):
            VideoReader(decoder)
        with VideoReader(iter(decoder)) as reader:
            assert reader.num_frames == len(decoder)


def test_an_unknown_backend_is_refused_with_the_known_ones(plain):
    with pytest.raises(ValueError, match="'opencv'.*auto, pyav, decord, torchcodec"):
        VideoReader(plain, backend="opencv")


def test_a_rate_is_not_given_to_a_file_that_has_one(plain):
    with pytest.raises(ValueError, match="brings its own"):
        VideoReader(plain, fps=30)


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
        ("folder", "the folder holds no videos and no frame files"),
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


def test_blocks_of_a_cut_video_come_until_the_cut(tmp_path):
    cut = tmp_path / "cut.ts"
    write_video(cut, codec="mpeg2video", bframes=0)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    with VideoReader(cut, backend="pyav") as reader:
        assert sum(map(len, reader.blocks(8))) == reader.num_frames


@pytest.mark.timeout(60)
@pytest.mark.parametrize("start", ["forkserver", pytest.param("spawn", marks=pytest.mark.slow)])
def test_other_dataloader_workers_get_the_reader_by_pickle(plain, start):
    assert_workers_read(VideoReader(plain), decode_in_order(plain), start)


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


@pytest.mark.parametrize("codec", ["mjpeg", "libx264", "libx265"])
def test_frames_behind_damage_are_those_that_read_gives(codec, tmp_path):
    path = write_video(tmp_path / "damaged.mkv", 40, codec=codec)
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][13]
    place = content.find(bytes(packet))
    content[place : place + packet.size] = bytes(packet.size)
    path.write_bytes(content)
    expected = {}
    for number in range(5, 40):
        with VideoReader(path) as reader, contextlib.suppress(VideoDecodeError):
            expected[number] = reader.read([number])[0]
    assert 5 < len(expected) < 35
    with VideoReader(path) as reader:
        found = dict(zip(range(5, 40), reader.frames(range(5, 40), skip_damaged=True), strict=True))
        with pytest.raises(VideoDecodeError, match="cannot be decoded without damage"):
            list(reader.frames(range(40)))
    assert [number for number, frame in found.items() if frame is not None] == list(expected)
    for number, frame in expected.items():
        np.testing.assert_array_equal(found[number], frame)


def test_only_the_wanted_frames_are_given(tmp_path):
    path = write_video(tmp_path / "clip.mp4", 40)
    with VideoReader(path) as reader:
        expected = reader.read([3, 4, 20, 39])
        before = reader.frames_decoded
        np.testing.assert_array_equal(np.stack(list(reader.frames([3, 4, 20, 39]))), expected)
        assert reader.frames_decoded - before == 40
        assert list(reader.frames([])) == []
    pictures = [np.full((8, 8, 3), number, np.uint8) for number in range(4)]
    with VideoReader(pictures) as reader:
        assert [int(frame.mean()) for frame in reader.frames([1, 3])] == [1, 3]


def test_pictures_that_are_damaged_are_skipped(tmp_path):
    for number in range(3):
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "1.png").write_bytes(b"damaged")
    with VideoReader(tmp_path) as reader:
        assert [frame is None for frame in reader.frames(range(3), skip_damaged=True)] == [False, True, False]
        with pytest.raises(VideoDecodeError):
            list(reader.frames(range(3)))
