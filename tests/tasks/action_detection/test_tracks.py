"""Numbers of people through key frames: by overlap, through gaps, the same each time."""

import torch

from internvideo_hf.tasks.action_detection.tracks import link_boxes


def boxes(*corners: tuple[float, float], side: float = 10) -> torch.Tensor:
    return torch.tensor([[x, y, x + side, y + side] for x, y in corners]).reshape(-1, 4)


def numbers(*frames: torch.Tensor, **options) -> list[list[int]]:
    return [one.tolist() for one in link_boxes(frames, **options)]


def test_a_person_keeps_a_number_in_whatever_order_boxes_come():
    assert numbers(boxes((0, 0), (50, 0)), boxes((51, 0), (1, 1)), boxes((2, 2), (52, 1))) == [[1, 2], [2, 1], [1, 2]]


def test_the_highest_overlap_goes_first():
    # IoU with the old box: 8 / 12 and 5 / 15, both enough.
    assert numbers(boxes((0, 0)), boxes((5, 0), (2, 0))) == [[1], [2, 1]]


def test_little_overlap_is_another_person():
    moved = boxes((0, 0)), boxes((6, 0))  # IoU 4 / 16
    assert numbers(*moved) == [[1], [2]] and numbers(*moved, min_iou=0.25) == [[1], [1]]


def test_a_person_may_be_missing_for_some_key_frames():
    none = boxes()
    assert numbers(boxes((0, 0)), none, none, boxes((1, 0))) == [[1], [], [], [1]]
    assert numbers(boxes((0, 0)), none, none, none, boxes((1, 0))) == [[1], [], [], [], [2]]
    assert numbers(boxes((0, 0)), none, boxes((1, 0)), max_gap=0) == [[1], [], [2]]


def test_equal_overlaps_go_to_the_lower_number():
    same = boxes((0, 0), (0, 0))
    assert numbers(same, same, boxes((0, 0))) == [[1, 2], [1, 2], [1]]


def test_a_thousand_boxes_are_numbered():
    torch.manual_seed(0)
    many = torch.rand(1000, 2) * 100000
    many = torch.cat([many, many + 10], dim=1)
    order = torch.randperm(1000)
    first, second = link_boxes([many, many[order]])
    assert (second == first[order]).all()


def test_nothing_is_nothing():
    assert link_boxes([]) == [] and numbers(boxes()) == [[]]
