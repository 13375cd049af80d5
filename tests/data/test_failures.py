"""Unreadable videos are logged, and too many stop the run."""

import json

import av
import dying
import pytest
import torch
from data.settings import batches, settings
from object_stores import new_memory

from internvideo_hf.data.dataset import VideoDataset
from internvideo_hf.data.executors.processes import KILLED
from internvideo_hf.data.failures import FailureLog, FailureTable, TooManyFailuresError, failure_of, one_video
from internvideo_hf.utils.files import DiskFullError
from internvideo_hf.utils.storage import StoragePath
from internvideo_hf.video import VideoDecodeError


@pytest.mark.parametrize("workers", [0, 2])
def test_skipping_leaves_out_counts_and_writes_down(with_a_bad_one, tmp_path, workers):
    failures = FailureLog(tmp_path / "logs/failed.jsonl")
    dataset = VideoDataset(with_a_bad_one, settings(), on_error="skip", failures=failures)
    whole = VideoDataset(with_a_bad_one, settings())
    for epoch in (0, 1):
        dataset.set_epoch(epoch)
        whole.set_epoch(epoch)
        assert [batch["labels"].tolist() for batch in batches(dataset, workers)] == [[0, 1], [3, 4, 5]]
    assert torch.equal(batches(dataset)[0]["pixel_values_videos"][1], whole[1]["pixel_values_videos"])
    assert len(failures) == 1, "the same sample counts once"
    assert failures.read()[2]["video"].endswith("bad.mp4") and failures.read()[2]["cause"]
    written = [json.loads(line) for line in failures.path.read_text().splitlines()]
    assert len(written) == 3 and all(line["index"] == 2 for line in written)
    assert len(FailureLog(failures.path)) == 0, "an earlier run's failures do not count"


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_bad_videos_stop_the_run(with_a_bad_one, tmp_path, workers):
    failures = FailureLog(tmp_path / "failed.jsonl", min_failures=0)
    dataset = VideoDataset(with_a_bad_one, settings(), on_error="skip", failures=failures)
    with pytest.raises(TooManyFailuresError, match="1 of 6 samples.*bad.mp4.*failed.jsonl"):
        batches(dataset, workers)


def test_the_share_is_of_all_samples(tmp_path):
    failures = FailureLog(tmp_path / "failed.jsonl", min_failures=0)
    error = VideoDecodeError("x.mp4", "it is broken", "Mend it.")
    for index in range(3):
        failures.add(index, error, 300)
    with pytest.raises(TooManyFailuresError, match="4 of 300"):
        failures.add(3, error, 300)
    with pytest.raises(ValueError, match="max_share"):
        FailureLog(tmp_path / "failed.jsonl", max_share=1.0)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (IndexError("out of range"), "v.mp4: IndexError: out of range. Check the file, or leave it out."),
        (ValueError("no boxes of v. Did you mean w?"), "v.mp4: no boxes of v. Did you mean w?"),
        (MemoryError(), "v.mp4: memory ran out. Check the file, or leave it out."),
        (OSError(5, "Input/output error"), "v.mp4: it cannot be read (Input/output error). Check"),
        (av.ArgumentError(0, "", "v.mp4"), "v.mp4: FFmpeg cannot read it (ArgumentError). Check"),
        (FileExistsError("w.mp4 is there. Delete it."), "v.mp4: w.mp4 is there. Delete it."),
        (RuntimeError("first\nsecond"), "v.mp4: first. Check"),
        (VideoDecodeError("v.mp4", "it is empty", "Copy it."), "v.mp4: it is empty. Copy it."),
    ],
)
def test_any_exception_is_the_failure_of_its_video(error, message):
    with pytest.raises(VideoDecodeError) as failure, one_video("v.mp4"):
        raise error
    assert str(failure.value).startswith(message) and failure.value.source == "v.mp4"
    assert "?." not in str(failure.value)


