"""Files of object stores by their addresses."""

import contextlib
import sys
from pathlib import Path

import dataset_repositories
import fsspec
import pytest
from object_stores import new_memory, s3, write

from internvideo_hf.utils.storage import StoragePath, as_path, check_address, download, is_stored, state_of, upload


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("s3://bucket/a/b.csv", StoragePath("s3://bucket/a/b.csv")),
        (Path("s3://bucket/a/b.csv"), StoragePath("s3://bucket/a/b.csv")),
        (Path("s3://"), StoragePath("s3://")),  # which no store opens, and no folder is
        ("S3://bucket/a/", StoragePath("s3://bucket/a")),
        ("hf://datasets/owner/name", StoragePath("hf://datasets/owner/name")),
        ("a/b.csv", Path("a/b.csv")),
        ("s3:/a", Path("s3:/a")),
        ("file:///a", Path("file:///a")),
    ],
)
def test_paths_are_of_the_disk_or_of_a_store(given, expected):
    assert as_path(given) == expected


def test_only_listed_schemes_and_no_chains_are_opened():
    for other in ("https://x.org/a", "file:///a", "github://o:r@/a", "s3:/a", 7, Path("s3://a")):
        assert not is_stored(other)
    for chain in ("s3://b/a.zip::file:///etc/passwd", "s3://"):
        with pytest.raises(ValueError, match="names no file or folder"):
            check_address(chain)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ImportError, match=r"^gs:// needs the package gcsfs: pip install gcsfs$"):
        check_address("gs://bucket/a.mp4")


@pytest.mark.parametrize(
    ("allowed", "is_open"),
    [
        ("memory", True),
        ("s3, memory://stores/public/", True),
        ("memory://stores/public/a", True),
        ("memory://stores/pub", False),
        ("memory://stores/public/a.mp4", False),
        ("s3,gs", False),
        ("none", False),
        ("", False),
    ],
)
def test_an_operator_limits_what_is_opened(monkeypatch, allowed, is_open):
    address = write("memory://stores/public/a/b.mp4", b"1")
    monkeypatch.setenv("INTERNVIDEO_STORES", allowed)
    for ask in (check_address, state_of, lambda address: StoragePath(address).read_bytes()):
        with contextlib.nullcontext() if is_open else pytest.raises(PermissionError, match="limited by INTERNVIDEO"):
            ask(address)
    monkeypatch.setenv("INTERNVIDEO_STORES", "memory://stores/public")
    with pytest.raises(PermissionError):
        check_address("memory://stores/public/../private/a.mp4")


def test_parts_of_an_address_are_those_of_a_path():
    path = StoragePath("s3://bucket/a/b.csv")
    assert (path.name, path.stem, path.suffix, str(path.parent)) == ("b.csv", "b", ".csv", "s3://bucket/a")
    assert str(path.parent / "c" / "d.mp4") == "s3://bucket/a/c/d.mp4"
    assert str(path.with_suffix(".json")) == "s3://bucket/a/b.json"
    assert path.expanduser() is path and len({path, StoragePath("s3://bucket/a/b.csv")}) == 1


def test_objects_are_listed_read_and_written(tmp_path):
    root = StoragePath(new_memory())
    write(f"{root}/deep/b.txt", b"zwei\n")
    write(f"{root}/a.txt", b"\xef\xbb\xbfeins\n")
    assert root.files() == ["a.txt", "deep/b.txt"] and [file.name for file in root.glob("*.txt")] == ["a.txt"]
    assert (root / "a.txt").read_text("utf-8-sig") == "eins\n" and (root / "a.txt").open("rb").read(
        3
    ) == b"\xef\xbb\xbf"
    assert root.is_dir() and (root / "a.txt").is_file() and not (root / "c.txt").exists()
    assert sorted(entry.name for entry in root.iterdir()) == ["a.txt", "deep"]
    (tmp_path / "new").write_bytes(b"drei")
    upload(tmp_path / "new", f"{root}/c.txt")
    counts = []
    download(f"{root}/c.txt", tmp_path / "copy", counts.append)
    assert (tmp_path / "copy").read_bytes() == b"drei" and counts
    with pytest.raises(FileNotFoundError, match="there is no such object"):
        (root / "none.txt").open()
    with pytest.raises(ValueError, match="upload"):
        (root / "a.txt").open("w")


