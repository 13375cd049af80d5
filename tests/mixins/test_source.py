"""The download of transformers' tests, from an index of our own."""

import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from mixins.source import Unreachable, fetch
from servers import serve_folder

MEMBERS = {
    "transformers-7.1/tests/test_common.py": b"found = True",
    "transformers-7.1/tests/data.bin": b"",
    "transformers-7.1/src/transformers/secret.py": b"",
    "transformers-7.1/tests/../../outside.py": b"",
    "/tests/absolute.py": b"",
}


def archive() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as files:
        for name, data in MEMBERS.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            files.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("transformers-7.1/tests/link.py")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        files.addfile(link)
    return content.getvalue()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve an index with a source distribution of version 7.1; the cache is empty."""
    monkeypatch.setenv("INTERNVIDEO_CACHE", str(tmp_path / "cache"))
    (tmp_path / "index/transformers").mkdir(parents=True)
    (tmp_path / "index/transformers/transformers-7.1.tar.gz").write_bytes(archive())
    say(tmp_path, f"#sha256={hashlib.sha256(archive()).hexdigest()}")
    with serve_folder(tmp_path / "index") as address:
        yield address


def say(folder: Path, fragment: str) -> None:
    links = "".join(f'<a href="transformers-{version}.tar.gz{fragment}">x</a>' for version in ("17.1", "7.1"))
    (folder / "index/transformers/index.html").write_text(links)


def test_the_tests_alone_are_kept_and_downloaded_once(index, tmp_path):
    folder = fetch("7.1", index)
    assert folder == tmp_path / "cache/transformers-tests/7.1"
    assert [path.name for path in folder.iterdir()] == ["test_common.py"]
    assert (folder / "test_common.py").read_bytes() == b"found = True"
    assert not list(tmp_path.rglob("outside.py")) and not list(tmp_path.rglob("absolute.py"))
    assert fetch("7.1", "http://127.0.0.1:9") == folder


@pytest.mark.parametrize("fragment", ["", "#sha256=" + 64 * "0", "#md5=" + 32 * "0"])
def test_a_file_with_another_hash_than_listed_is_refused(fragment, index, tmp_path):
    say(tmp_path, fragment)
    with pytest.raises(ValueError, match=r"7\.1\.tar\.gz has sha256=[0-9a-f]{64}, but the index says"):
        fetch("7.1", index)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.suffix != ".lock" and path.is_file()]


def test_an_index_without_the_version_or_an_answer_is_out_of_reach(index):
    with pytest.raises(Unreachable, match=r"lists no transformers-7\.2\.tar\.gz"):
        fetch("7.2", index)
    with pytest.raises(Unreachable, match="cannot be reached"):
        fetch("7.1", "http://127.0.0.1:9")
    with pytest.raises(Unreachable, match="cannot be reached: HTTP Error 404"):
        fetch("7.1", f"{index}/elsewhere")