def test_a_frame_of_a_folder_is_named_and_a_secret_is_not(tmp_path):
    error = VideoDecodeError(str(tmp_path / "4.png"), "the frame cannot be read", "Extract it again.")
    assert failure_of(str(tmp_path), error).cause == f"{tmp_path / '4.png'}: the frame cannot be read"
    assert failure_of("https://me:secret@x.org/v.mp4?key=secret", ValueError("no")).source == "https://x.org/v.mp4"
    assert failure_of("http://[::1", ValueError("no")).source == "http://[::1"


@pytest.mark.parametrize("error", [DiskFullError("full"), TooManyFailuresError("many"), ImportError("none")])
def test_what_concerns_the_whole_batch_passes(error):
    with pytest.raises(type(error)), one_video("v.mp4"):
        raise error


def test_a_full_disk_is_named_by_the_log(tmp_path):
    log = FailureLog(tmp_path / "failed.jsonl")
    error = VideoDecodeError("x.mp4", "it is broken", "Mend it.")
    assert dying.run(lambda: [log.add(index, error, 10**6) for index in range(100)], file_size=50) == dying.FULL


@pytest.mark.parametrize("is_stored", [False, True])
def test_a_table_keeps_failures_until_the_videos_are_done(tmp_path, is_stored, monkeypatch):
    monkeypatch.setattr("internvideo_hf.utils.journal.CHECKPOINT_EVERY_SECONDS", 0.0)
    for name in ("bad.mp4", "poison.mp4", "elsewhere.mp4"):
        (tmp_path / name).write_text("x")
    bad, poison, elsewhere = (str(tmp_path / name) for name in ("bad.mp4", "poison.mp4", "elsewhere.mp4"))
    path = (StoragePath(new_memory()) if is_stored else tmp_path / "out") / "failures.jsonl"
    with FailureTable(path, "index") as first:
        assert first.divide([bad, poison]) == ([bad, poison], {}) and list(first) == []
    assert not path.exists(), "no file without failures"
    for video, cause in ((elsewhere, "it is empty"), (poison, KILLED), (bad, "it is damaged")):
        first.add(VideoDecodeError(video, cause, "Leave it out."))
    # The job is killed here; the next one knows all of it, and tries again what cost little.
    with FailureTable(path, "index") as second:
        rest, held = second.divide([bad, poison])
        assert rest == [bad] and list(held) == [poison]
        assert held[poison].cause == KILLED and "--retry" in held[poison].advice
        second.add(VideoDecodeError(bad, "it is damaged", "Leave it out."))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    known = {"stage": "index", "size": 1, "advice": "Leave it out."}
    assert [{**row, "mtime": 0} for row in rows] == [
        {"video": bad, "cause": "it is damaged", "attempts": 2, "mtime": 0, **known},
        {"video": elsewhere, "cause": "it is empty", "attempts": 1, "mtime": 0, **known},
        {"video": poison, "cause": KILLED, "attempts": 1, "mtime": 0, **known},
    ]
    # A video that has changed, or that the user asks for, is tried again, and leaves the table when it is done.
    assert FailureTable(path, "index", retry=True).divide([poison]) == ([poison], {})
    (tmp_path / "poison.mp4").write_text("better")
    with pytest.raises(KeyboardInterrupt), FailureTable(path, "index") as third:
        third.divide([bad, poison])
        raise KeyboardInterrupt
    assert len(list(FailureTable(path, "index"))) == 3, "nothing is known to be done"
    with FailureTable(path, "index") as third:
        assert third.divide([bad]) == ([bad], {})
        third.forget([poison])
    assert [row["video"] for row in FailureTable(path, "index")] == [elsewhere]


def test_a_line_that_is_cut_off_is_no_row_and_another_file_is_refused(tmp_path):
    path = tmp_path / "failures.jsonl"
    path.write_text('{"video": "a.mp4", "cause": "it is empty"}\n{"video": "b.m')
    assert [row["video"] for row in FailureTable(path, "index")] == ["a.mp4"]
    path.write_text("[1]\n")
    with pytest.raises(ValueError, match="no table of failures"):
        FailureTable(path, "index")
