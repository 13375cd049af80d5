"""Batches of clips with boxes, and runs over lists of them: what is filled up, what is resumed, what is unreadable."""

import pytest
import torch

from internvideo_hf.data.failures import TooManyFailuresError
from internvideo_hf.inference.runner import RunSettings
from internvideo_hf.tasks.boxed_clips import NO_BOX, collate_boxes, left_to_do, run_boxes
from internvideo_hf.utils.journal import Journal

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


def compute(batch):
    counts = torch.tensor([len(one["boxes"]) for _, one in batch])
    numbers = torch.tensor([number for number, _ in batch]).repeat_interleave(counts)
    places = torch.cat([torch.arange(count) for count in counts])
    return {"row": numbers, "box": places, "score": numbers * 10 + places}


def run(clips: list, folder=None, total: int = 4, **options) -> Journal:
    journal = Journal(folder)
    left = left_to_do(journal, range(total))
    chosen = [clip for clip in clips if clip[0] in left]
    blank = {"score": torch.zeros(1, dtype=torch.int64)}
    run_boxes(chosen, compute, blank, total, RunSettings(**QUIET | options), journal)
    return journal


def test_a_run_answers_for_every_box_once_and_goes_on_where_it_stopped(tmp_path):
    clips = [(0, sample(2)), (1, sample(1, 16)), (2, sample(1)), (3, sample(3))]
    sizes = []

    def watched(batch):
        sizes.append({one["pixel_values_videos"].shape for _, one in batch})
        return compute(batch)

    journal = Journal(tmp_path)
    run_boxes(clips[:2], watched, {}, 4, RunSettings(batch_size=2, **QUIET), journal)
    assert all(len(shapes) == 1 for shapes in sizes)
    assert left_to_do(Journal(tmp_path), range(4)) == [2, 3]
    table = run(clips, tmp_path).tensors()
    assert sorted(table["score"].tolist()) == [0, 1, 10, 20, 30, 31, 32]


def test_unreadable_key_frames_are_noted_up_to_a_limit():
    clips = [(0, sample(1)), (1, "b.mp4: damaged"), (2, sample(1)), (3, sample(1))]
    journal = run(clips, max_damaged=0.3)
    table = journal.tensors()
    assert table["row"][table["box"] == NO_BOX].tolist() == [1] and journal.notes == {"1": "b.mp4: damaged"}
    with pytest.raises(TooManyFailuresError, match="1 key frames are unreadable; of all 4.*b.mp4: damaged"):
        run(clips, max_damaged=0.1)
