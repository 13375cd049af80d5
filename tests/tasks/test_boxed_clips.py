"""Batches of clips with boxes, and runs over lists of them: what is filled up, the order, what is unreadable."""

import pytest
import torch
from data.executors.here import Here
from inference.row_work import Adder

from internvideo_hf.data.failures import TooManyFailuresError
from internvideo_hf.inference.rows import Loader
from internvideo_hf.inference.runner import RunSettings
from internvideo_hf.tasks.boxed_clips import box_work, collate_boxes, run_boxes
from internvideo_hf.video.errors import VideoDecodeError

QUIET = {"quiet": True, "workers": 0}


def sample(boxes: int, height: int = 8, **targets) -> dict:
    pixels = torch.ones(2, 3, height, 16)
    return {"pixel_values_videos": pixels, "boxes": torch.ones(boxes, 4), "video": f"{boxes} boxes", **targets}


def test_targets_are_filled_up_with_their_own_values_and_keep_their_types():
    first = sample(2, verbs=torch.tensor([3, 4]), times=torch.tensor([0.5, 1.5]))
    second = sample(1, 16, verbs=torch.tensor([5]), times=torch.tensor([2.5]))
    batch = collate_boxes([first, second], {"verbs": -100, "times": torch.nan, "absent": 0}, multiple=8)
    assert batch["verbs"].tolist() == [[3, 4], [5, -100]] and batch["verbs"].dtype == torch.int64
    assert batch["times"][1, 1].isnan() and batch["times"][1, 0] == 2.5
    assert batch["box_mask"].tolist() == [[True, True], [True, False]]
    assert batch["pixel_values_videos"].shape == (2, 2, 3, 16, 16) and not batch["pixel_mask"][0, 8:].any()
    assert batch["videos"] == ["2 boxes", "1 boxes"] and "absent" not in batch


def test_unreadable_samples_leave_or_become_blank():
    good, bad = sample(2, verbs=torch.tensor([3, 4])), {"failure": "a.mp4: damaged"}
    assert len(collate_boxes([good, bad], {"verbs": -100})["boxes"]) == 1
    batch = collate_boxes([bad, good], {"verbs": -100}, fill_gaps=True)
    assert batch["verbs"].tolist() == [[-100, -100], [3, 4]] and not batch["pixel_values_videos"][0].any()
    with pytest.raises(TooManyFailuresError, match="None of the 1 key frames.*damaged"):
        collate_boxes([bad], {})


def add_number(adder, samples) -> dict[str, torch.Tensor]:
    """Return for each box its own number, and how many samples there are."""
    numbers = torch.cat([one["boxes"][:, 0] for one in samples])
    return {"number": numbers.long() + adder.number, "samples": torch.full((len(numbers),), len(samples))}


def read_rows(rows) -> list:
    """Return samples of rows of one file; those of an odd second are unreadable, and those of c.mp4 large."""
    found = []
    for row in rows:
        boxes = torch.tensor(row["boxes"], dtype=torch.float32).reshape(-1, 1).repeat(1, 4)
        one = sample(len(boxes), 16 if row["file"] == "c.mp4" else 8) | {"boxes": boxes}
        damaged = VideoDecodeError(row["file"], f"it is damaged with {len(rows)} rows", "Get it again.")
        found.append(damaged if row["second"] % 2 else one)
    return found


@pytest.mark.parametrize("engine", [None, Here()])
def test_answers_are_in_the_order_of_the_list_and_those_of_one_file_are_read_together(mae_folder, tmp_path, engine):
    rows = [
        {"video": f"{file} at {second}", "file": file, "second": second, "boxes": boxes}
        for file, second, boxes in [
            ("b.mp4", 8, [1, 2]),
            ("c.mp4", 2, [3]),
            ("b.mp4", 4, []),
            ("a.mp4", 3, [4, 5]),
            ("b.mp4", 2, [6]),
            ("a.mp4", 2, [7, 8, 9]),
        ]
    ]
    loader = Loader(Adder, str(mae_folder), (("number", 100),), "model")
    work = box_work(read_rows, add_number, loader, {"number": 0, "samples": 0})
    settings = RunSettings(batch_size=3, max_damaged=0.5, engine=engine, **QUIET)
    found = run_boxes(rows, Adder(str(mae_folder), number=100), work, settings, tmp_path / "parts", "second")
    assert found.rows.tolist() == [0, 0, 1, 4, 5, 5, 5] and found.places.tolist() == [0, 1, 0, 0, 0, 1, 2]
    assert found.answers["number"].tolist() == [101, 102, 103, 106, 107, 108, 109]
    # Batches of three key frames: a.mp4 at 2 and 3 s with b.mp4 at 2 s, and b.mp4 at 8 s with c.mp4 of another size.
    assert found.answers["samples"].tolist() == [1, 1, 1, 2, 2, 2, 2]
    assert list(found.causes) == [3] and "it is damaged with 2 rows" in found.causes[3]


def test_too_many_unreadable_key_frames_end_the_run_and_no_boxes_are_no_work(mae_folder):
    rows = [{"video": "a", "file": "a.mp4", "second": second, "boxes": [1]} for second in range(4)]
    work = box_work(read_rows, add_number, Loader(Adder, str(mae_folder)), {})
    with pytest.raises(TooManyFailuresError, match="2 of the first 4 key frames are unreadable.*a.mp4: it is damaged"):
        run_boxes(rows, Adder(""), work, RunSettings(batch_size=4, max_damaged=0.4, **QUIET), None, "second")
    empty = [{**row, "boxes": []} for row in rows]
    assert run_boxes(empty, Adder(""), work, RunSettings(**QUIET), None, "second").rows.tolist() == []
