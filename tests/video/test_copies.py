"""Local copies of videos in object stores."""

import os
import pickle
import subprocess
import sys
import tempfile

import fsspec
import numpy as np
import pytest
from object_stores import new_memory, write

from internvideo_hf.utils import storage
from internvideo_hf.video import VideoReader, copies
from internvideo_hf.video.downloads import DownloadSettings
from internvideo_hf.video.errors import VideoDecodeError

from .clips import video_bytes


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Give this test a directory of temporary files of its own."""
    copies._keep(None, None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    copies._keep(None, None)


@pytest.fixture
def downloads(monkeypatch):
    """List the addresses that are copied from now on."""
    found, copy = [], storage.download
    monkeypatch.setattr(copies, "download", lambda address, *others: (found.append(address), copy(address, *others)))
    return found


def test_a_stored_video_reads_as_the_file_does(scratch, downloads):
    content = video_bytes(20)
    address = write(f"{new_memory()}/a.mp4", content)
    with VideoReader(content) as expected, VideoReader(address) as reader:
        assert np.array_equal(reader.read([0, 7, 19]), expected.read([0, 7, 19]))
        assert [file.suffix for file in scratch.iterdir()] == [".mp4"] and reader.name == address
    with VideoReader(address) as reader:  # the last copy is still there
        assert reader.num_frames == 20 and downloads == [address]
        other = pickle.loads(pickle.dumps(reader))
    with other:
        assert np.array_equal(other.read([3]), VideoReader(content).read([3]))


def test_one_closed_copy_is_kept_and_none_of_an_object_that_changed(scratch, downloads):
    folder = new_memory()
    first, second = (write(f"{folder}/{name}.mp4", video_bytes(n)) for name, n in (("a", 4), ("b", 6)))
    for address in (first, second):
        VideoReader(address).close()
        assert len(list(scratch.iterdir())) == 1
    write(second, video_bytes(9))
    with VideoReader(second) as reader:
        assert reader.num_frames == 9
    assert downloads == [first, second, second] and len(list(scratch.iterdir())) == 1


def test_copies_end_with_their_process_or_with_the_next_one(scratch):
    VideoReader(write(f"{new_memory()}/a.mp4", video_bytes(4))).close()
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    left, others = (f"internvideo-copy-{machine}-{killed.pid}-x.mp4" for machine in (copies._MACHINE, "000000"))
    for name in (left, others):
        (scratch / name).touch()
    assert len(list(scratch.iterdir())) == 3
    copies._clean_up()
    assert [file.name for file in scratch.iterdir()] == [others]


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="files have no owner")
def test_copies_of_another_user_and_links_stay(scratch, monkeypatch):
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    left, link = (scratch / f"internvideo-copy-{copies._MACHINE}-{killed.pid}-{name}.mp4" for name in ("left", "link"))
    left.touch()
    link.symlink_to(__file__)
    user = os.getuid()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: user + 1)
        copies.remove_leftover_copies()
        assert left.exists()
    copies.remove_leftover_copies()
    assert not left.exists() and link.is_symlink()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("none.mp4", {}, "there is no such object"),
        ("empty.mp4", {}, r"the object is empty \(0 bytes\)"),
        ("a.mp4", {"max_bytes": 5}, "bytes, more than 5"),
        ("a.mp4", {"deadline": 1e-9}, "took longer than 1e-09 s"),
        ("text.mp4", {}, "FFmpeg cannot open it"),
    ],
)
def test_what_cannot_be_read_is_named(scratch, name, options, words):
    folder = new_memory()
    for file, content in (("empty.mp4", b""), ("a.mp4", video_bytes(4)), ("text.mp4", b"no video")):
        write(f"{folder}/{file}", content)
    with pytest.raises(VideoDecodeError, match=words) as error:
        VideoReader(f"{folder}/{name}", **options)
    assert error.value.source == f"{folder}/{name}"
    assert len([file for file in scratch.iterdir() if file.suffix == ".mp4"]) <= 1


def test_an_object_that_was_cut_off_on_its_way_is_refused(scratch, monkeypatch):
    address = write(f"{new_memory()}/a.mp4", video_bytes(4))
    memory = fsspec.get_filesystem_class("memory")
    monkeypatch.setattr(memory, "get_file", lambda self, path, file, **options: open(file, "wb").close())
    with pytest.raises(VideoDecodeError, match="0 of .* bytes came"):
        copies.StoredCopy(address, DownloadSettings())
    assert list(scratch.iterdir()) == []


def test_a_store_without_its_package_is_a_failure_that_names_it(scratch, monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(VideoDecodeError, match=r"gs:// needs the package gcsfs: pip install gcsfs"):
        VideoReader("gs://bucket/a.mp4")


def test_a_service_reads_no_store_with_its_credentials(scratch, monkeypatch):
    address = write(f"{new_memory()}/a.mp4", video_bytes(4))
    monkeypatch.setenv("INTERNVIDEO_STORES", "none")
    with pytest.raises(VideoDecodeError, match="object stores are limited by INTERNVIDEO_STORES=none"):
        VideoReader(address)
    assert list(scratch.iterdir()) == []
