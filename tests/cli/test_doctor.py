"""What `internvideo doctor` says of a machine where something is broken."""

import pytest

from internvideo_hf.cli import doctor


def test_a_broken_optional_part_is_no_failure(monkeypatch):
    monkeypatch.setattr(doctor, "EXTRAS", {"no_such_package": "search"})
    checks = {check.name: check for check in doctor.examine()}
    extra = checks["extra [search] no_such_package"]
    assert (extra.works, extra.needed, extra.detail) == (False, False, "not installed")
    assert all(check.works for check in checks.values() if check.needed)


def test_a_decoder_that_gives_other_frames_is_broken(monkeypatch):
    from internvideo_hf.video import VideoReader

    monkeypatch.setattr(VideoReader, "read", lambda self, indices: self._read_unique([0, 0]))
    checks = {check.name: check for check in doctor.examine()}
    assert not checks["decoder pyav"].works
    assert "other frames" in checks["decoder pyav"].detail
    assert "BROKEN" in doctor.table(list(checks.values()))


def test_the_program_ends_with_1_when_the_core_is_broken(monkeypatch, capsys):
    from internvideo_hf import cli

    monkeypatch.setattr(doctor, "_torch", lambda: 1 / 0)
    monkeypatch.setattr("sys.argv", ["internvideo", "doctor"])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert done.value.code == 1
    printed = capsys.readouterr()
    assert "BROKEN" in printed.out and "torch" in printed.err
