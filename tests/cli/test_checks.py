"""Checks of a broken installation."""

from internvideo_hf.cli import checks


def test_a_broken_optional_part_is_no_failure(monkeypatch):
    monkeypatch.setattr(checks, "EXTRAS", {"no_such_package": "search"})
    found = {check.name: check for check in checks.run_checks()}
    extra = found["extra [search] no_such_package"]
    assert (extra.works, extra.needed, extra.detail) == (False, False, "not installed")
    assert all(check.works for check in found.values() if check.needed)


def test_a_decoder_that_gives_other_frames_is_broken(monkeypatch):
    from internvideo_hf.video import VideoReader

    read = VideoReader.read
    monkeypatch.setattr(VideoReader, "read", lambda self, indices: read(self, [0, 0]))
    found = {check.name: check for check in checks.run_checks()}
    assert not found["decoder pyav"].works
    assert "wrong frames" in found["decoder pyav"].detail
    assert "BROKEN" in checks.table(list(found.values()))
