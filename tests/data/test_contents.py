"""What tells one video's content from another's."""

import hashlib
import os

import pytest
from object_stores import new_memory, write

from internvideo_hf.data.contents import content_hash, exists, list_sha256, stamp


def test_a_file_is_told_by_all_of_its_bytes(tmp_path):
    file = tmp_path / "v.mp4"
    file.write_bytes(b"a" * 10)
    os.utime(file, ns=(5, 7))
    assert stamp(str(file)) == (10, 7)
    assert content_hash(str(file)) == hashlib.sha256(b"a" * 10).hexdigest()[:32]
    with pytest.raises(FileNotFoundError):
        stamp(str(tmp_path / "none"))


def test_a_folder_is_told_by_its_files_and_an_address_by_itself(tmp_path):
    for name in ("1.png", "2.png"):
        (tmp_path / name).write_bytes(name.encode())
    before = content_hash(str(tmp_path))
    assert stamp(str(tmp_path))[0] == 10
    (tmp_path / "2.png").write_bytes(b"3.png")
    assert content_hash(str(tmp_path)) != before
    assert stamp("https://x.org/v.mp4") == (-1, -1) and len(content_hash("https://x.org/v.mp4")) == 32


def test_a_list_is_told_by_its_bytes_and_a_folder_by_the_names_of_its_videos(tmp_path):
    (tmp_path / "a.csv").write_text("x.mp4,1\n")
    assert list_sha256(tmp_path / "a.csv") == hashlib.sha256(b"x.mp4,1\n").hexdigest()
    for name in ("clips/run/b.mp4", "clips/run/a.mp4", "clips/notes.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list_sha256(tmp_path / "clips") == hashlib.sha256(b"run/a.mp4\nrun/b.mp4\n").hexdigest()


def test_an_object_of_a_store_is_told_by_size_and_version_and_a_list_by_its_bytes():
    folder = new_memory()
    address = write(f"{folder}/v.mp4", b"a" * 10)
    before = stamp(address)
    # The memory of a process gives no entity tags.
    assert before[0] == 10 and content_hash(address) == hashlib.sha256(b"a" * 10).hexdigest()[:32]
    write(address, b"b" * 10)
    assert stamp(address)[0] == 10 and stamp(address) != before
    assert exists(address) and not exists(f"{folder}/none.mp4") and exists("https://x.org/v.mp4")
    with pytest.raises(FileNotFoundError):
        stamp(f"{folder}/none.mp4")
    assert list_sha256(write(f"{folder}/a.csv", b"x.mp4,1\n")) == hashlib.sha256(b"x.mp4,1\n").hexdigest()
    assert list_sha256(folder) == hashlib.sha256(b"a.csv\nv.mp4\n").hexdigest()


def test_lists_of_shards_and_of_metadata_are_told_apart(tmp_path):
    (tmp_path / "data").mkdir()
    found = set()
    for content in (b"one", b"two"):
        (tmp_path / "data/train-0.parquet").write_bytes(content)
        assert list_sha256(tmp_path / "data/train-*.parquet") == list_sha256(tmp_path / "data")
        found.add(list_sha256(tmp_path / "data"))
        (tmp_path / "metadata.csv").write_bytes(content)
        (tmp_path / "a.mp4").touch()
        found.add(list_sha256(tmp_path))
        (tmp_path / "x.tar").write_bytes(content)
        found.add(list_sha256(tmp_path / "x.tar"))
        (tmp_path / "x.tar").unlink()
    assert len(found) == 6
