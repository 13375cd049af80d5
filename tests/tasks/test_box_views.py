"""Views of clips: what is in a box stays in it, colors change as asked, and batches are filled up."""

import colorsys
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from internvideo_hf.tasks.box_views import (
    Geometry,
    Pixels,
    change_colors,
    evaluation_view,
    pad_batch,
    training_view,
)

PLAIN = Pixels(short_side=64, crop_size=48, hue=0, saturation=0, value=0, mean=(0, 0, 0), std=(1, 1, 1))
BOX = torch.tensor([[40.0, 10.0, 59.0, 29.0]])


def clip() -> torch.Tensor:
    """Black frames of 40 x 80 pixels, white in the box."""
    frames = torch.zeros(2, 3, 40, 80, dtype=torch.uint8)
    frames[:, :, 10:30, 40:60] = 255
    return frames


def test_evaluation_resizes_the_short_side_and_cuts_nothing_off():
    view, geometry = evaluation_view(clip(), PLAIN)
    assert view.shape == (2, 3, 64, 128) and geometry == Geometry((40, 80), (64, 128))
    left, top, right, bottom = (round(edge) for edge in geometry.follow(BOX)[0].tolist())
    assert (left, top) == (64, 16) and 93 <= right <= 95 and 45 <= bottom <= 47
    assert view[0, 0, top + 1 : bottom, left + 1 : right].min() > 0.9
    assert view[0, 0, :, : left - 2].max() == 0


@pytest.mark.parametrize("seed", range(8))
def test_boxes_follow_what_training_does(seed):
    view, geometry = training_view(clip(), PLAIN, random.Random(seed))
    assert view.shape == (2, 3, 48, 48) and geometry.view == (48, 48)
    left, top, right, bottom = geometry.follow(BOX)[0].tolist()
    white = view[0, 0] > 0.5
    if right <= left or bottom <= top:
        assert white.sum() <= 48  # a border at most
        return
    rows, columns = np.flatnonzero(white.any(1)), np.flatnonzero(white.any(0))
    np.testing.assert_allclose([columns[0], rows[0], columns[-1], rows[-1]], [left, top, right, bottom], atol=2)


def test_training_draws_place_colors_and_side_in_this_order():
    rule = replace(PLAIN, hue=10, saturation=26, value=26)
    draws = random.Random(5)
    left, top = int(draws.random() * (128 - 48)), int(draws.random() * (64 - 48))
    steps = [draws.randint(-most, most) for most in (10, 26, 26)]
    flipped = draws.random() < 0.5
    view, geometry = training_view(clip(), rule, random.Random(5))
    assert (geometry.corner, geometry.flipped) == ((top, left), flipped)
    resized = (evaluation_view(clip(), PLAIN)[0] * 255).to(torch.uint8)[..., top : top + 48, left : left + 48]
    expected = change_colors(resized, *steps)
    torch.testing.assert_close(view * 255, (expected.flip(-1) if flipped else expected).float())


def test_steps_can_be_switched_off():
    view, geometry = training_view(clip(), replace(PLAIN, crop_size=None, flip=0), random.Random(0))
    assert torch.equal(view, evaluation_view(clip(), PLAIN)[0]) and geometry.view == (64, 128)
    assert not geometry.flipped


def test_a_clip_of_the_right_size_stays_as_it_is_but_as_published():
    frames = torch.randint(0, 256, (1, 3, 64, 100), dtype=torch.uint8)
    view, geometry = evaluation_view(frames, PLAIN)
    assert torch.equal((view * 255).round().to(torch.uint8), frames)
    assert geometry.follow(BOX).tolist() == BOX.tolist()
    view, geometry = evaluation_view(frames, replace(PLAIN, as_published=True))
    assert view.shape[-2:] == (100, 64)
    np.testing.assert_allclose(geometry.follow(BOX).tolist(), [[25.6, 15.625, 37.76, 45.3125]])


def test_squares_larger_than_the_frame_are_refused():
    with pytest.raises(ValueError, match="crop_size is 65, and frames have 64 x 128 pixels"):
        training_view(clip(), replace(PLAIN, crop_size=65), random.Random(0))


def test_colors_are_those_of_the_circle():
    frames = torch.randint(0, 256, (1, 3, 9, 11), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    same = change_colors(frames, 0, 0, 0)
    assert (same.int() - frames.int()).abs().max() <= 4  # a step of hue is 2 degrees
    pure = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=torch.uint8).T.reshape(1, 3, 1, 3)
    assert change_colors(pure, 60, 0, 0)[0, :, 0].T.tolist() == [[0, 255, 0], [0, 0, 255], [255, 0, 0]]
    assert change_colors(pure, 0, -255, 0).unique().tolist() == [255]
    assert change_colors(pure, 0, 0, -300).max() == 0
    shifted = change_colors(frames, 7, -20, 15)
    for ours, theirs in zip(shifted[0].flatten(1).T.tolist(), frames[0].flatten(1).T.tolist(), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(part / 255 for part in theirs))
        h, s, v = (hue + 7 / 180) % 1, max(saturation - 20 / 255, 0), min(value + 15 / 255, 1)
        expected = [255 * part for part in colorsys.hsv_to_rgb(h, s, v)]
        np.testing.assert_allclose(ours, expected, atol=6)


def test_batches_are_filled_up_to_multiples():
    clips = [torch.ones(2, 3, 17, 20), torch.ones(2, 3, 32, 16)]
    batch, mask = pad_batch(clips)
    assert batch.shape == (2, 2, 3, 32, 32) and mask.shape == (2, 32, 32)
    assert [int(row.sum()) for row in mask] == [17 * 20, 32 * 16]
    assert torch.equal(batch[:, 0, 0] == 1, mask)
    assert pad_batch(clips[:1], 1)[0].shape[-2:] == (17, 20)


def test_training_draws_the_short_side_and_boxes_follow():
    rule = replace(PLAIN, short_sides=(48, 80), crop_size=None, flip=0)
    sides = set()
    for seed in range(40):
        view, geometry = training_view(clip(), rule, random.Random(seed))
        sides.add(min(view.shape[-2:]))
        (left, top, right, bottom) = geometry.follow(BOX)[0].round().int().tolist()
        assert view[..., top + 2 : bottom - 1, left + 2 : right - 1].min() == 1
    assert min(sides) >= 48 and max(sides) <= 80 and len(sides) > 10
    # Its inverse is uniform: half of the draws are below 60, the mean of both ends as inverses.
    drawn = [training_view(clip(), rule, random.Random(seed))[0].shape[-2] for seed in range(200)]
    assert 0.35 < np.mean(np.array(drawn) < 60) < 0.65
    # Evaluation takes the one that is set.
    assert evaluation_view(clip(), rule)[0].shape[-2] == 64
