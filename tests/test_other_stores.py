"""Stores that no package of the tests serves: run where their servers are, from PyPI (gs://) and npm (az://)."""

import json

import numpy as np
import object_stores
import pytest
from object_stores import write
from program import run
from video.clips import video_bytes

from internvideo_hf.utils.files import check_output
from internvideo_hf.utils.locks import LockedError, lock_folder
from internvideo_hf.utils.storage import StoragePath, download, state_of, upload
from internvideo_hf.video import VideoReader

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["gs", "az"])
def root(request):
    with getattr(object_stores, request.param)() as address:
        yield StoragePath(address)


def test_objects_are_written_listed_and_deleted(root, tmp_path):
    folder = root / "objects"
    check_output(folder)
    path = folder / "deep/a.txt"
    path.write_bytes(b"123")
    assert path.read_bytes() == b"123" and path.open().read() == "123" and path.modified().year >= 2020
    assert folder.files() == ["deep/a.txt"] and [file.name for file in (folder / "deep").glob("*.txt")] == ["a.txt"]
    before = state_of(str(path))
    assert before.size == 3 and folder.states() == {"deep/a.txt": before}
    path.write_bytes(b"321")
    assert state_of(str(path)).version != before.version and state_of(str(path)).content != before.content
    assert folder.is_dir() and path.is_file() and not (folder / "none").exists()
    (folder / "none").unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        (folder / "none").read_bytes()
    (tmp_path / "large").write_bytes(np.random.default_rng(0).bytes(6_000_000))
    upload(tmp_path / "large", str(folder / "large"))
    download(str(folder / "large"), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "large").read_bytes()
    folder.delete_all()
    assert folder.files() == []


def test_one_process_writes(root):
    with lock_folder(root / "locked"):
        with pytest.raises(LockedError, match="is being written by process"), lock_folder(root / "locked"):
            pass
    assert (root / "locked").files() == []


def test_a_condition_is_kept(root):
    if str(root).startswith("gs"):
        pytest.skip("its stand-in takes no conditions")
    (root / "new").write_bytes(b"1", is_new=True)
    with pytest.raises(FileExistsError):
        (root / "new").write_bytes(b"2", is_new=True)
    assert (root / "new").read_bytes() == b"1"


def test_commands_read_and_write(root):
    content = video_bytes(12)
    address = write(f"{root}/in/a.mp4", content)
    write(f"{root}/in/bad.mp4", b"no video")
    with VideoReader(address) as reader, VideoReader(content) as expected:
        np.testing.assert_array_equal(reader.read([0, 11]), expected.read([0, 11]))
    assert run("scan", root / "in", "--out", root / "out/bad.json", "--jobs", 1, "-q").returncode == 1
    assert json.loads((root / "out/bad.json").read_text())["checked"] == 2
    command = ("shrink", root / "in", "--out", root / "small", "--short-side", 32, "--jobs", 1)
    assert "Wrote 1 videos" in run(*command).stdout and "1 already existed" in run(*command).stdout
    assert (root / "small").files() == ["a.mp4", "failures.jsonl", "shrink.json"]
