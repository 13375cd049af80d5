"""Boxes: values worked out by hand, and properties that any frame must have."""

import pytest
import torch

from internvideo_hf.tasks import boxes

FRAME = (40, 60)  # height, width
PERSON = torch.tensor([[10.0, 4.0, 19.0, 23.0]])  # 10 pixels wide, 20 high


def test_widths_and_heights_count_both_ends():
    assert boxes.to_xywh(PERSON).tolist() == [[10, 4, 10, 20]]
    assert boxes.from_xywh(torch.tensor([[10.0, 4, 10, 20], [5, 6, 0, 0]])).tolist() == [[10, 4, 19, 23], [5, 6, 5, 6]]
    assert boxes.area(PERSON).tolist() == [200]


def test_fractions_of_the_frame():
    whole = boxes.from_fractions(torch.tensor([[0.0, 0, 1, 1], [0.25, 0.5, 0.5, 1]]), FRAME)
    assert whole.tolist() == [[0, 0, 59, 39], [15, 20, 29, 39]]
    assert boxes.to_fractions(whole, FRAME).tolist() == [[0, 0, 1, 1], [0.25, 0.5, 0.5, 1]]


def test_boxes_outside_the_frame_become_empty():
    clipped = boxes.clip(torch.tensor([[-5.0, 3, 10, 90], [70, 3, 80, 10], [3, -9, 8, -2]]), FRAME)
    assert clipped.tolist() == [[0, 3, 10, 39], [59, 3, 59, 10], [3, 0, 8, 0]]
    assert boxes.is_nonempty(clipped).tolist() == [True, False, False]


def test_resize_multiplies_by_the_ratio_of_each_side():
    assert boxes.resize(PERSON, FRAME, (80, 30)).tolist() == [[5, 8, 9.5, 46]]


def test_flip_maps_each_column_to_its_mirror_image():
    frame = torch.zeros(FRAME)
    frame[4:24, 10:20] = 1
    left, top, right, bottom = boxes.flip(PERSON, 60)[0].int().tolist()
    assert (left, right) == (40, 49)
    assert frame.flip(1)[top : bottom + 1, left : right + 1].sum() == 200
    assert torch.equal(boxes.flip(boxes.flip(PERSON, 60), 60), PERSON)


def test_crop_cuts_what_lies_outside():
    given = torch.cat([PERSON, torch.tensor([[50.0, 30, 59, 39]])])
    assert boxes.crop(given, (10, 15), (8, 20)).tolist() == [[0, 0, 4, 7], [19, 7, 19, 7]]
    assert boxes.crop(given, (10, 15), (8, 20), as_published=True).tolist() == [[0, 0, 4, 8], [20, 8, 20, 8]]
    assert boxes.is_nonempty(boxes.crop(given, (10, 15), (8, 20))).tolist() == [True, False]


def test_extension_adds_half_on_each_side_within_the_frame():
    assert boxes.extend(PERSON, FRAME, (0.2, 0.1)).tolist() == [[9, 3, 20, 24]]
    assert boxes.extend(torch.tensor([[0.0, 0, 59, 39]]), FRAME).tolist() == [[0, 0, 59, 39]]


def test_jitter_draws_edge_by_edge():
    draws = torch.Generator().manual_seed(3)
    left, top, right, bottom = (torch.rand(1, 1, generator=draws).item() for _ in range(4))
    expected = [
        10 + 10 * (-0.2 + 0.3 * left),
        4 + 20 * (-0.1 + 0.15 * top),
        19 + 10 * (-0.1 + 0.3 * right),
        23 + 20 * (-0.05 + 0.15 * bottom),
    ]
    moved = boxes.jitter(PERSON, FRAME, torch.Generator().manual_seed(3))
    torch.testing.assert_close(moved, torch.tensor([expected]))


def test_jitter_keeps_boxes_within_the_frame_and_at_least_a_pixel_large():
    given = torch.tensor([[58.9, 38.9, 59.0, 39.0], [0, 0, 0, 0], [-9, -9, 200, 100]]).repeat(50, 1)
    moved = boxes.jitter(given, FRAME, torch.Generator().manual_seed(0))
    assert boxes.is_nonempty(moved).all()
    assert torch.equal(boxes.clip(moved, FRAME), moved)
    assert (boxes.to_xywh(moved)[:, 2:] >= 2).all()


@pytest.mark.parametrize("change", [lambda b: boxes.clip(b, FRAME), lambda b: boxes.extend(b, FRAME), boxes.area])
def test_no_boxes_are_none(change):
    assert len(change(torch.zeros(0, 4))) == 0
    assert boxes.jitter(torch.zeros(0, 4), FRAME).shape == (0, 4)


def test_arguments_stay_as_they_are():
    given = torch.tensor([[-5.0, 3, 100, 90]])
    boxes.clip(given, FRAME), boxes.extend(given, FRAME), boxes.jitter(given, FRAME), boxes.flip(given, 60)
    assert given.tolist() == [[-5, 3, 100, 90]]
