"""Sources: addresses, and texts and bytes that are no video."""

import io
import multiprocessing
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from video.clips import (
    FAR_APART,
    decode_in_order,
)

from internvideo_hf.video.backends import torchcodec_problem
from internvideo_hf.video.reader import VideoDecodeError, VideoReader
from internvideo_hf.video.sources import describe


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


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("a.mp4", "a.mp4"),
        ("https://me:secret@x.org/a.mp4?key=secret", "https://x.org/a.mp4"),
        (bytearray(b"abc"), "<3 bytes>"),
        ({"path": "a.mp4", "bytes": b"abc"}, "a.mp4"),
        ({"path": None, "bytes": b"abc"}, "<3 bytes>"),
        (io.BytesIO(b"abc"), "<file object>"),
        (Image.new("RGB", (4, 4)), "<image>"),
        ([Image.new("RGB", (4, 4))] * 2, "<2 images>"),
        (torch.zeros(2, 4, 4, 3), "<frames (2, 4, 4, 3)>"),
        (iter([]), "<list_iterator>"),
        (VideoReader(np.zeros((2, 4, 4, 3), np.uint8)), "<frames (2, 4, 4, 3)>"),
    ],
)
def test_every_source_has_a_name_without_its_content(source, name):
    assert describe(source) == name


def test_rows_of_datasets_are_read_decoded_or_not(plain):
    import datasets

    with VideoReader(plain) as reader:
        expected = reader.read([0, 17, 39])
    table = datasets.Dataset.from_dict({"video": [str(plain), str(plain)]})
    by_path = table.cast_column("video", datasets.Video(decode=False))[1]["video"]
    assert by_path == {"bytes": None, "path": str(plain)}
    by_bytes = {"bytes": plain.read_bytes(), "path": None}
    sources = [by_path, by_bytes]
    if torchcodec_problem() is None:
        sources.append(table.cast_column("video", datasets.Video())[1]["video"])
    for source in sources:
        with VideoReader(source) as reader:
            np.testing.assert_array_equal(reader.read([0, 17, 39]), expected)
    with pytest.raises(VideoDecodeError, match="the path is empty"):
        VideoReader({"bytes": None, "path": None})