def test_objects_are_written_once_if_they_must_be_new_and_deleted():
    root = StoragePath(new_memory())
    path = root / "deep" / "a.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"1", is_new=True)
    with pytest.raises(FileExistsError, match="there is such an object"):
        path.write_bytes(b"2", is_new=True)
    assert path.read_bytes() == b"1" and path.modified().year >= 2020
    path.write_bytes(b"2")
    assert path.read_bytes() == b"2" and path.with_name("b.txt") == root / "deep/b.txt"
    path.unlink()
    path.unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        path.unlink()
    path.write_bytes(b"3")
    root.delete_all()
    root.delete_all()
    assert root.files() == []


def test_a_version_changes_when_an_object_is_written_again():
    address = write(f"{new_memory()}/a.mp4", b"12345")
    before = state_of(address)
    assert before.size == 5 and before.content is None and state_of(address) == before
    write(address, b"54321")
    assert state_of(address).size == 5 and state_of(address).version != before.version
    with pytest.raises(IsADirectoryError):
        state_of(address.rpartition("/")[0])


def test_errors_of_a_store_are_one_line_of_the_system(monkeypatch):
    class NoCredentialsError(Exception):
        """As that of botocore."""

    def ask(self, path, **options):
        raise NoCredentialsError("Unable to locate credentials")

    address = write(f"{new_memory()}/a.mp4", b"1")
    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "info", ask)
    with pytest.raises(PermissionError, match=r"the store wants credentials \(Unable to locate credentials\)"):
        state_of(address)


def test_s3_tells_objects_by_entity_tags_and_copies_of_them_are_the_same(tmp_path):
    with s3() as bucket:
        for name in ("a.mp4", "b.mp4", "c.mp4"):
            write(f"{bucket}/deep/{name}", b"x" * 2000 if name != "c.mp4" else b"y" * 2000)
        a, b, c = (state_of(f"{bucket}/deep/{name}.mp4") for name in "abc")
        assert a == b and a.content is not None and (c.size, c.content == a.content) == (2000, False)
        assert StoragePath(bucket).files() == ["deep/a.mp4", "deep/b.mp4", "deep/c.mp4"]
        write(f"{bucket}/deep/d.mp4", b"z")  # a listing that is asked for again sees it
        assert StoragePath(bucket).files()[-1] == "deep/d.mp4"
        (tmp_path / "new").write_bytes(b"w" * 3000)
        upload(tmp_path / "new", f"{bucket}/up.bin")
        download(f"{bucket}/up.bin", tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == b"w" * 3000
        with pytest.raises(FileNotFoundError):
            state_of(f"{bucket}/none.mp4")
        path = StoragePath(f"{bucket}/lock")
        path.write_bytes(b"1", is_new=True)
        with pytest.raises(FileExistsError):
            path.write_bytes(b"2", is_new=True)
        assert path.read_bytes() == b"1" and path.modified().year >= 2020
        path.unlink()
        StoragePath(f"{bucket}/deep").delete_all()
        assert StoragePath(bucket).files() == ["up.bin"]


def test_files_of_a_dataset_on_the_hub_are_listed_and_read(tmp_path, monkeypatch):
    files = {"clips/a.mp4": b"x" * 2000, "clips/deep/b.mp4": b"y" * 3000, "train.csv": b"video\n"}
    with dataset_repositories.as_the_hub(files, monkeypatch):
        folder = f"hf://datasets/{dataset_repositories.NAME}"
        assert StoragePath(f"{folder}/clips").files() == ["a.mp4", "deep/b.mp4"]
        assert StoragePath(f"{folder}/train.csv").read_bytes() == b"video\n"
        a, b = (state_of(f"{folder}/clips/{name}") for name in ("a.mp4", "deep/b.mp4"))
        assert (a.size, b.size) == (2000, 3000) and a.content != b.content
        download(f"{folder}/clips/deep/b.mp4", tmp_path / "b.mp4")
        assert (tmp_path / "b.mp4").read_bytes() == b"y" * 3000
        with pytest.raises(FileNotFoundError):
            state_of(f"{folder}/clips/none.mp4")
