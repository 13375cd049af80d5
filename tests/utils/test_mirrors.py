"""Folders of stores as folders of this machine."""

import pytest
from object_stores import new_memory, write

from internvideo_hf.utils import mirrors
from internvideo_hf.utils.locks import LockedError
from internvideo_hf.utils.mirrors import mirrored
from internvideo_hf.utils.storage import StoragePath


@pytest.fixture
def place():
    return StoragePath(new_memory())


@pytest.fixture
def moved(monkeypatch):
    """List what is copied from now on: "down" or "up", and the name."""
    found: list[tuple[str, str]] = []
    note, down, up = found.append, mirrors.download, mirrors.upload
    monkeypatch.setattr(mirrors, "download", lambda address, file: (note(("down", address[-1])), down(address, file)))
    monkeypatch.setattr(mirrors, "upload", lambda file, address: (note(("up", address[-1])), up(file, address)))
    return found


def test_only_changes_are_copied_either_way(place, tmp_path, moved):
    write(f"{place}/deep/a", b"1")
    with mirrored(place, tmp_path) as mirror:
        assert (mirror.folder / "deep/a").read_text() == "1"
        (mirror.folder / "b").write_text("2")
        (mirror.folder / "deep/c").write_text("3")
        mirror.push()
        assert moved == [("down", "a"), ("up", "c"), ("up", "b")], "those of the folder itself come last"
    moved.clear()
    write(f"{place}/deep/a", b"4")
    with mirrored(place, tmp_path) as mirror:
        assert (mirror.folder / "deep/a").read_text() == "4"
        (mirror.folder / "b").unlink()
    assert moved == [("down", "a")] and place.files() == ["deep/a", "deep/c"]
    (place / "deep/c").unlink()
    with mirrored(place, tmp_path) as mirror:
        assert not (mirror.folder / "deep/c").exists()
    # Another machine copies all of it.
    moved.clear()
    with mirrored(place, tmp_path / "other") as mirror:
        assert (mirror.folder / "deep/a").read_text() == "4" and moved == [("down", "a")]


def test_names_that_lead_elsewhere_are_refused(place, tmp_path):
    write(f"{place}/b/..c/d..e", b"1")
    write(f"{place}/b/../../../.profile", b"2")
    with pytest.raises(ValueError, match=r"holds 'b/\.\./\.\./\.\./\.profile', a name that leads out"):
        with mirrored(place, tmp_path / "builds"):
            pass
    assert not (tmp_path / ".profile").exists() and len(place.files()) == 2
    (place / "b/../../../.profile").unlink()
    with mirrored(place, tmp_path / "builds") as mirror:
        assert (mirror.folder / "b/..c/d..e").read_text() == "1"


def test_what_was_done_before_an_error_is_there_and_one_process_writes(place, tmp_path):
    with pytest.raises(KeyError), mirrored(place, tmp_path) as mirror:
        (mirror.folder / "a").write_text("1")
        with pytest.raises(LockedError), mirrored(place, tmp_path / "other"):
            pass
        raise KeyError
    assert place.files() == ["a"]


def test_what_a_killed_process_did_not_push_is_pushed_by_the_next(place, tmp_path):
    with mirrored(place, tmp_path) as mirror:
        folder = mirror.folder
    (folder / "parts").mkdir()
    (folder / "parts/a").write_text("1")
    with mirrored(place, tmp_path):
        pass
    assert place.files() == ["parts/a"]
